"""Copies of videos in object storage, made when a picture or a stretch of one is first asked for, up to a number of bytes."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import final

from prvr.errors import DataError, NoSpace, VideoError
from prvr.files import remove_abandoned
from prvr.server.file_cache import FileCache
from prvr.video import RemotePath

# Of all copies with one suffix.
MOST_BYTES = 8 << 30
# Videos that are copied at a time, videos that are copied or wait for it, and questions to the store at a time: those about a
# video that was copied do not wait for the copy of another one.
AT_ONCE, MOST_WAITING, QUESTIONS = 2, 50, 8
# Bytes that remain free on the disk.
ROOM = 256 << 20


@final
class RemoteCopies:
    """The copies in a folder."""

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._caches: dict[str, FileCache] = {}
        self._opening, self._starting = threading.Lock(), threading.Lock()
        self._is_closed = threading.Event()
        self._questions = ThreadPoolExecutor(QUESTIONS, thread_name_prefix="store")
        self._copying = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="copies")
        self._making: dict[str, asyncio.Future[Path]] = {}
        # The bytes of the videos that arrive, by their unfinished copies.
        self._arriving: dict[Path, int] = {}
        remove_abandoned(folder)

    async def get(self, video: RemotePath) -> Path:
        """Returns the copy of a file as it is now in its store. Requests for one file wait for one copy.

        Raises:
            VideoGone: the store no longer has it.
            NoSpace: there is no room for it.
            VideoError: it cannot be read.
            DataError: too many copies wait.
        """
        loop = asyncio.get_running_loop()
        stamp = await loop.run_in_executor(self._questions, video.stamp)
        key = hashlib.sha256(f"{video} {sorted(stamp.items())}".encode()).hexdigest()[:32]
        cache = await loop.run_in_executor(self._questions, self._cache, PurePosixPath(video.name).suffix)
        if (there := cache.find(key)) is not None:
            return there
        if key not in self._making:
            if len(self._making) >= MOST_WAITING:
                raise DataError(f"{MOST_WAITING} videos are being copied from their store; try again in a minute")
            self._making[key] = loop.run_in_executor(self._copying, self._copy, video, cache, key, stamp["size"])
            self._making[key].add_done_callback(lambda _: self._making.pop(key))
        # A client that disconnects does not cancel the copy.
        return await asyncio.shield(self._making[key])

    def _cache(self, suffix: str) -> FileCache:
        with self._opening:
            if suffix not in self._caches:
                self._caches[suffix] = FileCache(self._folder, suffix, most_bytes=self._most_bytes)
            return self._caches[suffix]

    def _copy(self, video: RemotePath, cache: FileCache, key: str, size: int) -> Path:
        # Another request may have had it copied since.
        if (there := cache.find(key)) is not None:
            return there
        with cache.making(key) as part:
            try:
                with self._starting:
                    self._make_room(video, cache.folder, size)
                    self._arriving[part] = size
                video.copy_to(part, on_piece=self._check_open)
            finally:
                self._arriving.pop(part, None)
        return cache.path_of(key)

    def _make_room(self, video: RemotePath, folder: Path, size: int) -> None:
        needed = size + ROOM
        for part, whole in list(self._arriving.items()):
            with suppress(FileNotFoundError):
                needed += max(0, whole - part.stat().st_size)
        caches, lacks = list(self._caches.values()), needed - shutil.disk_usage(folder).free
        # Nothing gives way for a video that has no room even so.
        if 0 < lacks <= sum(cache.count() for cache in caches):
            for cache in caches:
                if (lacks := needed - shutil.disk_usage(folder).free) > 0:
                    cache.free(lacks)
        if needed > (free := shutil.disk_usage(folder).free):
            raise NoSpace(f"no space for a copy of {video}: {needed} bytes are needed, {free} are free; make room on the disk")

    def _check_open(self) -> None:
        if self._is_closed.is_set():
            raise VideoError("the service ends")

    def close(self) -> None:
        """Ends the threads, those that copy after the piece that arrives, and deletes temporary folders."""
        self._is_closed.set()
        self._questions.shutdown(wait=False, cancel_futures=True)
        self._copying.shutdown(wait=False, cancel_futures=True)
        for cache in self._caches.values():
            cache.close()
