"""Approximate search for models with a score that is no weighted sum of best cosines: such a sum chooses candidates, and the
model scores them (`prvr.methods.contract.Reranked`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import final

from prvr.index.contract import Entry, ScoredVideo
from prvr.index.exact import ExactIndex
from prvr.index.resident import ResidentCodes
from prvr.index.scan import Codes
from prvr.methods.contract import Embeddings, Model, weights_of_candidates


@final
class CandidateCodes:
    """The codes of the fields that candidates are chosen by."""

    def __init__(self, model: Model) -> None:
        weights = weights_of_candidates(model) or ()
        self._places = _places(model)
        self._codes = ResidentCodes(tuple(weights[place] for place in self._places))

    def follow(self, numbers: Collection[int], read: Callable[[int], list[Codes]]) -> ResidentCodes:
        """The codes, brought up to date with these videos."""
        self._codes.follow(numbers, lambda number: [read(number)[place] for place in self._places])
        return self._codes


def candidate_fields(model: Model, queries: Embeddings) -> Embeddings:
    """The vectors of queries that candidates are chosen by, one for each field with a weight."""
    return tuple(queries[place] for place in _places(model))


def rerank(model: Model, queries: Embeddings, k: int, candidates: Sequence[Sequence[Entry]]) -> list[list[ScoredVideo]]:
    """The k best candidates of each query, scored by the model, best first; ties by id."""
    found = []
    for place, entries in enumerate(candidates):
        index = ExactIndex(model)
        index.add(entries)
        found += index.search(tuple(field[place : place + 1] for field in queries), k) if entries else [[]]
    return found


def _places(model: Model) -> list[int]:
    return [place for place, weight in enumerate(weights_of_candidates(model) or ()) if weight]
