"""Collaborative experts (Liu et al., BMVC 2019), the student and the teachers of TeachText (Croitoru et al., ICCV 2021).

The papers' words            our names
---------------------------  ------------------------------------------------------------------------
video experts                `experts`: columns of the frames' features, a block for each (prvr/features/joined.py)
missing modality             a block that is zeros in all frames of a video: `CollaborativeExperts.encode_videos`
NetVLAD over words           `NetVlad`, `clusters`
gated embedding unit         `GatedUnit`: one for each expert on both sides
mixture weights w_e(q)       softmax of a Linear of the pooled sentence; the length of the query's vector of that expert
S(q, v)                      `CollaborativeExperts.score`: sum_e w_e <t_e, v_e> over the video's experts, by the sum of their w_e
L_rank                       `max_margin`, `margin`
L_d, its targets             a Distillation beside this objective: batch_matrix, huber, mean, weight 1
text-encoder teachers        runs of this method on other caption features (prvr/similarities.py)
teachers with more experts   runs of this method with more `experts`
denoised captions            prvr/denoising.py

Source: spec/methods 3 (code, README and a figure; the papers' texts were not at hand). It leaves open, and we decided: an
expert is pooled over time by its mean over the frames that have it; both sides are unit vectors of `hidden` columns; no
batch normalisation in the gates. All captions of a video are in a batch where one is drawn for each: `max_margin` is the
published loss where a video has one. The optimiser is ours, where theirs is RAdam.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from prvr.batch import Batch, Reading
from prvr.config import check_above_zero, check_shares
from prvr.errors import SettingError
from prvr.methods.contract import Embeddings, Method, Terms
from prvr.nn import losses
from prvr.nn.layers import Dropout
from prvr.nn.scores import LEAST_NORM


@dataclass(frozen=True)
class CollaborativeExpertsConfig:
    """Settings of the model; the defaults are TeachText's on MSR-VTT.

    experts: how many columns each expert has among those of the frames; none given is one expert with all of them.
    """

    hidden: int = 512
    experts: tuple[int, ...] = ()
    clusters: int = 28
    max_frames: int = 128
    max_words: int = 30
    dropout: float = 0.1
    margin: float = 0.0938

    def __post_init__(self) -> None:
        check_above_zero(self, "hidden", "clusters", "max_frames", "max_words")
        check_shares(self, "dropout")
        if any(columns <= 0 for columns in self.experts):
            raise SettingError(f"experts are {self.experts}; each must have a column")


class NetVlad(nn.Module):
    """A sentence as what its words are beside the centres of clusters: unit(concat_k unit(sum_w a_k(w) (w - c_k))).

    a_k(w) is a softmax over clusters of a Linear of the word. (Arandjelovic et al., CVPR 2016.)
    """

    def __init__(self, columns: int, clusters: int) -> None:
        super().__init__()
        self.assignment = nn.Linear(columns, clusters)
        self.centres = nn.Parameter(torch.randn(clusters, columns) / columns**0.5)

    def forward(self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"]) -> Float[Tensor, "Q N"]:
        shares = self.assignment(words).softmax(-1).masked_fill(~mask[..., None], 0)
        sums = torch.einsum("qwk,qwc->qkc", shares, words) - shares.sum(1)[..., None] * self.centres
        return normalize(normalize(sums, dim=-1).flatten(1), dim=-1)


class GatedUnit(nn.Module):
    """unit(y * sigmoid(W y + b)), y a Linear of the input. (Miech et al., 2018.)"""

    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(columns, hidden)
        self.gate = nn.Linear(hidden, hidden)

    def forward(self, values: Float[Tensor, "N C"]) -> Float[Tensor, "N D"]:
        hidden = self.linear(values)
        return normalize(hidden * self.gate(hidden).sigmoid(), dim=-1)


class CollaborativeExperts(nn.Module):
    """S(q, v) = sum_e w_e(q) <t_e(q), v_e> / sum_e w_e(q), e over the experts that the video has."""

    def __init__(self, config: CollaborativeExpertsConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = Reading(frame_columns, word_columns, config.max_frames, config.max_words, unit=False, text="words")
        self.columns = list(config.experts or (frame_columns,))
        if sum(self.columns) != frame_columns:
            raise SettingError(f"experts have {self.columns} columns, and frames {frame_columns}; set experts to their widths")
        self.embedding_fields: tuple[str, ...] = ("experts",)
        self.frame_fields: tuple[str, ...] = ()
        # The weight of a single expert is 1, and the score a cosine; weights of several are each query's own.
        self.score_weights: tuple[float, ...] | None = (1.0,) if len(self.columns) == 1 else None
        pooled = config.clusters * word_columns
        self.pooling = NetVlad(word_columns, config.clusters)
        self.dropout = Dropout(config.dropout)
        self.mixture = nn.Linear(pooled, len(self.columns))
        self.texts = nn.ModuleList(GatedUnit(pooled, config.hidden) for _ in self.columns)
        self.videos = nn.ModuleList(GatedUnit(columns, config.hidden) for columns in self.columns)

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """For each expert w_e t_e: a vector as long as the expert weighs."""
        pooled = self.dropout(self.pooling(words, mask))
        vectors = torch.stack([unit(pooled) for unit in self.texts], 1)
        return (self.mixture(pooled).softmax(-1)[..., None] * vectors,)

    def encode_videos(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """For each expert v_e, of unit length, or zeros where the video has it in no frame."""
        vectors = []
        for unit, block in zip(self.videos, frames.split(self.columns, dim=-1), strict=True):
            there = (mask & block.ne(0).any(-1)).to(frames.dtype)
            count = there.sum(1, keepdim=True)
            mean = torch.einsum("vf,vfe->ve", there, block) / count.clamp(min=1)
            vectors.append(unit(normalize(mean, dim=-1)) * (count > 0))
        return (torch.stack(vectors, 1),)

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """The weighted sum over a video's experts; 0 for a video without any."""
        (query,), (video,) = queries, videos
        there = video.ne(0).any(-1).to(query.dtype)
        return torch.einsum("qed,ved->qv", query, video) / (query.norm(dim=-1) @ there.T).clamp(min=LEAST_NORM)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "P"]:
        """The video as a whole: one part."""
        return self.score(query, video, torch.ones(1, 1, dtype=torch.bool, device=video[0].device))[0]


def objective(model: CollaborativeExperts, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
    """L_rank(S): right and wrong pairs of the batch, in both directions."""
    scores = model.score(queries, videos, batch.frame_mask)
    return {"ranking": max_margin(scores, batch.target, margin=model.config.margin)}


def max_margin(scores: Float[Tensor, "Q V"], target: Int[Tensor, "Q"], *, margin: float) -> Float[Tensor, ""]:
    """Mean of [m + s(n, v) - s(n, y_n)]_+ over wrong videos v and of [m + s(k, y_n) - s(n, y_n)]_+ over wrong queries k.

    All wrong ones of the batch count, and none that is no number: a batch of one video costs nothing.
    """
    own = losses.ownership(target, scores.shape[1])
    positive = scores.gather(1, target[:, None])
    wrong_videos, wrong_queries = ~own, ~own.T[target]
    to_videos = relu(margin + scores - positive).masked_fill(~wrong_videos, 0)
    to_queries = relu(margin + scores.T[target] - positive).masked_fill(~wrong_queries, 0)
    pairs = wrong_videos.sum() + wrong_queries.sum()
    return (to_videos.sum() + to_queries.sum()) / pairs.clamp(min=1)


METHOD = Method(CollaborativeExpertsConfig, CollaborativeExperts, objective)
