"""The index of a folder brought in step with it, video by video: whenever it is cut off, what was finished can be asked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

from prvr.encoders import ImageEncoder
from prvr.errors import DataError, ModelError, VideoError
from prvr.extract.jobs import Encoded, Job, Outcome, Sampling
from prvr.extract.ledger import Progress, drop, encoder_about, full_disk_told
from prvr.extract.stream import ThisProcess
from prvr.features.packed import PackedWriter, tidy
from prvr.index.contract import Entry, cast_entries
from prvr.index.disk import DiskIndex
from prvr.index.encode import VIDEOS_AT_ONCE, Sampled, encode_long
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.search.opening import FEATURES, made_or_reopened, opened
from prvr.search.own import own_fields
from prvr.search.stamps import content_of, stamp_of, stamps_of
from prvr.video import checked_rate, find_videos

BATCH_SIZE = 32
# How often a video is read that changes meanwhile.
TRIES = 3


@dataclass(frozen=True)
class Indexing:
    """What a run did: videos added or done again, kept, dropped, and what was wrong with which."""

    added: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    problems: Mapping[str, str]


def index_folder(
    videos: str | Path,
    path: str | Path,
    checkpoint: Checkpoint,
    *,
    dtype: Literal["float16", "float32"] | None = None,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> Indexing:
    """Brings an index up to date with a folder: adds what is new, does again what changed, drops what is gone.

    Whenever it is cut off, all finished videos are kept, and the next call goes on. They can be searched all the while.

    Args:
        dtype: of the embeddings on disk; by default that of the index, float16 for a new one.

    Raises:
        ModelError: the index was built with another checkpoint, or the student reads features that no encoder makes.
        DataError: no videos, another process is indexing there, or the disk is full.
        SettingError: the index holds another dtype.
    """
    # Before anything is made: a folder without videos gets no index.
    find_videos(Path(videos))
    indexer = Indexer(Path(videos), Path(path), checkpoint, dtype=dtype, device=device)
    try:
        return indexer.update(on_progress=on_progress)
    finally:
        indexer.close()


@final
class Indexer:
    """A folder of videos, its index and all that it takes to bring one in step with the other."""

    def __init__(
        self, videos: Path, path: Path, checkpoint: Checkpoint, *, dtype: Literal["float16", "float32"] | None, device: str
    ) -> None:
        eyes = opened(checkpoint.reads.frames, "frames", device)
        if not isinstance(eyes, ImageEncoder):
            raise ModelError(f"{eyes.name!r} has no image side; the model reads frames of it")
        self.videos, self.path, self._eyes = videos, path, eyes
        self._sampling = Sampling(checked_rate(checkpoint.reads.frames.rate or 1.0), BATCH_SIZE)
        self._store = made_or_reopened(path, checkpoints.to_device(checkpoint, device), videos=videos, dtype=dtype)

    def close(self) -> None:
        """Lets the index go."""
        self._store.close()

    def update(self, *, leave: Collection[str] = (), on_progress: Progress | None = None) -> Indexing:
        """Brings the index in step with the folder; videos to be left alone are neither read nor dropped.

        Raises:
            DataError: no videos, another process is indexing there, or the disk is full.
        """
        files = find_videos(self.videos)
        about = {"kind": "frames", "encoder": encoder_about(self._eyes), "rate": self._sampling.rate}
        columns, source = self._eyes.image_columns, self._eyes.source
        with PackedWriter(self.path / FEATURES, columns=columns, about=about, source=source) as features:
            run = _Run(self.videos, files, self._store, features, on_progress)
            run.drop_gone()
            run.sort(leave)
            run.embed_known()
            run.read_new(self._eyes, self._sampling)
        tidy(self.path / FEATURES)
        self._store.tidy()
        return run.result()


@final
class _Run:
    """One pass over a folder, by one writer."""

    def __init__(
        self, folder: Path, files: Mapping[str, Path], store: DiskIndex, features: PackedWriter, tell: Progress | None
    ) -> None:
        self._files, self._store, self._features, self._tell = files, store, features, tell
        self._stamps, problems = stamps_of(files)
        self._own, strangers = own_fields(folder, files)
        self._problems = strangers | problems
        self._known = store.about()
        self._added: list[str] = []
        self._kept: list[str] = []
        self._dropped: list[str] = []
        self._wanted: list[str] = []

    def drop_gone(self) -> None:
        """Takes out what is no longer in the folder, or cannot be looked at."""
        self._dropped = [id for id in self._known if id not in self._stamps]
        self._store.delete(self._dropped)
        drop(self._features, [id for id in self._features.features if id not in self._stamps])

    def sort(self, leave: Collection[str]) -> None:
        """Finds out which videos stay as they are and which are wanted."""
        for number, id in enumerate(self._stamps):
            known = self._known.get(id)
            if id in leave:
                self._kept += [id] if known else []
            elif known is None or not self._same(id, known.get("file", {}), number):
                self._wanted.append(id)
            else:
                self._keep(id, known)

    def embed_known(self) -> None:
        """Embeds those of the wanted videos whose features are there: an earlier run was cut off in between."""
        features = self._features.features
        ready = [id for id in self._wanted if id in features and self._stamps[id].items() <= features.info(id)["file"].items()]
        for start in range(0, len(ready), VIDEOS_AT_ONCE):
            part = ready[start : start + VIDEOS_AT_ONCE]
            self._put([self._sampled(id, features[id], features.info(id)) for id in part])
        self._wanted = [id for id in self._wanted if id not in set(ready)]

    def read_new(self, eyes: ImageEncoder, sampling: Sampling) -> None:
        """Decodes, encodes and embeds the wanted videos, each as it comes; one that changes meanwhile is read again."""
        total = len(self._stamps)
        for _ in range(TRIES):
            jobs = [Job(id, self._files[id]) for id in self._wanted]
            if self._tell and jobs:
                self._tell(jobs[0].id, total - len(jobs), total)
            self._wanted = []
            for number, outcome in enumerate(ThisProcess(eyes).encode(jobs, sampling=sampling), start=total - len(jobs) + 1):
                self._take(outcome)
                if self._tell:
                    self._tell(outcome.id, number, total)
            if not self._wanted:
                return
        for id in self._wanted:
            self._problems[id] = f"{self._files[id]} changed each time it was read; index again when it is whole"

    def result(self) -> Indexing:
        """What was done, in the folder's order."""
        added, kept, there = set(self._added), set(self._kept), self._stamps
        told = {id: problem for id, problem in self._problems.items() if id not in self._files}
        told |= {id: self._problems[id] for id in self._files if id in self._problems}
        added_in_order, kept_in_order = (tuple(id for id in there if id in done) for done in (added, kept - added))
        return Indexing(added_in_order, kept_in_order, tuple(self._dropped), told)

    def _same(self, id: str, file: Mapping[str, Any], number: int) -> bool:
        stamp = self._stamps[id]
        if stamp.items() <= file.items():
            return True
        if self._tell:
            self._tell(f"comparing {id}", number, len(self._stamps))
        try:
            return stamp["size"] == file.get("size") and content_of(self._files[id]) == file["sha256"]
        except VideoError:
            return False

    def _keep(self, id: str, known: Mapping[str, Any]) -> None:
        self._kept.append(id)
        if known.get("problem"):
            self._problems[id] = known["problem"]
        file = {**self._stamps[id], "sha256": known["file"]["sha256"]}
        about = self._about(id, file, known["duration"], known.get("problem"))
        if about != known:
            self._store.add([replace(self._store.fetch([id])[id], about=about)])

    def _take(self, outcome: Outcome) -> None:
        """Stores what came of a video, unless its file is another one by now."""
        id, path = outcome.id, self._files[outcome.id]
        try:
            # The content is read after the frames: where the stamp is still the same, both are of one file.
            content = content_of(path) if isinstance(outcome, Encoded) else ""
            stamp = stamp_of(path)
        except VideoError as problem:
            self._refuse(id, str(problem))
            return
        if stamp != self._stamps[id]:
            self._stamps[id] = stamp
            self._wanted.append(id)
        elif isinstance(outcome, Encoded):
            info = {**outcome.info, "file": {**stamp, "sha256": content}}
            with full_disk_told(self._features):
                self._features.append(id, outcome.rows, info)
            self._put([self._sampled(id, outcome.rows, info)])
        else:
            self._refuse(id, outcome.problem)

    def _refuse(self, id: str, problem: str) -> None:
        # Rows of what the file was before are of no use.
        self._problems[id] = problem
        drop(self._features, [id])
        if id in self._known:
            self._store.delete([id])
            self._dropped.append(id)

    def _put(self, videos: Sequence[Sampled]) -> None:
        for entry in self._sound(encode_long(self._store.model, videos)):
            self._store.add([entry])
            self._added.append(entry.video)

    def _sound(self, entries: Iterable[Entry]) -> Iterable[Entry]:
        for entry in entries:
            try:
                yield from cast_entries([entry], self._store.header.dtype)
            except DataError as problem:
                self._refuse(entry.video, str(problem))

    def _sampled(self, id: str, rows: np.ndarray, info: Mapping[str, Any]) -> Sampled:
        if info["problem"]:
            self._problems[id] = info["problem"]
        about = self._about(id, info["file"], info["duration"], info["problem"])
        return Sampled(id, rows, tuple(info["times"]), info["duration"], about)

    def _about(self, id: str, file: Mapping[str, Any], duration: float, problem: str | None) -> dict[str, Any]:
        date = datetime.fromtimestamp(file["mtime_ns"] / 1e9, UTC).isoformat(timespec="seconds")
        partly = {"problem": problem} if problem else {}
        return {"duration": duration, "date": date, "file": dict(file), **partly, **self._own.get(id, {})}
