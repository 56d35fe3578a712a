"""Data sets: captions, the videos they describe, and splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Caption:
    """A sentence about a moment of a video.

    video: empty if the release does not publish it (the public test of TVR).
    start, end: the annotated moment in seconds; of several windows, the start of the first and the end of the last.
    kind: the type of query, if the data set has types (TVR: v for video, t for text, vt for both).
    also: further videos of the split that show what the sentence says, if they are labelled.
    windows: the moments in seconds, in order, if there is more than one (QVHighlights).
    """

    id: str
    video: str
    text: str
    start: float | None = None
    end: float | None = None
    kind: str | None = None
    also: tuple[str, ...] = ()
    windows: tuple[tuple[float, float], ...] = ()

    @property
    def moments(self) -> tuple[tuple[float, float], ...]:
        """Every annotated moment. A found moment is compared with the one that it overlaps best."""
        if self.start is None or self.end is None:
            return ()
        return self.windows or ((self.start, self.end),)


@dataclass(frozen=True)
class Dataset:
    """One split: its captions and its gallery. A video may have no caption; the video of a caption is in the gallery.

    durations: of videos in seconds, where known.
    """

    name: str
    split: str
    captions: tuple[Caption, ...]
    video_ids: tuple[str, ...]
    durations: Mapping[str, float] = field(default_factory=dict)
