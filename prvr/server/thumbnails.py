"""Pictures of moments: made at the first request, kept on disk; the least recently used are deleted when there is no room.

Videos are decoded in other processes (`prvr.server.picture_process`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np

from prvr.files import write_whole
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
        self.folder, self.most_bytes = _writable(folder), most_bytes
        self._making: dict[str, asyncio.Task[bytes]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._processes = [PictureProcess() for _ in range(AT_ONCE)]
        self._idle = list(self._processes)
        self._refused: dict[tuple[Path, int, int], str] = {}
        self._keeping = threading.Lock()
        self._bytes = sum(path.stat().st_size for path in self.folder.glob(f"*{SUFFIX}"))

    @property
    def size(self) -> int:
        """The bytes of the pictures in the folder."""
        return self._bytes

    def warm_up(self) -> None:
        """Starts a process, so that the first picture does not wait for it."""
        self._idle[-1].start()

    def close(self) -> None:
        """Ends the processes, also those that are making a picture."""
        for process in self._processes:
            process.close()

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
        path = self.folder / (key + SUFFIX)
        there = await asyncio.to_thread(_read_and_touch, path)
        if there is not None:
            return there
        async with self._turn:
            made = await asyncio.to_thread(self._make, video, seconds)
            await asyncio.to_thread(self._keep, path, made)
        return made

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

    def _keep(self, path: Path, picture: bytes) -> None:
        # One thread at a time: otherwise the sum of bytes would be wrong.
        with self._keeping:
            try:
                write_whole(path, picture)
            except OSError:  # the disk is full: the picture is shown without being kept
                return
            self._bytes += len(picture)
            if self._bytes > self.most_bytes:
                self._make_room()

    def _make_room(self) -> None:
        # Down to three quarters, so that not every later picture lists the whole folder.
        known = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):  # another service deletes as well
                known.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        self._bytes = sum(size for _, size, _ in known)
        for _, size, path in sorted(known):
            if self._bytes <= self.most_bytes * 3 // 4:
                return
            path.unlink(missing_ok=True)
            self._bytes -= size


def _key(video: Path, seconds: float) -> str:
    there = video.stat()
    about = f"{WIDTH} {seconds:.2f} {there.st_size} {there.st_mtime_ns} ".encode() + os.fsencode(video)
    return hashlib.sha256(about).hexdigest()[:40]


def _read_and_touch(path: Path) -> bytes | None:
    try:
        picture = path.read_bytes()
        os.utime(path)
    except FileNotFoundError:
        return None
    return picture


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="prvr-thumbnails-"))
