"""Features and embeddings as tables, one row for each frame, for other engines: Parquet files.

video | caption                 the id of the item
branch                          of embeddings: the name of the model's field
frame | clip | word | sentence  the number of the row in its item, from 0; `frame` for all rows of embeddings
seconds                         of videos: the time at which the row begins; null where it is unknown
vector                          a list of fixed size of float32

The metadata of the file has `about`, JSON: what made the rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from prvr.errors import DataError, require
from prvr.features.packed import ITEMS_AT_ONCE, Packed, is_packed
from prvr.files import new_file

SUFFIX = ".parquet"
# By the kind of packed features: the name of the items, and of the numbers of their rows.
KINDS = {
    "frames": ("video", "frame"),
    "clips": ("video", "clip"),
    "words": ("caption", "word"),
    "sentences": ("caption", "sentence"),
}
# Of the vectors that are in memory together, and make a row group of the file.
GROUP_BYTES = 1 << 25
# Of narrow vectors: the ids and numbers beside them take memory, too.
GROUP_ROWS = 1 << 16


class ItemRows(NamedTuple):
    """The rows of an item, or of one of its branches.

    seconds: of each row; None where they are unknown, or where the rows are not of a video.
    """

    id: str
    rows: Float[np.ndarray, "R C"]
    seconds: Sequence[float] | None = None
    branch: str = ""


def export_parquet(folder: str | Path, file: str | Path, on_progress: Callable[[str, int, int], None]) -> int:
    """Writes packed features as a table, completely or not at all, and returns the number of items.

    Raises:
        DataError: the folder has no packed features, the file exists already, or an id is not UTF-8.
        MissingExtra: pyarrow is not installed.
    """
    folder = Path(folder)
    if not is_packed(folder):
        raise DataError(f"no packed features in {folder}; name a folder such as FEATURES/NAME/frames, or an index")
    features = Packed(folder)

    def items() -> Iterator[ItemRows]:
        for number, (id, rows) in enumerate(features.items(), start=1):
            yield ItemRows(id, rows, features.times(id))
            if number % ITEMS_AT_ONCE == 0 or number == len(features):
                on_progress(id, number, len(features))

    item, number = KINDS.get(features.about.get("kind", "frames"), KINDS["frames"])
    names = [item, number, *(["seconds"] if item == "video" else [])]
    write_table(Path(file), items(), names=names, columns=features.columns, about=features.about)
    return len(features)


def write_table(file: Path, items: Iterable[ItemRows], *, names: Sequence[str], columns: int, about: Mapping[str, Any]) -> None:
    """Writes the rows of all items, a part of them in memory at a time.

    Args:
        names: of the columns before `vector`: of the item, then "branch" if there are any, of the number, then "seconds".

    Raises:
        DataError: the file exists already, or an id is not UTF-8.
        MissingExtra: pyarrow is not installed.
    """
    arrow, parquet = require("pyarrow", extra="parquet"), require("pyarrow.parquet", extra="parquet")
    types = {"branch": arrow.string(), "seconds": arrow.float64(), names[0]: arrow.string()}
    fields = [arrow.field(name, types.get(name, arrow.int32())) for name in names]
    vector = arrow.field("vector", arrow.list_(arrow.field("element", arrow.float32()), columns))
    schema = arrow.schema([*fields, vector], metadata={"about": json.dumps(about)})
    with new_file(file) as part, parquet.ParquetWriter(part, schema) as out:
        for group in _groups(items, most=min(max(GROUP_BYTES // (4 * columns), 1), GROUP_ROWS)):
            out.write_table(_table(arrow, schema, group))


def _groups(items: Iterable[ItemRows], *, most: int) -> Iterator[list[tuple[ItemRows, int]]]:
    """Items with the number of their first row, in groups of at most `most` rows; longer ones are cut."""
    group: list[tuple[ItemRows, int]] = []
    size = 0
    for item in items:
        for start in range(0, len(item.rows), most):
            seconds = None if item.seconds is None else item.seconds[start : start + most]
            cut = item._replace(rows=item.rows[start : start + most], seconds=seconds)
            if group and size + len(cut.rows) > most:
                yield group
                group, size = [], 0
            group.append((cut, start))
            size += len(cut.rows)
    if group:
        yield group


def _table(arrow: Any, schema: Any, group: Sequence[tuple[ItemRows, int]]) -> Any:
    counts = [len(item.rows) for item, _ in group]
    values = np.concatenate([np.asarray(item.rows, np.float32) for item, _ in group])
    seconds = np.concatenate([np.full(len(item.rows), np.nan) if item.seconds is None else item.seconds for item, _ in group])
    numbers = np.concatenate([np.arange(start, start + len(item.rows), dtype=np.int32) for item, start in group])
    made = {
        "branch": lambda: arrow.array(np.repeat([item.branch for item, _ in group], counts)),
        "seconds": lambda: arrow.array(seconds, mask=np.isnan(seconds)),
        schema.names[0]: lambda: _texts(arrow, [item.id for item, _ in group]).take(np.repeat(np.arange(len(group)), counts)),
        "vector": lambda: arrow.FixedSizeListArray.from_arrays(values.reshape(-1), type=schema.field("vector").type),
    }
    return arrow.table([made.get(name, lambda: arrow.array(numbers))() for name in schema.names], schema=schema)


def _texts(arrow: Any, ids: Sequence[str]) -> Any:
    try:
        return arrow.array(ids)
    except UnicodeEncodeError:
        wrong = next(id for id in ids if any(0xD800 <= ord(one) < 0xE000 for one in id))
        raise DataError(f"the name {wrong!r} is not UTF-8, which text in Parquet is; rename the file and extract again") from None
