"""Files that are made at the first request and kept on disk, up to a number of bytes; those not used for longest are deleted."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import final

from prvr.files import owned_folder, remove_abandoned, write_whole

PART = ".part"
# Seconds after which a file that was not finished is nobody's: its process was killed.
ABANDONED = 3600.0


@final
class FileCache:
    """The files of a folder with a suffix.

    Args:
        folder: if it is not writable, a temporary folder is used.
        most_bytes: of all files; the newest one is kept whatever its size.
    """

    def __init__(self, folder: Path, suffix: str, *, most_bytes: int) -> None:
        self._temporary = ExitStack()
        self.folder = folder if _is_writable(folder) else self._temporary.enter_context(_temporary_folder())
        self.most_bytes, self._suffix = most_bytes, suffix
        self._keeping = threading.Lock()
        remove_abandoned(self.folder)
        for path in self.folder.glob(f"*{PART}"):
            with suppress(OSError):
                if path.stat().st_mtime < time.time() - ABANDONED:
                    path.unlink()
        self._bytes = sum(path.stat().st_size for path in self.folder.glob(f"*{suffix}"))

    def close(self) -> None:
        """Deletes a temporary folder."""
        self._temporary.close()

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return self._bytes

    def path_of(self, key: str) -> Path:
        """The path of the file of a key, whether there is one or not."""
        return self.folder / (key + self._suffix)

    def find(self, key: str) -> Path | None:
        """Returns the file of a key; None if the key has none."""
        path = self.path_of(key)
        try:
            # Its time of change stays: clients compare it. A file of another user's service keeps both.
            about = path.stat()
            with suppress(PermissionError):
                os.utime(path, ns=(time.time_ns(), about.st_mtime_ns))
        except FileNotFoundError:
            return None
        return path

    def write(self, key: str, data: bytes) -> None:
        """Keeps a file with some content.

        Raises:
            OSError: it cannot be written.
        """
        # One thread at a time: otherwise the sum of bytes would be wrong.
        with self._keeping:
            write_whole(self.path_of(key), data)
            self._count(self.path_of(key))

    @contextmanager
    def making(self, key: str) -> Iterator[Path]:
        """Gives the path of a new empty file, and keeps it for a key unless there is an exception.

        Raises:
            OSError: it cannot be written.
        """
        # It may have been deleted meanwhile, to free space.
        self.folder.mkdir(parents=True, exist_ok=True)
        with owned_folder(self.folder) as folder:
            part = folder / f"{key[:8]}{PART}"
            part.touch()
            yield part
            # Another user's service may read it.
            part.chmod(0o644)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            with self._keeping:
                os.replace(part, self.path_of(key))
                self._count(self.path_of(key))

    def count(self) -> int:
        """Returns the bytes of all files, counted anew: other services write and delete, too."""
        with self._keeping:
            self._shrink(sys.maxsize, None)
            return self._bytes

    def free(self, size: int) -> None:
        """Deletes the files that were not used for longest, at least this many bytes together."""
        with self._keeping:
            self._shrink(max(0, self._bytes - size), None)

    def _count(self, newest: Path) -> None:
        self._bytes += newest.stat().st_size
        if self._bytes > self.most_bytes:
            # Down to three quarters, so that not every later file lists the whole folder.
            self._shrink(self.most_bytes * 3 // 4, newest)

    def _shrink(self, size: int, newest: Path | None) -> None:
        known = []
        for path in self.folder.glob(f"*{self._suffix}"):
            with suppress(FileNotFoundError):  # another service deletes as well
                about = path.stat()
                known.append((about.st_atime_ns, about.st_size, path))
        self._bytes = sum(size for _, size, _ in known)
        for _, bytes_of_file, path in sorted(known):
            if self._bytes <= size:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                self._bytes -= bytes_of_file


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _temporary_folder() -> AbstractContextManager[Path]:
    """A temporary folder; those of services that were killed are deleted."""
    parent = Path(tempfile.gettempdir())
    remove_abandoned(parent)
    return owned_folder(parent)
