"""Figures of parts of the queries: by how much of its video a moment fills, by the video's length, by the kind of query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from prvr.evaluate.metrics import Retrieval, figures

RATIOS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Group:
    """A part of the queries. retrieval: its figures; None where no query is in it."""

    name: str
    queries: int
    retrieval: Retrieval | None


def by_ratio(place: Float[np.ndarray, "Q M"], ratios: Float[np.ndarray, "Q"], *, videos: int) -> list[Group]:
    """Groups by moment-to-video ratio, (end - start) / duration, in five bins of equal width.

    A ratio of 0 is in the first bin; one above 1, where an annotation is longer than its video, in the last.
    """
    return _by_edges(place, np.clip(ratios, 0, 1), RATIOS, videos)


def by_parts(place: Float[np.ndarray, "Q M"], values: Float[np.ndarray, "Q"], *, parts: int, videos: int) -> list[Group]:
    """Groups of about equal count: divided at the quantiles of a value, so that equal values are never parted."""
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, parts + 1))) if len(known) else np.zeros(0)
    return _by_edges(place, values, edges.tolist(), videos)


def by_kind(place: Float[np.ndarray, "Q M"], kinds: Sequence[str | None], *, videos: int) -> list[Group]:
    """Groups by the kind of query, in the order of their names; those without a kind come last."""
    names = sorted({kind for kind in kinds if kind is not None})
    of = np.array([names.index(kind) if kind is not None else len(names) for kind in kinds])
    groups = [_group(name, place, of == number, videos) for number, name in enumerate(names)]
    return groups + _unknown(place, of == len(names), videos)


def _by_edges(
    place: Float[np.ndarray, "Q M"], values: Float[np.ndarray, "Q"], edges: Sequence[float], videos: int
) -> list[Group]:
    """A group between each two edges, the upper one included and the lowest too; and one of the unknown, if any."""
    unknown = np.isnan(values)
    groups = []
    for number, (low, high) in enumerate(pairwise(edges)):
        inside = ((values >= low) if number == 0 else (values > low)) & (values <= high)
        groups.append(_group(f"{'[' if number == 0 else '('}{low:.4g}, {high:.4g}]", place, inside, videos))
    if len(edges) == 1:
        groups.append(_group(f"{edges[0]:.4g}", place, ~unknown, videos))
    return groups + _unknown(place, unknown, videos)


def _unknown(place: Float[np.ndarray, "Q M"], rows: Bool[np.ndarray, "Q"], videos: int) -> list[Group]:
    return [_group(UNKNOWN, place, rows, videos)] if rows.any() else []


def _group(name: str, place: Float[np.ndarray, "Q M"], rows: Bool[np.ndarray, "Q"], videos: int) -> Group:
    count = int(rows.sum())
    return Group(name, count, figures(place[rows], videos=videos) if count else None)
