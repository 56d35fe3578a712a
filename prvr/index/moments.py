"""From the relevance of a video's frames to spans of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.lib.stride_tricks import sliding_window_view

from prvr.batch import FrameSampling, frame_places

# Heights above the background, as shares of the best peak's. Chosen on dev splits (LOG.md, 2026-11-21).
BAR = 0.6
ANOTHER_PEAK = 0.9


class Span(NamedTuple):
    """A stretch of a video in seconds; score: the relevance of its best frame."""

    start: float
    end: float
    score: float


def frame_edges(
    times: Sequence[float], duration: float, *, most: int | None = None, sampling: FrameSampling = "mean"
) -> list[float]:
    """Where each frame's stretch of time begins, and where the last one ends; in seconds.

    A sampled frame covers the time until the next one, the last the time until the end of the video. Where the student
    reads at most `most` frames, the stretches begin with the rows that it reads (`batch.frame_places`); the last one ends
    with the video, or, where only the first frames are read, with the last of them.
    """
    edges = [*times, max(duration, times[-1])]
    if most is not None and len(times) > most:
        end = edges[most] if sampling == "first" else edges[-1]
        edges = [edges[i] for i in frame_places(len(times), most, sampling)] + [end]
    return edges


def find_spans(relevance: Float[np.ndarray, "P"], edges: Sequence[float], *, most: int = 3) -> list[Span]:
    """The stretches of a video that answer a query, at most `most`, best first; they never overlap.

    Relevance is averaged over three parts; the background is the lower quartile of that. The bar stands at BAR of the
    height of the best part, so averaged, above the background. A span holds a peak and nothing averaged below the
    background: of all such stretches the one in which relevance minus bar sums highest, so that a short dip does not cut
    a moment in two, and a long one does. The first peak is the best part; another is the best of those left over that lie
    above the bar and, averaged, ANOTHER_PEAK as high as the first span does. A flat curve says nothing: the whole video.

    Args:
        relevance: of P parts that divide the frames evenly, as `Model.relevance` gives them: frames, or clips.
        edges: F + 1 times, as `frame_edges` gives them.
    """
    curve = relevance.astype(np.float64)
    times = _part_edges(edges, len(curve))
    if curve.min() == curve.max():
        return [Span(times[0], times[-1], float(curve[0]))][:most]
    peak = int(curve.argmax())
    smooth = sliding_window_view(np.pad(curve, 1, mode="edge"), 3).mean(1)
    background = float(np.quantile(smooth, 0.25))
    # A lone peak in a hole may lie below the background once it is averaged.
    above = curve - background - BAR * max(float(smooth[peak]) - background, 0.0)
    free = smooth >= background
    stretches: list[tuple[int, int]] = []
    while len(stretches) < most:
        first, last = _best_stretch(above, free, peak)
        stretches.append((first, last + 1))
        free[first : last + 1] = False
        height = float(smooth[slice(*stretches[0])].max()) - background
        peaks = free & (above > 0) & (smooth - background >= ANOTHER_PEAK * height)
        if not peaks.any():
            break
        peak = int(np.where(peaks, curve, -np.inf).argmax())
    spans = [Span(times[start], times[end], float(curve[start:end].max())) for start, end in stretches]
    return sorted(spans, key=lambda span: -span.score)


def best_span(relevance: Float[np.ndarray, "P"], edges: Sequence[float]) -> tuple[float, float]:
    """The first of `find_spans`: start and end in seconds."""
    span = find_spans(relevance, edges, most=1)[0]
    return span.start, span.end


def _part_edges(edges: Sequence[float], parts: int) -> list[float]:
    """The P + 1 times between which the parts lie; those of the frames, where these are the parts."""
    frames = len(edges) - 1
    return np.interp(np.linspace(0, frames, parts + 1), np.arange(frames + 1), edges).tolist()


def _best_stretch(above: Float[np.ndarray, "P"], free: Bool[np.ndarray, "P"], peak: int) -> tuple[int, int]:
    """The first and the last part of the stretch around a peak, all free but the peak perhaps, with the highest sum."""
    taken = np.flatnonzero(~free)
    low = int(max(taken[taken < peak], default=-1)) + 1
    high = int(min(taken[taken > peak], default=len(free)))
    before, after = np.cumsum(above[low : peak + 1][::-1]), np.cumsum(above[peak:high])
    return peak - int(before.argmax()), peak + int(after.argmax())
