"""What the methods share that read a video twice, as clips and as frames: MS-SL and GMMFormer, and what builds on them.

`nn.views` continues this for those whose branches look at a video in several views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from prvr.batch import Reading
from prvr.config import check_above_zero, check_heads, check_shares
from prvr.nn import losses
from prvr.nn.clips import clip_means, clip_rows
from prvr.nn.layers import AttentivePooling, InputProjection, Positions, Rows, pool_at
from prvr.nn.shapes import Places, WordMask, Words

Scores = tuple[Float[Tensor, "Q V"], Float[Tensor, "Q V"]]
"""The cosines and the inner products of queries with videos, in one branch."""


@dataclass(frozen=True)
class ClipSettings:
    """Settings that all of these methods have; the defaults are those for TVR.

    clips: how many clips a video is divided into, whatever its length.
    clip_inputs: what a clip is the mean of: the rows as they were extracted, as the released code has it, or those of the batch,
        which have unit length and are `max_frames` at most. The latter serves features that were packed at unit length.
    hard_from_epoch: from this epoch on negatives are drawn from the `negative_pool` hardest, before it from all.
    """

    hidden: int = 384
    heads: int = 4
    max_frames: int = 128
    max_words: int = 30
    clips: int = 32
    clip_inputs: Literal["raw_rows", "unit_rows"] = "raw_rows"
    dropout: float = 0.2
    input_dropout: float = 0.2
    frame_weight: float = 0.3
    margin: float = 0.1
    negative_pool: int = 20
    hard_from_epoch: int = 20
    clip_nce_weight: float = 0.05
    frame_nce_weight: float = 0.04

    def __post_init__(self) -> None:
        check_above_zero(self, "hidden", "heads", "max_frames", "max_words", "clips", "negative_pool")
        check_shares(self, "dropout", "input_dropout", "frame_weight")
        check_heads(self)


class QueryEncoder(nn.Module):
    """Words to one vector: projection, positions, one block of attention, attentive pooling."""

    def __init__(self, columns: int, config: ClipSettings, block: nn.Module) -> None:
        super().__init__()
        self.projection = InputProjection(columns, config.hidden, config.input_dropout)
        self.positions = Positions(config.max_words, config.hidden, config.input_dropout)
        self.block = block
        self.pooling = AttentivePooling(config.hidden)

    def forward(self, words: Words, rows: Rows) -> Float[Tensor, "Q D"]:
        hidden = self.block(self.positions(self.projection(rows.packed(words)), rows), rows)
        return self.pooling(rows.padded(hidden), rows.mask)


class VideoBranch(nn.Module):
    """Clips or frames to one vector each: projection, positions and blocks. Its position table is that of the frames."""

    def __init__(self, columns: int, config: ClipSettings, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.projection = InputProjection(columns, config.hidden, config.input_dropout)
        self.positions = Positions(max(config.max_frames, config.clips), config.hidden, config.input_dropout)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, features: Float[Tensor, "V L E"], rows: Rows) -> Float[Tensor, "V L D"]:
        hidden = self.positions(self.projection(rows.packed(features)), rows)
        for block in self.blocks:
            hidden = block(hidden, rows)
        return rows.padded(hidden)


class TwoBranches(nn.Module):
    """A model that reads clips and frames, and compares both with the same query vector. Abstract: it encodes no videos.

    Args:
        query_block: the block of attention over the words.
    """

    def __init__(self, config: ClipSettings, query_block: nn.Module, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = Reading(
            frame_columns,
            word_columns,
            config.max_frames,
            config.max_words,
            unit=True,
            text="words",
            clips=config.clips if config.clip_inputs == "raw_rows" else 0,
        )
        self.embedding_fields: tuple[str, ...] = ("clips", "frames")
        self.frame_fields: tuple[str, ...] = ("frames",)
        self.queries = QueryEncoder(word_columns, config, query_block)

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> tuple[Tensor, ...]:
        """One vector per query, for both branches."""
        query = self.queries(words, Rows.of(mask, places))
        return query, query

    def read_clips(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], clips: Float[Tensor, "V N E"] | None
    ) -> tuple[Float[Tensor, "V N E"], Rows]:
        """The clips of a batch, which are made of its frames where it has none, and their rows."""
        clips = clip_means(frames, mask, clips=self.config.clips) if clips is None else clips
        return clips, clip_rows(len(clips), self.config.clips, clips.device)


def branch_terms(
    config: ClipSettings,
    compared: Mapping[str, Scores],
    target: Int[Tensor, "Q"],
    epoch: int,
    *,
    contrast: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    """Triplet and weighted contrastive loss of the branches: NAME_triplet of the cosines, NAME_nce of the inner products.

    Args:
        compared: cosines and inner products of the best rows, by the name of the branch: clips, frames, or both.
    """
    terms: dict[str, Tensor] = {}
    weights = {"clips": config.clip_nce_weight, "frames": config.frame_nce_weight}
    for name, (cosines, dots) in compared.items():
        terms[f"{name}_triplet"] = losses.ranking(cosines, target, margin=config.margin, pool=pool_at(config, epoch))
        terms[f"{name}_nce"] = weights[name] * contrast(dots, target)
    return terms
