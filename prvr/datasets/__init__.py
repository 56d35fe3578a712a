"""Data sets: captions, the videos they describe, and splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

# Seconds by which an annotated moment may exceed its video without a note: annotators round up.
ROUNDED = 1.0


@dataclass(frozen=True)
class Caption:
    """A sentence about a moment of a video.

    video: empty if the release does not publish it (the public test of TVR).
    start, end: the annotated moment in seconds; of several windows, the start of the first and the end of the last.
    kind: the type of query, if the data set has types (TVR: v for video, t for text, vt for both).
    also: further videos of the split that show what the sentence says, if they are labelled.
    windows: the moments in seconds, in order, if there is more than one (QVHighlights).
    saliency: of every clip of two seconds of the video, the scores of the annotators, 0 to 4, if they are annotated.
    where: the file and line that it was read from, for messages; empty where unknown.
    """

    id: str
    video: str
    text: str
    start: float | None = None
    end: float | None = None
    kind: str | None = None
    also: tuple[str, ...] = ()
    windows: tuple[tuple[float, float], ...] = ()
    saliency: tuple[tuple[int, ...], ...] = field(default=(), repr=False)
    where: str = field(default="", compare=False, repr=False)

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
    notes: what is wrong with captions that can be used nevertheless, by their place or id.
    """

    name: str
    split: str
    captions: tuple[Caption, ...]
    video_ids: tuple[str, ...]
    durations: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


def cut_spans(dataset: Dataset, durations: Mapping[str, float]) -> Dataset:
    """Returns the split with its moments cut to their videos; a moment of which nothing is left is dropped.

    `notes` names the captions whose moment was dropped, or was cut by more than rounding explains.

    Args:
        durations: of videos in seconds. Moments of other videos stay as they are.
    """
    captions, notes = [], dict(dataset.notes)
    for caption in dataset.captions:
        duration = durations.get(caption.video)
        if duration is not None and any(end > duration for _, end in caption.moments):
            kept = tuple((start, min(end, duration)) for start, end in caption.moments if start < duration)
            latest = max(end for _, end in caption.moments)
            if len(kept) < len(caption.moments) or latest > duration + ROUNDED:
                done = "is cut" if kept else "is left out"
                notes[caption.where or caption.id] = (
                    f"the moment up to {latest:g} s ends after the video {caption.video!r} of {duration:g} s, and {done}; "
                    "write its start and end in seconds of this video"
                )
            first, last = (min(start for start, _ in kept), max(end for _, end in kept)) if kept else (None, None)
            caption = replace(caption, start=first, end=last, windows=kept if len(kept) > 1 else ())
        captions.append(caption)
    return replace(dataset, captions=tuple(captions), notes=notes)
