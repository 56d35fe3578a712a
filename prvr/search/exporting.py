"""The embeddings of an index as a table for other engines (`prvr.features.tables`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from prvr.errors import DataError, SettingError, nearest
from prvr.features.tables import ItemRows, write_table
from prvr.index.contract import Entry
from prvr.index.moments import part_edges, split_windows
from prvr.methods.contract import Model
from prvr.search.opening import store_of

COLUMNS = ("video", "branch", "frame", "seconds")


def export_embeddings(
    place: str | Path,
    file: str | Path,
    *,
    branch: str = "",
    model: str | Path | None = None,
    method: str | type | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> int:
    """Writes the embeddings of an index, completely or not at all, and returns the number of videos.

    Args:
        branch: the field of the model to write; all if empty, which need the same number of columns.
        model, method: as in `open_index`.

    Raises:
        SettingError: the model has no such branch, or branches of different widths and none is named.
        DataError: the file exists already, or the name of a video is not UTF-8.
        ModelError: as `open_index`.
    """
    checkpoint, store = store_of(place, model=model, method=method)
    try:
        known, ids = checkpoint.model.embedding_fields, store.ids
        if branch and branch not in known:
            raise SettingError(f"{checkpoint.method} has no branch {branch!r}; {nearest(branch, known)}")
        if not ids:
            raise DataError(f"the index in {place} holds no videos; add some with the command that made it")
        first = dict(zip(known, store.fetch(ids[:1])[ids[0]].fields, strict=True))
        widths = {name: first[name].shape[1] for name in ([branch] if branch else known)}
        if len(set(widths.values())) > 1:
            raise SettingError(
                f"the branches have different widths ({', '.join(f'{name} {width}' for name, width in widths.items())}), and a "
                f"table has one: write a file for each, with --branch {known[0]} first"
            )

        def items() -> Iterator[ItemRows]:
            # One at a time: a video may have hours.
            for number, id in enumerate(ids, start=1):
                yield from (rows for rows in _rows_of(checkpoint.model, store.fetch([id])[id]) if rows.branch in widths)
                if on_progress:
                    on_progress(id, number, len(ids))

        about = {"method": checkpoint.method, "model": checkpoint.fingerprint, "branches": list(widths)}
        write_table(Path(file), items(), names=COLUMNS, columns=next(iter(widths.values())), about=about)
    finally:
        store.close()
    return len(ids)


def _rows_of(model: Model, entry: Entry) -> Iterator[ItemRows]:
    """The rows of each branch, with the times at which they begin: those of a frame, or of an equal part of a window."""
    windows = split_windows(model, entry)
    for place, (name, rows) in enumerate(zip(model.embedding_fields, entry.fields, strict=True)):
        if entry.edges is None:
            yield ItemRows(entry.video, rows, None, name)
            continue
        begins: list[float] = []
        first = 0
        for fields, frames in zip(windows, entry.windows, strict=True):
            begins += part_edges(entry.edges[first : first + frames + 1], len(fields[place]))[:-1]
            first += frames
        yield ItemRows(entry.video, rows, begins, name)
