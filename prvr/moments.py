"""From the relevance of a video's frames to a span of time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

from prvr.batch import segment_edges

KEPT = 0.5


def frame_edges(times: Sequence[float], duration: float, *, most: int | None = None) -> list[float]:
    """Where each frame's stretch of time begins, and where the last one ends; in seconds.

    A sampled frame stands for the time until the next one, the last for the time until the end of the video. Where the
    student reads at most `most` frames, the stretches are those of the slots that `batch.resample` averages.
    """
    edges = [*times, max(duration, times[-1])]
    if most is not None and len(times) > most:
        # The last slot averages all but the last frame, and stands for the rest of the video all the same.
        edges = [edges[i] for i in segment_edges(len(times), most)[:-1]] + [edges[-1]]
    return edges


def best_span(relevance: Float[np.ndarray, "F"], edges: Sequence[float], *, kept: float = KEPT) -> tuple[float, float]:
    """The stretch around the best frame in which relevance stays near its peak; start and end in seconds.

    Relevance is averaged over three frames. A frame is near while it lies above background + kept (peak - background),
    the background being the lower quartile over the video. The rule was chosen on dev splits (LOG.md, 2026-11-21).

    Args:
        edges: F + 1 times, as `frame_edges` gives them.
        kept: from 0 (whole stretches above the background) to 1 (the best frame alone, or little more).
    """
    best = int(relevance.argmax())
    smooth = sliding_window_view(np.pad(relevance, 1, mode="edge"), 3).mean(1)
    background = float(np.quantile(smooth, 0.25))
    near = smooth >= background + kept * (float(smooth[best]) - background)
    first = last = best
    while first > 0 and near[first - 1]:
        first -= 1
    while last + 1 < len(near) and near[last + 1]:
        last += 1
    return edges[first], edges[last + 1]
