"""HLFormer (Li et al., ICCV 2025): attention in Euclidean and in hyperbolic space, and texts inside the cones of videos.

The paper's words                   our names
----------------------------------  ---------------------------------------------------------------------
gaze and glance branch              fields "frames" and "clips", as in GMMFormer v2
Euclidean attention block           `attention_block` and `FeedForward`, one pair for each of `widths`
Lorentz attention block             `LorentzAttention` and `FeedForward`, `lorentz_blocks` pairs
mean-guided adaptive interaction    `Consolidation`, its token the mean over time of all views
partial order preservation          `PartialOrder`, weight `order_weight`: text inside the cone of its video
S, the other losses                 `ClipsAndFrames.score`, `student_terms`: GMMFormer v2's, without optimal matching

Source: spec/methods 2.12, prvr/hyperboloid.py. It leaves open, and we decided: a vector becomes a point by taking it for the
space part, and a point a vector by leaving out time; attention is softmax(-d^2 / sqrt(D / heads)), d^2 the squared Lorentzian
distance 2 (-1/c - <q, k>), its values joined by the Lorentzian centroid, curvature -1; the four Lorentz blocks have no
windows; scales and curvature of the cones start at 1 / sqrt(D) and -1; what is not named is as in GMMFormer v2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import dropout as dropped

from prvr.batch import Batch
from prvr.config import check_above_zero, check_heads, check_shares
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.methods.gmmformer import check_widths
from prvr.methods.gmmformer_v2 import ClipsAndFrames, student_terms
from prvr.nn import hyperboloid, losses, scores
from prvr.nn.gaussian import Consolidation, FeedForward, attention_block
from prvr.nn.layers import AttentivePooling, Dropout, Rows, initialise

CURVATURE = 1.0


@dataclass(frozen=True)
class HlFormerConfig:
    """Settings of the paper; the defaults are those for TVR. Where a name is GMMFormer v2's, it means the same."""

    hidden: int = 384
    heads: int = 4
    max_frames: int = 128
    max_words: int = 30
    clips: int = 32
    dropout: float = 0.2
    input_dropout: float = 0.2
    widths: tuple[float, ...] = (0.0, 2.0, 4.0, 8.0)
    lorentz_blocks: int = 4
    consolidation_temperature: float = 0.09
    frame_weight: float = 0.3
    margin: float = 0.1
    negative_pool: int = 20
    hard_from_epoch: int = 30
    clip_nce_weight: float = 0.05
    frame_nce_weight: float = 0.04
    diversity_weight: float = 8e-5
    diversity_margin: float = 0.15
    diversity_scale: float = 32.0
    diversity_focus: float = 1.0
    order_weight: float = 1e-3

    def __post_init__(self) -> None:
        check_above_zero(self, "hidden", "heads", "max_frames", "max_words", "clips", "negative_pool")
        check_above_zero(self, "consolidation_temperature")
        check_shares(self, "dropout", "input_dropout", "frame_weight")
        check_heads(self)
        check_widths(self.widths)


class LorentzLinear(nn.Module):
    """A Linear from a point, time part and all, to the space part of another."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden + 1, hidden)

    def forward(self, points: Float[Tensor, "R D"]) -> Float[Tensor, "R D"]:
        return self.linear(torch.cat([hyperboloid.time(points, CURVATURE), points], -1))


class LorentzAttention(nn.Module):
    """Self-attention between points of a hyperboloid: near ones count, and what they say is joined by its centroid."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (LorentzLinear(hidden) for _ in range(3))
        self.output = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        joined = rows.padded(torch.cat([layer(hidden) for layer in (self.query, self.key, self.value)], -1))
        query, key, value = joined.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        nearness = 2 / CURVATURE + 2 * hyperboloid.inners(query, key, CURVATURE)
        logits = (nearness / math.sqrt(query.shape[-1])).masked_fill(~rows.mask[:, None, None], -float("inf"))
        share = dropped(logits.softmax(-1), self.dropout.share, self.training)
        mixed = hyperboloid.centroid(share, value, CURVATURE)
        return self.norm(self.dropout(self.output(rows.packed(mixed.transpose(1, 2).flatten(2)))) + hidden)


class HybridBlock(nn.Module):
    """Attention in both spaces side by side, joined by weights that the mean of all views asks for."""

    def __init__(self, config: HlFormerConfig, *, places: int) -> None:
        super().__init__()
        hidden, heads, dropout = config.hidden, config.heads, config.dropout
        euclidean = [attention_block(hidden, heads, dropout, places=places, width=width) for width in config.widths]
        lorentz = [LorentzAttention(hidden, heads, dropout) for _ in range(config.lorentz_blocks)]
        self.views = nn.ModuleList([*euclidean, *lorentz])
        self.forwards = nn.ModuleList(FeedForward(hidden, dropout) for _ in self.views)
        temperature = config.consolidation_temperature
        self.consolidation = Consolidation(hidden, heads, dropout, places=places, temperature=temperature)

    def forward(self, hidden: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        views = torch.stack([then(view(hidden, rows)) for view, then in zip(self.views, self.forwards, strict=True)], 1)
        token = rows.padded(views.mean(1)).sum(1) / rows.mask.sum(1, keepdim=True)
        return self.consolidation(views, rows, token)


class PartialOrder(nn.Module):
    """How far each query's point lies outside the cone of its video's point; mean over queries.

    The video's vector is the mean of what two learned attentions make of its clips and of its frames. Vectors are scaled by
    a learned factor of at most 1 and become points of a hyperboloid of learned curvature, within a tenth and ten times the first.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.clips, self.frames = AttentivePooling(hidden), AttentivePooling(hidden)
        self.log_query_scale, self.log_video_scale = (nn.Parameter(torch.tensor(-math.log(hidden) / 2)) for _ in range(2))
        self.log_curvature = nn.Parameter(torch.tensor(math.log(CURVATURE)))

    def forward(
        self,
        queries: Float[Tensor, "Q D"],
        clips: Float[Tensor, "V N D"],
        frames: Float[Tensor, "V F D"],
        mask: Bool[Tensor, "V F"],
        target: Int[Tensor, "Q"],
    ) -> Float[Tensor, ""]:
        c = self.log_curvature.exp().clamp(CURVATURE / 10, CURVATURE * 10)
        videos = (self.clips(clips, scores.every_row(clips)) + self.frames(frames, mask)) / 2
        apex = hyperboloid.exponential(videos * self.log_video_scale.clamp(max=0).exp(), c)
        point = hyperboloid.exponential(queries * self.log_query_scale.clamp(max=0).exp(), c)
        return hyperboloid.outside_cone(apex[target], point, c).mean()


@final
class HlFormer(ClipsAndFrames):
    """Clips and frames through blocks of both spaces; `order` serves training."""

    def __init__(self, config: HlFormerConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__(config, HybridBlock, frame_columns=frame_columns, word_columns=word_columns)
        self.order = PartialOrder(config.hidden)
        self.apply(initialise)


def objective(
    model: HlFormer,
    queries: Embeddings,
    videos: Embeddings,
    batch: Batch,
    epoch: int,
    *,
    contrast: Contrast = losses.info_nce,
) -> Terms:
    """Triplet and contrastive loss of each branch, focal diversity of queries, and the partial order of text and video."""
    config = model.config
    terms = student_terms(config, queries, videos, batch, epoch, contrast=contrast)
    terms["order"] = config.order_weight * model.order(queries[0], *videos, batch.frame_mask, batch.target)
    return terms


METHOD = Method(HlFormerConfig, HlFormer, objective, contrasts=True)
