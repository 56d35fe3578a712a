"""Pictures of moments: made at the first request and kept on disk.

Videos are decoded in other processes (`prvr.server.picture_process`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from prvr.server.file_cache import FileCache
from prvr.server.picture_process import DecoderFailure, PictureProcess
from prvr.server.stills import WIDTH

AT_ONCE = 2
MOST_BYTES = 256 << 20
# Files that are not tried again until they change.
MOST_REFUSED = 1000
SUFFIX = ".jpg"


class Thumbnails:
    """JPEG pictures by video file and time.

    Args:
        folder: of the pictures; if it is not writable, a temporary folder is used.
        most_bytes: of the pictures in the folder.
    """

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self.kept = FileCache(folder, SUFFIX, most_bytes=most_bytes)
        self._making: dict[str, asyncio.Task[bytes]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._processes = [PictureProcess() for _ in range(AT_ONCE)]
        self._idle = list(self._processes)
        self._refused: dict[tuple[Path, int, int], str] = {}

    def warm_up(self) -> None:
        """Starts a process, so that the first picture does not wait for it."""
        self._idle[-1].start()

    def close(self) -> None:
        """Ends the processes, also those that are making a picture."""
        for process in self._processes:
            process.close()
        self.kept.close()

    async def picture(self, video: Path, seconds: float) -> bytes:
        """The picture of a video at a time, as JPEG.

        Raises:
            VideoError: no frame decodes there.
            DecoderFailure: the file crashes the decoder or takes it too long; it is not tried again until it changes.
        """
        key = _key(video, seconds)
        if key not in self._making:
            # Concurrent requests wait for the same task; a client that disconnects does not cancel it.
            self._making[key] = asyncio.create_task(self._read_or_make(key, video, seconds))
            self._making[key].add_done_callback(lambda _: self._making.pop(key))
        return await asyncio.shield(self._making[key])

    async def read_picture(self, data: bytes) -> np.ndarray:
        """The pixels of a picture file from anywhere.

        Raises:
            VideoError: it is no picture, or too large, or ends its decoder.
        """
        async with self._turn:
            return await asyncio.to_thread(self._read_picture, data)

    def _read_picture(self, data: bytes) -> np.ndarray:
        process = self._idle.pop()
        try:
            return process.read(data)
        finally:
            self._idle.append(process)

    async def _read_or_make(self, key: str, video: Path, seconds: float) -> bytes:
        there = await asyncio.to_thread(self._read, key)
        if there is not None:
            return there
        async with self._turn:
            made = await asyncio.to_thread(self._make, video, seconds)
            with suppress(OSError):  # the disk is full: the picture is shown without being kept
                await asyncio.to_thread(self.kept.write, key, made)
        return made

    def _read(self, key: str) -> bytes | None:
        path = self.kept.find(key)
        with suppress(FileNotFoundError):
            return None if path is None else path.read_bytes()
        return None

    def _make(self, video: Path, seconds: float) -> bytes:
        there = video.stat()
        file = (video, there.st_size, there.st_mtime_ns)
        if file in self._refused:
            raise DecoderFailure(self._refused[file])
        process = self._idle.pop()
        try:
            return process.picture(video, seconds)
        except DecoderFailure as failure:
            while len(self._refused) >= MOST_REFUSED:
                del self._refused[next(iter(self._refused))]
            self._refused[file] = str(failure)
            raise
        finally:
            self._idle.append(process)


def _key(video: Path, seconds: float) -> str:
    there = video.stat()
    about = f"{WIDTH} {seconds:.2f} {there.st_size} {there.st_mtime_ns} ".encode() + os.fsencode(video)
    return hashlib.sha256(about).hexdigest()[:40]
