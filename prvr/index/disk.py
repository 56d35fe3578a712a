"""The index on disk: one file, which many processes search while one writes, and the part of it that a reader holds in memory.

Where the score is a weighted sum of best cosines, memory holds int8 codes of all rows. The best videos by these are scored
again from the stored rows, as many as the exact best may be among. Any other method scores all rows itself, in memory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from prvr.errors import ModelError
from prvr.index.approximate import ApproximateSearch
from prvr.index.codes import quantise
from prvr.index.conditions import Condition, select
from prvr.index.contract import Entry, Header, ScoredVideo, cast_entries, require_approximate, require_weights
from prvr.index.database import Database
from prvr.index.place import FILE
from prvr.index.resident import ResidentCodes
from prvr.index.setting import Setting
from prvr.index.sketches import Codebook
from prvr.index.stage import LearnedStage
from prvr.index.texts import DiskTexts
from prvr.methods.model import Embeddings, Model
from prvr.nn.ranks import unit_queries

if TYPE_CHECKING:
    from prvr.index.exact import ExactIndex

LOG = logging.getLogger("prvr")


@final
class DiskIndex:
    """An index in a folder. Threads may share it; their calls are executed one after the other.

    Raises:
        ModelError: it does not exist, is damaged, or has another format.
    """

    def __init__(self, path: Path, model: Model) -> None:
        self.path, self.model = path, model
        self._database = Database(path / FILE)
        self._lock = threading.RLock()
        self._approximate = ApproximateSearch(self._database, model)
        self.texts = DiskTexts(self._database, self._lock)
        self._about: dict[int, dict[str, Any]] = {}
        self._held = _exact(model) if model.score_weights is None else ResidentCodes(model.score_weights)
        # Whether a notice said that FAISS is missing.
        self._told = False
        # The state of the file that the other attributes are of.
        self._followed: dict[str, int] = {}

    @staticmethod
    def make(path: Path, model: Model, header: Header) -> DiskIndex:
        """The index of a folder; created if it does not exist."""
        Database.make(path / FILE, header).close()
        return DiskIndex(path, model)

    @property
    def header(self) -> Header:
        """The index's own description."""
        return self._database.header

    @property
    def ids(self) -> list[str]:
        """The videos, in the order of addition."""
        return list(self._videos())

    def __contains__(self, id: object) -> bool:
        return id in self._videos()

    def count(self, *, where: Sequence[Condition] = ()) -> int:
        """The number of videos that meet all conditions."""
        return len(select(self.about(), where) if where else self._videos())

    def add(self, entries: Sequence[Entry]) -> None:
        """Adds videos, or replaces those with the same ids, in one transaction.

        Raises:
            DataError: an embedding holds NaN or infinite values, another process writes, or the disk is full.
        """
        ready = cast_entries(entries, self.header.dtype)
        with self._lock, self._database.writing():
            codebook = self._approximate.codebook()
            for entry in ready:
                self._put(entry, codebook)

    def delete(self, ids: Sequence[str]) -> None:
        """Removes videos, in one transaction. Unknown ids are ignored."""
        with self._lock, self._database.writing():
            for id in ids:
                self._database.drop(id)

    def rearrange(self, moves: Mapping[str, tuple[str, Mapping[str, Any]]], delete: Collection[str]) -> None:
        """Gives videos other ids and descriptions, and removes videos, in one transaction; unknown ids are ignored.

        Args:
            moves: the new id and the new `Entry.about` of each video.

        Raises:
            ModelError: a video that is moved is damaged.
        """
        taken = {new for old, (new, _) in moves.items() if new != old}
        with self._lock, self._database.writing():
            # A video whose id another one takes is taken out before that.
            held = {old: self._detach(old) for old in moves if old in taken}
            codebook = self._approximate.codebook()
            for id in delete:
                self._database.drop(id)
            for old, (new, about) in moves.items():
                number, entry = held[old] if old in taken else self._detach(old)
                if entry is not None:
                    (entry,) = cast_entries([replace(entry, video=new, about=about)], self.header.dtype)
                    self._put(entry, codebook, texts_of=number)

    def fetch(self, ids: Sequence[str]) -> dict[str, Entry]:
        """The videos with these ids, by id. Unknown ids are left out.

        Raises:
            ModelError: one of them is damaged.
        """
        with self._lock, self._database.reading():
            videos = self._database.videos
            return {id: self._database.record(videos[id]).entry() for id in ids if id in videos}

    def about(self) -> dict[str, dict[str, Any]]:
        """`Entry.about` of every video, by id."""
        with self._lock, self._database.reading():
            return self._read_about()

    def search(self, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[ScoredVideo]]:
        """The k best videos of each query among those that meet all conditions, best first; ties by id.

        Raises:
            SettingError: no video has the field of a condition.
            ModelError: the file is damaged.
        """
        with self._lock, self._database.reading():
            held, allowed, read = self._held, self._numbers(where), self._database.records
            self._follow()
            if not isinstance(held, ResidentCodes):
                return held.search(queries, k, where=where)
            return held.search(unit_queries(queries), k, read=read, allowed=allowed)

    def search_approximately(self, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[ScoredVideo]]:
        """As `search`, but most of the k best: those among the candidates of the setting that is kept.

        Without FAISS it is `search`, after a notice.

        Raises:
            SettingError: no video has the field of a condition.
            ModelError: no setting is kept that was measured on these videos, the method has none, or as `search`.
        """
        require_approximate(self)
        if find_spec("faiss") is None:
            if not self._told:
                self._told = True
                LOG.warning("faiss is not installed, so approximate searches are exact; pip install 'prvr[index]'")
            return self.search(queries, k, where=where)
        with self._lock, self._database.reading():
            measured, stage = self._approximate.kept()
            # Of fewer videos than were measured the best are a larger share.
            count = measured.setting.candidates(k, max(measured.videos, len(self._database.videos)))
            allowed, resident = self._numbers(where), self._resident()
            return self._approximate.search(stage, queries, k, count=count, allowed=allowed, resident=resident)

    def search_with_setting(
        self, queries: Embeddings, k: int, *, setting: Setting, learned: LearnedStage
    ) -> list[list[ScoredVideo]]:
        """As `search_approximately`, with a setting that is not kept; for measurements."""
        require_approximate(self)
        with self._lock, self._database.reading():
            count = setting.candidates(k, len(self._database.videos))
            resident, videos = self._resident(), self._database.videos
            # Another process may have deleted videos since.
            allowed = None if learned.videos in (None, videos) else list(videos.values())
            return self._approximate.search(learned.stage, queries, k, count=count, allowed=allowed, resident=resident)

    def check_stage(self) -> None:
        """Does nothing: the first stage of this index is computed from its rows."""

    def learn_stage(self, queries: Embeddings, *, on_video: Callable[[int, int], None] | None = None) -> LearnedStage:
        """A first stage for queries like these, with the sketches of all videos; nothing is written.

        Raises:
            ModelError: the index holds no videos, or the file is damaged.
            MissingExtra: FAISS is not installed.
        """
        require_approximate(self)
        with self._lock, self._database.reading():
            return self._approximate.learn(queries, on_video)

    def search_by_codes(self, queries: Embeddings, k: int) -> list[list[tuple[str, float]]]:
        """The k best videos of each query by their codes alone, with their scores; for measurements.

        Raises:
            ModelError: the score of the model is not a weighted sum of best cosines.
        """
        require_weights(self.model, "a scan of codes")
        with self._lock, self._database.reading():
            self._follow()
            assert isinstance(self._held, ResidentCodes)
            names = {number: id for id, number in self._database.videos.items()}
            found = [self._held.search_by_codes(query, k) for query in unit_queries(queries)]
            return [[(names[number], score) for number, score in row] for row in found]

    def keep_setting(self, setting: Setting, learned: LearnedStage, *, recall: float, queries: int) -> None:
        """Writes a setting that was measured on the current videos and its first stage, in place of those before."""
        require_approximate(self)
        with self._lock, self._database.writing():
            self._approximate.keep(setting, learned, recall=recall, queries=queries)

    def forget_setting(self) -> None:
        """Removes the setting that is kept, and its first stage."""
        with self._lock, self._database.writing():
            self._database.stage.forget()

    @property
    def numbers(self) -> list[int]:
        """The numbers of the videos: a video that is added or replaced has a higher one than all before."""
        return list(self._videos().values())

    def reference(self) -> tuple[str, bytes] | None:
        """The text and the bytes of `keep_reference`; None if there are none."""
        with self._lock, self._database.reading():
            return self._database.reference()

    def keep_reference(self, known: str, queries: bytes) -> None:
        """Writes what unrelated sentences reach here, and their embeddings, in place of what was kept before."""
        with self._lock, self._database.writing():
            self._database.keep_reference(known, queries)

    def verify(self) -> dict[str, str]:
        """Faults by video; the key "" is for the file as a whole. Reads all of it."""
        with self._lock, self._database.reading():
            faults = {"": "; ".join(found)} if (found := self._database.faults()) else {}
            for id, number in self._database.videos.items():
                try:
                    self._database.record(number).entry()
                    self._database.codes([number])
                    self._database.text_tables.check(number)
                except (ModelError, ValueError, TypeError) as problem:
                    faults[id] = str(problem)
        return faults

    def stage_fault(self) -> str | None:
        """What is damaged of the first stage, which a measurement replaces; None if nothing is. Reads all of it."""
        with self._lock, self._database.reading():
            try:
                self._database.stage.check()
            except ModelError as problem:
                return str(problem)
        return None

    def move(self, videos: str) -> None:
        """Changes the folder of the videos in the header."""
        with self._lock, self._database.writing():
            self._database.move(videos)

    def tidy(self) -> None:
        """Returns free space to the file system if it is more than half of the file."""
        with self._lock:
            self._database.shrink()

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._database.close()

    def _detach(self, id: str) -> tuple[int | None, Entry | None]:
        """Takes a video out of the file, all but its texts; None if it is not there."""
        if (number := self._database.number_of(id)) is None:
            return None, None
        entry = self._database.record(number).entry()
        self._database.detach(number)
        return number, entry

    def _videos(self) -> dict[str, int]:
        with self._lock, self._database.reading():
            return self._database.videos

    def _read_about(self) -> dict[str, dict[str, Any]]:
        videos, known = self._database.videos, self._about
        self._about = {number: known[number] if number in known else self._database.about(number) for number in videos.values()}
        return {id: self._about[number] for id, number in videos.items()}

    def _numbers(self, where: Sequence[Condition]) -> list[int] | None:
        return [self._database.videos[id] for id in select(self._read_about(), where)] if where else None

    def _follow(self) -> None:
        """Brings what is in memory up to date with the file."""
        before, now = self._followed, self._database.videos
        if before is now:
            return
        if isinstance(self._held, ResidentCodes):
            self._held.follow(now.values(), self._database.codes)
        else:
            self._held.delete([id for id, number in before.items() if now.get(id) != number])
            new = [number for id, number in now.items() if before.get(id) != number]
            self._held.add([self._database.record(number).entry() for number in new])
        self._followed = now

    def _resident(self) -> ResidentCodes | None:
        """The codes of the videos, where they are in memory already."""
        if not (isinstance(self._held, ResidentCodes) and len(self._held)):
            return None
        self._follow()
        return self._held if len(self._held) else None

    def _put(self, entry: Entry, codebook: Codebook | None, *, texts_of: int | None = None) -> None:
        number = self._database.put(entry, [quantise(rows) for rows in entry.fields], texts_of=texts_of)
        self._approximate.put(number, entry, codebook)


def _exact(model: Model) -> ExactIndex:
    # With torch, which a scan of codes does without.
    from prvr.index.exact import ExactIndex

    return ExactIndex(model)
