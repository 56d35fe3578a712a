"""The codes of an index in memory, and the search among them: only videos that may be among the best are scored exactly."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from prvr.index.codes import Codes, join
from prvr.index.contract import ScoredVideo
from prvr.index.database import Record
from prvr.index.scan import Gallery, candidate_places
from prvr.index.stage import Candidates
from prvr.nn.ranks import best_places, score_parts, tolerance

VIDEOS_AT_ONCE = 256
# Queries that share the reading of the codes.
QUERIES_TOGETHER = 32
# Videos whose rows are read together; several times as many may have to be read.
ROWS_TOGETHER = 8

Query = Sequence[Float[np.ndarray, "_"]]
"""A vector of unit length for each field."""
Read = Callable[[Sequence[int]], Sequence[Record]]
"""Returns videos by their numbers, in that order."""


class _Scored(NamedTuple):
    score: float
    parts: tuple[float, ...]
    record: Record


@final
class ResidentCodes:
    """Codes of videos by their numbers, for a score that is the weighted sum over fields of the best row's cosine."""

    def __init__(self, weights: tuple[float, ...]) -> None:
        self._weights = weights
        self._gallery: Gallery | None = None
        self._numbers: Int[np.ndarray, "V"] = np.empty(0, np.int64)
        self._alive: Bool[np.ndarray, "V"] = np.empty(0, bool)

    def __len__(self) -> int:
        return int(self._alive.sum())

    def follow(self, numbers: Collection[int], read: Callable[[Sequence[int]], list[list[Codes]]]) -> None:
        """Makes these the videos that are held: reads the codes of new ones, ignores the places of deleted ones."""
        self._alive &= np.isin(self._numbers, list(numbers))
        if self._gallery is not None and 2 * self._alive.sum() < len(self._numbers):
            # Most rows of the scan would be of videos that are gone.
            self._gallery, self._numbers, self._alive = None, self._numbers[:0], self._alive[:0]
        known = set(self._numbers.tolist())
        new = [number for number in numbers if number not in known]
        for start in range(0, len(new), VIDEOS_AT_ONCE):
            part = new[start : start + VIDEOS_AT_ONCE]
            self._add(part, read(part))

    def search(
        self, queries: Sequence[Query], k: int, *, read: Read, allowed: Collection[int] | None = None
    ) -> list[list[ScoredVideo]]:
        """The k best videos of each query by their exact scores, best first; the first by id of scores that tie.

        Args:
            read: the rows that it returns decide.
            allowed: the numbers of the videos to search; all if None.
        """
        gallery = self._gallery
        if gallery is None:
            return [[] for _ in queries]
        alive = self._alive if allowed is None else self._alive & np.isin(self._numbers, list(allowed))
        found = []
        for start in range(0, len(queries), QUERIES_TOGETHER):
            some = queries[start : start + QUERIES_TOGETHER]
            for query, (scores, errors) in zip(some, gallery.scores_of_each(some), strict=True):
                places = candidate_places(scores, errors, k, alive)
                scores, errors = gallery.rescore(query, places)
                order = candidate_places(scores, errors, k)
                upper = (scores + errors)[order]
                found.append(best_by_rows(query, k, self._numbers[places[order]], upper, read, self._weights))
        return found

    def rescore(self, query: Query, numbers: Int[np.ndarray, "C"]) -> tuple[Float32[np.ndarray, "C"], Float32[np.ndarray, "C"]]:
        """The scores of some videos by their codes, and the largest errors that they can have."""
        assert self._gallery is not None
        # Numbers increase in the order of addition.
        return self._gallery.rescore(query, np.searchsorted(self._numbers, numbers))

    def score_segments(self, query: Query, found: Candidates) -> Float32[np.ndarray, "C"]:
        """Scores of candidates by the codes of the segments by which they were found: not more than those of all rows."""
        assert self._gallery is not None
        places = np.searchsorted(self._numbers, found.numbers)
        of_segments = self._gallery.score_segments(query, places[found.of], found.firsts, found.ends)
        best = np.full((len(of_segments), len(places)), -np.inf, np.float32)
        for of_field, values in zip(best, of_segments, strict=True):
            np.maximum.at(of_field, found.of, values)
        return best.sum(0)

    def search_by_codes(self, query: Query, k: int) -> list[tuple[int, float]]:
        """The numbers of the k best videos and their scores, both by the codes alone, best first."""
        if self._gallery is None:
            return []
        scores, errors = self._gallery.scores(query)
        places = candidate_places(scores, np.zeros_like(errors), k, self._alive)[:k]
        return [(int(self._numbers[place]), float(scores[place])) for place in places]

    def _add(self, numbers: list[int], codes: list[list[Codes]]) -> None:
        starts = [np.cumsum([0, *[len(part.values) for part in of_field]]) for of_field in zip(*codes, strict=True)]
        fields = [join(of_field) for of_field in zip(*codes, strict=True)]
        if self._gallery is None:
            self._gallery = Gallery(fields, starts, self._weights)
        else:
            self._gallery.add(fields, starts)
        self._numbers = np.append(self._numbers, np.array(numbers, np.int64))
        self._alive = np.append(self._alive, np.ones(len(numbers), bool))


def best_by_rows(
    query: Query,
    k: int,
    numbers: Int[np.ndarray, "C"],
    upper: Float[np.ndarray, "C"],
    read: Read,
    weights: Sequence[float],
) -> list[ScoredVideo]:
    """The k best of candidates by their exact scores. The most promising come first, until no other can be among them.

    Args:
        upper: the largest score that each candidate can have.
    """
    upper = np.maximum.accumulate(upper[::-1])[::-1]
    found: list[_Scored] = []
    least = -np.inf
    # None of the first k can be left out, most of the others can.
    for start, end in pairwise([0, *range(min(k, len(numbers)), len(numbers) + ROWS_TOGETHER, ROWS_TOGETHER)]):
        some = slice(start, end)
        for record in read(numbers[some][upper[some] >= least].tolist()):
            parts = score_parts(record.rows, query, weights)
            # Rows are large: those of videos that cannot be among the best are not kept.
            if sum(parts) >= least:
                found.append(_Scored(sum(parts), tuple(parts), record))
        if 0 < k <= len(found):
            scores = np.array([one.score for one in found])
            least = float(np.partition(scores, -k)[-k]) - tolerance(scores)
            found = [one for one in found if one.score >= least]
    found = sorted(found, key=lambda one: one.record.id)
    ranked = [found[place] for place in best_places(np.array([one.score for one in found]), k)]
    entries = [one.record.entry() for one in ranked]
    return [ScoredVideo(entry.video, one.score, one.parts, entry) for one, entry in zip(ranked, entries, strict=True)]
