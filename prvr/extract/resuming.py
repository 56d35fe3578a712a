"""Keeps the rows of videos that are not finished, so that the next run reads a film from where the last one was.

PATH/   a packed folder: an item for each part of a video, deleted when the video is stored as a whole. It exists only while
        there is such a video.

A part is used only if the file has the stamp that it had then, or is that file under another name: with the same size, time of
modification, first and last bytes. At the end, stamp and SHA-256 are of all that was read.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np

from prvr.encoders import ImageEncoder
from prvr.errors import RowsError, VideoError
from prvr.extract.engine import Changed, Encoded, Engine, FrameSampling, Job, Outcome, Part, Refused, Unfinished
from prvr.extract.extraction import delete_items, explain_full_disk, open_frames
from prvr.extract.file_stamps import Stamp, ends_of, has_same_stamp, stamp_of
from prvr.features.compaction import remove
from prvr.features.packed import PackedWriter, is_packed
from prvr.video import RemotePath, VideoPath

# An unfinished video is offered to searches whenever it has grown by this share: each time all of it is stored again.
GROWTH = 1 / 8
# The facts of a part that are read.
PART = {"video", "first", "file", "batch_size"}


@contextmanager
def resuming(
    path: Path, engine: Engine, *, encoder: ImageEncoder, rate: float, videos: Collection[str]
) -> Iterator[ResumingEngine]:
    """Yields the engine, which keeps parts of videos in `path`.

    Args:
        videos: the videos of the folder; parts of others are of use only to one that was renamed.

    Raises:
        DataError: the parts are of another encoder or rate, or cannot be written.
    """
    with closing(_Parts(path, encoder, rate, videos)) as parts:
        yield ResumingEngine(engine, parts)
        # Left by a kill between the storing of a video and the removal of its parts, or of a file that changes at the moment.
        for id in parts.ids():
            parts.forget(id)


@final
class ResumingEngine:
    """An engine that goes on where an earlier run was in a video."""

    def __init__(self, engine: Engine, parts: _Parts) -> None:
        self._engine, self._parts = engine, parts
        self._offered: dict[str, int] = {}
        self._refused: dict[str, str] = {}
        self._paths: dict[str, VideoPath] = {}
        # What earlier runs could not read, in words.
        self._damage: dict[str, str | None] = {}

    def encode(self, jobs: Sequence[Job], *, sampling: FrameSampling) -> Iterator[Outcome]:
        """Yields the outcome of each job with all its rows, the part that was read, and what there is of long videos."""
        resumed = [self._parts.resume(job, sampling) for job in jobs]
        begun = {job.id for job in resumed if job.after is not None}
        self._paths = {job.id: job.path for job in jobs}
        self._damage = {id: self._parts.damage_of(id) for id in begun}
        for outcome in self._engine.encode(resumed, sampling=sampling):
            if isinstance(outcome, Part):
                if not outcome.times:
                    # A reading begins: also one that goes on where a worker died.
                    self._damage[outcome.id] = self._parts.damage_of(outcome.id)
                yield outcome
                yield from self._keep(outcome, sampling)
                continue
            # What cannot be read from a store now may be there later.
            away = isinstance(outcome, Refused) and isinstance(self._paths[outcome.id], RemotePath)
            if isinstance(outcome, Refused) and outcome.id in begun and not away:
                # It may be that nothing was left to read: from its beginning the video shows what it is.
                outcome = Changed(outcome.id)
            if isinstance(outcome, Encoded):
                outcome = self._join(outcome)
            yield outcome
            if not away:
                self._parts.forget(outcome.id)

    def _keep(self, part: Part, sampling: FrameSampling) -> Iterator[Outcome]:
        if not part.times or part.id in self._refused:
            return
        try:
            part = replace(part, damage=self._add_damage(part.id, part.damage))
            count = self._parts.add(part, self._paths[part.id], sampling)
        except RowsError as refused:
            self._refused[part.id] = str(refused)
            return
        if count >= self._offered.get(part.id, 0) * (1 + GROWTH):
            self._offered[part.id] = count
            rows, times = self._parts.rows_of(part.id)
            end = times[-1] + 1 / sampling.rate
            problem = f"only {end:.0f} s of {max(part.stated, end):.0f} s are encoded so far; the rest follows with the next run"
            info = {"times": [round(time, 3) for time in times], "duration": end, "problem": problem}
            # Without size and SHA-256: no file is taken for one whose content is there.
            yield Unfinished(part.id, rows, {**info, "file": {"mtime_ns": part.stamp["mtime_ns"]}})

    def _join(self, last: Encoded) -> Outcome:
        """Returns a video with the rows of its parts; or that it has changed since its parts were read."""
        if last.id in self._refused:
            return Refused(last.id, self._refused[last.id])
        if last.id not in self._parts.ids():
            return last
        if not has_same_stamp(self._parts.stamp_of(last.id), last.info["file"]):
            return Changed(last.id)
        rows, times = self._parts.rows_of(last.id)
        all_times = [*(round(time, 3) for time in times), *last.info["times"]]
        info = {**last.info, "times": all_times, "problem": self._add_damage(last.id, last.info["problem"])}
        return Encoded(last.id, np.concatenate([rows, last.rows]) if len(last.rows) else rows, info)

    def _add_damage(self, id: str, problem: str | None) -> str | None:
        # Where a run decodes from the beginning, it finds the same again.
        return "; ".join(dict.fromkeys(filter(None, (self._damage.get(id), problem)))) or None


@final
class _Parts:
    """The parts in a folder, which is created with the first one and removed with the last one."""

    def __init__(self, path: Path, encoder: ImageEncoder, rate: float, videos: Collection[str]) -> None:
        self._path, self._encoder, self._rate = path, encoder, rate
        self._writer: PackedWriter | None = None
        self._keys: dict[str, list[str]] = {}
        self._ends: dict[str, str] = {}
        if is_packed(path):
            features = self._open().features
            # A damaged one is read again with its film.
            broken = [key for key in features if not features.info(key).keys() >= PART or features.times(key) is None]
            delete_items(self._open(), broken)
            # By the number of their first row.
            for key in sorted(features, key=lambda key: int(features.info(key)["first"])):
                self._keys.setdefault(features.info(key)["video"], []).append(key)
        self._gone = self.ids() - set(videos)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            if not self._keys:
                remove(self._path)

    def ids(self) -> set[str]:
        return set(self._keys)

    def resume(self, job: Job, sampling: FrameSampling) -> Job:
        """Returns a job without the frames that are stored; as it is if none of its file are."""
        try:
            stamp = stamp_of(job.path)
            if job.id not in self._keys:
                self._rename(job, stamp)
            info = self._last(job.id)
            if info and has_same_stamp(info["file"], stamp) and _is_read_as(info, sampling):
                look, row = info.get("look"), self._open().features[self._keys[job.id][-1]][-1]
                return replace(job, after=float(info["times"][-1]), look=look and base64.b64decode(look), row=row)
        except VideoError:
            if isinstance(job.path, RemotePath):
                return job
        self.forget(job.id)
        return job

    def _rename(self, job: Job, stamp: Stamp) -> None:
        """Gives a video the parts of a missing one, if its file is the same."""
        same = {key: stamp[key] for key in ("size", "mtime_ns")}
        for old in sorted(self._gone & self.ids()):
            info = self._last(old)
            if has_same_stamp(same, info["file"]) and info.get("ends") == ends_of(job.path):
                features = self._open().features
                for key in self._keys[old]:
                    self._append(job.id, features[key], {**features.info(key), "file": stamp})
                self.forget(old)
                return

    def damage_of(self, id: str) -> str | None:
        damage: str | None = self._last(id).get("damage")
        return damage

    def _last(self, id: str) -> dict[str, Any]:
        """Returns the info of the last part of a video; an empty one if it has no parts."""
        return self._open().features.info(self._keys[id][-1]) if id in self._keys else {}

    def add(self, part: Part, path: VideoPath, sampling: FrameSampling) -> int:
        """Stores a part, and returns the number of rows of its video so far."""
        if part.id not in self._ends:
            with suppress(VideoError):
                self._ends[part.id] = ends_of(path)
        info = {"times": part.times, "file": part.stamp, "ends": self._ends.get(part.id), "batch_size": sampling.batch_size}
        info["every_frame"] = sampling.every_frame
        look = None if part.look is None else base64.b64encode(part.look).decode()
        return self._append(part.id, part.rows, {**info, "damage": part.damage, "look": look})

    def _append(self, id: str, rows: np.ndarray, info: Mapping[str, Any]) -> int:
        writer, keys = self._open(), self._keys.setdefault(id, [])
        first = sum(len(writer.features[key]) for key in keys)
        key = f"{id}, from frame {first}"
        with explain_full_disk(writer):
            writer.append(key, rows, {**info, "video": id, "first": first})
        keys.append(key)
        return first + len(rows)

    def rows_of(self, id: str) -> tuple[np.ndarray, list[float]]:
        features = self._open().features
        times = [time for key in self._keys[id] for time in features.info(key)["times"]]
        return np.concatenate([features[key] for key in self._keys[id]]), times

    def stamp_of(self, id: str) -> Mapping[str, Any]:
        stamp: Mapping[str, Any] = self._open().features.info(self._keys[id][0])["file"]
        return stamp

    def forget(self, id: str) -> None:
        if id in self._keys:
            delete_items(self._open(), self._keys.pop(id))

    def _open(self) -> PackedWriter:
        if self._writer is None:
            self._writer = open_frames(self._path, self._encoder, self._rate)
        return self._writer


def _is_read_as(info: Mapping[str, Any], sampling: FrameSampling) -> bool:
    # Repeated frames were not left out at first.
    return info["batch_size"] == sampling.batch_size and info.get("every_frame", True) == sampling.every_frame
