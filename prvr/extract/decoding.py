"""Decodes videos in threads ahead of the encoder, with a limit on the frames that wait in memory."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from prvr.errors import PrvrError, VideoError
from prvr.extract.engine import Changed, FrameSampling, Job, Refused
from prvr.extract.file_stamps import Stamp, sha256_of, stamp_of
from prvr.extract.repeats import is_repeat, look_of
from prvr.video import RemotePath, VideoReader, local_copy
from prvr.video.remote import COPY

# Limit on the frames that wait in memory; 32 frames of 4K would take 800 MB.
WAITING_BYTES = 1 << 28


@dataclass(frozen=True)
class VideoStart:
    """A video that was opened: where its reading begins and the duration that it states, in seconds; the stamp of its file.

    row: of the last frame that was encoded before that; None where it is not known.
    """

    id: str
    seconds: float
    stated: float
    stamp: Stamp
    row: np.ndarray | None = None


@dataclass(frozen=True)
class Frame:
    """A decoded frame of a video, at a time in seconds; what could not be read before it, in words.

    picture: None if it repeats the last frame that has one. look: of that frame, or its own (`prvr.extract.repeats`).
    """

    id: str
    time: float
    picture: np.ndarray | None
    damage: str | None
    look: bytes | None = None

    @property
    def size(self) -> int:
        """The bytes of its picture."""
        return 0 if self.picture is None else self.picture.nbytes


@dataclass(frozen=True)
class VideoEnd:
    """The end of a video: where the part that could be read ends and how long a frame is shown, in seconds; what could not be
    read; its file and what that says of its recording (`prvr.video.tags`).
    """

    id: str
    duration: float
    frame_seconds: float
    problem: str | None
    file: dict[str, Any]
    recorded: dict[str, Any]


Fit = Callable[[np.ndarray], np.ndarray]
Piece = VideoStart | Frame | VideoEnd | Refused | Changed


@final
class DecoderThreads:
    """Yields the pieces of videos, those of each video in order; iterate once, then `close`.

    Args:
        jobs: an iterator that may block until there is another job.
        limit: the number of frames that may wait.
        fit: makes a frame smaller before it waits.
        threads: the number of threads; each decodes one video at a time.

    Raises:
        PrvrError: while iterating; an error that does not belong to a single file.
    """

    def __init__(self, jobs: Iterator[Job], sampling: FrameSampling, *, limit: int, threads: int, fit: Fit | None = None) -> None:
        self._jobs, self._sampling, self._limit, self._fit = jobs, sampling, limit, fit
        self._taking = threading.Lock()
        self._changed = threading.Condition()
        self._ready: deque[Piece] = deque()
        self._bytes = self._frames = 0
        self._error: BaseException | None = None
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"decoder {n}", daemon=True) for n in range(threads)]
        self._running = threads
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[Piece]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._running == 0 or self._error)
                if self._error:
                    raise self._error
                if not self._ready:
                    return
                piece = self._ready.popleft()
                if isinstance(piece, Frame):
                    self._frames -= 1
                    self._bytes -= piece.size
                    self._changed.notify_all()
            yield piece

    def close(self) -> None:
        """Stops the threads; a thread that waits for another job is not awaited."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            while (job := self._next_job()) is not None:
                for piece in decode(job, self._sampling, fit=self._fit):
                    if not self._put(piece):
                        return
        except BaseException as problem:
            self._error = problem
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _next_job(self) -> Job | None:
        with self._taking:
            return None if self._closed or self._error else next(self._jobs, None)

    def _put(self, piece: Piece) -> bool:
        is_frame, size = isinstance(piece, Frame), piece.size if isinstance(piece, Frame) else 0
        with self._changed:
            # Where no frame waits, one of any size is accepted.
            self._changed.wait_for(
                lambda: (
                    self._closed
                    or not is_frame
                    or not self._frames
                    or (self._bytes + size <= WAITING_BYTES and self._frames < self._limit)
                )
            )
            if self._closed:
                return False
            self._ready.append(piece)
            self._bytes += size
            self._frames += is_frame
            self._changed.notify_all()
        return True


def decode(job: Job, sampling: FrameSampling, *, fit: Fit | None = None) -> Iterator[Piece]:
    """Yields the frames of one video and its end; as the last piece a refusal instead, or that the file has changed."""
    stamp: Stamp | None = None
    try:
        stamp = stamp_of(job.path)
        with local_copy(job.path) as path:
            with VideoReader(path, rate=sampling.rate, after=job.after) as reader:
                yield VideoStart(job.id, job.after or 0.0, reader.duration, stamp, job.row)
                recorded = reader.tags
                yield from _frames(reader, job, sampling, fit)
            # The content is read after the frames: if the stamp is still the same, both are of one file.
            file = {**stamp, "sha256": sha256_of(path)}
        end: Piece = VideoEnd(job.id, reader.end, reader.frame_seconds, reader.problem, file, recorded)
    except VideoError as refused:
        end = Refused(job.id, _error_line(refused, job))
    except PrvrError:
        raise
    # Any other error that a file makes a decoder raise is of this file alone.
    except Exception as problem:
        reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
        end = Refused(job.id, f"cannot decode {job.path}: {reason}; convert it or take it out")
    try:
        yield Changed(job.id) if stamp is not None and stamp_of(job.path) != stamp else end
    except VideoError as gone:
        yield Refused(job.id, str(gone))


def _frames(reader: VideoReader, job: Job, sampling: FrameSampling, fit: Fit | None) -> Iterator[Frame]:
    last = job.look if job.row is not None else None
    for time, picture in reader:
        look = None if sampling.every_frame else look_of(picture)
        if look is not None and is_repeat(look, last):
            yield Frame(job.id, time, None, reader.damage, last)
        else:
            last = look
            yield Frame(job.id, time, fit(picture) if fit else picture, reader.damage, look)


def _error_line(problem: VideoError, job: Job) -> str:
    """An error line in which a temporary copy has the name of its file."""
    return (
        re.sub(rf"\S*/prvr-[\w-]+/{COPY}(\.\w+)?", lambda _: str(job.path), str(problem))
        if isinstance(job.path, RemotePath)
        else str(problem)
    )
