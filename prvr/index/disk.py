"""The index on disk: one file, which many processes ask while one writes, and what a reader keeps of it in memory.

Where the score is a weighted sum of best cosines, memory holds int8 codes of all rows; the best by these are scored again
from the stored rows, as many as it takes for the exact best. Any other method is scored by its model, from all rows in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float

from prvr.errors import ModelError
from prvr.index.contract import Entry, Found, Header, checked, weights_of
from prvr.index.database import Database, coded
from prvr.index.exact import ExactIndex
from prvr.index.resident import Resident
from prvr.index.where import Condition, accepted
from prvr.methods.contract import Embeddings, Model

FILE = "index.sqlite"


@final
class DiskIndex:
    """An index in a folder. Threads may share it; they are served one after the other.

    Raises:
        ModelError: there is none, it is broken, or of another format.
    """

    def __init__(self, path: Path, model: Model) -> None:
        self.path, self.model = path, model
        self._database = Database(path / FILE)
        self._lock = threading.RLock()
        self._seen: tuple[int, int] | None = None
        self._videos: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._about: dict[int, dict[str, Any]] = {}
        self._held = ExactIndex(model) if model.score_weights is None else Resident(model.score_weights)
        # What is held is of these.
        self._followed: dict[str, int] = {}

    @staticmethod
    def make(path: Path, model: Model, header: Header) -> DiskIndex:
        """The index of a folder, made if it is not there."""
        Database.make(path / FILE, header).close()
        return DiskIndex(path, model)

    @property
    def header(self) -> Header:
        """What the index says of itself."""
        return self._database.header

    @property
    def ids(self) -> list[str]:
        """The videos, in the order they were added in."""
        return list(self._current())

    def __contains__(self, id: object) -> bool:
        return id in self._current()

    def count(self, *, where: Sequence[Condition] = ()) -> int:
        """How many videos there are that meet all conditions."""
        return len(accepted(self.about(), where) if where else self._current())

    def add(self, entries: Sequence[Entry]) -> None:
        """Adds videos, or replaces those of the same ids, in one transaction.

        Raises:
            DataError: an embedding holds NaN or infinite values, another process writes, or the disk is full.
        """
        ready = [(entry, coded(entry)) for entry in checked(entries, self.header.dtype)]
        with self._lock, self._database.writing():
            for entry, codes in ready:
                self._database.put(entry, codes)

    def delete(self, ids: Sequence[str]) -> None:
        """Takes videos out, in one transaction; unknown ids are none of its business."""
        with self._lock, self._database.writing():
            for id in ids:
                self._database.drop(id)

    def fetch(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Those of the videos that are there.

        Raises:
            ModelError: one of them is damaged.
        """
        with self._lock, self._database.reading():
            self._look()
            return {id: self._database.entry(self._videos[id]) for id in ids if id in self._videos}

    def about(self) -> dict[str, dict[str, Any]]:
        """What is known of every video."""
        with self._lock, self._database.reading():
            self._look()
            return self._known()

    def search(self, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[Found]]:
        """The k best videos of each query among those that meet all conditions, best first; ties by id.

        Raises:
            SettingError: a condition is about something that is known of no video.
            ModelError: the file is damaged.
        """
        with self._lock, self._database.reading():
            self._look()
            self._follow()
            if isinstance(self._held, ExactIndex):
                return self._held.search(queries, k, where=where)
            allowed = [self._videos[id] for id in accepted(self._known(), where)] if where else None
            return [self._best(self._held, _vectors(queries, q), k, allowed) for q in range(len(queries[0]))]

    def by_codes(self, queries: Embeddings, k: int) -> list[list[Found]]:
        """What a search would find if the best by their codes were not scored again; for measurements.

        Raises:
            ModelError: the model does not score by a weighted sum of best cosines.
        """
        weights_of(self.model, "codes")
        with self._lock, self._database.reading():
            self._look()
            self._follow()
            assert isinstance(self._held, Resident)
            promised = [self._held.promised(_vectors(queries, q), k) for q in range(len(queries[0]))]
            return [[Found(self._names[number], score) for score, number in row] for row in promised]

    def verify(self) -> dict[str, str]:
        """What is wrong, by video; the name "" stands for the file as a whole. Reads all of it."""
        with self._lock, self._database.reading():
            faults = {"": "; ".join(found)} if (found := self._database.faults()) else {}
            for id, number in self._database.videos().items():
                try:
                    self._database.entry(number)
                    self._database.codes(number)
                except (ModelError, ValueError, TypeError) as problem:
                    faults[id] = str(problem)
        return faults

    def move(self, videos: str) -> None:
        """Notes that the videos are in another folder now."""
        with self._lock, self._database.writing():
            self._database.move(videos)

    def tidy(self) -> None:
        """Gives room back to the disk where more than half of the file is empty."""
        with self._lock:
            self._database.tidy()

    def close(self) -> None:
        """Lets the file go."""
        with self._lock:
            self._database.close()

    def _current(self) -> dict[str, int]:
        with self._lock, self._database.reading():
            self._look()
            return self._videos

    def _look(self) -> None:
        """Sees which videos there are at this moment."""
        seen = self._database.version()
        if seen != self._seen:
            self._videos = self._database.videos()
            self._names = {number: id for id, number in self._videos.items()}
            self._about = {number: about for number, about in self._about.items() if number in self._names}
            self._seen = seen

    def _known(self) -> dict[str, dict[str, Any]]:
        for number in self._videos.values():
            if number not in self._about:
                self._about[number] = self._database.about(number)
        return {id: self._about[number] for id, number in self._videos.items()}

    def _follow(self) -> None:
        """Brings what is in memory in step with the file."""
        if self._followed is self._videos:
            return
        if isinstance(self._held, Resident):
            self._held.follow(list(self._names), self._database.codes)
        else:
            before, now = self._followed, self._videos
            self._held.delete([id for id, number in before.items() if now.get(id) != number])
            self._held.add([self._database.entry(number) for id, number in now.items() if before.get(id) != number])
        self._followed = self._videos

    def _best(
        self, held: Resident, vectors: Sequence[Float[np.ndarray, "_"]], k: int, allowed: Sequence[int] | None
    ) -> list[Found]:
        found = held.best(vectors, k, rows=self._database.rows, allowed=allowed)
        ranked = sorted((-score, self._names[number]) for score, number in found)
        return [Found(id, -score) for score, id in ranked[:k]]


def _vectors(queries: Embeddings, place: int) -> list[Float[np.ndarray, "_"]]:
    return [field[place].float().cpu().numpy() for field in queries]
