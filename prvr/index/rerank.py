"""Approximate search for models with a score that is no weighted sum of best cosines: such a sum chooses candidates, and the
model scores them (`prvr.methods.contract.Reranked`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prvr.index.contract import Entry, ScoredVideo
from prvr.index.exact import ExactIndex
from prvr.methods.contract import Embeddings, Model


def rerank(model: Model, queries: Embeddings, k: int, candidates: Iterable[Sequence[Entry]]) -> list[list[ScoredVideo]]:
    """The k best candidates of each query, scored by the model, best first; ties by id."""
    found = []
    for place, entries in enumerate(candidates):
        index = ExactIndex(model)
        index.add(entries)
        found += index.search(tuple(field[place : place + 1] for field in queries), k) if entries else [[]]
    return found
