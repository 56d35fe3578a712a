"""HGR (Chen et al., CVPR 2020): hierarchical graph reasoning, a sentence's event, actions and entities each with the video.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
hierarchical textual graph   `RoleGraph`: event, actions and entities by their roles, `layers` of attention over the graph
global event, actions,       `Hgr.encode_queries`: the event's vector, the nodes' vectors, and which nodes there are
  entities
hierarchical video           `Hgr.encode_videos`: a Linear for each level; per frame for fields "actions" and "entities", and
  embeddings                 pooled by attention for field "event"
s_e                          the cosine of the two events
s_a, s_o                     `phrase_scores`: each phrase with the frames it attends to, `sharpness`
S(q, v)                      `Hgr.score`: the mean of the three
hinge, hardest negatives     `losses.hardest_triplet`, `margin`

The graph needs word vectors with roles (prvr extract --words roles:VECTORS.txt+PIPELINE), from a dependency parse in place of
the paper's semantic role labeller: prvr.encoders.roles. S is no weighted sum of best cosines: only an exact index can hold it.

Source: spec/methods 2.7. It leaves open, and we decided: a level that a sentence lacks takes no part in its mean; the L2
normalisation over phrases is of those that are there; initial weights are torch's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from prvr.batch import Batch, Reading
from prvr.config import check_above_zero, check_shares
from prvr.encoders.roles import ACTIONS
from prvr.methods.contract import Embeddings, Method, Terms
from prvr.nn import losses, scores
from prvr.nn.layers import AttentivePooling
from prvr.nn.scores import LEAST_NORM
from prvr.nn.text_backbones import NODES, RoleGraph

# Scores of so many phrases with frames are in memory at once: 64 MiB of float32.
SCORES_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class HgrConfig:
    """Settings of the paper. dropout: of the graph's layers."""

    hidden: int = 1024
    layers: int = 1
    max_frames: int = 20
    max_words: int = 30
    dropout: float = 0.5
    sharpness: float = 4.0
    margin: float = 0.2

    def __post_init__(self) -> None:
        check_above_zero(self, "hidden", "layers", "max_frames", "max_words", "sharpness")
        check_shares(self, "dropout")


class Hgr(nn.Module):
    """S(q, v) = mean of cos(events) and of what actions and entities find among the frames."""

    def __init__(self, config: HgrConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.graph = RoleGraph(word_columns, config.hidden, layers=config.layers, dropout=config.dropout)
        self.reading = Reading(
            frame_columns,
            word_columns,
            config.max_frames,
            config.max_words,
            unit=True,
            text="words",
            label_columns=self.graph.label_columns,
        )
        self.embedding_fields: tuple[str, ...] = ("actions", "entities", "event")
        self.frame_fields: tuple[str, ...] = ("actions", "entities")
        self.score_weights: tuple[float, ...] | None = None
        self.actions = nn.Linear(frame_columns, config.hidden)
        self.entities = nn.Linear(frame_columns, config.hidden)
        self.event = nn.Linear(frame_columns, config.hidden)
        self.pooling = AttentivePooling(config.hidden)

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """The event of each sentence, its actions and entities, and which of these it has."""
        nodes, real = self.graph(words, mask)
        return nodes[:, 0], nodes[:, 1:], real[:, 1:]

    def encode_videos(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """Two vectors per frame, zeros where padded, and one for the whole video."""
        frames = frames.masked_fill(~mask[..., None], 0)
        actions, entities = (layer(frames) * mask[..., None] for layer in (self.actions, self.entities))
        return actions, entities, self.pooling(self.event(frames), mask)[:, None]

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """The mean of the levels that a sentence has."""
        size = max(SCORES_AT_ONCE // (NODES * mask.numel()), 1)
        parts = zip(*(field.split(size) for field in queries), strict=True)
        return torch.cat([self._score(part, videos, mask) for part in parts])

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """The mean over levels of the phrases' cosines with each frame; the event's is the same for all frames."""
        event = scores.frame_cosines(query[0], video[2], scores.every_row(video[2]))[:, 0]
        return curves(query, (video[0], video[1], event))[0]

    def _score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        (event, nodes, real), (actions, entities, whole) = queries, videos
        found = [scores.frame_cosines(event, whole, scores.every_row(whole))[..., 0]]
        for its_nodes, its_real, frames in _levels(nodes, real, actions, entities):
            found.append(phrase_scores(its_nodes, its_real, frames, mask, sharpness=self.config.sharpness))
        return torch.stack(found).sum(0) / _levels_there(real)[:, None]


def objective(model: Hgr, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
    """The hinge against the hardest wrong partner of the batch, in both directions."""
    found = model.score(queries, videos, batch.frame_mask)
    return {"triplet": losses.hardest_triplet(found, batch.target, margin=model.config.margin)}


def profile(model: Hgr, queries: Embeddings, videos: Embeddings, batch: Batch) -> Float[Tensor, "Q F"]:
    """`Hgr.relevance` of each query along its own video, -inf where that is padded."""
    actions, entities, event = (field[batch.target] for field in videos)
    own = (normalize(queries[0], dim=-1) * normalize(event[:, 0], dim=-1)).sum(-1, keepdim=True)
    return curves(queries, (actions, entities, own)).masked_fill(~batch.frame_mask[batch.target], -float("inf"))


def phrase_scores(
    phrases: Float[Tensor, "Q P D"],
    real: Bool[Tensor, "Q P"],
    frames: Float[Tensor, "V F D"],
    mask: Bool[Tensor, "V F"],
    *,
    sharpness: float,
) -> Float[Tensor, "Q V"]:
    """The mean over a sentence's phrases p of cos(p, sum_f a_f x_f), 0 where it has none.

    a = softmax_f(sharpness c_pf / |c_.f|), c_pf = [cos(p, x_f)]_+, the length |c_.f| taken over the sentence's phrases.
    The sum over frames is never made: its product with p is a sum of products, its length that of a under <x_f, x_g>.
    """
    dots = torch.einsum("qpd,vfd->qvpf", phrases, frames)
    lengths = phrases.norm(dim=-1).clamp(min=LEAST_NORM)[:, None, :, None]
    cosines = relu(dots / lengths / frames.norm(dim=-1).clamp(min=LEAST_NORM)[None, :, None])
    share = normalize(cosines * real[:, None, :, None], dim=2)
    attention = (sharpness * share).masked_fill(~mask[None, :, None], -float("inf")).softmax(-1)
    products = torch.einsum("vfd,vgd->vfg", frames, frames)
    squared = torch.einsum("qvpf,vfg,qvpg->qvp", attention, products, attention)
    found = (attention * dots).sum(-1) / lengths[..., 0] / squared.clamp(min=LEAST_NORM).sqrt()
    return (found * real[:, None]).sum(-1) / real.sum(1).clamp(min=1)[:, None]


def curves(queries: Embeddings, own: Embeddings) -> Float[Tensor, "Q F"]:
    """Of each query along one video of its own: actions and entities (Q, F, D), and the events' cosine (Q, 1)."""
    _, nodes, real = queries
    actions, entities, event = own
    found = event
    for its_nodes, its_real, frames in _levels(nodes, real, actions, entities):
        cosines = torch.einsum("qpd,qfd->qpf", normalize(its_nodes, dim=-1), normalize(frames, dim=-1))
        found = found + (cosines * its_real[..., None]).sum(1) / its_real.sum(1).clamp(min=1)[:, None]
    return found / _levels_there(real)[:, None]


def _levels(
    nodes: Float[Tensor, "Q N D"], real: Bool[Tensor, "Q N"], actions: Tensor, entities: Tensor
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Nodes, which of them are there, and the frames they are sought in: of the actions and of the entities."""
    return [
        (nodes[:, :ACTIONS], real[:, :ACTIONS], actions),
        (nodes[:, ACTIONS:], real[:, ACTIONS:], entities),
    ]


def _levels_there(real: Bool[Tensor, "Q N"]) -> Int[Tensor, "Q"]:
    return 1 + real[:, :ACTIONS].any(1).long() + real[:, ACTIONS:].any(1).long()


METHOD = Method(HgrConfig, Hgr, objective, profile=profile)
