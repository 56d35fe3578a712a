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

from prvr.errors import ModelError, SettingError
from prvr.index.contract import Entry, Found, Header, Store, checked, weights_of
from prvr.index.database import Database
from prvr.index.exact import ExactIndex
from prvr.index.proven import Along, Proven, Setting, read
from prvr.index.record import coded
from prvr.index.resident import Resident
from prvr.index.where import Condition, accepted
from prvr.methods.contract import Embeddings, Model

FILE = "index.sqlite"
# A first stage is of the videos that it was measured with: this many more are let pass, as a share of these.
MORE = 0.25


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
        self._proven: Proven | None = None
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
            held, rows = self._held, self._database.rows
            if isinstance(held, ExactIndex):
                return held.search(queries, k, where=where)
            allowed = self._allowed(where)
            return [self._ranked(held.best(query, k, rows=rows, allowed=allowed), k) for query in _each(queries)]

    def search_approximately(self, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[Found]]:
        """As `search`, but most of the k best: those that the first stage lets through, in the setting that is kept.

        Raises:
            SettingError: a condition is about something that is known of no video.
            ModelError: no setting is kept that was measured on these videos, the model has no first stage, or as `search`.
        """
        approximable(self)
        with self._lock, self._database.reading():
            self._look()
            if self._proven is None:
                self._proven = self._read_proven()
            proven = self._proven
            # As many as in the measurement, at least: of fewer videos the best are a larger share.
            keep = proven.setting.keep(k, max(proven.videos, len(self._videos)))
            return self._most(queries, k, where, proven.setting, proven.along, keep=keep, since=proven.last)

    def search_by(self, setting: Setting, along: Along, queries: Embeddings, k: int) -> list[list[Found]]:
        """What `search_approximately` would find in another setting; for measurements."""
        approximable(self)
        with self._lock, self._database.reading():
            self._look()
            return self._most(queries, k, (), setting, along, keep=setting.keep(k, len(self._videos)), since=0)

    def keep_setting(self, setting: Setting, along: Along, *, recall: float, queries: int) -> None:
        """Keeps a setting that was measured on the videos as they were last asked, in place of the one before."""
        with self._lock, self._database.writing():
            last = max(self._videos.values(), default=0)
            proven = Proven(setting, along, recall, queries, len(self._videos), last, self.header.model)
            self._database.prove(proven.as_text())

    def forget_setting(self) -> None:
        """Keeps no setting any more."""
        with self._lock, self._database.writing():
            self._database.prove(None)

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
            return [
                [Found(self._names[number], score) for score, number in self._held.promised(query, k)] for query in _each(queries)
            ]

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
            self._proven = None
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

    def _read_proven(self) -> Proven:
        remedy = f"measure one with sentences of your own: prvr index verify {self.path} --queries FILE --approximate"
        text = self._database.proven()
        if text is None:
            raise ModelError(f"the index in {self.path} has no measured setting for an approximate search; {remedy}")
        try:
            proven = read(text)
        except ValueError as problem:
            raise ModelError(f"the setting for an approximate search in {self.path} is damaged: {problem}; {remedy}") from None
        if proven.model != self.header.model:
            raise ModelError(
                f"the setting for an approximate search in {self.path} was measured with checkpoint {proven.model}, not "
                f"{self.header.model}; {remedy}"
            )
        new = sum(number > proven.last for number in self._videos.values())
        if new > MORE * proven.videos:
            raise ModelError(
                f"{new} videos in {self.path} are newer than the setting for an approximate search, which was measured with "
                f"{proven.videos}; {remedy}"
            )
        return proven

    def _most(
        self,
        queries: Embeddings,
        k: int,
        where: Sequence[Condition],
        setting: Setting,
        along: Along,
        *,
        keep: Sequence[int],
        since: int,
    ) -> list[list[Found]]:
        self._follow()
        held, rows, allowed = self._held, self._database.rows, self._allowed(where)
        assert isinstance(held, Resident)
        held.sketch(setting, along, since=since)
        found = [held.most(query, k, rows=rows, setting=setting, keep=keep, allowed=allowed) for query in _each(queries)]
        return [self._ranked(one, k) for one in found]

    def _allowed(self, where: Sequence[Condition]) -> list[int] | None:
        return [self._videos[id] for id in accepted(self._known(), where)] if where else None

    def _ranked(self, found: list[tuple[float, int]], k: int) -> list[Found]:
        ranked = sorted((-score, self._names[number]) for score, number in found)
        return [Found(id, -score) for score, id in ranked[:k]]


def approximable(index: Store) -> DiskIndex:
    """An index, seen to be one that a first stage can stand before.

    Raises:
        SettingError: it is not in a folder of this machine.
        ModelError: its model's score is no weighted sum of best cosines.
    """
    if not isinstance(index, DiskIndex):
        raise SettingError(
            f"{type(index).__name__} is asked where its videos are, and exactly; an approximate search sketches videos whose "
            "codes are in this process: copy the index to a folder of this machine (prvr index copy), or ask it exactly"
        )
    if index.model.score_weights is None:
        raise ModelError(
            f"{type(index.model).__name__} does not score by a weighted sum of best cosines, which is all that a first stage "
            "can stand before; ask it exactly"
        )
    return index


def _each(queries: Embeddings) -> list[list[Float[np.ndarray, "_"]]]:
    return [[field[place].float().cpu().numpy() for field in queries] for place in range(len(queries[0]))]
