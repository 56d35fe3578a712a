"""Parts of a query that happen one after another in a video: the best places of all parts in order, and the span of each.

The score of N parts with curves c_1 ... c_N, each along the same P places of a video, is

    max over t_1 < t_2 < ... < t_N of  (c_1(t_1) + ... + c_N(t_N)) / N

A later part is at a strictly later place: one frame does not show two instants. A video with fewer places than parts has no
score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from prvr.index.moments import Span, find_spans, part_edges
from prvr.nn.ranks import first_best, tolerance


class Sequenced(NamedTuple):
    """The score of parts in order, and the place of each."""

    score: float
    places: tuple[int, ...]


def best_in_order(curves: Float[np.ndarray, "N P"]) -> Sequenced | None:
    """The best places of all parts in order; None if there are fewer places than parts. Of ties, the first places.

    The sum up to part n at place t is c_n(t) plus the largest sum up to part n - 1 before t, a cumulative maximum over time.
    """
    parts, count = curves.shape
    if count < parts:
        return None
    sums = np.full((parts, count), -np.inf)
    sums[0] = curves[0]
    for part in range(1, parts):
        sums[part, 1:] = curves[part, 1:] + np.maximum.accumulate(sums[part - 1])[:-1]
    apart, end = tolerance(curves) * parts, count
    places: list[int] = []
    for part in reversed(range(parts)):
        places.append(first_best(sums[part, :end], apart=apart))
        end = places[-1]
    return Sequenced(float(sums[-1].max()) / parts, tuple(reversed(places)))


def spans_in_order(curves: Float[np.ndarray, "N P"], edges: Sequence[float], places: Sequence[int]) -> list[Span]:
    """The span of each part around its place; spans do not overlap, and each ends before the place of the next part.

    A part's span is the first of `find_spans` on its curve between its neighbours' places, where its own place is the best.
    Where two spans overlap, both end in the middle of the overlap, or at the place of one of the two.

    Args:
        edges: F + 1 times between the frames.
    """
    times = part_edges(edges, curves.shape[1])
    bounds = [-1, *places, curves.shape[1]]
    spans = []
    for number, curve in enumerate(curves):
        first, end = bounds[number] + 1, bounds[number + 2]
        span = find_spans(curve[first:end], times[first : end + 1], limit=1)[0]
        spans.append(span._replace(score=float(curve[places[number]])))
    for number, place in enumerate(places[:-1]):
        before, after = spans[number], spans[number + 1]
        if after.start < before.end:
            middle = float(np.clip((after.start + before.end) / 2, times[place + 1], times[places[number + 1]]))
            spans[number], spans[number + 1] = before._replace(end=middle), after._replace(start=middle)
    return spans
