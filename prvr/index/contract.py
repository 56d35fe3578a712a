"""What every index offers: a gallery of encoded videos that are added, deleted, searched, fetched, counted and verified.

The score of a video is what its model says (`Model.score`): for most methods the weighted sum over fields of the best row's
cosine with the query's vector of that field. Parts are fused for each video and never for each frame. A field of a long
video holds the rows of all its windows; where the score is another function, it is that of the best window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from prvr.errors import ModelError, RowsError
from prvr.index.where import Condition
from prvr.methods.contract import Embeddings, Model
from prvr.nn.scores import LEAST_NORM


@dataclass(frozen=True)
class Header:
    """What an index says of itself: the fingerprint of its model's checkpoint, how its rows are stored (float16 or
    float32), and the folder that its videos are in."""

    model: str
    dtype: str
    videos: str


class Found(NamedTuple):
    """A video and its score for a query."""

    video: str
    score: float


@dataclass(frozen=True)
class Entry:
    """A video as an index holds it.

    fields: rows (R, D) of each of the model's embedding fields; `frame_fields` have a row for each frame.
    windows: of how many frames each window is that the model read alone; one window for most videos.
    edges: the times in seconds between which the frames lie, one more than frames; None where nobody knows them.
    about: whatever else is known, as JSON values: what conditions of a search are about.
    """

    video: str
    fields: tuple[Float[np.ndarray, "_ _"], ...]
    windows: tuple[int, ...]
    edges: tuple[float, ...] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Store(Protocol):
    """An index, wherever it lies. Of equal scores the first by id comes first."""

    model: Model

    @property
    def ids(self) -> list[str]:
        """The videos, in an order of the store's own."""
        ...

    def __contains__(self, id: object) -> bool: ...

    def count(self, *, where: Sequence[Condition] = ()) -> int:
        """How many videos there are that meet all conditions."""
        ...

    def add(self, entries: Sequence[Entry]) -> None:
        """Adds videos, or replaces those of the same ids; each is there whole or as it was before, whatever happens.

        Raises:
            DataError: an embedding holds NaN or infinite values; nothing is added or replaced then.
        """
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Takes videos out; unknown ids are none of its business."""
        ...

    def fetch(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Those of the videos that are there."""
        ...

    def about(self) -> dict[str, dict[str, Any]]:
        """What is known of every video."""
        ...

    def search(self, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[Found]]:
        """The k best videos of each query among those that meet all conditions, best first.

        Raises:
            SettingError: a condition is about something that is known of no video.
        """
        ...

    def verify(self) -> dict[str, str]:
        """What is wrong, by video; the name "" stands for the store as a whole."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Kept(Store, Protocol):
    """An index that outlives its process, and sees at once what another process has changed in it."""

    @property
    def header(self) -> Header: ...


def checked(entries: Sequence[Entry], dtype: str) -> list[Entry]:
    """The entries with rows of a type, seen to be numbers in it.

    Raises:
        RowsError: some are not; the first is named.
    """
    done = []
    for entry in entries:
        with np.errstate(over="ignore"):
            fields = tuple(np.ascontiguousarray(rows, dtype) for rows in entry.fields)
        if not all(np.isfinite(rows).all() for rows in fields):
            raise RowsError(f"the embedding of {entry.video!r} holds NaN or infinite values, or beyond {dtype}")
        done.append(Entry(entry.video, fields, entry.windows, entry.edges, entry.about))
    return done


def weights_of(model: Model, store: str) -> tuple[float, ...]:
    """The weights of a score that is a sum of best cosines.

    Raises:
        ModelError: the model scores in another way, which only an exact index can hold.
    """
    if model.score_weights is None:
        raise ModelError(
            f"{type(model).__name__} does not score by a weighted sum of best cosines, and {store} holds nothing else; "
            "keep it in an index on disk: prvr index VIDEOS INDEX"
        )
    return model.score_weights


def fields_by_window(model: Model, entry: Entry) -> list[tuple[Float[np.ndarray, "_ _"], ...]]:
    """Each window's rows of every field."""
    ends = np.cumsum(entry.windows)[:-1]
    cut = [
        np.split(rows, ends if name in model.frame_fields else len(entry.windows))
        for name, rows in zip(model.embedding_fields, entry.fields, strict=True)
    ]
    return list(zip(*cut, strict=True))


@torch.inference_mode()
def relevance(model: Model, query: Embeddings, entry: Entry) -> tuple[Float[np.ndarray, "P"], tuple[float, ...] | None]:
    """Where in a video one query (a first axis of 1) is answered: of each part how relevant it is, and P + 1 times between."""
    curve, edges = [], []
    first = 0
    for fields, frames in zip(fields_by_window(model, entry), entry.windows, strict=True):
        video = tuple(torch.from_numpy(np.array(rows, np.float32))[None].to(query[0].device) for rows in fields)
        curve.append(model.relevance(query, video).cpu().numpy())
        if entry.edges is not None:
            bounds = entry.edges[first : first + frames + 1]
            places = np.linspace(0, frames, len(curve[-1]) + 1)
            edges += np.interp(places, np.arange(frames + 1), bounds).tolist()[1:]
        first += frames
    return np.concatenate(curve), None if entry.edges is None else (entry.edges[0], *edges)


def units(queries: Sequence[Float[np.ndarray, "_"]]) -> list[Float[np.ndarray, "_"]]:
    """Queries at unit length."""
    return [query / max(float(np.linalg.norm(query)), LEAST_NORM) for query in queries]


def contributions(
    rows: Sequence[Float[np.ndarray, "_ _"]], unit: Sequence[Float[np.ndarray, "_"]], weights: Sequence[float]
) -> list[float]:
    """What each field adds to a video's score: its weight times the best row's cosine with a query of unit length."""
    return [
        weight * float(((field @ query) / np.maximum(np.linalg.norm(field, axis=1), LEAST_NORM)).max())
        for field, query, weight in zip(rows, unit, weights, strict=True)
    ]
