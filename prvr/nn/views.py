"""Several views of a video in each of two branches: GMMFormer v2 and what builds on it.

HLFormer, RAL on GMMFormer v2, Holmes and DreamPRVR do; `nn.word_scores` continues this for scores by words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from prvr.batch import Batch
from prvr.config import check_above_zero
from prvr.nn import losses, scores
from prvr.nn.caption_losses import focal_diversity
from prvr.nn.clips import over_frames
from prvr.nn.clips_and_frames import ClipSettings, Scores, TwoBranches, branch_terms
from prvr.nn.gaussian import AttentionBlock, Consolidation, WindowedHeads
from prvr.nn.layers import InputProjection, Positions, Rows
from prvr.nn.shapes import Clips, FrameMask, Frames, Places


@dataclass(frozen=True)
class ViewSettings(ClipSettings):
    """Settings of the methods with several views of a video in each branch.

    padding_counts: whether rows of padding take part wherever they do in the released code, which pads every video to
        `max_frames`: as zeros in the maximum over frames, so that a shorter video scores 0 there at least, and in further places
        that each method names. False leaves padding out.
    """

    consolidation_temperature: float = 0.09
    padding_counts: bool = True
    diversity_weight: float = 8e-5
    diversity_margin: float = 0.15
    diversity_scale: float = 32.0
    diversity_focus: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero(self, "consolidation_temperature")


class ViewsBranch(nn.Module):
    """Clips or frames to one vector each: projection, positions, blocks side by side, and the consolidation of their views."""

    def __init__(self, columns: int, config: ViewSettings, views: Sequence[nn.Module], *, places: int) -> None:
        super().__init__()
        self.projection = InputProjection(columns, config.hidden, config.input_dropout)
        self.positions = Positions(max(config.max_frames, config.clips), config.hidden, config.input_dropout)
        self.views = nn.ModuleList(views)
        temperature = config.consolidation_temperature
        self.consolidation = Consolidation(config.hidden, config.heads, config.dropout, places=places, temperature=temperature)

    def forward(
        self, features: Float[Tensor, "V L E"], rows: Rows, token: Float[Tensor, "1 1 D"] | None
    ) -> Float[Tensor, "V L D"]:
        """Weighs the views by the token; without a token, by the mean of a video over all views and rows."""
        hidden = self.embed(features, rows)
        return self.weigh([view(hidden, rows) for view in self.views], rows, token)

    def embed(self, features: Float[Tensor, "V L E"], rows: Rows) -> Float[Tensor, "R D"]:
        """What the blocks see: rows projected, with their positions."""
        return self.positions(self.projection(rows.packed(features)), rows)

    def weigh(
        self, each_view: Sequence[Float[Tensor, "R D"]], rows: Rows, token: Float[Tensor, "1 1 D"] | None
    ) -> Float[Tensor, "V L D"]:
        """The views as one, weighed as `forward` says."""
        views = torch.stack(list(each_view), 1)
        if token is None:
            rows_of_video = rows.padded(views.new_ones(len(views), 1)).sum(1)
            return rows.padded(self.consolidation(views, rows, rows.padded(views.mean(1)).sum(1) / rows_of_video))
        return rows.padded(self.consolidation(views, rows, token[0]))


class ViewsModel(TwoBranches):
    """S(q, v) = (1 - frame_weight) max over clips of the cosine + frame_weight max over frames of the cosine.

    Args:
        views: makes the blocks of a branch, from its number of places.
        token: whether a learned token weighs the views, one for both branches; else each video's mean does. Where padding
            counts, that is a mean over rows of padding, too, as the blocks compute them.
    """

    config: ViewSettings

    def __init__(
        self,
        config: ViewSettings,
        views: Callable[[int], Sequence[nn.Module]],
        *,
        token: bool,
        frame_columns: int,
        word_columns: int,
    ) -> None:
        block = AttentionBlock(WindowedHeads(config.hidden, config.heads, config.dropout), config.hidden, config.dropout)
        super().__init__(config, block, frame_columns=frame_columns, word_columns=word_columns)
        self.candidate_weights = (1 - config.frame_weight, config.frame_weight)
        self.score_weights: tuple[float, ...] | None = None if config.padding_counts else self.candidate_weights
        self.padded_to = config.max_frames if config.padding_counts else 0
        self.clips, self.frames = (
            ViewsBranch(frame_columns, config, views(places), places=places) for places in (config.clips, config.max_frames)
        )
        self.token = nn.Parameter(torch.randn(1, 1, config.hidden)) if token else None

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None, clips: Clips = None) -> tuple[Tensor, ...]:
        """A vector for each clip and one for each frame, zeros where that is padded."""
        of_clips = self.clips(*self.read_clips(frames, mask, clips), self.token)
        if self.token is not None or not self.padded_to:
            return of_clips, self.frames(frames, Rows.of(mask, places), self.token)
        of_frames = self.frames(*all_places(frames, mask, self.padded_to), None)[:, : mask.shape[1]]
        return of_clips, of_frames.masked_fill(~mask[..., None], 0)

    def score(self, queries: tuple[Tensor, ...], videos: tuple[Tensor, ...], mask: FrameMask) -> Float[Tensor, "Q V"]:
        """Weighted sum of the best clip's and the best frame's cosine."""
        of_clips = scores.best_cosines(queries[0], videos[0], scores.every_row(videos[0]))
        of_frames = raise_to_floor(scores.best_cosines(queries[1], videos[1], mask), mask, self.padded_to)
        return (1 - self.config.frame_weight) * of_clips + self.config.frame_weight * of_frames

    def relevance(self, query: tuple[Tensor, ...], video: tuple[Tensor, ...]) -> Float[Tensor, "F"]:
        """Weighted sum of each frame's cosine and that of the clip it is in."""
        first = torch.zeros(1, dtype=torch.long, device=video[0].device)
        return curves(self, query, video, scores.every_row(video[1]), first)[0]


def all_places(frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: int) -> tuple[Float[Tensor, "V L E"], Rows]:
    """Videos padded with zeros to `places` frames, and rows of all of them: padding is computed, and attended to by none."""
    frames = pad(frames.masked_fill(~mask[..., None], 0), (0, 0, 0, places - mask.shape[1]))
    mask = pad(mask, (0, places - mask.shape[1]))
    return frames, Rows(mask, torch.arange(mask.numel(), device=mask.device))


def raise_to_floor(best: Float[Tensor, "Q V"], mask: Bool[Tensor, "V F"], padded_to: int) -> Float[Tensor, "Q V"]:
    """Scores of the best frames; of videos of fewer than `padded_to` frames at least 0, which is what padding scores."""
    return torch.where(mask.sum(1) < padded_to, best.clamp(min=0), best)


def curves(
    model: ViewsModel,
    queries: tuple[Tensor, ...],
    videos: tuple[Tensor, ...],
    mask: Bool[Tensor, "V F"],
    target: Int[Tensor, "Q"],
) -> Float[Tensor, "Q F"]:
    """`relevance` of each query along its own video, -inf where that is padded."""
    own, weight = mask[target], model.config.frame_weight
    of_clips = scores.own_video(scores.frame_cosines(queries[0], videos[0], scores.every_row(videos[0])), target)
    of_frames = scores.own_video(scores.frame_cosines(queries[1], videos[1], mask), target)
    parts = (1 - weight, over_frames(of_clips, own)), (weight, of_frames)
    return torch.stack([w * part.masked_fill(~own, 0) for w, part in parts]).sum(0).masked_fill(~own, losses.LOWEST)


def profile(model: ViewsModel, queries: tuple[Tensor, ...], videos: tuple[Tensor, ...], batch: Batch) -> Float[Tensor, "Q F"]:
    """`curves` of a batch."""
    return curves(model, queries, videos, batch.frame_mask, batch.target)


def view_terms(
    model: ViewsModel,
    queries: tuple[Tensor, ...],
    videos: tuple[Tensor, ...],
    batch: Batch,
    epoch: int,
    *,
    contrast: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    """What all of them learn from: `branch_terms` of both branches, and `diversity_term`."""
    compared = compare_views(model, queries, videos, batch)
    terms = branch_terms(model.config, compared, batch.target, epoch, contrast=contrast)
    return terms | diversity_term(model.config, queries[0], batch.target)


def compare_views(model: ViewsModel, queries: tuple[Tensor, ...], videos: tuple[Tensor, ...], batch: Batch) -> dict[str, Scores]:
    """Cosines and inner products of queries with the best clip and with the best frame of each video."""
    of_clips = scores.compare(queries[0], videos[0], scores.every_row(videos[0]), batch.target)
    of_frames = scores.compare(queries[1], videos[1], batch.frame_mask, batch.target)
    best = [raise_to_floor(each, batch.frame_mask, model.padded_to) for each in (of_frames.cosines, of_frames.dots)]
    return {"clips": (of_clips.cosines, of_clips.dots), "frames": (best[0], best[1])}


def diversity_term(config: ViewSettings, queries: Float[Tensor, "Q D"], target: Int[Tensor, "Q"]) -> dict[str, Tensor]:
    """The weighted focal diversity of a batch's captions."""
    diversity = focal_diversity(
        queries, target, scale=config.diversity_scale, margin=config.diversity_margin, focus=config.diversity_focus
    )
    return {"diversity": config.diversity_weight * diversity}
