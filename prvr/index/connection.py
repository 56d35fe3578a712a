"""A connection to the file of an index, and what SQLite has to say of it in one line."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from prvr.errors import DataError, ModelError, PrvrError

# Seconds that a writer waits for another one's video.
PATIENCE = 10.0
REMEDY = "take damaged videos out with: prvr index verify {} --drop, and index again"


def connected(path: Path) -> sqlite3.Connection:
    """A connection to a file that is there; one that can only be read where its folder cannot be written to."""
    # A folder that cannot be written to has no place for SQLite's shared memory; without a log nothing can change there.
    still = not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()
    mode = "mode=ro&immutable=1" if still else "mode=rw"
    uri = f"file:{quote(os.fsencode(path.absolute()))}?{mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=PATIENCE, check_same_thread=False)
    # What was acknowledged must outlive a loss of power, too.
    connection.execute("PRAGMA synchronous = FULL")
    return connection


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Tells in one line what SQLite cannot do.

    Raises:
        DataError: another process writes, or the disk does not let us.
        ModelError: the file is damaged.
    """
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as problem:
        raise _translated(path, problem) from problem


def _translated(path: Path, problem: Exception) -> PrvrError:
    # Extended codes carry the plain one in their lowest byte.
    code = getattr(problem, "sqlite_errorcode", None)
    code = None if code is None else code & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DataError(f"another process is writing to {path}; wait for it to end")
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return DataError(f"cannot write to {path}: {problem}; what was finished is kept: make room and run again")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return DataError(f"cannot open {path}: {problem}; check its permissions and that of its folder")
    return ModelError(f"{path} is damaged ({problem}); {REMEDY.format(path.parent)}, or delete it and index again")
