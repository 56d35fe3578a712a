"""HGR (Chen et al., CVPR 2020): hierarchical graph reasoning, a sentence's event, actions and entities each with the video.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
hierarchical textual graph   `Graph`: which words are an action or an entity, its role, and which nodes hear which
graph reasoning              `GraphLayer`, `layers` of attention over the graph
global event, actions,       `Hgr.encode_graphs`: the event's vector, the actions' and the entities', and which of these there are
  entities
hierarchical video           `Hgr.encode_videos`: a Linear for each level; per frame for fields "actions" and "entities", and
  embeddings                 pooled by attention for field "event"
s_e                          the cosine of the two events
s_a, s_o                     `phrase_scores`: each phrase with the frames it attends to, `sharpness`
S(q, v)                      `Hgr.score`: the mean of the three; a level without phrases counts as 0
hinge, hardest negatives     `losses.hardest_triplet`, `margin`, `hardest`

Equal to the released code (cshizhe/hgr_v2t, 13d2d74) for a given graph. Graphs come from word vectors with roles (prvr extract
--words roles:VECTORS.txt+PIPELINE), from a dependency parse in place of the paper's semantic role labeller. S is no weighted
sum of best cosines: only an exact index can hold it. What else differs by default: docs/decisions/0040.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from prvr.batch import Batch, Reading
from prvr.config import check_above_zero, check_shares
from prvr.encoders.roles import ACTIONS, ENTITIES, LABEL_COLUMNS
from prvr.encoders.roles import ROLES as PARSED_ROLES
from prvr.errors import SettingError
from prvr.methods.contract import Embeddings, Method, Terms
from prvr.nn import losses, scores
from prvr.nn.layers import AttentivePooling, Dropout
from prvr.nn.levels import word_ids
from prvr.nn.scores import LEAST_NORM
from prvr.nn.shapes import FrameMask, Frames, Places, WordMask, Words
from prvr.nn.text_backbones import BiGru, largest_of_slots, read_labels

# Roles of a node as the released code numbers them; what its labeller calls otherwise is a NOUN.
ROLES = (
    *("V", "ARG1", "ARG0", "ARG2", "ARG3", "ARG4", "ARGM-LOC", "ARGM-MNR", "ARGM-TMP", "ARGM-DIR", "ARGM-ADV", "ARGM-PRP"),
    *("ARGM-PRD", "ARGM-COM", "ARGM-MOD", "NOUN"),
)
# The roles that a parser sees, as the labeller would call them.
LABELLED = {
    "agent": "ARG0",
    "patient": "ARG1",
    "recipient": "ARG2",
    "oblique": "ARGM-LOC",
    "time": "ARGM-TMP",
    "other": "ARGM-ADV",
}
LEAST_ATTENTION_NORM = 1e-10
# Scores of so many phrases with frames are in memory at once: 64 MiB of float32.
SCORES_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class HgrConfig:
    """Settings of the paper.

    vocabulary: how many word ids there are, where words are ids whose vectors are learned; 0 where they are vectors.
    word_vectors: columns of the learned vectors. dropout: of the graph's layers.
    hardest: how many of the hardest wrong partners of the batch count; 0 for all of them.
    """

    hidden: int = 1024
    layers: int = 1
    vocabulary: int = 0
    word_vectors: int = 300
    max_frames: int = 20
    max_words: int = 30
    dropout: float = 0.5
    word_dropout: float = 0.2
    frame_dropout: float = 0.2
    sharpness: float = 4.0
    margin: float = 0.2
    hardest: int = 1

    def __post_init__(self) -> None:
        check_above_zero(self, "hidden", "layers", "word_vectors", "max_frames", "max_words", "sharpness")
        check_shares(self, "dropout", "word_dropout", "frame_dropout")
        if self.vocabulary < 0 or self.hardest < 0:
            raise SettingError(f"vocabulary is {self.vocabulary} and hardest {self.hardest}; neither is below 0")


class Graph(NamedTuple):
    """The graph of each sentence; node 0 is the event, then come A actions and E entities.

    actions, entities: the words of each; a node without words is not there. roles: their numbers in `ROLES`.
    heard: whose vectors reach a node's; row hears column.
    """

    actions: Bool[Tensor, "Q A W"]
    entities: Bool[Tensor, "Q E W"]
    roles: Int[Tensor, "Q N"]
    heard: Bool[Tensor, "Q M M"]


def read_graph(labels: Int[Tensor, "Q W L"]) -> Graph:
    """Returns the graph of sentences from the label columns of their words (`prvr.encoders.roles`).

    Every action hears the event; an action and an entity that has a role in it hear each other; the event hears none. An
    entity with several actions has its role in the first of them, one without any is a NOUN and hears none.
    """
    actions = labels[..., 0, None].mT == torch.arange(1, ACTIONS + 1, device=labels.device)[:, None]
    entities = labels[..., 1, None].mT == torch.arange(1, ENTITIES + 1, device=labels.device)[:, None]
    there = actions.any(-1)
    # Each word of an entity has its roles; an action that was cut off with its words ties none.
    of_words = largest_of_slots(labels[..., 2:], torch.where(labels[..., 1] > 0, ACTIONS + labels[..., 1], 0))
    parsed = of_words[:, 1 + ACTIONS :] * there[:, None]
    first = parsed.gather(2, (parsed > 0).long().argmax(2, keepdim=True))[..., 0]
    numbers = [ROLES.index("NOUN"), *(ROLES.index(LABELLED[role]) for role in PARSED_ROLES)]
    roles = torch.tensor(numbers, device=labels.device)[first]
    heard = torch.zeros(len(labels), 1 + ACTIONS + ENTITIES, 1 + ACTIONS + ENTITIES, dtype=torch.bool, device=labels.device)
    heard[:, 1 : 1 + ACTIONS, 0] = there
    heard[:, 1 + ACTIONS :, 1 : 1 + ACTIONS] = parsed > 0
    heard[:, 1 : 1 + ACTIONS, 1 + ACTIONS :] = (parsed > 0).mT
    return Graph(actions, entities, torch.cat([torch.zeros_like(roles[:, :ACTIONS]), roles], dim=1), heard)


class GraphLayer(nn.Module):
    """g_i <- LN(g_i + dropout(W sum_j a_ij g_j)), j over the nodes that i hears.

    a_ij = softmax_j(<W_q g_i, W_k g_j> / sqrt(hidden / 2)). A node that hears none keeps its vector, normalised.
    """

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.query = nn.Linear(hidden, hidden // 2)
        self.key = nn.Linear(hidden, hidden // 2)
        self.context = nn.Linear(hidden, hidden, bias=False)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = Dropout(dropout)

    def forward(self, nodes: Float[Tensor, "Q N D"], heard: Bool[Tensor, "Q N N"]) -> Float[Tensor, "Q N D"]:
        logits = self.query(nodes) @ self.key(nodes).mT / math.sqrt(self.query.out_features)
        deaf = ~heard.any(-1, keepdim=True)
        share = logits.masked_fill(~heard & ~deaf, -float("inf")).softmax(-1).masked_fill(deaf, 0)
        reached: Tensor = self.norm(nodes + self.dropout(self.context(share @ nodes)))
        return reached


class Hgr(nn.Module):
    """S(q, v) = (cos(events) + what the actions find among the frames + what the entities find) / 3."""

    def __init__(self, config: HgrConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        own = word_columns - LABEL_COLUMNS
        if own < 1 or (config.vocabulary and own != 1):
            raise SettingError(
                f"words have {word_columns} columns; the graph needs more than {LABEL_COLUMNS} word columns (vectors with "
                "roles), and with a vocabulary one more than these"
            )
        lengths = (config.max_frames, config.max_words)
        self.reading = Reading(
            frame_columns, word_columns, *lengths, unit=False, text="words", label_columns=LABEL_COLUMNS, sampling="spaced"
        )
        self.embedding_fields: tuple[str, ...] = ("actions", "entities", "event")
        self.frame_fields: tuple[str, ...] = ("actions", "entities")
        self.score_weights: tuple[float, ...] | None = None
        self.table = nn.Embedding(config.vocabulary, config.word_vectors) if config.vocabulary else None
        self.words = BiGru(config.word_vectors if config.vocabulary else own, config.hidden)
        self.word_dropout, self.frame_dropout = Dropout(config.word_dropout), Dropout(config.frame_dropout)
        self.word_pooling = AttentivePooling(config.hidden, bias=True)
        self.roles = nn.Embedding(len(ROLES), config.hidden)
        self.layers = nn.ModuleList(GraphLayer(config.hidden, config.dropout) for _ in range(config.layers))
        self.event, self.actions, self.entities = (nn.Linear(frame_columns, config.hidden) for _ in range(3))
        self.pooling = AttentivePooling(config.hidden, bias=True)
        self._initialise()

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings:
        """The event of each sentence, its actions and entities, and which of these it has."""
        return self.encode_graphs(words[..., :-LABEL_COLUMNS], mask, read_graph(read_labels(words, mask)))

    def encode_graphs(self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], graph: Graph) -> Embeddings:
        """As `encode_queries`, for words without labels and their graphs."""
        rows = words if self.table is None else self.table(word_ids(words, mask, self.config.vocabulary))
        # A copy, because dropout writes over its input.
        states, _ = self.words(self.word_dropout(rows.clone()), mask)
        states = states.unflatten(-1, (2, -1)).mean(-2)
        members = torch.cat([graph.actions, graph.entities], dim=1) & mask[:, None]
        there = members.any(-1)
        of_words = states[:, None].masked_fill(~members[..., None], -float("inf")).amax(2).masked_fill(~there[..., None], 0)
        nodes = torch.cat([self.word_pooling(states, mask)[:, None], of_words * self.roles(graph.roles)], dim=1)
        for layer in self.layers:
            nodes = layer(nodes, graph.heard)
        event, actions, entities = nodes.split([1, graph.actions.shape[1], graph.entities.shape[1]], dim=1)
        return event[:, 0], actions, entities, there[:, : actions.shape[1]], there[:, actions.shape[1] :]

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None) -> Embeddings:
        """Two vectors per frame, zeros where padded, and one for the whole video."""
        frames = frames.masked_fill(~mask[..., None], 0)
        event, actions, entities = (
            self.frame_dropout(layer(frames)) * mask[..., None] for layer in (self.event, self.actions, self.entities)
        )
        return actions, entities, self.pooling(event, mask)[:, None]

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """The mean of the three levels."""
        nodes = queries[1].shape[1] + queries[2].shape[1]
        size = max(SCORES_AT_ONCE // (nodes * mask.numel()), 1)
        parts = zip(*(field.split(size) for field in queries), strict=True)
        return torch.cat([torch.stack(self.level_scores(part, videos, mask)).mean(0) for part in parts])

    def level_scores(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> list[Float[Tensor, "Q V"]]:
        """The scores of the event, of the actions and of the entities."""
        event, *_ = queries
        whole = videos[2]
        found = [scores.frame_cosines(event, whole, scores.every_row(whole))[..., 0]]
        for phrases, real, frames in _phrase_levels(queries, videos):
            found.append(phrase_scores(phrases, real, frames, mask, sharpness=self.config.sharpness))
        return found

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """The mean over levels of the phrases' cosines with each frame; the event's is the same for all frames."""
        event = scores.frame_cosines(query[0], video[2], scores.every_row(video[2]))[:, 0]
        return curves(query, (video[0], video[1], event))[0]

    def _initialise(self) -> None:
        for name, weight in self.words.named_parameters():
            if "weight" in name:
                nn.init.orthogonal_(weight)
        if self.table is not None:
            nn.init.uniform_(self.table.weight, -1 / math.sqrt(self.table.embedding_dim), 1 / math.sqrt(self.table.embedding_dim))


def objective(model: Hgr, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
    """The hinge against the hardest wrong partners of the batch, in both directions."""
    config, found = model.config, model.score(queries, videos, batch.frame_mask)
    return {"triplet": losses.hardest_triplet(found, batch.target, margin=config.margin, hardest=config.hardest or None)}


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

    a = softmax_f(sharpness c_pf / |c_p.|), c_pf = [cos(p, x_f)]_+, the length |c_p.| taken over the video's frames.
    The sum over frames is never made: its product with p is a sum of products, its length that of a under <x_f, x_g>.
    """
    dots = torch.einsum("qpd,vfd->qvpf", phrases, frames)
    lengths = phrases.norm(dim=-1).clamp(min=LEAST_NORM)[:, None, :, None]
    cosines = relu(dots / lengths / frames.norm(dim=-1).clamp(min=LEAST_NORM)[None, :, None])
    share = normalize(cosines * mask[None, :, None], dim=-1, eps=LEAST_ATTENTION_NORM)
    attention = (sharpness * share).masked_fill(~mask[None, :, None], -float("inf")).softmax(-1)
    products = torch.einsum("vfd,vgd->vfg", frames, frames)
    squared = torch.einsum("qvpf,vfg,qvpg->qvp", attention, products, attention)
    found = (attention * dots).sum(-1) / lengths[..., 0] / squared.clamp(min=LEAST_NORM).sqrt()
    return (found * real[:, None]).sum(-1) / real.sum(1).clamp(min=1)[:, None]


def curves(queries: Embeddings, own: Embeddings) -> Float[Tensor, "Q F"]:
    """Of each query along one video of its own: actions and entities (Q, F, D), and the events' cosine (Q, 1)."""
    found = own[2]
    for phrases, real, frames in _phrase_levels(queries, own):
        cosines = torch.einsum("qpd,qfd->qpf", normalize(phrases, dim=-1), normalize(frames, dim=-1))
        found = found + (cosines * real[..., None]).sum(1) / real.sum(1).clamp(min=1)[:, None]
    return found / 3


def _phrase_levels(queries: Embeddings, videos: Embeddings) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Phrases, which of them are there, and the frames they are sought in: of the actions and of the entities."""
    _, actions, entities, real_actions, real_entities = queries
    return [(actions, real_actions, videos[0]), (entities, real_entities, videos[1])]


METHOD = Method(HgrConfig, Hgr, objective, profile=profile, revision=2)
