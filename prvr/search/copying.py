"""An index in another place: as it is, and seen to be the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from prvr.errors import DataError, SettingError
from prvr.extract.ledger import Progress
from prvr.index.contract import Entry, PersistentStore
from prvr.index.stores import is_remote, make_store
from prvr.methods import checkpoint as checkpoints
from prvr.search.opening import MODEL, inside, same_model, store_of

VIDEOS_AT_ONCE = 64


@dataclass(frozen=True)
class Copied:
    """What a copy came to: videos written, those that were there already, and those taken out of the copy."""

    written: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]


def copy_index(
    source: str | Path, target: str | Path, *, model: str | Path | None = None, on_progress: Progress | None = None
) -> Copied:
    """Copies an index, or brings a copy up to date; every video of it is then read again and compared.

    Features are not copied: a video that changes would be decoded in any case, and the others are not read again.

    Args:
        source, target: folders, or URLs of indexes elsewhere.
        model: the checkpoint of the source, where that is elsewhere and does not hold its own.

    Raises:
        ModelError: there is no such index, or the target is one of another checkpoint.
        DataError: the copy is not the same; it names the first video that differs.
    """
    if not is_remote(source) and not is_remote(target) and inside(Path(source)).resolve() == Path(target).resolve():
        raise SettingError(f"{source} is to be copied to itself; name another folder")
    checkpoint, ours = store_of(source, model=model)
    try:
        theirs = make_store(target, checkpoint.model, ours.header)
        try:
            same_model(target, theirs.header, checkpoint)
            if not is_remote(target):
                checkpoints.save(checkpoint, Path(target) / MODEL)
            return _copied(ours, theirs, on_progress)
        finally:
            theirs.close()
    finally:
        ours.close()


def _copied(ours: PersistentStore, theirs: PersistentStore, tell: Progress | None) -> Copied:
    ids = sorted(ours.ids)
    dropped = sorted(set(theirs.ids) - set(ids))
    theirs.delete(dropped)
    written: list[str] = []
    for done, part in _parts(ids):
        wanted, there = ours.fetch(part), theirs.fetch(part)
        different = [entry for id, entry in wanted.items() if id not in there or not same(entry, there[id], theirs.header.dtype)]
        theirs.add(different)
        written += [entry.video for entry in different]
        if tell:
            tell("copying", done, 2 * len(ids))
    for done, part in _parts(ids):
        wanted, there = ours.fetch(part), theirs.fetch(part)
        for id, entry in wanted.items():
            if id not in there or not same(entry, there[id], theirs.header.dtype):
                raise DataError(f"the copy of {id!r} is not what was written; copy again")
        if tell:
            tell("comparing", len(ids) + done, 2 * len(ids))
    return Copied(tuple(written), tuple(id for id in ids if id not in set(written)), tuple(dropped))


def _parts(ids: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    for start in range(0, len(ids), VIDEOS_AT_ONCE):
        yield min(start + VIDEOS_AT_ONCE, len(ids)), ids[start : start + VIDEOS_AT_ONCE]


def same(ours: Entry, theirs: Entry, dtype: str) -> bool:
    """Whether two entries say the same, their rows being stored in that type."""
    rows = zip(ours.fields, theirs.fields, strict=False)
    return (
        replace(ours, fields=()) == replace(theirs, fields=())
        and len(ours.fields) == len(theirs.fields)
        and all(np.array_equal(a.astype(dtype), b.astype(dtype)) for a, b in rows)
    )
