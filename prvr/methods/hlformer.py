"""HLFormer (Li et al., ICCV 2025): attention in Euclidean and in hyperbolic space, and texts inside the cones of videos.

The paper's words                   our names
----------------------------------  ---------------------------------------------------------------------
gaze and glance branch              `ViewsBranch` "frames" and "clips", as in GMMFormer v2
Euclidean attention block           `attention_views`: an `AttentionBlock` for each of `widths`
Lorentz attention block             an `AttentionBlock` around `LorentzAttention` for each of `widths`
mean-guided adaptive interaction    `Consolidation`, its token the mean of all views and rows of a video
partial order preservation          `PartialOrder`, weight `order_weight`: text inside the cone of its video
S, the other losses                 `ViewsModel.score`, `view_terms`: GMMFormer v2's, without optimal matching

It computes what the released code computes (lijun2005/ICCV25-HLFormer 332a024; tests/parity/peers/hlformer). Where that is odd,
docs/decisions/0038 says so.
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
from prvr.config import check_above_zero
from prvr.errors import SettingError
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.nn import hyperboloid, losses, scores
from prvr.nn.gaussian import AttentionBlock, attention_views, check_widths, window
from prvr.nn.layers import AttentivePooling, Decayed, InputProjection, Rows, initialise, pool_with_zeros
from prvr.nn.shapes import FrameMask
from prvr.nn.views import ViewSettings, ViewsModel, profile, view_terms

LEAST_TIME = 1.1
FIRST_LOG_TIME = 2.3


@dataclass(frozen=True)
class HlFormerConfig(ViewSettings):
    """Settings of the paper; the defaults are those for TVR. `ViewSettings` has the others.

    widths: of the windows, in ninths of a sequence's length; 0 for a block without a window. There are two blocks of each, one
        in Euclidean and one in hyperbolic space.
    lorentz_columns: of the vectors that become points of the hyperboloid; a point has one more.
    padding_counts: rows of padding also take part in the mean that weighs the views, and in the pooling of `PartialOrder`.
    """

    widths: tuple[float, ...] = (0.0, 2.0, 4.0, 8.0)
    lorentz_columns: int = 127
    order_weight: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero(self, "lorentz_columns")
        check_widths(self.widths)
        if (self.lorentz_columns + 1) % self.heads:
            least = self.heads * (self.lorentz_columns // self.heads + 1) - 1
            raise SettingError(f"lorentz_columns {self.lorentz_columns} and 1 more are not a multiple of heads; take {least}")


class LorentzLinear(nn.Module):
    """A Linear of points to one point for each head: a time of sigmoid(its first column), and space stretched to fit it."""

    def __init__(self, columns: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear = nn.Linear(columns, columns, bias=False)
        self.log_time = Decayed(torch.tensor(FIRST_LOG_TIME))

    def forward(self, points: Float[Tensor, "R E"]) -> Float[Tensor, "R H _"]:
        """tau = exp(log_time) sigmoid(x_0) + 1.1, and x_1.. scaled to a length of sqrt(tau^2 - 1)."""
        columns = self.linear(points).unflatten(-1, (self.heads, -1))
        time, space = self.log_time.exp() * columns[..., :1].sigmoid() + LEAST_TIME, columns[..., 1:]
        length = space.square().sum(-1, keepdim=True).clamp(min=hyperboloid.MARGIN)
        return torch.cat([time, space * ((time.square() - 1) / length).sqrt()], -1)


class LorentzAttention(nn.Module):
    """Self-attention between points of a hyperboloid, within a window: near points count, and their values are averaged there.

    Logits are (2 + 2 <q, k>) / temperature + bias, minus the squared Lorentzian distance over a learned number; the window is
    multiplied with them. The heads' means side by side are taken for one point, whose time is the first head's.
    """

    def __init__(self, config: HlFormerConfig, *, width: float, places: int) -> None:
        super().__init__()
        columns, points = config.lorentz_columns, config.lorentz_columns + 1
        self.width, self.places = width, places
        self.inward = InputProjection(config.hidden, columns, config.input_dropout)
        self.log_scale = Decayed(torch.tensor(-math.log(columns) / 2))
        self.query, self.key, self.value = (LorentzLinear(points, config.heads) for _ in range(3))
        self.temperature = Decayed(torch.full((1,), math.sqrt(points)))
        self.bias = nn.Parameter(torch.tensor(0.0))
        self.outward = InputProjection(columns, config.hidden, config.input_dropout)
        self.dropout = config.dropout

    def forward(self, hidden: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        scale = at_most(self.log_scale, 0.0).exp()
        points = hyperboloid.lift(self.inward(hidden) * scale)
        # torch's own dropout: ours writes over its input, which is read three times.
        heads = [layer(dropped(points, self.dropout, self.training)) for layer in (self.query, self.key, self.value)]
        query, key, value = (rows.padded(each.flatten(1)).unflatten(-1, each.shape[1:]).transpose(1, 2) for each in heads)
        logits = (2 + 2 * hyperboloid.inners(query, key)) / self.temperature + self.bias
        if self.width:
            length = rows.mask.shape[1]
            logits = logits * window(self.places, self.width, like=logits)[:length, :length]
        share = logits.masked_fill(~rows.mask[:, None, None], -float("inf")).softmax(-1)
        mean = rows.packed(hyperboloid.centroid(share, value).transpose(1, 2).flatten(2))
        # A copy: the dropout that follows writes over its input, which the ReLU of this map still needs.
        return self.outward(hyperboloid.logarithm(mean) / scale).clone()


class PartialOrder(nn.Module):
    """How far each query's point lies outside the cone of its video's point; mean over queries.

    The video's vector is the mean of what two learned attentions make of its clips and of its frames. Vectors are scaled by
    a learned factor of at most 1 and become points of a hyperboloid of learned curvature, within a tenth and ten times the first.
    """

    def __init__(self, hidden: int, *, padded_to: int) -> None:
        super().__init__()
        self.padded_to = padded_to
        self.clips, self.frames = AttentivePooling(hidden), AttentivePooling(hidden)
        self.log_query_scale, self.log_video_scale = (Decayed(torch.tensor(-math.log(hidden) / 2)) for _ in range(2))
        self.log_curvature = Decayed(torch.tensor(0.0))

    def forward(
        self,
        queries: Float[Tensor, "Q D"],
        clips: Float[Tensor, "V N D"],
        frames: Float[Tensor, "V F D"],
        mask: FrameMask,
        target: Int[Tensor, "Q"],
    ) -> Float[Tensor, ""]:
        apex, point, curvature = self.points(queries, clips, frames, mask)
        angle, aperture = hyperboloid.cone(apex[target], point, curvature)
        return (angle - aperture).relu().mean()

    def points(
        self,
        queries: Float[Tensor, "Q D"],
        clips: Float[Tensor, "V N D"],
        frames: Float[Tensor, "V F D"],
        mask: Bool[Tensor, "V F"],
    ) -> tuple[Float[Tensor, "V D"], Float[Tensor, "Q D"], Float[Tensor, ""]]:
        """The points of videos and of queries, and the curvature."""
        self.log_curvature.data.clamp_(min=-math.log(10))
        curvature = at_most(self.log_curvature, math.log(10)).exp()
        logits = self.frames.weight(frames)[..., 0].masked_fill(~mask, losses.LOWEST)
        pooled = pool_with_zeros(frames, logits, (self.padded_to - mask.sum(1)).clamp(min=0))
        videos = (self.clips(clips, scores.every_row(clips)) + pooled) / 2
        apex = hyperboloid.exponential(videos * at_most(self.log_video_scale, 0.0).exp(), curvature)
        return apex, hyperboloid.exponential(queries * at_most(self.log_query_scale, 0.0).exp(), curvature), curvature


@final
class HlFormer(ViewsModel):
    """Clips and frames through blocks of both spaces; `order` serves training."""

    config: HlFormerConfig

    def __init__(self, config: HlFormerConfig, *, frame_columns: int, word_columns: int) -> None:
        def views(places: int) -> list[AttentionBlock]:
            hidden, dropout = config.hidden, config.dropout
            lorentz = [LorentzAttention(config, width=width, places=places) for width in config.widths]
            euclidean = attention_views(hidden, config.heads, dropout, places, widths=config.widths)
            return [*euclidean, *(AttentionBlock(each, hidden, dropout) for each in lorentz)]

        super().__init__(config, views, token=False, frame_columns=frame_columns, word_columns=word_columns)
        self.order = PartialOrder(config.hidden, padded_to=self.padded_to)
        self.apply(initialise)


def objective(
    model: HlFormer, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int, *, contrast: Contrast = losses.info_nce
) -> Terms:
    """Triplet and contrastive loss of each branch, focal diversity of queries, and the partial order of text and video."""
    terms = view_terms(model, queries, videos, batch, epoch, contrast=contrast)
    order = model.order(queries[0], videos[0], videos[1], batch.frame_mask, batch.target)
    return terms | {"order": model.config.order_weight * order}


def at_most(parameter: nn.Parameter, limit: float) -> nn.Parameter:
    """The parameter, itself cut to the limit before it is used: its gradient is not, as in the released code."""
    parameter.data.clamp_(max=limit)
    return parameter


METHOD = Method(HlFormerConfig, HlFormer, objective, contrasts=True, profile=profile, revision=2)
