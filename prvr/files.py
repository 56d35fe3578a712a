"""Writes files so that a kill or a full disk leaves the old file or the new one, never half of one; and locks them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock, FileLock, Timeout

from prvr.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def lock_for_writing(path: Path) -> BaseFileLock:
    """Returns a lock on a file or a folder; the caller releases it. Its file PATH.lock stays where it is.

    The lock's file is beside the path and not in it: Windows renames no folder in which a file is open.

    Raises:
        DataError: another process holds the lock.
    """
    # thread_local=False: the lock may be released by another thread than the one that took it.
    lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise DataError(f"another process is writing to {path}; wait for it to end") from None
    return lock


def write_whole(path: Path, data: bytes) -> None:
    """Writes to a file beside the path, then renames that to the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as problem:
        part.unlink(missing_ok=True)
        # An OSError of a full disk does not name the file.
        if isinstance(problem, OSError) and problem.filename is None:
            problem.filename = str(path)
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, by `write_whole`."""
    # backslashreplace: a file name that is not UTF-8 becomes an escape that JSON knows.
    write_whole(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))


def write_picture(path: Path, figure: Figure) -> None:
    """Writes a figure as PNG, by `write_whole`."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_whole(path, picture.getvalue())
