"""Windows of videos that a browser cannot play, as it can (`prvr.video.proxy`): made at the first request and kept on disk.

One process at a time makes them, first come, first served. What nobody waits for any more is not made.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import final

from prvr.errors import VideoError
from prvr.server.cutting_process import INSTEAD, BusyError, ProcessFailure, WritingProcesses, result_for
from prvr.server.file_cache import FileCache

MOST_BYTES = 2 << 30
# Windows that wait for their turn.
MOST_WAITING = 20
# Windows that are not tried again until their file changes.
MOST_REFUSED = 1000
SUFFIX = ".mp4"
# Of the layout of a window: another one needs other files.
VERSION = 1


@final
class Proxies:
    """Windows by video file and number.

    Args:
        folder: of the files; if it is not writable, a temporary folder is used.
        most_bytes: of the files in the folder.
    """

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self.kept = FileCache(folder, SUFFIX, most_bytes=most_bytes)
        self._processes = WritingProcesses()
        self._turn = asyncio.Semaphore(1)
        self._making: dict[str, asyncio.Task[Path]] = {}
        self._wanted: Counter[str] = Counter()
        self._refused: dict[str, str] = {}

    def close(self) -> None:
        """Ends the process."""
        self._processes.close()
        self.kept.close()

    async def window(self, video: Path, number: int, *, duration: float | None, is_gone: Callable[[], Awaitable[bool]]) -> Path:
        """The file of a window of a video.

        Args:
            duration: of the video, in seconds; None if it is not known.
            is_gone: whether the client has left; a window that no client waits for is given up.

        Raises:
            VideoError: the window is outside the video, or cannot be made; one that ends its process or takes it too long is not
                tried again until the file changes.
            BusyError: too many are waiting.
        """
        key = await asyncio.to_thread(_key, video, number, duration)
        if key in self._refused:
            raise ProcessFailure(self._refused[key])
        found = await asyncio.to_thread(self.kept.find, key)
        if found is not None:
            return found
        if key not in self._making:
            if len(self._making) >= MOST_WAITING:
                raise BusyError(f"{len(self._making)} conversions are waiting; try again in some seconds")
            self._making[key] = asyncio.create_task(self._make(key, video, number, duration))
        task = self._making[key]
        self._wanted[key] += 1
        try:
            return await result_for(task, is_gone)
        finally:
            self._wanted[key] -= 1
            if not self._wanted[key]:
                del self._wanted[key]
                self._making.pop(key, None)
                task.cancel()

    async def _make(self, key: str, video: Path, number: int, duration: float | None) -> Path:
        stop = threading.Event()
        async with self._turn:
            try:
                return await asyncio.to_thread(self._write, key, video, number, duration, stop)
            except asyncio.CancelledError:
                stop.set()
                self._processes.close()
                raise

    def _write(self, key: str, video: Path, number: int, duration: float | None, stop: threading.Event) -> Path:
        try:
            with self.kept.making(key) as part, part.open("r+b") as file:
                self._processes.write(file, video, {"kind": "window", "number": number, "duration": duration}, stop=stop)
        except OSError as problem:
            raise VideoError(f"{video} cannot be converted: {problem.strerror}; {_remedy(problem)}") from problem
        except ProcessFailure as failure:
            if not stop.is_set():
                while len(self._refused) >= MOST_REFUSED:
                    del self._refused[next(iter(self._refused))]
                self._refused[key] = str(failure)
            raise
        return self.kept.path_of(key)


def _remedy(problem: OSError) -> str:
    return "free space on the disk" if problem.errno in (errno.ENOSPC, errno.EDQUOT) else INSTEAD


def _key(video: Path, number: int, duration: float | None) -> str:
    there = video.stat()
    about = f"{VERSION} {number} {duration} {there.st_size} {there.st_mtime_ns} {there.st_ctime_ns} ".encode() + os.fsencode(
        video
    )
    return hashlib.sha256(about).hexdigest()[:40]
