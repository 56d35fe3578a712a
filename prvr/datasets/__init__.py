"""Who said what about which video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Caption:
    """A sentence about a moment of a video.

    start, end: the moment in seconds, where the annotation has it.
    kind: the type of query, where the data set knows types (TVR: v for video, t for text, vt for both).
    also: further videos of the split that hold what the sentence says, where somebody has looked for them.
    """

    id: str
    video: str
    text: str
    start: float | None = None
    end: float | None = None
    kind: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """One split: its captions and its gallery. A video may have no caption; a caption always has a video.

    durations: of videos in seconds, of those that are known.
    """

    name: str
    split: str
    captions: tuple[Caption, ...]
    video_ids: tuple[str, ...]
    durations: Mapping[str, float] = field(default_factory=dict)
