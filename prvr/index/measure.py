"""How many of the exact best an index finds, by the user's own queries: with its search, its codes, and settings of
approximate search, beside the time of a query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from prvr.index.contract import ApproximateStore, CodedStore, ScoredVideo, Store
from prvr.index.exact import ExactIndex
from prvr.index.setting import TOP, Setting
from prvr.methods.contract import Embeddings
from prvr.nn.scores import best_places, tolerance

VIDEOS_AT_ONCE = 256
# Of a share that is a mean over queries.
ROUNDING = 1e-9
# docs/index-speed.md has their recall and time in galleries of several sizes.
SETTINGS = tuple(map(Setting, (0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25)))

Ranking = Sequence[tuple[str, float]]
"""The best videos of a query and their scores, best first."""


@dataclass(frozen=True)
class Recall:
    """The share of the k exact best that are found, as a mean over queries: by the search, and by the codes alone."""

    queries: int
    k: int
    search: float
    codes: float | None


@dataclass(frozen=True)
class Measured:
    """The share of the exact ten best that a setting finds, as a mean over queries, and the median seconds of a query.

    exact_seconds: the median of exact searches that took turns with these.
    """

    setting: Setting
    recall: float
    seconds: float
    exact_seconds: float


@dataclass(frozen=True)
class Trial:
    """All settings that were measured; `kept` is the one that the index keeps."""

    queries: int
    measured: tuple[Measured, ...]
    kept: Measured | None

    def lines(self, least_recall: float | None) -> list[str]:
        """The settings that were measured as lines of a table, and the one that is kept."""
        rows = [("none: the exact search", 1.0, median(one.exact_seconds for one in self.measured))]
        rows += [(str(one.setting), one.recall, one.seconds) for one in self.measured]
        title = "videos that the first stage keeps"
        width = max(len(name) for name in (title, *(name for name, _, _ in rows)))
        lines = [f"{title:<{width}}  recall@10  ms a query"]
        lines += [f"{name:<{width}}  {recall:9.4f}  {1000 * seconds:10.2f}" for name, recall, seconds in rows]
        if self.kept is None:
            return [*lines, f"none finds {least_recall:g} of the ten best in less time than the exact search; nothing is kept"]
        return [*lines, f"kept for prvr search --approximate: {self.kept.setting}"]


def measure_recall(index: Store, queries: Embeddings, *, k: int = TOP) -> Recall:
    """Compares a search with the exact best by all stored rows."""
    exact = exact_search(index, queries, k)
    # One query at a time: the rows of all hits would not fit into memory.
    found = [_ranking(index.search(query, k)[0]) for query in _split(queries)]
    codes = None
    if isinstance(index, CodedStore) and index.model.score_weights is not None:
        codes = share_found(exact, index.search_by_codes(queries, k))
    return Recall(len(exact), k, share_found(exact, found), codes)


def exact_search(index: Store, queries: Embeddings, k: int) -> list[Ranking]:
    """The k best videos of each query by the model itself, from all stored rows."""
    best: list[Ranking] = [[] for _ in queries[0]]
    ids = sorted(index.ids)
    for start in range(0, len(ids), VIDEOS_AT_ONCE):
        part = ExactIndex(index.model)
        part.add(list(index.fetch(ids[start : start + VIDEOS_AT_ONCE]).values()))
        found = part.search(queries, k)
        best = [best_of([*before, *_ranking(row)], k) for before, row in zip(best, found, strict=True)]
    return best


def best_of(ranking: Ranking, k: int) -> Ranking:
    """The k best of videos with their scores, best first; ties by id."""
    known = sorted(ranking)
    return [known[place] for place in best_places(np.array([score for _, score in known]), k)]


def share_found(exact: Sequence[Ranking], found: Sequence[Ranking]) -> float:
    """The mean share of the exact best that are found. A video that ties with the last of these counts, too."""
    shares = []
    for best, row in zip(exact, found, strict=True):
        scores = np.array([score for _, score in best])
        least = scores.min(initial=np.inf) - tolerance(scores)
        ids = {id for id, _ in best}
        shares.append(sum(id in ids or score >= least for id, score in row) / max(len(best), 1))
    return sum(shares) / max(len(shares), 1)


def choose_setting(
    index: ApproximateStore,
    queries: Embeddings,
    *,
    least_recall: float,
    on_video: Callable[[int, int], None] | None = None,
    on_setting: Callable[[int, int], None] | None = None,
) -> Trial:
    """Measures each of `SETTINGS`; the index then keeps the `fastest`, or none if none is good enough.

    Exact and approximate searches take turns, so that other work of the machine slows both.

    Args:
        on_video: is called with the number of videos sketched so far, and of all.
        on_setting: is called with the number of settings measured so far, and of all.
    """
    single = _split(queries)
    # Before any time is measured: what is read and checked the first time is in memory for all then.
    exact = [_ranking(index.search(query, TOP)[0]) for query in single]
    learned = index.learn_stage(queries, on_video=on_video)
    measured: list[Measured] = []
    for setting in SETTINGS:
        turns = [
            (
                _time(index.search, query, TOP),
                _time(index.search_with_setting, query, TOP, setting=setting, learned=learned),
            )
            for query in single
        ]
        recall = share_found(exact, [_ranking(found) for _, (found, _) in turns])
        exact_seconds, seconds = median(taken for (_, taken), _ in turns), median(taken for _, (_, taken) in turns)
        measured.append(Measured(setting, recall, seconds, exact_seconds))
        if on_setting:
            on_setting(len(measured), len(SETTINGS))
    kept = fastest(measured, least_recall=least_recall)
    if kept is None:
        index.forget_setting()
    else:
        index.keep_setting(kept.setting, learned, recall=kept.recall, queries=len(single))
    return Trial(len(single), tuple(measured), kept)


def fastest(measured: Sequence[Measured], *, least_recall: float) -> Measured | None:
    """The setting with the least time relative to the exact search, among those with enough recall and less time than that."""
    enough = [one for one in measured if one.recall >= least_recall - ROUNDING and one.seconds < one.exact_seconds]
    return min(enough, key=lambda one: one.seconds / one.exact_seconds, default=None)


def _split(queries: Embeddings) -> list[Embeddings]:
    return [tuple(field[place : place + 1] for field in queries) for place in range(len(queries[0]))]


def _ranking(found: Sequence[ScoredVideo]) -> Ranking:
    return [(one.video, one.score) for one in found]


def _time(search: Callable[..., list[list[ScoredVideo]]], *arguments: Any, **options: Any) -> tuple[list[ScoredVideo], float]:
    began = perf_counter()
    (found,) = search(*arguments, **options)
    return found, perf_counter() - began
