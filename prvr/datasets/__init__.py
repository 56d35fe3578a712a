"""Who said what about which video."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Caption:
    """A sentence about a moment of a video; `start` and `end` in seconds where the annotation has them."""

    id: str
    video: str
    text: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Dataset:
    """One split: its captions and its gallery. A video may have no caption; a caption always has a video."""

    name: str
    split: str
    captions: tuple[Caption, ...]
    video_ids: tuple[str, ...]
