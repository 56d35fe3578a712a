"""Where in a video a query is answered: the relevance of its parts, and the spans of time that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.lib.stride_tricks import sliding_window_view

from prvr.features.reading import FrameSampling, frame_places
from prvr.index.contract import Entry
from prvr.methods.model import ArrayModel, Embeddings, KeepsRows, StoredModel
from prvr.nn.ranks import as_arrays, first_best, tolerance, unit

# Heights above the background, as shares of the best peak's. Chosen on dev splits (LOG.md, 2026-11-21).
BAR = 0.6
ANOTHER_PEAK = 0.9
# Of frames as an encoder returned them; chosen on half of the clips (experiments/spans.py; LOG.md, 2026-11-29). A cut: a
# change between neighbours of this share of the usual distance between two frames, and this many times the usual change.
CUT, CUT_TIMES_USUAL = 0.6, 4.0
# What it costs to go on beyond a cut, for each unit of change above the bar of a cut: seconds at the height of the best peak.
CUT_SECONDS = 8.0
# Frames that are closer than this on average are one picture.
LEAST_DISTANCE = 1e-6


class Span(NamedTuple):
    """A stretch of a video in seconds. score: the relevance of its best part."""

    start: float
    end: float
    score: float


def relevance(model: StoredModel, query: Embeddings, entry: Entry) -> tuple[Float[np.ndarray, "P"], tuple[float, ...] | None]:
    """How relevant each of the P parts of a video is to one query, and the P + 1 times between which the parts lie.

    Args:
        query: one query, with a first axis of 1.

    Returns:
        The times are None where the entry has none.
    """
    curve, edges = [], []
    first = 0
    for fields, frames in zip(split_windows(model, entry), entry.windows, strict=True):
        curve.append(_curve(model, query, fields))
        if entry.edges is not None:
            edges += part_edges(entry.edges[first : first + frames + 1], len(curve[-1]))[1:]
        first += frames
    return np.concatenate(curve), None if entry.edges is None else (entry.edges[0], *edges)


def _curve(model: StoredModel, query: Embeddings, fields: Sequence[Float[np.ndarray, "_ _"]]) -> Float[np.ndarray, "P"]:
    if isinstance(model, ArrayModel):
        curve: np.ndarray = model.relevance(as_arrays(query), fields)
        return curve
    import torch

    with torch.inference_mode():
        tensors = tuple(torch.as_tensor(field) for field in query)
        # Rows that came from another process are read-only, which torch does not take.
        video = tuple(torch.from_numpy(np.require(rows, np.float32, "W"))[None].to(tensors[0].device) for rows in fields)
        curve = model.relevance(tensors, video).cpu().numpy()
    return curve


def split_windows(model: StoredModel, entry: Entry) -> list[tuple[Float[np.ndarray, "_ _"], ...]]:
    """The rows of every field, window by window."""
    ends = np.cumsum(entry.windows)[:-1]
    parts = [
        np.split(rows, ends if name in model.frame_fields else len(entry.windows))
        for name, rows in zip(model.embedding_fields, entry.fields, strict=True)
    ]
    return list(zip(*parts, strict=True))


def frame_edges(
    times: Sequence[float],
    duration: float,
    *,
    limit: int | None = None,
    sampling: FrameSampling = "mean",
    frame_seconds: float | None = None,
) -> list[float]:
    """The times in seconds at which each frame's stretch begins, and at last the time at which the last one ends.

    A row covers the time until the next one, the last row the time until the end of the video. A frame of a file is shown for
    `frame_seconds` only: what lies between that and the next sampled frame is divided between the two. Where the student reads
    at most `limit` frames, the stretches begin at the rows that it reads (`batch.frame_places`), and the last one ends with the
    video, or with the last frame that is read where only the first ones are.
    """
    gaps = [later - earlier for earlier, later in pairwise(times)]
    unseen = [0.0 if frame_seconds is None else max(gap - frame_seconds, 0.0) for gap in gaps]
    edges = [times[0], *(later - gap / 2 for later, gap in zip(times[1:], unseen, strict=True)), max(duration, times[-1])]
    if limit is not None and len(times) > limit:
        end = edges[limit] if sampling == "first" else edges[-1]
        edges = [edges[i] for i in frame_places(len(times), limit, sampling)] + [end]
    return edges


def frame_rows(model: StoredModel, entry: Entry) -> Float[np.ndarray, "F _"] | None:
    """The rows of a video's frames as its encoder returned them; None where the model has changed them, or has none."""
    # A student's rows depend on each other: how they change says less of what is seen.
    keeps = isinstance(model, KeepsRows) and model.keeps_rows
    if keeps and model.embedding_fields[0] in model.frame_fields and model.score_weights:
        return entry.fields[0]
    return None


def find_spans(
    relevance: Float[np.ndarray, "P"],
    edges: Sequence[float],
    *,
    limit: int = 3,
    frames: Float[np.ndarray, "P _"] | None = None,
    another: float = ANOTHER_PEAK,
) -> list[Span]:
    """The stretches of a video that answer a query, at most `limit`, best first. They do not overlap.

    Relevance is averaged over three parts; the background is the lower quartile of these averages. The bar is at BAR of the
    height of the best part's average above the background. A span holds a peak and no part whose average is below the
    background: of all such stretches the one with the highest sum of relevance minus bar, so that a short dip does not cut
    a moment in two, and a long one does. The first peak is the best part. Another one is the best of the parts left that
    are above the bar and whose average is `another` as high as that of the first span. A flat curve gives the whole video.

    With `frames`, the sum is in seconds, averages do not reach across cuts (`find_cuts`), and each cut in a stretch costs
    CUT_SECONDS times its strength. The height of the best part is at least the standard deviation of the curve from part to
    part: a curve without a peak above its noise gives a whole shot, or the whole video.

    Ties (`prvr.nn.scores`): the first of the peaks that tie, the shortest of the stretches whose sums tie, the first of the
    spans whose scores tie. A part reaches the background where it ties with it, and is above the bar where it does not:
    the bar is raised by the tolerance, so that no stretch is extended by parts that add no more than rounding does.

    Args:
        relevance: of P parts that divide the frames evenly, as `Model.relevance` returns them: frames, or clips.
        edges: F + 1 times, as `frame_edges` returns them.
        frames: the rows of the parts as an encoder returned them (`frame_rows`).
        another: how high a further peak is, as a share of the best one's height above the background.
    """
    curve = relevance.astype(np.float64)
    times = part_edges(edges, len(curve))
    apart = tolerance(relevance)
    if curve.max() - curve.min() <= apart:
        return [Span(times[0], times[-1], float(curve[0]))][:limit]
    peak = first_best(curve, apart=apart)
    cuts = np.zeros(len(curve)) if frames is None else find_cuts(frames)
    shots = np.split(curve, np.flatnonzero(cuts))
    smooth = np.concatenate([sliding_window_view(np.pad(shot, 1, mode="edge"), 3).mean(1) for shot in shots])
    background = float(np.quantile(smooth, 0.25))
    # A single peak in a hole may be below the background once it is averaged.
    rise = max(float(smooth[peak]) - background, 0.0)
    above = curve - background - BAR * rise - apart
    if frames is not None:
        rise = max(rise, float(np.diff(curve).std()))
        background = min(background, float(smooth[peak]) - rise)
        above = (curve - background - BAR * rise - apart) * np.diff(times)
    free = smooth >= background - apart
    stretches: list[tuple[int, int]] = []
    while len(stretches) < limit:
        first, last = _best_stretch(above, CUT_SECONDS * rise * cuts, free, peak)
        stretches.append((first, last + 1))
        free[first : last + 1] = False
        height = float(smooth[slice(*stretches[0])].max()) - background
        peaks = free & (above > 0) & (smooth - background >= another * height - apart)
        if not peaks.any():
            break
        peak = first_best(np.where(peaks, curve, -np.inf), apart=apart)
    spans = [Span(times[start], times[end], float(curve[start:end].max())) for start, end in stretches]
    return sorted(spans, key=lambda span: sum(other.score > span.score + apart for other in spans))


def best_span(
    relevance: Float[np.ndarray, "P"], edges: Sequence[float], *, frames: Float[np.ndarray, "P _"] | None = None
) -> tuple[float, float]:
    """Start and end of the first of `find_spans`, in seconds."""
    span = find_spans(relevance, edges, limit=1, frames=frames)[0]
    return span.start, span.end


def peak_time(relevance: Float[np.ndarray, "P"], edges: Sequence[float], within: Span | None = None) -> float:
    """The middle of the best part, in seconds; of the best part within a span. Of parts that tie the first."""
    times = part_edges(edges, len(relevance))
    curve = relevance
    if within is not None:
        starts, ends = np.array(times[:-1]), np.array(times[1:])
        curve = np.where((starts < within.end) & (ends > within.start), relevance, -np.inf)
    best = first_best(curve, apart=tolerance(relevance))
    return (times[best] + times[best + 1]) / 2


def part_edges(edges: Sequence[float], parts: int) -> list[float]:
    """The P + 1 times between which P parts lie that divide the frames evenly."""
    frames = len(edges) - 1
    if parts == frames:
        return list(edges)
    return np.interp(np.linspace(0, frames, parts + 1), np.arange(frames + 1), edges).tolist()


def find_cuts(frames: Float[np.ndarray, "P _"]) -> Float[np.ndarray, "P"]:
    """The strength of the cut before each part; 0 without a cut.

    The change from one row to the next is 1 minus their cosine, in units of that of two rows of the video on average. Its
    strength is how far it is above CUT and above CUT_TIMES_USUAL times the median change: cross-fades, moving pictures and noise
    change little by little, or always.
    """
    rows = frames.astype(np.float64)
    rows = unit(rows)
    usual_distance = 1 - float(np.square(rows.mean(0)).sum())
    if len(rows) < 2 or usual_distance < LEAST_DISTANCE:
        return np.zeros(len(rows))
    changes = (1 - (rows[1:] * rows[:-1]).sum(1)) / usual_distance
    return np.concatenate([[0.0], np.maximum(changes - max(CUT, CUT_TIMES_USUAL * float(np.median(changes))), 0.0)])


def _best_stretch(
    above: Float[np.ndarray, "P"], costs: Float[np.ndarray, "P"], free: Bool[np.ndarray, "P"], peak: int
) -> tuple[int, int]:
    """The first and the last part of the stretch around a peak with the highest sum, less the costs of the cuts before parts
    within it. All parts but the peak are free."""
    taken = np.flatnonzero(~free)
    low = int(max(taken[taken < peak], default=-1)) + 1
    high = int(min(taken[taken > peak], default=len(free)))
    before = np.cumsum(above[low : peak + 1][::-1] - np.append(0.0, costs[low + 1 : peak + 1][::-1]))
    after = np.cumsum(above[peak:high] - np.append(0.0, costs[peak + 1 : high]))
    return peak - int(before.argmax()), peak + int(after.argmax())


def thin(
    curve: Float[np.ndarray, "F"], edges: Float[np.ndarray, "_"], *, limit: int
) -> tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"]]:
    """At most `limit` stretches, each with its highest relevance, so that no peak is lost; and the times between them."""
    if len(curve) <= limit:
        return curve, edges
    starts = np.arange(limit) * len(curve) // limit
    return np.maximum.reduceat(curve, starts), edges[[*starts, len(curve)]]
