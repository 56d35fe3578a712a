"""The settings that XML and ReLoCLNet share: methods made to find moments in videos, which rank videos here."""

from __future__ import annotations

from dataclasses import dataclass, field

from prvr.batch import FrameSampling, Reading
from prvr.config import ADDED_LATER, check_above_zero, check_heads, check_shares


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

    def reading(self, frame_columns: int, word_columns: int) -> Reading:
        """How features are read: rows of unit length."""
        lengths = (self.max_frames, self.max_words)
        return Reading(frame_columns, word_columns, *lengths, unit=True, text="words", sampling=self.sampling)
