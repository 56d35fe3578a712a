"""Pictures of moments: made at the first request, kept on disk; the least recently used are deleted when there is no room."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from prvr.errors import require
from prvr.files import write_whole
from prvr.video import VideoReader

WIDTH, HEIGHT = 480, 480
QUALITY = 82
AT_ONCE = 2
MOST_BYTES = 256 << 20
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
        self._keeping = threading.Lock()
        self._bytes = sum(path.stat().st_size for path in self.folder.glob(f"*{SUFFIX}"))

    @property
    def size(self) -> int:
        """The bytes of the pictures in the folder."""
        return self._bytes

    async def picture(self, video: Path, seconds: float) -> bytes:
        """The picture of a video at a time, as JPEG.

        Raises:
            VideoError: no frame decodes there.
        """
        key = _key(video, seconds)
        if key not in self._making:
            # Concurrent requests wait for the same task; a client that disconnects does not cancel it.
            self._making[key] = asyncio.create_task(self._read_or_make(key, video, seconds))
            self._making[key].add_done_callback(lambda _: self._making.pop(key))
        return await asyncio.shield(self._making[key])

    async def _read_or_make(self, key: str, video: Path, seconds: float) -> bytes:
        path = self.folder / (key + SUFFIX)
        there = await asyncio.to_thread(_read_and_touch, path)
        if there is not None:
            return there
        async with self._turn:
            made = await asyncio.to_thread(make_picture, video, seconds)
            await asyncio.to_thread(self._keep, path, made)
        return made

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


def make_picture(video: Path, seconds: float) -> bytes:
    """The frame of a video at a time, as a small JPEG.

    Raises:
        VideoError: no frame decodes there.
        MissingExtra: PyAV or Pillow is not installed.
    """
    images = require("PIL.Image", extra="serve")
    with VideoReader(video, rate=1.0) as reader:
        image = images.fromarray(reader.still(seconds))
    image.thumbnail((WIDTH, HEIGHT))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=QUALITY)
    return data.getvalue()


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
