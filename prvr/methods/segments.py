"""TF-PRVR (2025): a video cut where its frames change, at several scales, and relevance that spreads between its segments.

The paper's words          our names
-------------------------  ---------------------------------------------------------------------------
s_t                        `changes`: 1 - cos(d_t, d_t+1), d the differences of frames of unit length
db4 detail level           `bands`: the signal's part at one scale, reconstructed; at most `LEVELS`, finest first
boundaries                 `segment_starts`: at local maxima of a band
affinity W                 `affinities`, normalised symmetrically
beta                       `SPREAD`
r* = (1 - b)(I - b W)^-1 y `propagated`: the kernel times the segments' vectors, for y is linear in the query

Nothing is learned. The paper leaves open, and we decided: how signals are extended at their ends
(symmetrically), the number of levels, that no segment is a neighbour of itself, that times are those of the middles of
segments, in frames, and that a change at frame t begins a segment there. Where the formulas are not defined: frames that
stand still do not change; a segment without any neighbour keeps its relevance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from prvr.errors import require

WAVELET = "db4"
LEVELS = 4
SPREAD = 0.7

# What is below is rounding and no change; signals range from 0 to 2.
SILENCE = 1e-6


def levels_of(
    frames: Float[np.ndarray, "F E"],
) -> tuple[list[Int[np.ndarray, "_"]], Float[np.ndarray, "S E"]]:
    """The segment that each frame is in, by level, numbered through all levels; and each segment's mean, of unit length."""
    unit = _unit(frames.astype(np.float64))
    of_frame, means, count = [], [], 0
    for starts in segment_starts(changes(unit)):
        lengths = np.diff([*starts, len(unit)])
        means.append(np.add.reduceat(unit, starts, axis=0) / lengths[:, None])
        of_frame.append(count + np.repeat(np.arange(len(starts)), lengths))
        count += len(starts)
    return of_frame, _unit(np.concatenate(means))


def changes(unit: Float[np.ndarray, "F E"]) -> Float[np.ndarray, "_"]:
    """How much the direction of change turns at each frame but the first and the last; 0 while frames stand still."""
    steps = np.diff(unit, axis=0)
    norms = np.linalg.norm(steps, axis=1)
    moving = norms > SILENCE
    steps = steps / np.where(moving, norms, 1)[:, None] * moving[:, None]
    turns: np.ndarray = 1 - (steps[1:] * steps[:-1]).sum(1)
    return np.where(moving[1:] | moving[:-1], turns, 0)


def segment_starts(signal: Float[np.ndarray, "_"]) -> Iterator[Int[np.ndarray, "_"]]:
    """The frames at which segments begin, for each level; the first is 0. `signal` is that of `changes`."""
    if len(signal) == 0:
        yield np.zeros(1, np.int64)
        return
    for band in bands(signal):
        rising, falling = band[1:-1] > band[:-2] + SILENCE, band[1:-1] >= band[2:]
        # Place i of the signal is frame i + 1, and the first place that can be a maximum is 1.
        yield np.concatenate([[0], np.flatnonzero(rising & falling) + 2])


def bands(signal: Float[np.ndarray, "N"]) -> Iterator[Float[np.ndarray, "N"]]:
    """The signal's details, finest first: with the smooth rest they add up to it. Fewer where it is short, at least one."""
    wavelets: Any = require("pywt", extra="segments")
    depth = wavelets.dwt_max_level(len(signal), wavelets.Wavelet(WAVELET).dec_len)
    smooth, lengths = signal, list[int]()
    for _ in range(min(max(depth, 1), LEVELS)):
        lengths.append(len(smooth))
        smooth, detail = wavelets.dwt(smooth, WAVELET)
        band = wavelets.idwt(None, detail, WAVELET)[: lengths[-1]]
        for length in reversed(lengths[:-1]):
            band = wavelets.idwt(band, None, WAVELET)[:length]
        yield band


def affinities(of_frame: Sequence[Int[np.ndarray, "F"]], means: Float[np.ndarray, "S E"]) -> Float[np.ndarray, "S S"]:
    """How near segments are: on one level by looks and time, on neighbouring levels by looks where they overlap.

    One level: relu(cos) + exp(-|time between| / mean length). Neighbouring levels: relu(cos) times the intersection over
    union of their times. Divided by the square roots of both segments' sums; one that has no neighbour is its own.
    """
    levels, begins, ends = _spans(of_frame, len(means))
    looks = np.maximum(means @ means.T, 0)
    middles = (begins + ends) / 2
    mean_lengths = np.array([(ends - begins)[levels == level].mean() for level in range(len(of_frame))])
    near = np.exp(-np.abs(middles[:, None] - middles) / mean_lengths[levels])
    together = np.minimum(ends[:, None], ends) - np.maximum(begins[:, None], begins)
    apart = np.maximum(ends[:, None], ends) - np.minimum(begins[:, None], begins)
    overlap = np.maximum(together, 0) / apart
    between = np.abs(levels[:, None] - levels)
    weights = np.where(between == 0, looks + near, np.where(between == 1, looks * overlap, 0))
    np.fill_diagonal(weights, 0)
    np.fill_diagonal(weights, weights.sum(1) == 0)
    sums = weights.sum(1)
    normalised: np.ndarray = weights / np.sqrt(sums[:, None] * sums)
    return normalised


def propagate(weights: Float[np.ndarray, "S S"], means: Float[np.ndarray, "S E"]) -> Float[np.ndarray, "S E"]:
    """The vectors (1 - b)(I - b W)^-1 M; their inner products with a query are its relevance after spreading."""
    spread: np.ndarray = np.linalg.solve(np.eye(len(weights)) - SPREAD * weights, (1 - SPREAD) * means)
    return spread


def _spans(of_frame: Sequence[np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The level of each segment, the frame at which it begins and that at which the next one does."""
    levels, begins, ends = (np.zeros(count, np.int64) for _ in range(3))
    for level, segments in enumerate(of_frame):
        numbers, first, lengths = np.unique(segments, return_index=True, return_counts=True)
        levels[numbers], begins[numbers], ends[numbers] = level, first, first + lengths
    return levels, begins, ends


def _unit(rows: Float[np.ndarray, "N E"]) -> Float[np.ndarray, "N E"]:
    norms: np.ndarray = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(norms, 1e-12)
