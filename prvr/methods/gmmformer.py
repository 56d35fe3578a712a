"""GMMFormer (Wang et al., AAAI 2024): Gaussian-mixture attention, and 33 vectors for each video.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
clip-level branch            `VideoBranch` "clips": `blocks` Gaussian blocks over 32 clips, a vector a clip
frame-level branch           `VideoBranch` "frames": the same over frames, then attentive pooling to one vector
Gaussian block               `GaussianBlock`; the constraint's variance: `widths`, 0 for a block without any
S_c(q, v), S_f(q, v)         the best clip's cosine; the cosine with the one vector of the frames
S                            `GmmFormer.score`: (1 - frame_weight) S_c + frame_weight S_f
query diverse loss           `query_diversity`; alpha: `diversity_scale`; delta: `diversity_margin`
lambda of each loss          `clip_nce_weight`, `frame_nce_weight`, `diversity_weight`

It computes what the released code computes (huangmozhi9527/GMMFormer c38df37; tests/parity/peers/gmmformer). Where that is odd,
docs/decisions/0038 says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, final

from jaxtyping import Float
from torch import Tensor, nn

from prvr.batch import Batch
from prvr.config import check_above_zero
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.nn import losses, scores
from prvr.nn.caption_losses import query_diversity
from prvr.nn.clips_and_frames import ClipSettings, TwoBranches, VideoBranch, branch_terms
from prvr.nn.gaussian import GaussianBlock, check_widths
from prvr.nn.layers import AttentivePooling, Rows, SelfAttention, initialise
from prvr.nn.shapes import Clips, FrameMask, Frames, Places


@dataclass(frozen=True)
class GmmFormerConfig(ClipSettings):
    """Settings of the paper; the defaults are those for TVR. `ClipSettings` has the others.

    widths: of the windows, in ninths of a sequence's length; 0 for a block without a window.
    blocks: how many Gaussian blocks follow one another in a branch.
    window_length: how long a sequence of frames is to its windows: as the longest video of its batch, as in the released code, or
        `max_frames`. With the former the vector of a video depends on the videos that it is encoded with.
    """

    widths: tuple[float, ...] = (0.0, 0.5, 1.0, 5.0)
    blocks: int = 2
    window_length: Literal["batch", "max_frames"] = "batch"
    hard_from_epoch: int = 30
    diversity_weight: float = 0.001
    diversity_margin: float = 0.15
    diversity_scale: float = 32.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero(self, "blocks")
        check_widths(self.widths)


@final
class GmmFormer(TwoBranches):
    """S(q, v) = 0.7 max over clips of the cosine + 0.3 the cosine with the pooled frames."""

    config: GmmFormerConfig

    def __init__(self, config: GmmFormerConfig, *, frame_columns: int, word_columns: int) -> None:
        block = SelfAttention(config.hidden, config.heads, config.dropout)
        super().__init__(config, block, frame_columns=frame_columns, word_columns=word_columns)
        self.reading = replace(self.reading, padded_together=config.window_length == "batch")
        self.frame_fields = ()
        self.score_weights: tuple[float, ...] | None = (1 - config.frame_weight, config.frame_weight)
        self.clips = VideoBranch(frame_columns, config, _blocks(config, config.clips))
        places = config.max_frames if config.window_length == "max_frames" else None
        self.frames = VideoBranch(frame_columns, config, _blocks(config, places))
        self.pooling = AttentivePooling(config.hidden)
        self.apply(initialise)

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None, clips: Clips = None) -> Embeddings:
        """A vector for each clip, and one for the frames."""
        of_clips = self.clips(*self.read_clips(frames, mask, clips))
        return of_clips, self.pooling(self.frames(frames, Rows.of(mask, places)), mask)[:, None]

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """Weighted sum of the best clip's cosine and that of the frames' one vector; neither field has padding."""
        assert self.score_weights is not None
        return scores.fused(queries, videos, [scores.every_row(field) for field in videos], weights=self.score_weights)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "N"]:
        """Each clip's cosine."""
        return scores.frame_cosines(query[0], video[0], scores.every_row(video[0]))[0, 0]


def objective(
    model: GmmFormer, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int, *, contrast: Contrast = losses.info_nce
) -> Terms:
    """Triplet and contrastive loss of each branch, and query diversity.

    L = sum_b [trip(S_b) + lambda_b nce(U_b)] + lambda_div L_div, S_b cosines and U_b inner products of the best row.
    """
    config, target = model.config, batch.target
    fields = zip(model.embedding_fields, queries, videos, strict=True)
    compared = {name: scores.compare(query, video, scores.every_row(video), target)[:2] for name, query, video in fields}
    terms = branch_terms(config, compared, target, epoch, contrast=contrast)
    diversity = query_diversity(queries[0], target, scale=config.diversity_scale, margin=config.diversity_margin)
    return terms | {"diversity": config.diversity_weight * diversity}


def _blocks(config: GmmFormerConfig, places: int | None) -> list[nn.Module]:
    return [
        GaussianBlock(config.hidden, config.heads, config.dropout, widths=config.widths, places=places)
        for _ in range(config.blocks)
    ]


METHOD = Method(GmmFormerConfig, GmmFormer, objective, contrasts=True, revision=2)
