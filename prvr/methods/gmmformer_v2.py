"""GMMFormer v2 (Wang et al., 2024): eight widths of attention, joined by learned weights at each place.

The paper's words              our names
-----------------------------  ----------------------------------------------------------------------
clip- and frame-level branch   fields "clips" and "frames": a vector a clip and a vector a frame
multi-scale Gaussian block     `MultiScaleBlock`: `attention_block` and `FeedForward`, one pair for each width
temporal consolidation module  `Consolidation`; its weight token is learned in `MultiScaleBlock`
sft                            `consolidation_temperature`
S                              `ClipsAndFrames.score`: (1 - frame_weight) best clip's cosine + frame_weight best frame's
query diverse loss, focal      `focal_diversity`; gamma: `diversity_focus`
optimal matching loss          `matching`, weight `matching_weight`

Source: spec/methods 2.11. It leaves open, and we decided: what is not named is as in GMMFormer (contrastive weights, margins,
the epoch of hard negatives, delta and alpha of diversity, 0.7/0.3); the sum over pairs takes each pair once; the token's
attention has a residual and LayerNorm as all others; activations are ReLU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from prvr.batch import Batch, Reading
from prvr.config import check_above_zero, check_heads, check_shares
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.methods.gmmformer import QueryEncoder, Sizes, VideoBranch, branch_terms, check_widths, of_siblings
from prvr.nn import losses, scores
from prvr.nn.clips import clip_means, clip_rows, over_frames
from prvr.nn.gaussian import Consolidation, FeedForward, attention_block
from prvr.nn.layers import Rows, initialise, pool_at


@dataclass(frozen=True)
class GmmFormerV2Config:
    """Settings of the paper; the defaults are those for TVR. Where a name is GMMFormer's, it means the same."""

    hidden: int = 384
    heads: int = 4
    max_frames: int = 128
    max_words: int = 30
    clips: int = 32
    dropout: float = 0.2
    input_dropout: float = 0.2
    widths: tuple[float, ...] = (0.0, 0.1, 0.5, 1.0, 3.0, 5.0, 8.0, 10.0)
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
    matching_weight: float = 0.09

    def __post_init__(self) -> None:
        check_above_zero(self, "hidden", "heads", "max_frames", "max_words", "clips", "negative_pool")
        check_above_zero(self, "consolidation_temperature")
        check_shares(self, "dropout", "input_dropout", "frame_weight")
        check_heads(self)
        check_widths(self.widths)


class MultiScaleBlock(nn.Module):
    """Attention and feed-forward at several widths side by side, joined by learned weights at each place."""

    def __init__(self, config: GmmFormerV2Config, *, places: int) -> None:
        super().__init__()
        hidden, heads, dropout = config.hidden, config.heads, config.dropout
        self.views = nn.ModuleList(attention_block(hidden, heads, dropout, places=places, width=w) for w in config.widths)
        self.forwards = nn.ModuleList(FeedForward(hidden, dropout) for _ in config.widths)
        self.token = nn.Embedding(1, hidden)
        temperature = config.consolidation_temperature
        self.consolidation = Consolidation(hidden, heads, dropout, places=places, temperature=temperature)

    def forward(self, hidden: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        views = [then(view(hidden, rows)) for view, then in zip(self.views, self.forwards, strict=True)]
        return self.consolidation(torch.stack(views, 1), rows, self.token(rows.places.new_zeros(1)))


class ClipsAndFrames(nn.Module):
    """S(q, v) = 0.7 max over clips of the cosine + 0.3 max over frames of the cosine; HLFormer is one, too.

    Args:
        config: settings that have the names of `GmmFormerV2Config`.
        block: what a branch of so many places is made of.
    """

    def __init__(self, config: Any, block: Callable[..., nn.Module], *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = Reading(frame_columns, word_columns, config.max_frames, config.max_words, unit=True, text="words")
        self.embedding_fields: tuple[str, ...] = ("clips", "frames")
        self.frame_fields: tuple[str, ...] = ("frames",)
        self.score_weights: tuple[float, ...] | None = (1 - config.frame_weight, config.frame_weight)
        sizes = Sizes(config.hidden, config.heads, config.dropout, config.input_dropout)
        self.queries = QueryEncoder(word_columns, config.max_words, sizes)
        self.clips, self.frames = (
            VideoBranch(frame_columns, places, sizes, [block(config, places=places)])
            for places in (config.clips, config.max_frames)
        )

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """One vector per query, for both branches."""
        query = self.queries(words, Rows.of(mask, places))
        return query, query

    def encode_videos(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """A vector for each clip and one for each frame, zeros where that is padded."""
        clips = clip_means(frames, mask, clips=self.config.clips)
        of_clips = self.clips(clips, clip_rows(len(clips), self.config.clips, clips.device))
        return of_clips, self.frames(frames, Rows.of(mask, places))

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """Weighted sum of the best clip's and the best frame's cosine."""
        assert self.score_weights is not None
        return scores.fused(queries, videos, (scores.every_row(videos[0]), mask), weights=self.score_weights)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """Weighted sum of each frame's cosine and that of the clip it is in."""
        of_clips, of_frames = (scores.frame_cosines(q, v, scores.every_row(v))[0] for q, v in zip(query, video, strict=True))
        weight = self.config.frame_weight
        return ((1 - weight) * over_frames(of_clips, scores.every_row(video[1])) + weight * of_frames)[0]


@final
class GmmFormerV2(ClipsAndFrames):
    """Clips and frames through blocks of several widths."""

    def __init__(self, config: GmmFormerV2Config, *, frame_columns: int, word_columns: int) -> None:
        super().__init__(config, MultiScaleBlock, frame_columns=frame_columns, word_columns=word_columns)
        self.apply(initialise)


def objective(
    model: GmmFormerV2,
    queries: Embeddings,
    videos: Embeddings,
    batch: Batch,
    epoch: int,
    *,
    contrast: Contrast = losses.info_nce,
) -> Terms:
    """Triplet and contrastive loss of each branch, focal diversity of queries, and matching of captions with clips."""
    config = model.config
    terms = student_terms(config, queries, videos, batch, epoch, contrast=contrast)
    terms["matching"] = config.matching_weight * matching(queries[0], videos[0], batch.target)
    return terms


def student_terms(config: Any, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int, *, contrast: Contrast) -> Terms:
    """What HLFormer learns, too: triplet and contrastive loss of each branch, and focal diversity of queries.

    Args:
        config: settings that have the names of `GmmFormerV2Config`.
    """
    terms = branch_terms(
        queries,
        videos,
        (scores.every_row(videos[0]), batch.frame_mask),
        batch.target,
        margin=config.margin,
        pool=pool_at(config, epoch),
        nce_weights=(config.clip_nce_weight, config.frame_nce_weight),
        contrast=contrast,
    )
    diversity = focal_diversity(
        queries[0],
        batch.target,
        scale=config.diversity_scale,
        margin=config.diversity_margin,
        focus=config.diversity_focus,
    )
    terms["diversity"] = config.diversity_weight * diversity
    return terms


def focal_diversity(
    queries: Float[Tensor, "Q D"], target: Int[Tensor, "Q"], *, scale: float, margin: float, focus: float
) -> Float[Tensor, ""]:
    """How alike the captions of one video are, the more alike the heavier:
    sum over pairs of captions of one video of (1 + cos)^focus log(1 + exp(scale (cos + margin)))."""
    cosines, siblings = of_siblings(queries, target)
    heavier = (1 + cosines).clamp(min=0) ** focus
    return (heavier * softplus(scale * (cosines + margin))).masked_fill(~siblings, 0).sum() / 2


def matching(queries: Float[Tensor, "Q D"], clips: Float[Tensor, "V N D"], target: Int[Tensor, "Q"]) -> Float[Tensor, ""]:
    """1 - the mean cosine of captions with the clips they are assigned to, no clip to two; mean over the videos that have
    two captions or more, 0 where there is none. The assignment is the best one (Hungarian method), found on the CPU."""
    # Every command that opens a checkpoint imports this file, and SciPy's optimisers take half a second.
    from scipy.optimize import linear_sum_assignment

    query, own_clips = (normalize(x, dim=-1, eps=scores.LEAST_NORM) for x in (queries, clips[target]))
    cosines = torch.einsum("qd,qnd->qn", query, own_clips)
    # Where training has gone wrong, it is the loss that says so.
    known, video_of = cosines.detach().nan_to_num().cpu().numpy(), target.cpu().numpy()
    costs = []
    for video in range(len(clips)):
        captions = (video_of == video).nonzero()[0]
        if len(captions) > 1:
            rows, columns = linear_sum_assignment(-known[captions])
            costs.append(1 - cosines[torch.from_numpy(captions[rows]), torch.from_numpy(columns)].mean())
    return torch.stack(costs).mean() if costs else cosines.new_zeros(())


METHOD = Method(GmmFormerV2Config, GmmFormerV2, objective, contrasts=True)
