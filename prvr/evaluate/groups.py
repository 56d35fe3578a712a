"""Figures of groups of queries: by moment-to-video ratio, by length of the video, by kind of query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from prvr.evaluate.metrics import Retrieval, figures

RATIOS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
RECALL_NAMES = ("r1", "r5", "r10", "r100", "sumr")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Group:
    """A group of queries. retrieval: its figures; None for an empty group."""

    name: str
    queries: int
    retrieval: Retrieval | None

    def as_dict(self) -> dict[str, Any]:
        """The name, the number of queries and recalls; None for the recalls of an empty group."""
        figures = self.retrieval.as_dict() if self.retrieval else {}
        return {"group": self.name, "queries": self.queries, **{name: figures.get(name) for name in RECALL_NAMES}}


def by_ratio(place: Float[np.ndarray, "Q M"], ratios: Float[np.ndarray, "Q"], *, videos: int) -> list[Group]:
    """Groups by moment-to-video ratio, (end - start) / duration, in five bins of equal width.

    A ratio of 0 is in the first bin. A ratio above 1, of an annotation longer than its video, is in the last bin.
    """
    return _by_edges(place, np.clip(ratios, 0, 1), RATIOS, videos)


def by_parts(place: Float[np.ndarray, "Q M"], values: Float[np.ndarray, "Q"], *, parts: int, videos: int) -> list[Group]:
    """Groups of about equal size, divided at the quantiles of a value; equal values are in one group."""
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, parts + 1))) if len(known) else np.zeros(0)
    return _by_edges(place, values, edges.tolist(), videos)


def by_kind(place: Float[np.ndarray, "Q M"], kinds: Sequence[str | None], *, videos: int) -> list[Group]:
    """Groups by the kind of query, by name; queries without a kind are last."""
    names = sorted({kind for kind in kinds if kind is not None})
    of = np.array([names.index(kind) if kind is not None else len(names) for kind in kinds])
    groups = [_group(name, place, of == number, videos) for number, name in enumerate(names)]
    return groups + _unknown(place, of == len(names), videos)


def _by_edges(
    place: Float[np.ndarray, "Q M"], values: Float[np.ndarray, "Q"], edges: Sequence[float], videos: int
) -> list[Group]:
    """A group between each two edges, upper edge and lowest edge included, and a group of unknown values, if any."""
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
