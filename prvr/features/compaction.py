"""Gives the dead space of packed folders back to the disk, and removes packed folders."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from prvr.features.packed import HEADER, ITEMS, ITEMS_AT_ONCE, ROWS, Packed, PackedWriter, is_packed, retired_path
from prvr.files import lock_for_writing


def compact(path: Path) -> None:
    """Rewrites a packed folder without its dead space; the old folder stays until the new one is complete."""
    lock = lock_for_writing(path)
    try:
        fresh = path.with_name(path.name + ".compact")
        shutil.rmtree(fresh, ignore_errors=True)
        _copy(Packed(path), fresh)
        # Left by a call that was killed before its last line.
        shutil.rmtree(retired_path(path), ignore_errors=True)
        path.rename(retired_path(path))
        fresh.rename(path)
    finally:
        lock.release()
    shutil.rmtree(retired_path(path))


def tidy(path: Path) -> None:
    """Compacts a packed folder if more than half of its rows are dead."""
    if is_packed(path):
        packed = Packed(path)
        if packed.dead_rows * 2 > packed.stored_rows:
            # Windows renames no folder with a file that another process reads; the next call tries again.
            with suppress(PermissionError):
                compact(path)


def remove(path: Path) -> None:
    """Removes a packed folder; a file in it that is not of this format stays, and its folder with it."""
    lock = lock_for_writing(path)
    try:
        # The header first: without it the folder is no packed folder, if this is cut off.
        for name in (HEADER, ITEMS, ROWS, "lock"):
            (path / name).unlink(missing_ok=True)
        with suppress(OSError):
            path.rmdir()
    finally:
        lock.release()
    _remove_lock(path)


def _copy(old: Packed, fresh: Path) -> None:
    with PackedWriter(fresh, columns=old.columns, about=old.about, source=old.source, dtype=old.dtype.name) as writer:
        # Items that share rows share them afterwards, too.
        first = {place: id for id, place in reversed([(id, old.offset(id)) for id in old])}
        ids = list(first.values())
        for start in range(0, len(ids), ITEMS_AT_ONCE):
            writer.extend([(id, old[id], old.info(id)) for id in ids[start : start + ITEMS_AT_ONCE]])
        shared = {id: first[old.offset(id)] for id in old}
        writer.rearrange({id: (owner, old.info(id)) for id, owner in shared.items() if id != owner}, ())
    _remove_lock(fresh)


def _remove_lock(path: Path) -> None:
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
