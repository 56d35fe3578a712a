"""Brings an index up to date with its folder of videos; a finished video is kept and can be searched at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

from prvr.encoders import Encoder
from prvr.errors import MissingExtra, ModelError
from prvr.extract.extraction import Progress
from prvr.extract.file_stamps import recorded_file
from prvr.extract.resuming import resuming
from prvr.extract.timed_texts import TextJob, update_texts
from prvr.extract.update import update_rows
from prvr.files import lock_for_writing
from prvr.index.disk import DiskIndex
from prvr.index.encode import Sampled, encode_long, encode_queries
from prvr.index.place import FILE
from prvr.index.reference import update_reference
from prvr.index.shards import shard_of
from prvr.index.text_windows import embedded_by
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.contract import Embeddings
from prvr.search.feature_cache import with_cache
from prvr.search.indexing_tools import IndexingTools, open_readers
from prvr.search.matching import open_matching_encoder
from prvr.search.opening import FEATURES, make_or_reopen, open_existing
from prvr.search.sentences import sentence_features
from prvr.search.text_embedding import embed_texts
from prvr.search.video_fields import fields_of_file, read_video_fields
from prvr.video import VideoPath, find_passed_over, find_videos

# Below the folder of an index: the parts of videos that are not finished (`prvr.extract.resuming`).
UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Indexing:
    """The ids of videos that were added or replaced, kept and removed; and what is wrong with some of them.

    failed: the problems that are not of a video but of a shard, which its error has ended.
    """

    added: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    problems: Mapping[str, str]
    failed: tuple[str, ...] = ()


@final
class Indexer:
    """A folder of videos and its index, with the encoder and the model that bring the index up to date.

    All that can be refused is, before an index is made.

    Args:
        shard: the index is this shard, out of so many, which exists: it has the videos that belong there, and no checkpoint of
            its own.
        tools: those of the checkpoint, if they are open already.
    """

    def __init__(
        self,
        videos: VideoPath,
        path: Path,
        checkpoint: Checkpoint,
        *,
        dtype: Literal["float16", "float32"] | None = None,
        device: str = "cpu",
        workers: int | None = None,
        ray: str | None = None,
        texts: Mapping[str, str | None] | None = None,
        shard: tuple[int, int] | None = None,
        tools: IndexingTools | None = None,
    ) -> None:
        # Absolute: other machines have other working directories.
        self.videos, self.path, self._shard = videos.absolute(), path, shard
        stored: dict[str, str | None] = {}
        if (there := open_existing(path, checkpoint, dtype=dtype)) is not None:
            with closing(there):
                stored = there.texts.readers()
        tools = tools or IndexingTools.open(checkpoint, device=device, workers=workers, ray=ray)
        self._encoder, self._engine, self._sampling = tools.encoder, tools.engine, tools.sampling
        self._checkpoint, self._device = tools.checkpoint, tools.device
        self._readers = open_readers(videos, texts or {}, stored)
        # What is kept is read in another folder, too.
        settings = {reader.kind: reader.setting for reader in self._readers}
        self._chosen = {kind: settings.get(kind) for kind in {**stored, **(texts or {})}}
        if shard is None:
            self._index = make_or_reopen(path, self._checkpoint, videos=videos, dtype=dtype)
        elif (index := open_existing(path, self._checkpoint, dtype=dtype)) is not None:
            self._index = index
        else:
            raise ModelError(f"no shard in {path} on this machine; give all machines its folder under the same path")

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
            self._index.texts.keep_readers({**self._index.texts.readers(), **self._chosen})
            fields, problems = read_video_fields(self.videos, files)
            if self._shard is not None:
                number, count = self._shard
                files = {id: file for id, file in files.items() if shard_of(id, count) == number}
            reads: dict[str, Any] = {"encoder": self._encoder, "rate": rate, "videos": files.keys()}
            with (
                resuming(self.path / UNFINISHED, self._engine, **reads) as resumed,
                with_cache(self.path / FEATURES, resumed, model=model, **reads) as engine,
            ):
                store = IndexRows(self._index, fields)
                done = update_rows(files, store, engine, sampling=self._sampling, skip=skip, on_progress=on_progress)
            problems = join_problems(find_passed_over(self.videos), problems, done.problems, self._read_texts(skip, on_progress))
            if self._shard is None:
                self._measure_unrelated(on_progress)
            self._index.tidy()
        finally:
            lock.release()
        return Indexing(done.done, done.kept, done.dropped, problems)

    def _read_texts(self, skip: Collection[str], on_progress: Progress | None) -> dict[str, str]:
        """Reads the texts of all videos, and returns what could not be read."""
        jobs = []
        for id, about in self._index.about().items():
            # Without its SHA-256, a video is not finished.
            if isinstance(self.videos, Path) and "sha256" in about.get("file", {}) and id not in skip:
                paths = tuple(self.videos / path for path in (id, *about.get("copies", ())))
                jobs.append(TextJob(id, paths, about["file"], about["duration"]))
        problems = [update_texts(jobs, reader, self._index.texts, on_progress=on_progress).problems for reader in self._readers]
        return join_problems(*problems, self._embed_texts(on_progress))

    def _embed_texts(self, on_progress: Progress | None) -> dict[str, str]:
        """Embeds what is new of the texts by the encoder of queries, and returns why that cannot be."""
        texts, made_by = self._index.texts, embedded_by(self._checkpoint.sources.text.fingerprint or "")
        known = texts.background()
        # What gives no embeddings of sentences is not opened again to find that out.
        gives_none = known is not None and known.made_by == made_by and not known.rows.size
        if gives_none or not texts.videos_to_embed(made_by):
            return {}
        try:
            return embed_texts(texts, self._text_encoder, on_progress=on_progress)
        except (ModelError, MissingExtra) as problem:
            return {"search by meaning": str(problem)}

    @cached_property
    def _text_encoder(self) -> Encoder:
        source = self._checkpoint.sources.text
        is_open = source.fingerprint == self._encoder.fingerprint
        return self._encoder if is_open else open_matching_encoder(source, "text", self._device)

    def _measure_unrelated(self, on_progress: Progress | None) -> None:
        # The encoder of frames is that of sentences, too, where a reference is made.
        def encode(sentence: str) -> Embeddings:
            return encode_queries(self._index.model, [sentence_features(self._checkpoint, self._encoder, sentence)])

        update_reference(self._checkpoint, self._index, encode, on_progress=on_progress)


def join_problems(*problems: Mapping[str, str]) -> dict[str, str]:
    """The problems of each video from several lists, in one line each."""
    joined: dict[str, str] = {}
    for some in problems:
        for id, problem in some.items():
            joined[id] = f"{joined[id]}; {problem}" if id in joined else problem
    return joined


@final
class IndexRows:
    """An index as the `RowStore` of `update_rows`: it stores the embeddings of the rows.

    Files with the same content are one video of the index: the id is the path of one of them, `about` has the paths of the others
    as `copies`, and their stamps in `file`.

    Args:
        fields: the user's own fields of each video.
    """

    def __init__(self, index: DiskIndex, fields: Mapping[str, Mapping[str, Any]]) -> None:
        self._index, self._fields, self._known = index, fields, index.about()
        # The recorded file of each path, by the id of the video; and the id of the video of each path.
        self._files = {id: _files_of(id, about) for id, about in self._known.items()}
        self._video_of = {path: id for id, files in self._files.items() for path in files}
        # A video of its own whose path another one also names, which a deletion elsewhere can leave.
        self._video_of.update({id: id for id in self._known})

    def infos(self) -> dict[str, dict[str, Any]]:
        """Returns the facts of every path."""
        return {path: {**self._known[id], "file": self._files[id][path]} for path, id in self._video_of.items()}

    def put(self, id: str, rows: np.ndarray, info: Mapping[str, Any]) -> None:
        """Adds the embeddings of a video, or replaces those of the video of that id."""
        if len(self._files.get(self._video_of.get(id, id), ())) > 1:
            self.rearrange({}, [id])
        files = {id: dict(info["file"])}
        about = self._about(files, info)
        times, shown = tuple(info["times"]), info.get("frame_seconds")
        self._index.add(encode_long(self._index.model, [Sampled(id, rows, times, info["duration"], about, shown)]))
        self._known[id], self._files[id], self._video_of[id] = about, files, id

    def offer(self, id: str, rows: np.ndarray, info: Mapping[str, Any]) -> None:
        """Makes what there is of a video searchable."""
        self.put(id, rows, info)

    def keep(self, id: str, file: Mapping[str, Any]) -> None:
        """Updates the facts of a video: the stamp and date of its file, and the user's own fields."""
        video = self._video_of[id]
        self._files[video][id] = dict(file)
        about = self._about(self._files[video], self._known[video])
        if about != self._known[video]:
            self._index.rearrange({video: (video, about)}, ())
            self._known[video] = about

    def rearrange(self, copies: Mapping[str, tuple[str, Mapping[str, Any]]], drop: Collection[str]) -> list[str]:
        """Gives paths to videos and takes paths from them, in one transaction; returns the paths that were taken."""
        video_of = {path: self._video_of[source] for path, (source, _) in copies.items()}
        gone = [path for path in drop if path in self._video_of and path not in copies]
        touched = {*video_of.values(), *(self._video_of[path] for path in (*gone, *copies) if path in self._video_of)}
        files = {video: dict(self._files[video]) for video in touched}
        for path in (*gone, *copies):
            if path in self._video_of:
                files[self._video_of[path]].pop(path, None)
        for path, (_, file) in copies.items():
            files[video_of[path]][path] = dict(file)
        moves = {video: (next(iter(left)), self._about(left, self._known[video])) for video, left in files.items() if left}
        self._index.rearrange(moves, [video for video, left in files.items() if not left])
        for path in gone:
            del self._video_of[path]
        for video in touched:
            del self._known[video], self._files[video]
        for video, (id, about) in moves.items():
            self._known[id], self._files[id] = about, files[video]
            self._video_of.update(dict.fromkeys(files[video], id))
        return gone

    def _about(self, files: Mapping[str, Mapping[str, Any]], info: Mapping[str, Any]) -> dict[str, Any]:
        (_, file), *others = files.items()
        about = {"duration": info["duration"], **fields_of_file(file, info.get("recorded", {})), "file": dict(file)}
        if info.get("problem"):
            about["problem"] = info["problem"]
        if others:
            about["copies"] = [path for path, _ in others]
            about["file"]["copies"] = {path: dict(of_copy) for path, of_copy in others}
        for path in reversed([*files]):
            about |= self._fields.get(path, {})
        return about


def _files_of(id: str, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns what is recorded of the file of a video and of its copies, by path."""
    file = dict(recorded_file(about))
    copies = file.pop("copies", {})
    return {id: file, **copies}
