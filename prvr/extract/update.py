"""The one function that brings stored rows up to date with a folder of videos: features on disk, and an index alike.

Each video is stored as soon as it is encoded, or has its rows of another one with the same content. Whatever ends the run, the
next one goes on from there; with an engine of `prvr.extract.resuming` also within a video.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, final

import numpy as np

from prvr.errors import RowsError, VideoError
from prvr.extract.engine import Changed, Encoded, Engine, FrameSampling, Job, Outcome, Part, Refused, Unfinished
from prvr.extract.extraction import Extraction, Progress
from prvr.extract.file_stamps import Stamp, has_same_stamp, recorded_file, sha256_of, stamp_of, stamps_of
from prvr.video import RemotePath, VideoPath
from prvr.video.remote import remove_abandoned_copies

# How often a video is read whose file changes while it is read.
READS = 3
# No file is a thousand hours long; NaN is not below it, either.
ABSURD = 3.6e6


class RowStore(Protocol):
    """Stores the rows of videos by id, each with the `info` of an `Encoded` outcome, of which `times` may be left out."""

    def infos(self) -> Mapping[str, Mapping[str, Any]]:
        """Returns the info of every video, copies of others included."""
        ...

    def put(self, id: str, rows: np.ndarray, info: Mapping[str, Any]) -> None:
        """Adds a video, or replaces the one of that id.

        Raises:
            RowsError: the rows cannot be stored; nothing was written.
        """
        ...

    def offer(self, id: str, rows: np.ndarray, info: Mapping[str, Any]) -> None:
        """Called with the rows so far of a video that is still read; a store that is searched puts them in its place."""
        ...

    def keep(self, id: str, file: Mapping[str, Any]) -> None:
        """Called for a stored video with a file of the same content; `file` has the current stamp."""
        ...

    def rearrange(self, copies: Mapping[str, tuple[str, Mapping[str, Any]]], drop: Collection[str]) -> list[str]:
        """Gives videos the rows of others and removes videos, in one step; returns the ids that were removed.

        Args:
            copies: by id, the stored video with the same content, and what is recorded of the file.
        """
        ...


def update_rows(
    files: Mapping[str, VideoPath],
    store: RowStore,
    engine: Engine,
    *,
    sampling: FrameSampling,
    skip: Collection[str] = (),
    on_progress: Progress | None = None,
) -> Extraction:
    """Encodes new and changed videos into a store, and removes videos without a readable file.

    The content of a file decides. Size and times are compared first; if they differ, its SHA-256 is. A file with the content
    of another one, stored or new, is not encoded: a video that was renamed keeps its rows.

    Args:
        files: every video, by id.
        skip: ids of videos that are neither read nor removed now.
        on_progress: is called with seconds of video while videos are encoded.

    Raises:
        DataError: the store cannot be written to; finished videos are kept.
    """
    if any(isinstance(file, RemotePath) for file in files.values()):
        remove_abandoned_copies()
    update = _Update(files, store, on_progress)
    update.sort(skip)
    for _ in range(READS):
        update.encode_pending(engine, sampling)
    return update.result()


@final
class _Update:
    def __init__(self, files: Mapping[str, VideoPath], store: RowStore, on_progress: Progress | None) -> None:
        self._files, self._store, self._on_progress = files, store, on_progress
        self._stamps, self._problems = stamps_of(files)
        self._known = store.infos()
        self._dropped: list[str] = []
        self._done: set[str] = set()
        self._kept: list[str] = []
        self._pending: list[str] = []
        # New videos with the content of another new one, by the id of that.
        self._twins: dict[str, list[str]] = {}
        self._hashes: dict[str, str] = {}

    def sort(self, skip: Collection[str]) -> None:
        """Keeps the videos with a file of the same content, also under another name; all others wait to be encoded."""
        new = []
        for number, (id, stamp) in enumerate(self._stamps.items()):
            known = self._known.get(id)
            if id in skip:
                self._kept += [id] if known is not None else []
            elif known is None or not self._is_same(id, stamp, recorded_file(known), number):
                new.append(id)
            else:
                self._kept.append(id)
                self._store.keep(id, {**recorded_file(known), **stamp})
                if known.get("problem"):
                    self._problems[id] = known["problem"]
        copies = self._find_copies(new)
        # A video that is gone may be one of the files that are not read now, under its new name.
        renamed = {self._stamps[id]["size"] for id in skip if id in self._stamps and id not in self._known}
        # What a store does not say now may be there later.
        away = {id for id, file in self._files.items() if isinstance(file, RemotePath)}
        gone = [id for id in self._known if id not in self._stamps and id not in away and self._size(id) not in renamed]
        self._dropped += self._store.rearrange({id: (source, self._file(id)) for id, source in copies.items()}, gone)
        for id, source in copies.items():
            self._done.add(id)
            if problem := self._known[source].get("problem"):
                self._problems[id] = problem

    def encode_pending(self, engine: Engine, sampling: FrameSampling) -> None:
        """Encodes the videos that wait for it; a video waits again if its file changed while it was read."""
        jobs = [Job(id, self._files[id]) for id in self._pending]
        seconds = _Seconds({job.id: self._stamps[job.id]["size"] for job in jobs})
        self._pending = []
        for outcome in engine.encode(jobs, sampling=sampling):
            self._take(outcome)
            seconds.take(outcome)
            if self._on_progress is not None:
                self._on_progress(outcome.id, seconds.done, seconds.total)

    def result(self) -> Extraction:
        """Returns what was done, in the order of the files."""
        for id in self._pending:
            self._problems[id] = f"{self._files[id]} changed each time it was read; run again when it is complete"
        problems = {id: self._problems[id] for id in self._files if id in self._problems}
        return Extraction(self._in_order(self._done), self._in_order(self._kept), tuple(self._dropped), problems)

    def _size(self, id: str) -> int | None:
        return recorded_file(self._known[id]).get("size")

    def _in_order(self, ids: Collection[str]) -> tuple[str, ...]:
        wanted = set(ids)
        return tuple(id for id in self._files if id in wanted)

    def _is_same(self, id: str, stamp: Stamp, recorded: Mapping[str, Any], number: int) -> bool:
        if has_same_stamp(recorded, stamp):
            return True
        self._report(id, number)
        file = self._files[id]
        if isinstance(file, RemotePath):
            # Listings may state less than what is said of a file.
            with suppress(VideoError):
                stamp = self._stamps[id] = stamp_of(file)
            if has_same_stamp(recorded, stamp):
                return True
        return stamp["size"] == recorded.get("size") and "sha256" in recorded and self._hash(id) == recorded["sha256"]

    def _find_copies(self, new: Sequence[str]) -> dict[str, str]:
        """Returns the stored video with the same content for each new one that has any; the others wait to be encoded."""
        recorded = {id: recorded_file(info) for id, info in self._known.items()}
        # Of several videos with the same content one that stays: the first in this order.
        sources: dict[str, str] = {}
        for id in (*self._kept, *recorded):
            if "sha256" in recorded[id]:
                sources.setdefault(recorded[id]["sha256"], id)
        sizes = Counter(self._stamps[id]["size"] for id in new) + Counter({recorded[id]["size"]: 2 for id in sources.values()})
        copies: dict[str, str] = {}
        first: dict[str, str] = {}
        for number, id in enumerate(new):
            content = None
            # A size that no other file has is a content that no other file has.
            if sizes[self._stamps[id]["size"]] > 1:
                self._report(id, number)
                content = self._hash(id)
            if content in sources:
                copies[id] = sources[content]
            elif content is not None and first.setdefault(content, id) != id:
                self._twins.setdefault(first[content], []).append(id)
            else:
                self._pending.append(id)
        return copies

    def _hash(self, id: str) -> str | None:
        """Returns the SHA-256 of a file; None if the file cannot be read or changes while it is read."""
        if id not in self._hashes:
            try:
                content = sha256_of(self._files[id])
                if stamp_of(self._files[id]) != self._stamps[id]:
                    return None
            except VideoError:
                return None
            self._hashes[id] = content
        return self._hashes[id]

    def _file(self, id: str) -> dict[str, Any]:
        return {**self._stamps[id], "sha256": self._hashes[id]}

    def _take(self, outcome: Outcome) -> None:
        id = outcome.id
        if isinstance(outcome, Part):
            return
        if isinstance(outcome, Unfinished):
            with suppress(RowsError):
                self._store.offer(id, outcome.rows, outcome.info)
            return
        twins = self._twins.pop(id, [])
        if isinstance(outcome, Changed):
            self._pending += [id, *twins]
            return
        if isinstance(outcome, Encoded):
            problem = outcome.info["problem"]
            try:
                self._store.put(id, outcome.rows, outcome.info)
                self._done.add(id)
                if outcome.info["file"]["sha256"] == self._hashes.get(id):
                    self._store.rearrange({twin: (id, self._file(twin)) for twin in twins}, [])
                    self._done.update(twins)
                else:
                    # The file has changed since its content was compared.
                    self._pending += twins
                    twins = []
            except RowsError as refused:
                problem = str(refused)
        else:
            problem = outcome.problem
        if isinstance(outcome, Refused) and isinstance(self._files[id], RemotePath):
            # It may be read later; what is known of it stays.
            self._kept += [id] if id in self._known else []
        elif id not in self._done:
            # Rows of an earlier content of the file are of no use.
            self._dropped += self._store.rearrange({}, [id, *twins])
        if problem:
            self._problems.update(dict.fromkeys([id, *twins], problem))

    def _report(self, id: str, number: int) -> None:
        if self._on_progress is not None:
            self._on_progress(f"comparing {id}", number, len(self._files))


@final
class _Seconds:
    """Seconds of video that were encoded and that there are, the length of unopened files estimated by their size."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes, self._all_bytes = sizes, sum(sizes.values())
        self._bytes = 0
        # Of each video that was opened: where its reading began, and what it has added to `done` and to the known seconds.
        self._begin: dict[str, float] = {}
        self._counted: dict[str, tuple[float, float]] = {}
        self.done = self._known = 0.0

    def take(self, outcome: Outcome) -> None:
        """Takes note of where a video is, or of its end."""
        id = outcome.id
        if isinstance(outcome, Unfinished):
            return
        before, known_before = self._counted.get(id, (0.0, 0.0))
        if isinstance(outcome, Part):
            begin = self._begin.setdefault(id, outcome.seconds)
            done = outcome.seconds - begin
            known = max(outcome.stated - begin, done) if outcome.stated < ABSURD else done
        else:
            end = outcome.info["duration"] if isinstance(outcome, Encoded) else before
            done = known = max(end - self._begin.get(id, 0.0), 0.0)
        if id not in self._counted:
            self._bytes += self._sizes[id]
        self._counted[id] = done, known
        self.done += done - before
        self._known += known - known_before

    @property
    def total(self) -> float:
        """The seconds of video of this run; 0 while no file states any."""
        left = self._all_bytes - self._bytes
        return self._known + (left * self._known / self._bytes if self._bytes else 0.0)
