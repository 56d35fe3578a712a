"""Who said what about which video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Caption:
    """A sentence about a moment of a video.

    video: empty where a release keeps it back (the public test of TVR).
    start, end: the moment in seconds, where the annotation has it; of several windows, where the first begins and the
    last ends.
    kind: the type of query, where the data set knows types (TVR: v for video, t for text, vt for both).
    also: further videos of the split that hold what the sentence says, where somebody has looked for them.
    windows: the moments in seconds, in order, where the annotation has more than one (QVHighlights).
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
        """Every annotated moment; one that is found counts by the one that it overlaps best."""
        if self.start is None or self.end is None:
            return ()
        return self.windows or ((self.start, self.end),)


@dataclass(frozen=True)
class Dataset:
    """One split: its captions and its gallery. A video may have no caption; a caption has a video of the gallery.

    durations: of videos in seconds, of those that are known.
    """

    name: str
    split: str
    captions: tuple[Caption, ...]
    video_ids: tuple[str, ...]
    durations: Mapping[str, float] = field(default_factory=dict)
