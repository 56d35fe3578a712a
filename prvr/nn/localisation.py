"""What XML and ReLoCLNet share, made to find moments in videos, which rank videos here: settings, and the subtitles' side.

Of two modalities, pictures and subtitles, each has its field, and a query its vector for each. A score is the mean over
modalities: S(q, v) = mean_m max_l cos(q^m, c^m_l).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from prvr.batch import FrameSampling, Reading
from prvr.config import ADDED_LATER, check_above_zero, check_heads, check_shares
from prvr.nn import scores
from prvr.nn.layers import DecayedLayerNorm, Heads, InputProjection, Positions, Rows, SelfAttention
from prvr.nn.scores import Comparison


@dataclass(frozen=True)
class LocaliserSettings:
    """Settings of an encoder of frames and words by attention, and of a ranking loss with drawn negatives.

    sampling: what is read of a video with more than `max_frames` frames.
    negative_pool: from `hard_from_epoch` on a negative is drawn from so many of the hardest; before, from all wrong ones.
    """

    hidden: int = 256
    heads: int = 4
    max_frames: int = 100
    max_words: int = 30
    sampling: FrameSampling = field(default="mean", metadata=ADDED_LATER)
    dropout: float = 0.1
    input_dropout: float = 0.1
    margin: float = 0.1
    negative_pool: int = 20
    hard_from_epoch: int = 20

    def __post_init__(self) -> None:
        check_above_zero(self, "hidden", "heads", "max_frames", "max_words", "negative_pool")
        check_shares(self, "dropout", "input_dropout")
        check_heads(self)

    def reading(self, frame_columns: int, word_columns: int, subtitle_columns: int) -> Reading:
        """How features are read: rows of unit length, those of the subtitles beside those of the pictures."""
        return Reading(
            frame_columns + subtitle_columns,
            word_columns,
            self.max_frames,
            self.max_words,
            unit=True,
            text="words",
            sampling=self.sampling,
            subtitle_columns=subtitle_columns,
        )


class SubtitleEncoder(nn.Module):
    """Subtitles to one vector for each frame; their positions are those of the frames, table included."""

    def __init__(self, columns: int, config: LocaliserSettings) -> None:
        super().__init__()
        self.projection = InputProjection(columns, config.hidden, config.input_dropout)
        self.attention = SelfAttention(config.hidden, config.heads, config.dropout)

    def forward(self, subtitles: Float[Tensor, "R S"], positions: Positions, rows: Rows) -> Float[Tensor, "R D"]:
        return self.attention(positions(self.projection(subtitles), rows), rows)


@final
class CrossAttention(Heads):
    """Attention of a video's rows to its rows of the other modality, without an output map; then residual and LayerNorm."""

    def __init__(self, config: LocaliserSettings) -> None:
        super().__init__(config.hidden, config.heads, config.dropout)
        self.norm = DecayedLayerNorm(config.hidden)

    def forward(self, hidden: Float[Tensor, "R D"], others: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        query, key, value = (
            rows.padded(layer(read)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, read in ((self.query, hidden), (self.key, others), (self.value, others))
        )
        share = self.dropout.share if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=rows.mask[:, None, None], dropout_p=share)
        return self.norm(rows.packed(mixed.transpose(1, 2).flatten(2)) + hidden)


def field_names(subtitle_columns: int) -> tuple[str, ...]:
    """The embedding fields, one for each modality."""
    return ("frames", "subtitles") if subtitle_columns else ("frames",)


def equal_weights(fields: Sequence[str]) -> tuple[float, ...]:
    """The weights with which a score is the mean over fields."""
    return (1 / len(fields),) * len(fields)


def mean_relevance(query: Sequence[Float[Tensor, "1 D"]], video: Sequence[Float[Tensor, "1 F D"]]) -> Float[Tensor, "F"]:
    """The cosine along a video, mean over fields."""
    fields = zip(query, video, strict=True)
    return torch.stack([scores.frame_cosines(q, rows, scores.every_row(rows))[0, 0] for q, rows in fields]).mean(0)


def mean_comparison(comparisons: Sequence[Comparison]) -> Comparison:
    """The mean over fields of what each was compared as."""
    return Comparison(*(torch.stack(part).mean(0) for part in zip(*comparisons, strict=True)))
