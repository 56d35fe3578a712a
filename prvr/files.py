"""Reads files that may be anybody's, writes files so that a kill or a full disk leaves the old one or the new one, locks them."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from filelock import BaseFileLock, FileLock, Timeout

from prvr.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The largest text file that is read; the largest of published packages has a tenth of it.
MOST_BYTES = 2**30
# Of the names of temporary folders, and the file in them that is locked while their process lives.
OWNED, OWNER = "prvr-copy-", "owner.lock"


def lock_for_writing(path: Path) -> BaseFileLock:
    """Returns a lock on a file or a folder; the caller releases it. Its file PATH.lock stays where it is.

    The lock's file is beside the path and not in it: Windows renames no folder in which a file is open.

    Raises:
        DataError: another process holds the lock.
    """
    # "." has no name.
    path = path.resolve()
    # thread_local=False: the lock may be released by another thread than the one that took it.
    lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise DataError(f"another process is writing to {path}; wait for it to end") from None
    return lock


@contextmanager
def owned_folder(parent: Path) -> Iterator[Path]:
    """Yields a new temporary folder, which is deleted at the end; `remove_abandoned` deletes those of killed processes."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=OWNED, dir=parent))
        lock = FileLock(folder / OWNER, timeout=0, thread_local=False)
        # Another process may take it for abandoned before its lock is held.
        with suppress(Timeout, FileNotFoundError):
            lock.acquire()
            if (folder / OWNER).exists():
                break
            lock.release()
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path) -> None:
    """Deletes the temporary folders of killed processes: the kernel has released their locks."""
    for folder in parent.glob(f"{OWNED}*"):
        with suppress(Timeout, OSError):
            # In a folder that all users write to, nothing of others is opened.
            is_ours = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
            if is_ours and not folder.is_symlink() and (folder / OWNER).is_file():
                with FileLock(folder / OWNER, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)


def read_bytes(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """Returns the content of a file. A pipe or a device, from which reading may never end, is not opened.

    Raises:
        OSError: the file does not exist, or may not be read.
        DataError: it is a folder, a pipe or a device, or larger than `most` bytes.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe or a device"
        raise DataError(f"{path} is {kind}, not a file; put the file there")
    if about.st_size > most:
        raise DataError(f"{path} has {about.st_size} bytes, more than the {most} that are read; divide it")
    return path.read_bytes()


def parse_json(text: str | bytes) -> Any:
    """Returns the value of a JSON text from anywhere. NaN, Infinity and numbers beyond float64 are no JSON here.

    Raises:
        ValueError: the text is not JSON, or is nested deeper than Python reads.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _whole(text: str) -> int:
    # A longer number than those of float64, which is an error wherever it meets one. Python itself refuses 4,300 digits.
    if len(text) > 308:
        raise ValueError(f"the number {text[:40]}… is too large")
    return int(text)


def write_whole(path: Path, data: bytes) -> None:
    """Writes to a file beside the path, then renames that to the path."""
    with whole_file(path) as file:
        file.write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a file beside the path, open for writing; it is renamed to the path if no error is raised, else deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as problem:
        part.unlink(missing_ok=True)
        # An OSError of a full disk does not name the file.
        if isinstance(problem, OSError) and problem.filename is None:
            problem.filename = str(path)
        raise


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yields a path beside a file that does not exist yet; what was written there is renamed to the file if no error is raised.

    Raises:
        DataError: the file is there already.
    """
    if path.exists():
        raise DataError(f"{path} is there already; delete it, or name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        yield part
        # Windows flushes only what may be written.
        with open(part, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a new folder beside a path where nothing is yet; it is renamed to the path if no error is raised, else deleted."""
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, by `write_whole`."""
    # backslashreplace: a file name that is not UTF-8 becomes an escape that JSON knows.
    write_whole(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))


def write_picture(path: Path, figure: Figure) -> None:
    """Writes a figure as PNG, by `write_whole`."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_whole(path, picture.getvalue())
