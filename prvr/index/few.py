"""A few videos as a gallery of their own: the scores of a search, for videos that are known already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final

import numpy as np

from prvr.index.contract import Entry, ScoredVideo
from prvr.methods.model import ArrayModel, Embeddings, Model
from prvr.nn.ranks import best_places, score_parts, unit_queries


class FewVideos(Protocol):
    """Videos that queries are compared with."""

    def search(self, queries: Embeddings, k: int) -> list[list[ScoredVideo]]:
        """The k best videos of each query, best first; ties by id."""
        ...


def few_videos(model: Model, entries: Sequence[Entry]) -> FewVideos:
    """A gallery of these videos alone, by torch only where the model needs it."""
    if isinstance(model, ArrayModel):
        return _ScoredByParts(model, entries)
    from prvr.index.exact import ExactIndex

    gallery = ExactIndex(model)
    gallery.add(entries)
    return gallery


@final
class _ScoredByParts:
    """For a score that is the weighted sum over fields of the best row's cosine."""

    def __init__(self, model: ArrayModel, entries: Sequence[Entry]) -> None:
        self._weights = model.score_weights or ()
        self._entries = sorted(entries, key=lambda entry: entry.video)

    def search(self, queries: Embeddings, k: int) -> list[list[ScoredVideo]]:
        """The k best videos of each query, best first; ties by id."""
        found = []
        for query in unit_queries(queries):
            parts = [tuple(score_parts(entry.fields, query, self._weights)) for entry in self._entries]
            places = best_places(np.array([sum(of) for of in parts]), k)
            found.append([ScoredVideo(self._entries[p].video, sum(parts[p]), parts[p], self._entries[p]) for p in places])
        return found
