"""GMMFormer (Wang et al., AAAI 2024): Gaussian-mixture attention, and 33 vectors for each video.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
clip-level branch            `VideoBranch` "clips": `clip_means`, `blocks` Gaussian blocks, a vector a clip
frame-level branch           `VideoBranch` "frames": the same over frames, then attentive pooling to one vector
Gaussian block               `GaussianBlock`; the constraint's variance: `widths`, 0 for a block without any
S_c(q, v), S_f(q, v)         the best clip's cosine; the cosine with the one vector of the frames
S                            `GmmFormer.score`: (1 - frame_weight) S_c + frame_weight S_f
query diverse loss           `query_diversity`; alpha: `diversity_scale`; delta: `diversity_margin`
lambda of each loss          `clip_nce_weight`, `frame_nce_weight`, `diversity_weight`

Source: spec/methods 2.0 and 2.10. It leaves open, and we decided: margins (0.1 on TVR, else 0.2, as MS-SL has); what time
0 to 1 of a window spans (prvr/gaussian.py); that both branches are asked with the same query vector, and that there is
no linear map after the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from prvr.batch import Batch, Reading
from prvr.config import check_above_zero, check_heads, check_shares
from prvr.errors import SettingError
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.nn import losses, scores
from prvr.nn.clips import clip_means, clip_rows
from prvr.nn.gaussian import GaussianBlock
from prvr.nn.layers import AttentivePooling, InputProjection, Positions, Rows, SequenceEncoder, initialise, pool_at
from prvr.nn.losses import ranking


@dataclass(frozen=True)
class GmmFormerConfig:
    """Settings of the paper; the defaults are those for TVR.

    widths: of the windows, in ninths of the longest video's length; 0 for a block without a window.
    hard_from_epoch: from which negatives are hard ones; before it any wrong partner is drawn.
    """

    hidden: int = 384
    heads: int = 4
    max_frames: int = 128
    max_words: int = 30
    clips: int = 32
    dropout: float = 0.2
    input_dropout: float = 0.2
    widths: tuple[float, ...] = (0.0, 0.5, 1.0, 5.0)
    blocks: int = 2
    frame_weight: float = 0.3
    margin: float = 0.1
    negative_pool: int = 20
    hard_from_epoch: int = 30
    clip_nce_weight: float = 0.05
    frame_nce_weight: float = 0.04
    diversity_weight: float = 0.001
    diversity_margin: float = 0.15
    diversity_scale: float = 32.0

    def __post_init__(self) -> None:
        check_above_zero(self, "hidden", "heads", "max_frames", "max_words", "clips", "blocks", "negative_pool")
        check_shares(self, "dropout", "input_dropout", "frame_weight")
        check_heads(self)
        check_widths(self.widths)


class Sizes(NamedTuple):
    """What the layers of a student share."""

    hidden: int
    heads: int
    dropout: float
    input_dropout: float


class QueryEncoder(nn.Module):
    """Words to one vector: projection, positions, one attention block, attentive pooling."""

    def __init__(self, columns: int, words: int, sizes: Sizes) -> None:
        super().__init__()
        hidden, heads, dropout, input_dropout = sizes
        self.projection = InputProjection(columns, hidden, input_dropout)
        self.words = SequenceEncoder(words, hidden, heads=heads, input_dropout=input_dropout, dropout=dropout)
        self.pooling = AttentivePooling(hidden)

    def forward(self, words: Float[Tensor, "Q W C"], rows: Rows) -> Float[Tensor, "Q D"]:
        return self.pooling(rows.padded(self.words(self.projection(rows.packed(words)), rows)), rows.mask)


class VideoBranch(nn.Module):
    """Frames or clips to one vector each: projection, positions, and the blocks that are given."""

    def __init__(self, columns: int, places: int, sizes: Sizes, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.projection = InputProjection(columns, sizes.hidden, sizes.input_dropout)
        self.positions = Positions(places, sizes.hidden, sizes.input_dropout)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, features: Float[Tensor, "V L E"], rows: Rows) -> Float[Tensor, "V L D"]:
        hidden = self.positions(self.projection(rows.packed(features)), rows)
        for block in self.blocks:
            hidden = block(hidden, rows)
        return rows.padded(hidden)


class GmmFormer(nn.Module):
    """S(q, v) = 0.7 max over clips of the cosine + 0.3 the cosine with the pooled frames."""

    def __init__(self, config: GmmFormerConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = Reading(frame_columns, word_columns, config.max_frames, config.max_words, unit=True, text="words")
        self.embedding_fields: tuple[str, ...] = ("clips", "frames")
        self.frame_fields: tuple[str, ...] = ()
        self.score_weights: tuple[float, ...] | None = (1 - config.frame_weight, config.frame_weight)
        sizes = Sizes(config.hidden, config.heads, config.dropout, config.input_dropout)
        self.queries = QueryEncoder(word_columns, config.max_words, sizes)
        self.clips = VideoBranch(frame_columns, config.clips, sizes, _blocks(config, config.clips))
        self.frames = VideoBranch(frame_columns, config.max_frames, sizes, _blocks(config, config.max_frames))
        self.pooling = AttentivePooling(config.hidden)
        self.apply(initialise)

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """One vector per query, for both branches."""
        query = self.queries(words, Rows.of(mask, places))
        return query, query

    def encode_videos(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """A vector for each clip, and one for the frames."""
        clips = clip_means(frames, mask, clips=self.config.clips)
        of_clips = self.clips(clips, clip_rows(len(clips), self.config.clips, clips.device))
        of_frames = self.frames(frames, Rows.of(mask, places))
        return of_clips, self.pooling(of_frames, mask)[:, None]

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """Weighted sum of the best clip's cosine and that of the frames' one vector; nothing here is padded."""
        assert self.score_weights is not None
        return scores.fused(queries, videos, [scores.every_row(field) for field in videos], weights=self.score_weights)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "N"]:
        """Each clip's cosine."""
        return scores.frame_cosines(query[0], video[0], scores.every_row(video[0]))[0, 0]


def objective(
    model: GmmFormer,
    queries: Embeddings,
    videos: Embeddings,
    batch: Batch,
    epoch: int,
    *,
    contrast: Contrast = losses.info_nce,
) -> Terms:
    """Triplet and contrastive loss of each branch, and query diversity.

    L = sum_b [trip(S_b) + lambda_b nce(U_b)] + lambda_div L_div, S_b cosines and U_b inner products of the best row.
    """
    config = model.config
    terms = branch_terms(
        queries,
        videos,
        [scores.every_row(field) for field in videos],
        batch.target,
        margin=config.margin,
        pool=pool_at(config, epoch),
        nce_weights=(config.clip_nce_weight, config.frame_nce_weight),
        contrast=contrast,
    )
    diversity = query_diversity(queries[0], batch.target, scale=config.diversity_scale, margin=config.diversity_margin)
    terms["diversity"] = config.diversity_weight * diversity
    return terms


def branch_terms(
    queries: Embeddings,
    videos: Embeddings,
    masks: Sequence[Bool[Tensor, "V _"]],
    target: Int[Tensor, "Q"],
    *,
    margin: float,
    pool: int | None,
    nce_weights: Sequence[float],
    contrast: Contrast,
) -> Terms:
    """Triplet and weighted contrastive loss of the clips and of the frames; `pool` as in `xml.ranking`."""
    terms: Terms = {}
    for name, query, video, mask, weight in zip(("clips", "frames"), queries, videos, masks, nce_weights, strict=True):
        ours = scores.compare(query, video, mask, target)
        terms[f"{name}_triplet"] = ranking(ours.cosines, target, margin=margin, pool=pool)
        terms[f"{name}_nce"] = weight * contrast(ours.dots, target)
    return terms


def query_diversity(queries: Float[Tensor, "Q D"], target: Int[Tensor, "Q"], *, scale: float, margin: float) -> Float[Tensor, ""]:
    """How alike the captions of one video are: mean_q log(1 + sum over the other captions q' of its video of
    exp(scale (cos(q, q') + margin)))."""
    cosines, siblings = of_siblings(queries, target)
    powers = (scale * (cosines + margin)).masked_fill(~siblings, losses.LOWEST)
    return torch.cat([powers.new_zeros(len(powers), 1), powers], 1).logsumexp(1).mean()


def of_siblings(queries: Float[Tensor, "Q D"], target: Int[Tensor, "Q"]) -> tuple[Float[Tensor, "Q Q"], Bool[Tensor, "Q Q"]]:
    """Cosines of queries with one another, and which two are different captions of the same video."""
    unit = normalize(queries, dim=-1, eps=scores.LEAST_NORM)
    same = target[:, None] == target
    return unit @ unit.T, same & ~torch.eye(len(target), dtype=torch.bool, device=target.device)


def check_widths(widths: Sequence[float]) -> None:
    """Sees that there are widths, and that none is below 0.

    Raises:
        SettingError: there are none, or one is.
    """
    if not widths or min(widths) < 0:
        raise SettingError(f"widths is {tuple(widths)}; name one or more, each above 0, or 0 for no window")


def _blocks(config: GmmFormerConfig, places: int) -> list[nn.Module]:
    return [
        GaussianBlock(config.hidden, config.heads, config.dropout, places=places, widths=config.widths)
        for _ in range(config.blocks)
    ]


METHOD = Method(GmmFormerConfig, GmmFormer, objective, contrasts=True)
