"""The index on disk: one file, which many processes search while one writes, and the part of it that a reader holds in memory.

Where the score is a weighted sum of best cosines, memory holds int8 codes of all rows. The best videos by these are scored
again from the stored rows, as many as the exact best may be among. Any other method scores all rows itself, in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from prvr.errors import ModelError
from prvr.index.conditions import Condition, select
from prvr.index.contract import Entry, Header, ScoredVideo, cast_entries, require_approximate, require_weights
from prvr.index.database import Database
from prvr.index.place import FILE
from prvr.index.resident import ResidentCodes
from prvr.index.scan import quantise
from prvr.index.setting import MeanDirection, MeasuredSetting, Setting, require_valid
from prvr.index.texts import DiskTexts
from prvr.methods.model import Embeddings, Model
from prvr.nn.ranks import unit_queries

if TYPE_CHECKING:
    from prvr.index.exact import ExactIndex
    from prvr.index.rerank import CandidateCodes


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
        self.texts = DiskTexts(self._database, self._lock)
        self._about: dict[int, dict[str, Any]] = {}
        self._held = _exact(model) if model.score_weights is None else ResidentCodes(model.score_weights)
        # For a model that reranks: the codes that candidates are chosen by.
        self._candidates: CandidateCodes | None = None
        # The state of the file that the other attributes are of.
        self._followed: dict[str, int] = {}
        self._measured: tuple[dict[str, int], MeasuredSetting] | None = None

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
        ready = [(entry, [quantise(rows) for rows in entry.fields]) for entry in cast_entries(entries, self.header.dtype)]
        with self._lock, self._database.writing():
            for entry, codes in ready:
                self._database.put(entry, codes)

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
            for id in delete:
                self._database.drop(id)
            for old, (new, about) in moves.items():
                number, entry = held[old] if old in taken else self._detach(old)
                if entry is not None:
                    (entry,) = cast_entries([replace(entry, video=new, about=about)], self.header.dtype)
                    self._database.put(entry, [quantise(rows) for rows in entry.fields], texts_of=number)

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
            held, allowed, read = self._held, self._numbers(where), self._database.record
            self._follow()
            if not isinstance(held, ResidentCodes):
                return held.search(queries, k, where=where)
            return [held.search(query, k, read=read, allowed=allowed) for query in unit_queries(queries)]

    def search_approximately(self, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[ScoredVideo]]:
        """As `search`, but most of the k best: those among the candidates of the setting that is kept.

        Raises:
            SettingError: no video has the field of a condition.
            ModelError: no setting is kept that was measured on these videos, the method has none, or as `search`.
        """
        require_approximate(self)
        with self._lock, self._database.reading():
            measured = self._measured_setting()
            # Of fewer videos than were measured the best are a larger share.
            candidates = measured.setting.candidates(k, max(measured.videos, len(self._database.videos)))
            return self._search_sketches(
                queries, k, where, measured.setting, measured.along, candidates=candidates, since=measured.last
            )

    def search_with_setting(
        self, queries: Embeddings, k: int, *, setting: Setting, mean_direction: MeanDirection
    ) -> list[list[ScoredVideo]]:
        """As `search_approximately`, with a setting that is not kept; for measurements."""
        require_approximate(self)
        with self._lock, self._database.reading():
            candidates = setting.candidates(k, len(self._database.videos))
            return self._search_sketches(queries, k, (), setting, mean_direction, candidates=candidates, since=0)

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

    def keep_setting(self, setting: Setting, mean_direction: MeanDirection, *, recall: float, queries: int) -> None:
        """Writes a setting that was measured on the current videos, in place of the one before."""
        with self._lock, self._database.writing():
            videos = self._database.videos
            last = max(videos.values(), default=0)
            measured = MeasuredSetting(setting, mean_direction, recall, queries, len(videos), last, self.header.model)
            self._database.keep_setting(measured.to_json())

    def forget_setting(self) -> None:
        """Removes the setting that is kept."""
        with self._lock, self._database.writing():
            self._database.keep_setting(None)

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
                    self._database.codes(number)
                    self._database.text_tables.check(number)
                except (ModelError, ValueError, TypeError) as problem:
                    faults[id] = str(problem)
        return faults

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

    def _search_sketches(
        self,
        queries: Embeddings,
        k: int,
        where: Sequence[Condition],
        setting: Setting,
        mean_direction: MeanDirection,
        *,
        candidates: Sequence[int],
        since: int,
    ) -> list[list[ScoredVideo]]:
        held, allowed, read = self._held, self._numbers(where), self._database.record
        if not isinstance(held, ResidentCodes):
            # With torch, which only models that score all rows themselves need.
            from prvr.index.rerank import CandidateCodes, candidate_fields, rerank

            self._candidates = self._candidates or CandidateCodes(self.model)
            codes = self._candidates.follow(self._database.videos.values(), self._database.codes)
            codes.sketch(setting, mean_direction, since=since)
            numbers = [
                codes.find_candidates(query, setting=setting, candidates=candidates, allowed=allowed)
                for query in unit_queries(candidate_fields(self.model, queries))
            ]
            return rerank(self.model, queries, k, [[read(number).entry() for number in row] for row in numbers])
        self._follow()
        held.sketch(setting, mean_direction, since=since)
        return [
            held.search_approximately(query, k, read=read, setting=setting, candidates=candidates, allowed=allowed)
            for query in unit_queries(queries)
        ]

    def _measured_setting(self) -> MeasuredSetting:
        videos = self._database.videos
        if self._measured is None or self._measured[0] is not videos:
            text, model = self._database.setting(), self.header.model
            self._measured = videos, require_valid(text, self.path, model=model, numbers=videos.values())
        return self._measured[1]


def _exact(model: Model) -> ExactIndex:
    # With torch, which a scan of codes does without.
    from prvr.index.exact import ExactIndex

    return ExactIndex(model)
