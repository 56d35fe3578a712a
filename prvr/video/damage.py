"""What was found to be wrong with a file while it was read, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from prvr.video.missing import Gaps
from prvr.video.skipping import TimeLine


@final
class Damage:
    """Damage to the pictures of a video, and where its stamps jump.

    `errors`: of the container and the decoder, in words. `lost`: the number of packets that are not whole.
    """

    def __init__(self, line: TimeLine, gaps: Gaps, jumps: Sequence[int]) -> None:
        self._line, self._gaps, self._jumps = line, gaps, jumps
        self.errors: list[str] = []
        self.lost = 0

    def because(self) -> str:
        """Returns the first reason, after a colon; nothing where none is known."""
        is_lost = self.lost > len(self._jumps)
        return ": packets were lost" if is_lost else f": {self.errors[0]}" if self.errors else ""

    def of_pictures(self) -> str | None:
        """Returns how many pictures are missing or damaged."""
        # Where recordings are put together, packets do not follow each other either.
        places = len(self.errors) + max(0, self.lost - len(self._jumps))
        if gaps := self._gaps.places:
            lost = self._line.length(sum(length for _, length in gaps))
            return f"damaged: {lost:.2f} s of its pictures are missing, after {self._line.in_words(at for at, _ in gaps)}"
        return f"damaged in {places} places{self.because()}" if places else None

    def of_stamps(self) -> str | None:
        """Returns where the stamps jump."""
        if not self._jumps:
            return None
        times = self._line.in_words(self._jumps)
        return f"its time stamps jump at {times}, as where recordings are put together; times go on from there"
