"""What a student finds in the annotated videos of its queries: spans as windows, and relevance as the saliency of clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from prvr.datasets import Dataset
from prvr.datasets.windows import CLIP_SECONDS
from prvr.evaluate.metrics import overlap
from prvr.evaluate.qvhighlights import MOST_WINDOWS, MomentPrediction, MomentValues, moment_values
from prvr.index.exact import ExactIndex
from prvr.index.moments import find_spans, frame_rows, relevance
from prvr.methods.contract import Embeddings

# Spans that `any_overlaps` counts; a search shows as many.
SHOWN_SPANS = 3


class FoundMoments(NamedTuple):
    """The moments of Q captions; NaN where a caption has no annotated moment or its video no times.

    overlaps: IoU of the best span found in the caption's own video with the annotated span that it overlaps best.
    any_overlaps: the same for the span that fits best, of the first SHOWN_SPANS. values: those of the figures of QVHighlights.
    """

    overlaps: Float[np.ndarray, "Q"]
    any_overlaps: Float[np.ndarray, "Q"]
    values: MomentValues


def find_moments(index: ExactIndex, queries: Embeddings, dataset: Dataset) -> FoundMoments:
    """Finds the spans of each caption in its own video, and compares them with the annotated ones."""
    overlaps, any_overlaps = np.full((2, len(dataset.captions)), np.nan)
    predictions: list[MomentPrediction | None] = [None] * len(dataset.captions)
    for row, caption in enumerate(dataset.captions):
        if not caption.moments:
            continue
        query = tuple(field[row : row + 1] for field in queries)
        entry = index.fetch([caption.video])[caption.video]
        curve, edges = relevance(index.model, query, entry)
        if edges is None:
            continue
        rows = frame_rows(index.model, entry)
        spans = find_spans(curve, edges, limit=SHOWN_SPANS, frames=rows)
        fits = [max(overlap((span.start, span.end), true) for true in caption.moments) for span in spans]
        overlaps[row], any_overlaps[row] = fits[0], max(fits)
        more = find_spans(curve, edges, limit=MOST_WINDOWS, frames=rows) if len(spans) == SHOWN_SPANS else spans
        saliency = clip_scores(curve, edges, len(caption.saliency)) if caption.saliency else None
        predictions[row] = MomentPrediction(more, saliency)
    return FoundMoments(overlaps, any_overlaps, moment_values(dataset.captions, predictions))


def clip_scores(curve: Float[np.ndarray, "P"], edges: Sequence[float], clips: int) -> Float[np.ndarray, "C"]:
    """The mean relevance within each of the clips of two seconds with which a video begins.

    Args:
        curve: of P parts. edges: the P + 1 times between which they lie. The first and the last part extend beyond them.
    """
    times = np.arange(clips + 1) * CLIP_SECONDS
    bounds = np.array([min(edges[0], 0.0), *edges[1:-1], max(edges[-1], times[-1])])
    area = np.concatenate([[0.0], np.cumsum(curve * np.diff(bounds))])
    return np.diff(np.interp(times, bounds, area)) / CLIP_SECONDS
