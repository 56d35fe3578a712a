"""The best results over a gallery, where a result is computed from a video's rows: several parts in order, or single moments.

Candidates come from `Store.search`, so that any index can be searched: the best videos of each query alone. Where a result of a
video is at most the mean of its scores for the queries, no video beyond the candidates can be better than the mean of the scores
of the last ones. The number of candidates grows until the k best results are above that; then they are the exact ones
(Fagin's threshold algorithm). Else the results of all videos are computed, a part of the gallery at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, final

import numpy as np

from prvr.index.conditions import Condition, select
from prvr.index.contract import Entry, Store, require_approximate
from prvr.methods.model import Embeddings, StoredModel
from prvr.nn.ranks import best_places, tolerance

Value = TypeVar("Value")

# Candidates of the first round, and of the last one: their rows are in memory together.
LEAST, MOST = 64, 2048
VIDEOS_AT_ONCE = 64


@dataclass(frozen=True)
class Result(Generic[Value]):
    """A result of a video. number: its position among those of this video."""

    score: float
    entry: Entry
    number: int
    value: Value


def rank(
    index: Store,
    queries: Sequence[Embeddings],
    k: int,
    results_of: Callable[[Entry], Iterable[tuple[float, Value]]],
    *,
    where: Sequence[Condition] = (),
    approximate: bool = False,
) -> list[Result[Value]]:
    """The k best results of all videos that meet all conditions, best first; of ties the first by id and number.

    Args:
        queries: candidates are chosen by these, each with a first axis of 1.
        results_of: the scores and values of a video's results; a score is at most the mean over queries of the video's scores,
            where the model's score is that of its curve (`has_curve_as_score`).
        approximate: candidates come from one approximate search for each query; the best of these are returned.

    Raises:
        SettingError, ModelError: as `Store.search`, or as `search_approximately`.
    """
    best = _Best[Value](k, results_of)
    total, count = index.count(where=where), max(LEAST, 2 * k)
    if approximate:
        find = require_approximate(index).search_approximately
        best.add(scored.entry for query in queries for scored in find(query, count, where=where)[0])
        return best.best()
    while has_curve_as_score(index.model) and count <= min(MOST, total // 2):
        rows = [index.search(query, count, where=where)[0] for query in queries]
        best.add(scored.entry for row in rows for scored in row)
        if best.is_beyond(float(np.mean([row[-1].score for row in rows])) if all(rows) else -np.inf):
            return best.best()
        count *= 4
    left = [id for id in (select(index.about(), where) if where else index.ids) if id not in best.seen]
    for start in range(0, len(left), VIDEOS_AT_ONCE):
        best.add(index.fetch(left[start : start + VIDEOS_AT_ONCE]).values())
    return best.best()


def has_curve_as_score(model: StoredModel) -> bool:
    """Whether no place of a video has a higher relevance than the score of the video.

    That holds where both are the same weighted sum of cosines, and every field has a row for each place.
    """
    fields = model.embedding_fields
    return model.score_weights is not None and (len(fields) == 1 or set(fields) == set(model.frame_fields))


@final
class _Best(Generic[Value]):
    """The k best results of the videos so far. Rows are large: those of videos that cannot be among the best are not kept."""

    def __init__(self, k: int, results_of: Callable[[Entry], Iterable[tuple[float, Value]]]) -> None:
        self._k, self._results_of = k, results_of
        self._results: list[Result[Value]] = []
        self.seen: set[str] = set()

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.video not in self.seen:
                self.seen.add(entry.video)
                found = enumerate(self._results_of(entry))
                self._results += [Result(score, entry, number, value) for number, (score, value) in found]
        if len(self._results) > self._k:
            scores = self._scores()
            least = np.partition(scores, -self._k)[-self._k] - tolerance(scores)
            self._results = [result for result in self._results if result.score >= least]

    def is_beyond(self, bound: float) -> bool:
        """Whether there are k results above what any other video can have."""
        scores = self._scores()
        return len(scores) >= self._k and np.partition(scores, -self._k)[-self._k] - tolerance(scores) > bound

    def best(self) -> list[Result[Value]]:
        self._results.sort(key=lambda result: (result.entry.video, result.number))
        return [self._results[place] for place in best_places(self._scores(), self._k)]

    def _scores(self) -> np.ndarray:
        return np.array([result.score for result in self._results])
