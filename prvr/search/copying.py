"""Copies an index to another place, and compares the copy with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from prvr.encoders.timed_texts import TextSource, TextsPart
from prvr.errors import DataError, SettingError
from prvr.extract.extraction import Progress
from prvr.index.contract import Entry, PersistentStore
from prvr.index.place import index_folder_of
from prvr.index.reference import copy_reference
from prvr.index.stores import folder_of, make_store
from prvr.index.texts import HasTexts, TextStore
from prvr.methods import checkpoint as checkpoints
from prvr.methods.exported import copy_export
from prvr.search.opening import MODEL, check_same_model, is_remote, store_of

VIDEOS_AT_ONCE = 64


@dataclass(frozen=True)
class Copied:
    """The ids of videos that were written, that were in the copy already, and that were removed from the copy.

    without_texts: why the copy has no timed texts although the index has; None otherwise.
    """

    written: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    without_texts: str | None = None


def copy_index(
    source: str | Path,
    target: str | Path,
    *,
    model: str | Path | None = None,
    method: str | type | None = None,
    on_progress: Progress | None = None,
) -> Copied:
    """Copies an index, or brings a copy up to date; then reads every video of the copy and compares it.

    Features are not copied: a changed video has to be decoded anyway, and the others are not encoded again.

    Args:
        source, target: folders, or URLs of indexes elsewhere.
        model: the checkpoint of the source, if that is a URL, where no checkpoint is stored.
        method: its method, as in `checkpoint.load`; required for an external method that is not installed.

    Raises:
        ModelError: there is no such index, or the target is an index of another checkpoint.
        DataError: the copy differs; the text names the first video that does.
    """
    if not is_remote(source) and not is_remote(target) and index_folder_of(Path(source)).resolve() == Path(target).resolve():
        raise SettingError(f"{source} is to be copied to itself; name another folder")
    checkpoint, ours = store_of(source, model=model, method=method)
    try:
        theirs = make_store(target, checkpoint.model, ours.header)
        try:
            check_same_model(target, theirs.header, checkpoint)
            if (folder := folder_of(target)) is not None:
                checkpoints.save(checkpoint, folder / MODEL)
                if not is_remote(source):
                    copy_export(index_folder_of(Path(source)) / MODEL, folder / MODEL, checkpoint)
            copied = _copy(ours, theirs, on_progress)
            copy_reference(checkpoint, ours, theirs)
            return replace(copied, without_texts=_copy_texts(ours, theirs))
        finally:
            theirs.close()
    finally:
        ours.close()


def _copy(ours: PersistentStore, theirs: PersistentStore, on_progress: Progress | None) -> Copied:
    ids = sorted(ours.ids)
    dropped = sorted(set(theirs.ids) - set(ids))
    theirs.delete(dropped)
    written: list[str] = []
    for done, part in _parts(ids):
        wanted, there = ours.fetch(part), theirs.fetch(part)
        different = [entry for id, entry in wanted.items() if not is_same(entry, there.get(id), theirs.header.dtype)]
        theirs.add(different)
        written += [entry.video for entry in different]
        if on_progress:
            on_progress("copying", done, 2 * len(ids))
    for done, part in _parts(ids):
        wanted, there = ours.fetch(part), theirs.fetch(part)
        for id, entry in wanted.items():
            if not is_same(entry, there.get(id), theirs.header.dtype):
                raise DataError(f"the copy of {id!r} is not what was written; copy again")
        if on_progress:
            on_progress("comparing", len(ids) + done, 2 * len(ids))
    return Copied(tuple(written), tuple(id for id in ids if id not in set(written)), tuple(dropped))


def _copy_texts(ours: PersistentStore, theirs: PersistentStore) -> str | None:
    """Copies the timed texts of all videos and compares them; returns why that cannot be."""
    if not isinstance(ours, HasTexts):
        return None
    if not isinstance(theirs, HasTexts):
        return (
            f"{type(theirs).__name__} holds no timed texts: in the copy, pictures alone are searched"
            if ours.texts.count()
            else None
        )
    theirs.texts.keep_readers(ours.texts.readers())
    if (weights := ours.texts.weights()) != theirs.texts.weights():
        theirs.texts.keep_weights(weights)
    sources, there = ours.texts.sources(), theirs.texts.sources()
    for id in sorted({*sources, *there}):
        by_kind = sources.get(id, {})
        texts, copied = ours.texts.read(id), theirs.texts.read(id)
        if (by_kind, texts) == (there.get(id, {}), copied):
            continue
        for kind in {*by_kind, *there.get(id, {})}:
            source = by_kind.get(kind, TextSource("", 0.0, False, ()))
            part = TextsPart(source.seconds, tuple(text for text in texts if text.kind == kind), source.problems)
            # What is made of nothing else takes the place of what is there.
            theirs.texts.extend(id, kind, TextsPart(0.0, ()), made_of="", is_complete=False)
            theirs.texts.extend(id, kind, part, made_of=source.made_of, is_complete=source.is_complete)
        if theirs.texts.read(id) != texts:
            raise DataError(f"the copy of the texts of {id!r} is not what was written; copy again")
    _copy_embeddings(ours.texts, theirs.texts, ids=[*sources])
    return None


def _copy_embeddings(ours: TextStore, theirs: TextStore, *, ids: Sequence[str]) -> None:
    """Copies the embeddings of all texts."""
    if (background := ours.background()) is None:
        return
    if (known := theirs.background()) is None or known.made_by != background.made_by:
        theirs.keep_background(background)
    if not background.rows.size:
        return
    # Each lists the texts of all videos: once, and not for each video.
    without, pending = ({*texts.videos_to_embed(background.made_by)} for texts in (ours, theirs))
    for id in ids:
        wanted, there = ({one.key: one for one in texts.embeddings(id)} for texts in (ours, theirs))
        new, gone = (
            [one for key, one in wanted.items() if there.get(key) != one],
            [key for key in there if there[key] != wanted.get(key)],
        )
        if new or gone or id in pending:
            theirs.keep_embeddings(id, background.made_by, new, drop=gone, is_complete=id not in without)


def _parts(ids: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    for start in range(0, len(ids), VIDEOS_AT_ONCE):
        yield min(start + VIDEOS_AT_ONCE, len(ids)), ids[start : start + VIDEOS_AT_ONCE]


def is_same(ours: Entry, theirs: Entry | None, dtype: str) -> bool:
    """Returns whether two entries are equal when their rows are stored in that type."""
    if theirs is None:
        return False
    rows = zip(ours.fields, theirs.fields, strict=False)
    return (
        replace(ours, fields=()) == replace(theirs, fields=())
        and len(ours.fields) == len(theirs.fields)
        and all(np.array_equal(a.astype(dtype), b.astype(dtype)) for a, b in rows)
    )
