"""Videos decoded in threads, so many frames ahead of the encoder and no more."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from prvr.errors import PrvrError, VideoError
from prvr.extract.jobs import Job
from prvr.video import VideoReader

# Frames that wait in memory; 32 of 4K would take 800 MB.
AHEAD_BYTES = 1 << 28


@dataclass(frozen=True)
class Frame:
    """A decoded frame on its way to the encoder."""

    id: str
    time: float
    picture: np.ndarray


@dataclass(frozen=True)
class Ended:
    """Nothing more comes of a video: where what could be read ends, and what could not be read."""

    id: str
    duration: float
    problem: str | None


@dataclass(frozen=True)
class Failed:
    """A video that gives no frame, or no more, and why none of it counts."""

    id: str
    problem: str


Piece = Frame | Ended | Failed


@final
class Ahead:
    """The pieces of videos, each video's in order, decoded by threads of its own; iterate once, then `close`.

    Args:
        jobs: may block until there is another one.
        most: frames that may wait.

    Raises:
        PrvrError: while iterating; one that is no matter of a single file.
    """

    def __init__(self, jobs: Iterator[Job], *, rate: float, most: int, decoders: int) -> None:
        self._jobs, self._rate, self._most = jobs, rate, most
        self._taking = threading.Lock()
        self._changed = threading.Condition()
        self._ready: deque[Piece] = deque()
        self._bytes = self._frames = 0
        self._broken: BaseException | None = None
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"decoder {n}", daemon=True) for n in range(decoders)]
        self._running = decoders
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[Piece]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._running == 0 or self._broken)
                if self._broken:
                    raise self._broken
                if not self._ready:
                    return
                piece = self._ready.popleft()
                if isinstance(piece, Frame):
                    self._frames -= 1
                    self._bytes -= piece.picture.nbytes
                    self._changed.notify_all()
            yield piece

    def close(self) -> None:
        """Stops the threads; one that waits for another job is left to wait."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            while (job := self._next()) is not None:
                for piece in pieces(job, rate=self._rate):
                    if not self._put(piece):
                        return
        except BaseException as problem:
            self._broken = problem
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _next(self) -> Job | None:
        with self._taking:
            return None if self._closed or self._broken else next(self._jobs, None)

    def _put(self, piece: Piece) -> bool:
        size = piece.picture.nbytes if isinstance(piece, Frame) else 0
        with self._changed:
            # One frame is let in whatever its size.
            self._changed.wait_for(
                lambda: (
                    self._closed
                    or not size
                    or not self._frames
                    or (self._bytes + size <= AHEAD_BYTES and self._frames < self._most)
                )
            )
            if self._closed:
                return False
            self._ready.append(piece)
            self._bytes += size
            self._frames += size > 0
            self._changed.notify_all()
        return True


def pieces(job: Job, *, rate: float) -> Iterator[Piece]:
    """The frames of one video and its end; or why there are none."""
    try:
        with VideoReader(job.path, rate=rate) as reader:
            for time, picture in reader:
                yield Frame(job.id, time, picture)
            yield Ended(job.id, reader.end, reader.problem)
    except VideoError as refused:
        yield Failed(job.id, str(refused))
    except PrvrError:
        raise
    # Whatever else a strange file brings a decoder to stops this file alone.
    except Exception as problem:
        reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
        yield Failed(job.id, f"cannot decode {job.path}: {reason}; convert it or take it out")
