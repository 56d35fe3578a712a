"""What every index offers: encoded videos are added, deleted, searched, fetched, counted and verified.

The score of a video is that of its model (`Model.score`): for most methods the weighted sum over fields of the best row's
cosine with the query's vector of that field. Fields are fused for each video and never for each frame. A field of a long
video holds the rows of all its windows; where the score is another function, it is that of the best window.

The weighted sum is computed in five ways. `prvr.nn.scores.fused` is the definition; tests compare each other way with it.

- `prvr.nn.scores.fused`        many videos at once, by torch: training, evaluation and the index in memory
- `prvr.nn.scores.score_parts`  one stored video, term by term: the score and the parts of every hit
- `prvr.index.scan`             all videos, from int8 codes with an error bound: a quarter of the bytes
- `prvr.index.stage`            all videos, roughly, for approximate searches: a hundredth of the bytes
- `prvr.index.qdrant`           on the server, where the rows are
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float

from prvr.errors import ModelError, RowsError, SettingError
from prvr.index.conditions import Condition
from prvr.index.setting import Setting
from prvr.methods.model import Embeddings, Model, weights_of_candidates


@dataclass(frozen=True)
class Header:
    """An index's own description: the fingerprint of its model's checkpoint, the type its rows are stored in (float16 or
    float32), and the folder of its videos."""

    model: str
    dtype: str
    videos: str


@dataclass(frozen=True)
class Entry:
    """A video as an index holds it.

    fields: rows (R, D) of each of the model's embedding fields; `frame_fields` have a row for each frame. An index returns
        float32, whatever it stores.
    windows: the number of frames of each window that the model read alone; most videos are one window.
    edges: the times in seconds between which the frames lie, one more than frames; None where they are unknown.
    about: everything else that is known, as JSON values; conditions of a search are about these.
    """

    video: str
    fields: tuple[Float[np.ndarray, "_ _"], ...]
    windows: tuple[int, ...]
    edges: tuple[float, ...] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoredVideo:
    """A video that a search found.

    parts: the terms of the score, in the order of the model's `embedding_fields`; empty where the score is not their sum.
    entry: the video with the rows that score and parts were computed from.
    """

    video: str
    score: float
    parts: tuple[float, ...]
    entry: Entry = field(compare=False, repr=False)


@runtime_checkable
class Store(Protocol):
    """An index, in memory, on disk or elsewhere."""

    model: Model

    @property
    def ids(self) -> list[str]:
        """The videos, in the store's own order."""
        ...

    def __contains__(self, id: object) -> bool: ...

    def count(self, *, where: Sequence[Condition] = ()) -> int:
        """The number of videos that meet all conditions."""
        ...

    def add(self, entries: Sequence[Entry]) -> None:
        """Adds videos, or replaces those with the same ids. Each is replaced as a whole or not at all.

        Raises:
            DataError: an embedding holds NaN or infinite values. Nothing is added or replaced then.
        """
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Removes videos. Unknown ids are ignored."""
        ...

    def fetch(self, ids: Sequence[str]) -> dict[str, Entry]:
        """The videos with these ids, by id. Unknown ids are left out."""
        ...

    def about(self) -> dict[str, dict[str, Any]]:
        """`Entry.about` of every video, by id."""
        ...

    def search(self, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[ScoredVideo]]:
        """The k best videos of each query among those that meet all conditions, best first.

        Of scores that tie (`prvr.nn.scores`) the first by id comes first. The rows of all hits are returned: where queries
        are many, call it for one query at a time.

        Raises:
            SettingError: no video has the field of a condition.
        """
        ...

    def verify(self) -> dict[str, str]:
        """Faults by video; the key "" is for the store as a whole."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class PersistentStore(Store, Protocol):
    """An index that outlives its process, and sees at once the changes of other processes."""

    @property
    def header(self) -> Header: ...


@runtime_checkable
class ApproximateStore(PersistentStore, Protocol):
    """An index with a first stage that scans less than all rows, in a `Setting` that it keeps.

    What `learn_stage` returns is for the index alone: a first stage for queries like those that it takes, or None where the
    index has one for all queries. `keep_setting` writes it.
    """

    def check_stage(self) -> None:
        """Raises ModelError if the index was written without what its first stage scans."""
        ...

    def learn_stage(self, queries: Embeddings, *, on_video: Callable[[int, int], None] | None = None) -> Any: ...

    def search_approximately(
        self, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()
    ) -> list[list[ScoredVideo]]: ...

    def search_with_setting(self, queries: Embeddings, k: int, *, setting: Setting, learned: Any) -> list[list[ScoredVideo]]: ...

    def keep_setting(self, setting: Setting, learned: Any, *, recall: float, queries: int) -> None: ...

    def forget_setting(self) -> None: ...

    def stage_fault(self) -> str | None: ...


@runtime_checkable
class CodedStore(Store, Protocol):
    """An index that can search by the codes of its rows alone, for measurements."""

    def search_by_codes(self, queries: Embeddings, k: int) -> list[list[tuple[str, float]]]: ...


def require_approximate(index: Store) -> ApproximateStore:
    """The index, if it supports approximate search.

    Raises:
        SettingError: it is in shards, or in memory.
        ModelError: its model neither scores by a weighted sum of best cosines nor reranks by one, or it was written without what
            a first stage scans.
    """
    # Not by isinstance, which Python 3.11 does by reading all properties of a store, its ids among them.
    if not callable(getattr(index, "search_approximately", None)):
        raise SettingError(
            f"{type(index).__name__} is searched where its videos are, and exactly; an approximate search needs the codes of "
            "all videos in this process: copy the index to a folder of this machine (prvr index copy), or search it exactly"
        )
    if weights_of_candidates(index.model) is None:
        raise ModelError(
            f"{type(index.model).__name__} does not score by a weighted sum of best cosines, the only score that an "
            "approximate search supports; search it exactly"
        )
    approximate = cast(ApproximateStore, index)
    approximate.check_stage()
    return approximate


def require_weights(model: Model, store: str) -> tuple[float, ...]:
    """The weights of a score that is a weighted sum of best cosines.

    Raises:
        ModelError: the score is another function, which only an exact index supports.
    """
    if model.score_weights is None:
        raise ModelError(
            f"{type(model).__name__} does not score by a weighted sum of best cosines, the only score that {store} supports; "
            "keep it in an index on disk: prvr index VIDEOS INDEX"
        )
    return model.score_weights


def cast_entries(entries: Sequence[Entry], dtype: str) -> list[Entry]:
    """The entries with rows cast to `dtype`; every value is checked to be finite.

    Raises:
        RowsError: a value is not; the first such video is named.
    """
    cast = []
    for entry in entries:
        with np.errstate(over="ignore"):
            fields = tuple(np.ascontiguousarray(rows, dtype) for rows in entry.fields)
        if not all(np.isfinite(rows).all() for rows in fields):
            raise RowsError(f"the embedding of {entry.video!r} holds NaN or infinite values, or beyond {dtype}")
        cast.append(Entry(entry.video, fields, entry.windows, entry.edges, entry.about))
    return cast
