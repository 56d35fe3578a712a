"""The one function that brings stored rows up to date with a folder of videos: features on disk, and an index alike.

Each video is stored as soon as it is encoded. Whatever ends the run, the next one goes on from there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np

from prvr.errors import RowsError
from prvr.extract.engine import Changed, Encoded, Engine, FrameSampling, Job, Outcome
from prvr.extract.extraction import Extraction, Progress
from prvr.extract.file_stamps import Stamp, has_same_content, has_same_stamp, recorded_file, stamps_of

# How often a video is read whose file changes while it is read.
READS = 3


class RowStore(Protocol):
    """Stores the rows of videos by id, each with the `info` of an `Encoded` outcome, of which `times` may be left out."""

    def infos(self) -> Mapping[str, Mapping[str, Any]]:
        """Returns the info of every stored video."""
        ...

    def put(self, id: str, rows: np.ndarray, info: Mapping[str, Any]) -> None:
        """Adds a video, or replaces the one of that id.

        Raises:
            RowsError: the rows cannot be stored; nothing was written.
        """
        ...

    def keep(self, id: str, file: Mapping[str, Any]) -> None:
        """Called for a stored video with a file of the same content; `file` has the current stamp."""
        ...

    def drop(self, ids: Collection[str]) -> list[str]:
        """Removes videos, and returns the ids of those that were there."""
        ...


def update_rows(
    files: Mapping[str, Path],
    store: RowStore,
    engine: Engine,
    *,
    sampling: FrameSampling,
    skip: Collection[str] = (),
    on_progress: Progress | None = None,
) -> Extraction:
    """Encodes new and changed videos into a store, and removes videos without a readable file.

    The content of a file decides. Size and times are compared first; if they differ, its SHA-256 is.

    Args:
        files: every video, by id.
        skip: ids of videos that are neither read nor removed now.

    Raises:
        DataError: the store cannot be written to; finished videos are kept.
    """
    update = _Update(files, store, on_progress)
    update.sort(skip)
    for _ in range(READS):
        update.encode_pending(engine, sampling)
    return update.result()


@final
class _Update:
    def __init__(self, files: Mapping[str, Path], store: RowStore, on_progress: Progress | None) -> None:
        self._files, self._store, self._on_progress = files, store, on_progress
        self._stamps, self._problems = stamps_of(files)
        self._known = store.infos()
        self._dropped = store.drop([id for id in self._known if id not in self._stamps])
        self._done: set[str] = set()
        self._kept: list[str] = []
        self._pending: list[str] = []

    def sort(self, skip: Collection[str]) -> None:
        """Keeps the videos with a file of the same content; all others wait to be encoded."""
        for number, (id, stamp) in enumerate(self._stamps.items()):
            known = self._known.get(id)
            if id in skip:
                self._kept += [id] if known is not None else []
            elif known is None or not self._is_same(id, stamp, recorded_file(known), number):
                self._pending.append(id)
            else:
                self._kept.append(id)
                self._store.keep(id, {**recorded_file(known), **stamp})
                if known.get("problem"):
                    self._problems[id] = known["problem"]

    def encode_pending(self, engine: Engine, sampling: FrameSampling) -> None:
        """Encodes the videos that wait for it; a video waits again if its file changed while it was read."""
        jobs, total = [Job(id, self._files[id]) for id in self._pending], len(self._files)
        self._pending = []
        if jobs:
            self._report(jobs[0].id, total - len(jobs))
        for number, outcome in enumerate(engine.encode(jobs, sampling=sampling), start=total - len(jobs) + 1):
            self._take(outcome)
            self._report(outcome.id, number)

    def result(self) -> Extraction:
        """Returns what was done, in the order of the files."""
        for id in self._pending:
            self._problems[id] = f"{self._files[id]} changed each time it was read; run again when it is complete"
        problems = {id: self._problems[id] for id in self._files if id in self._problems}
        return Extraction(self._in_order(self._done), self._in_order(self._kept), tuple(self._dropped), problems)

    def _in_order(self, ids: Collection[str]) -> tuple[str, ...]:
        wanted = set(ids)
        return tuple(id for id in self._files if id in wanted)

    def _is_same(self, id: str, stamp: Stamp, recorded: Mapping[str, Any], number: int) -> bool:
        if has_same_stamp(recorded, stamp):
            return True
        self._report(f"comparing {id}", number)
        return has_same_content(recorded, stamp, self._files[id])

    def _take(self, outcome: Outcome) -> None:
        id = outcome.id
        if isinstance(outcome, Changed):
            self._pending.append(id)
            return
        if isinstance(outcome, Encoded):
            problem = outcome.info["problem"]
            try:
                self._store.put(id, outcome.rows, outcome.info)
                self._done.add(id)
            except RowsError as refused:
                problem = str(refused)
        else:
            problem = outcome.problem
        if id not in self._done:
            # Rows of an earlier content of the file are of no use.
            self._dropped += self._store.drop([id])
        if problem:
            self._problems[id] = problem

    def _report(self, note: str, done: int) -> None:
        if self._on_progress is not None:
            self._on_progress(note, done, len(self._files))
