"""How many of the exact best an index finds."""

from __future__ import annotations

from dataclasses import dataclass

from prvr.index.contract import Found, Store
from prvr.index.disk import DiskIndex
from prvr.index.exact import ExactIndex
from prvr.methods.contract import Embeddings

VIDEOS_AT_ONCE = 256
# Two ways to add up float32 differ by about so much.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Recall:
    """The share of the k exact best that are found, on average over queries: by the search, and by its codes alone."""

    queries: int
    k: int
    search: float
    codes: float | None


def recall(index: Store, queries: Embeddings, *, k: int = 10) -> Recall:
    """What a search finds of the exact best, which all stored rows are read for."""
    exact = exact_search(index, queries, k)
    codes = index.by_codes(queries, k) if isinstance(index, DiskIndex) and index.model.score_weights is not None else None
    return Recall(
        len(exact), k, share_found(exact, index.search(queries, k)), None if codes is None else share_found(exact, codes)
    )


def exact_search(index: Store, queries: Embeddings, k: int) -> list[list[Found]]:
    """The k best videos of each query by the model itself, from all stored rows, part by part."""
    best: list[list[Found]] = [[] for _ in queries[0]]
    ids = index.ids
    for start in range(0, len(ids), VIDEOS_AT_ONCE):
        part = ExactIndex(index.model)
        part.add(list(index.fetch(ids[start : start + VIDEOS_AT_ONCE]).values()))
        for row, found in zip(best, part.search(queries, k), strict=True):
            row[:] = sorted([*row, *found], key=lambda hit: (-hit.score, hit.video))[:k]
    return best


def share_found(exact: list[list[Found]], found: list[list[Found]]) -> float:
    """The mean share of the exact best that are found; one as good as the last of these counts, too."""
    shares = []
    for best, row in zip(exact, found, strict=True):
        names = {hit.video for hit in best}
        least = min((hit.score for hit in best), default=0.0) - ROUNDING
        shares.append(sum(hit.video in names or hit.score >= least for hit in row) / max(len(best), 1))
    return sum(shares) / max(len(shares), 1)
