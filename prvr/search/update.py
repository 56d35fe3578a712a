"""Brings an index up to date with its folder of videos; a finished video is kept and can be searched at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

from prvr.encoders import ImageEncoder
from prvr.errors import ModelError
from prvr.extract import engine_for
from prvr.extract.engine import FrameSampling
from prvr.extract.extraction import Progress
from prvr.extract.update import update_rows
from prvr.files import lock_for_writing
from prvr.index.disk import FILE, DiskIndex
from prvr.index.encode import Sampled, encode_long
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.search.feature_cache import with_cache
from prvr.search.opening import FEATURES, make_or_reopen, open_matching_encoder
from prvr.search.video_fields import read_video_fields
from prvr.video import check_rate, find_videos

BATCH_SIZE = 32


@dataclass(frozen=True)
class Indexing:
    """The ids of videos that were added or replaced, kept and removed; and what is wrong with some of them."""

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
    workers: int | None = None,
    ray: str | None = None,
    on_progress: Progress | None = None,
) -> Indexing:
    """Brings an index up to date with a folder: adds new videos, replaces changed ones, removes those without a file.

    Whatever ends the call, all finished videos are kept, and the next call goes on. They can be searched all the time.

    Args:
        dtype: of the embeddings on disk; by default that of the index, float16 for a new one.
        workers: the number of processes that decode and encode; by default this process alone, or one on each machine of a
            cluster.
        ray: the address of a Ray cluster that decodes and encodes: HOST:PORT, `auto` or `local`.

    Raises:
        ModelError: the index was built with another checkpoint, or the student reads features that no encoder makes.
        DataError: there are no videos, another process is indexing there, or the disk is full.
        SettingError: the index holds another dtype, or there is no cluster at that address.
    """
    # Checked before anything is made: a folder without videos gets no index.
    find_videos(Path(videos))
    indexer = Indexer(Path(videos), Path(path), checkpoint, dtype=dtype, device=device, workers=workers, ray=ray)
    try:
        return indexer.update(on_progress=on_progress)
    finally:
        indexer.close()


@final
class Indexer:
    """A folder of videos and its index, with the encoder and the model that bring the index up to date."""

    def __init__(
        self,
        videos: Path,
        path: Path,
        checkpoint: Checkpoint,
        *,
        dtype: Literal["float16", "float32"] | None = None,
        device: str = "cpu",
        workers: int | None = None,
        ray: str | None = None,
    ) -> None:
        encoder = open_matching_encoder(checkpoint.sources.frames, "frames", device)
        if not isinstance(encoder, ImageEncoder):
            raise ModelError(f"{encoder.name!r} has no image side; the model reads frames of it")
        # Absolute: other machines have other working directories.
        self.videos, self.path, self._encoder = videos.absolute(), path, encoder
        self._engine = engine_for(encoder, device=device, workers=workers, ray=ray)
        self._sampling = FrameSampling(check_rate(checkpoint.sources.frames.rate or 1.0), BATCH_SIZE)
        self._index = make_or_reopen(path, checkpoints.to_device(checkpoint, device), videos=videos, dtype=dtype)

    def close(self) -> None:
        """Closes the index."""
        self._index.close()

    def update(self, *, skip: Collection[str] = (), on_progress: Progress | None = None) -> Indexing:
        """Brings the index up to date with the folder.

        Args:
            skip: ids of videos that are neither read nor removed now.

        Raises:
            DataError: there are no videos, another process is indexing there, or the disk is full.
        """
        files, model, rate = find_videos(self.videos), self._index.model, self._sampling.rate
        lock = lock_for_writing(self.path / FILE)
        try:
            fields, problems = read_video_fields(self.videos, files)
            cache = with_cache(
                self.path / FEATURES, self._engine, model=model, encoder=self._encoder, rate=rate, videos=files.keys()
            )
            with cache as engine:
                store = IndexRows(self._index, fields)
                done = update_rows(files, store, engine, sampling=self._sampling, skip=skip, on_progress=on_progress)
            self._index.tidy()
        finally:
            lock.release()
        return Indexing(done.done, done.kept, done.dropped, {**problems, **done.problems})


@final
class IndexRows:
    """An index as the `RowStore` of `update_rows`: it stores the embeddings of the rows.

    Args:
        fields: the user's own fields of each video.
    """

    def __init__(self, index: DiskIndex, fields: Mapping[str, Mapping[str, Any]]) -> None:
        self._index, self._fields, self._known = index, fields, index.about()

    def infos(self) -> dict[str, dict[str, Any]]:
        """Returns the facts of every video."""
        return self._known

    def put(self, id: str, rows: np.ndarray, info: Mapping[str, Any]) -> None:
        """Adds the embeddings of a video, or replaces those of the video of that id."""
        video = Sampled(id, rows, tuple(info["times"]), info["duration"], self._about(id, info))
        self._index.add(encode_long(self._index.model, [video]))

    def keep(self, id: str, file: Mapping[str, Any]) -> None:
        """Updates the facts of a video: the stamp and date of its file, and the user's own fields."""
        about = self._about(id, {**self._known[id], "file": file})
        if about != self._known[id]:
            self._index.add([replace(self._index.fetch([id])[id], about=about)])

    def drop(self, ids: Collection[str]) -> list[str]:
        """Removes videos, and returns the ids of those that were there."""
        there = [id for id in ids if id in self._known]
        if there:
            self._index.delete(there)
        return there

    def _about(self, id: str, info: Mapping[str, Any]) -> dict[str, Any]:
        date = datetime.fromtimestamp(info["file"]["mtime_ns"] / 1e9, UTC).isoformat(timespec="seconds")
        problem = {"problem": info["problem"]} if info.get("problem") else {}
        return {"duration": info["duration"], "date": date, "file": dict(info["file"]), **problem, **self._fields.get(id, {})}
