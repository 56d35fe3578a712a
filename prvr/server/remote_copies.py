"""Copies of videos in object storage, made when a picture or a stretch of one is first asked for, up to a number of bytes."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path, PurePosixPath
from typing import final

from prvr.server.file_cache import FileCache
from prvr.video import RemotePath

# Of all copies with one suffix.
MOST_BYTES = 8 << 30


@final
class RemoteCopies:
    """The copies in a folder."""

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._caches: dict[str, FileCache] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._opening = threading.Lock()

    def get(self, video: RemotePath) -> Path:
        """Returns the copy of a file as it is now in its store.

        Raises:
            VideoError: it cannot be read.
        """
        stamp = video.stamp()
        key = hashlib.sha256(f"{video} {sorted(stamp.items())}".encode()).hexdigest()[:32]
        suffix = PurePosixPath(video.name).suffix
        with self._opening:
            if suffix not in self._caches:
                self._caches[suffix] = FileCache(self._folder, suffix, most_bytes=self._most_bytes)
            cache, lock = self._caches[suffix], self._locks.setdefault(key, threading.Lock())
        # Of two requests for one file, the second waits for the copy of the first.
        with lock:
            if (there := cache.find(key)) is not None:
                return there
            with cache.making(key) as part:
                video.copy_to(part)
            return cache.path_of(key)

    def close(self) -> None:
        """Deletes temporary folders."""
        for cache in self._caches.values():
            cache.close()
