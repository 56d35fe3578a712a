"""The feature format of this package: all rows in one memory-mapped file, and a journal that says which item has which rows.

    NAME/packed.json   columns, dtype, what made the rows (`about`) and where that was opened from (`source`)
    NAME/rows.bin      the rows, little-endian, one item after the other
    NAME/items.jsonl   a line per item: id, offset and number of rows, their checksum, further facts (`info`)
    NAME.lock          locked by the one process that writes

Rows reach the disk before their journal line does, so an item is there complete or not at all, whenever the writer dies. A
later line about the same id replaces the earlier one. If `about` has a `read`, rows were sampled, cut or scaled when they
were packed (`prvr.extract.convert`); reading does not do it a second time.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, cast, final

import numpy as np

from prvr.errors import DataError, RowsError
from prvr.features.facts import are_facts
from prvr.files import lock_for_writing, parse_json, read_bytes

DTYPES: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}
HEADER, ROWS, ITEMS = "packed.json", "rows.bin", "items.jsonl"
CLIPS: Literal["clips"] = "clips"
ITEMS_AT_ONCE = 256
# A row has fewer columns, and a journal fewer bytes, in every use that is known.
MOST_COLUMNS = 1 << 24
MOST_JOURNAL = 1 << 36


@final
class AsRead(np.ndarray):
    """Rows as a student reads them: sampled or cut, and of unit length, since they were packed.

    clips: the clips of the same video, if they were packed beside its frames.
    """

    clips: np.ndarray | None = None


class Packed(Mapping[str, np.ndarray]):
    """The items of a packed folder, read through a memory map. `features[id]` is a read-only (rows, columns) view.

    It is a view as `AsRead` if a student reads the rows as they are.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header = _read_header(path)
        self.columns: int = header["columns"]
        self.dtype = DTYPES[header["dtype"]]
        self.about: dict[str, Any] = header["about"]
        self.source: str = header.get("source", "")
        self._view = AsRead if (self.about.get("read") or {}).get("unit") else np.ndarray
        self._rows: np.ndarray | None = None
        beside = path.parent / CLIPS
        # Those of the frames in FEATURES/NAME/frames lie in FEATURES/NAME/clips.
        self.clips = Packed(beside) if self._view is AsRead and path.name == "frames" and is_packed(beside) else None
        self.refresh()

    def __getitem__(self, id: str) -> np.ndarray:
        item = self._items[id]
        offset, rows = item["offset"], item["rows"]
        if self._rows is None or offset + rows > len(self._rows):
            if self._file_number() != self._mapped:
                # Another process has compacted the file: rows lie elsewhere.
                self.refresh()
                offset, rows = (self._items[id][name] for name in ("offset", "rows"))
            self._rows = self._map_rows()
        view = self._rows[offset : offset + rows]
        if self.clips is not None and id in self.clips:
            cast(AsRead, view).clips = self.clips[id]
        return view

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, id: object) -> bool:
        return id in self._items

    def info(self, id: str) -> dict[str, Any]:
        """Returns the further facts of an item."""
        info: dict[str, Any] = self._items[id]["info"]
        return info

    def times(self, id: str) -> list[float] | None:
        """Returns the time of each row of an item in seconds; None where they are unknown, or of other rows."""
        times: list[float] | None = self._items[id]["info"].get("times")
        return times if times and len(times) == self._items[id]["rows"] else None

    def offset(self, id: str) -> int:
        """Returns the number of rows in the file before those of an item; items may share rows."""
        offset: int = self._items[id]["offset"]
        return offset

    def rows_before(self, id: str) -> int:
        """Returns the number of rows of an item before it was sampled or cut for packing."""
        item = self._items[id]
        count: int = item["info"].get("of", item["rows"])
        return count

    def is_sound(self, id: str) -> bool | None:
        """Returns whether an item's rows match their checksum; None for an item that was written without one."""
        checksum = self._items[id]["crc32"]
        return None if checksum is None else zlib.crc32(self[id].data) == checksum

    def release(self) -> None:
        """Unmaps the file: pages that were read count as this process's memory. Rows that are still held stay valid."""
        self._rows = None
        if self.clips is not None:
            self.clips.release()

    @property
    def stored_rows(self) -> int:
        """The number of rows in the file, dead ones included."""
        return self._count()

    @property
    def dead_rows(self) -> int:
        """The number of rows in the file that belong to no item."""
        # Items may share their rows.
        return self._count() - sum({item["offset"]: item["rows"] for item in self._items.values()}.values())

    def refresh(self) -> None:
        """Reads the journal again, for items that another process has added or deleted."""
        self._mapped = self._file_number()
        self._items, self._rows = _read_items(self.path), None
        count = self._count()
        lost = [id for id, item in self._items.items() if item["offset"] + item["rows"] > count]
        if lost:
            raise DataError(
                f"{self.path / ROWS} is cut short: it lacks rows of {len(lost)} items, {lost[0]!r} first; "
                f"delete {self.path} and make it again"
            )

    def _map_rows(self) -> np.ndarray:
        count = self._count()
        if count == 0:
            return np.empty((0, self.columns), self.dtype)
        # As a plain array: slicing a memmap costs several times as much.
        return np.asarray(np.memmap(self.path / ROWS, self.dtype, "r", shape=(count, self.columns))).view(self._view)

    def _file_number(self) -> int:
        rows = self.path / ROWS
        return rows.stat().st_ino if rows.exists() else 0

    def _count(self) -> int:
        rows = self.path / ROWS
        return rows.stat().st_size // (self.columns * self.dtype.itemsize) if rows.exists() else 0


class PackedWriter:
    """The only writer of a packed folder, which it creates if it is missing. Use it as a context manager.

    `features` reads the folder, items just appended included. A folder can be continued only with the same `about`;
    `source` may differ (the same encoder in another place), and the latest one is stored.

    Raises:
        DataError: the folder has rows of another width or of another origin, or another process writes to it.
    """

    def __init__(self, path: Path, *, columns: int, about: Mapping[str, Any], source: str = "", dtype: str = "float32") -> None:
        self.path = path
        undo_half_swap(path)
        path.mkdir(parents=True, exist_ok=True)
        self._lock = lock_for_writing(path)
        try:
            _make_or_match(path, {"columns": columns, "dtype": dtype, "about": dict(about)}, source=source)
            self.features = Packed(path)
            self._rows, self._journal = _open_at_last_whole_item(path, self.features)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> PackedWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files and releases the folder."""
        self._rows.close()
        self._journal.close()
        self._lock.release()

    def append(self, id: str, rows: np.ndarray, info: Mapping[str, Any] | None = None) -> None:
        """Adds an item, or replaces the one of that id.

        Raises:
            RowsError: there are no rows, or rows of another width, or with NaN or infinite values.
        """
        self.extend([(id, rows, info or {})])

    def extend(self, items: Sequence[tuple[str, np.ndarray, Mapping[str, Any]]]) -> None:
        """Adds or replaces several items (id, rows, info) with one wait for the disk; if one is refused, all are."""
        width = self.features.columns * self.features.dtype.itemsize
        stored = [self._to_dtype(id, rows).tobytes() for id, rows, _ in items]
        start = self._rows.seek(0, os.SEEK_END)
        _write(self._rows, b"".join(stored), undo_to=start)
        lines: list[dict[str, Any]] = []
        for (id, rows, info), data in zip(items, stored, strict=True):
            checksum = zlib.crc32(data)
            lines.append({"id": id, "offset": start // width, "rows": len(rows), "crc32": checksum, "info": dict(info)})
            start += len(data)
        self._add_lines(lines)

    def annotate(self, id: str, info: Mapping[str, Any]) -> None:
        """Replaces the info of an item; its rows stay where they are."""
        self._add_lines([{"id": id, **self.features._items[id], "info": dict(info)}])

    def rearrange(self, copies: Mapping[str, tuple[str, Mapping[str, Any]]], delete: Collection[str]) -> list[str]:
        """Gives items the rows of other items, with an info of their own, and removes items; returns the ids of these.

        The rows are shared and not stored again. One write: an item that gets another id is there under one of the two.

        Args:
            copies: by id, the item whose rows it gets, and its info.
        """
        items = self.features._items
        gone = [id for id in delete if id in items and id not in copies]
        lines: list[dict[str, Any]] = [{"id": id, **items[source], "info": dict(info)} for id, (source, info) in copies.items()]
        lines += [{"id": id, "deleted": True} for id in gone]
        if lines:
            self._add_lines(lines)
        return gone

    def delete(self, id: str) -> None:
        """Removes an item, if there is one of that id; its rows stay as dead space until `compact`."""
        if id in self.features:
            self._add_lines([{"id": id, "deleted": True}])

    def _to_dtype(self, id: str, rows: np.ndarray) -> np.ndarray:
        features = self.features
        if rows.ndim != 2 or rows.shape[1] != features.columns or len(rows) == 0:
            raise RowsError(f"rows of {id!r} have shape {rows.shape}; {self.path} holds (rows > 0, {features.columns})")
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(rows, features.dtype)
        if not np.isfinite(stored).all():
            raise RowsError(f"features of {id!r} hold NaN or values beyond {features.dtype.name}; nothing was stored for it")
        return stored

    def _add_lines(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        # surrogatepass: a file name that is not UTF-8 may be an id; json.loads reads it back the same way.
        data = text.encode("utf-8", "surrogatepass")
        _write(self._journal, data, undo_to=self._journal.seek(0, os.SEEK_END))
        for line in lines:
            _apply(self.features._items, line)


def retired_path(path: Path) -> Path:
    """Returns where `compact` moves the old folder before the new one takes its place."""
    return path.with_name(path.name + ".old")


def undo_half_swap(path: Path) -> None:
    """Moves the old folder back if `compact` was killed between its two renames."""
    if not path.exists() and is_packed(retired_path(path)):
        retired_path(path).rename(path)


def is_packed(path: Path) -> bool:
    """Returns whether a folder is in this format."""
    return (path / HEADER).is_file()


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = parse_json(read_bytes(path / HEADER))
        about, columns = header["about"], header["columns"]
        known = header["dtype"] in DTYPES and type(columns) is int and 0 < columns < MOST_COLUMNS
        if known and _is_about(about) and isinstance(header.get("source", ""), str):
            return header
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"no features in {path} ({HEADER} is missing); make them with: prvr extract") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise DataError(f"{path / HEADER} is broken; delete {path} and extract again")


def _is_about(about: Any) -> bool:
    """Whether a header's description has the entries that are read, with values of their types."""
    if not isinstance(about, dict) or not _is_read(about.get("read")):
        return False
    encoder, rate = about.get("encoder", {}), about.get("rate")
    named = isinstance(encoder.get("name", ""), str) and isinstance(encoder.get("fingerprint"), str | None)
    return named and (rate is None or type(rate) in (int, float))


def _is_read(read: Any) -> bool:
    return read is None or (isinstance(read["most"], int) and isinstance(read["unit"], bool))


def _read_items(path: Path) -> dict[str, dict[str, Any]]:
    items: dict[str, dict[str, Any]] = {}
    if (path / ITEMS).exists():
        for line in _whole_lines(read_bytes(path / ITEMS, most=MOST_JOURNAL)):
            try:
                _apply(items, _checked_line(json.loads(line)))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
                raise DataError(f"{path / ITEMS} has a broken line: {line[:60]!r}; delete {path} and make it again") from None
    return items


def _checked_line(line: Any) -> dict[str, Any]:
    if not isinstance(line["id"], str):
        raise TypeError(line["id"])
    if not line.get("deleted"):
        offset, rows, info, checksum = line["offset"], line["rows"], line["info"], line.get("crc32")
        sound = type(offset) is type(rows) is int and offset >= 0 and rows >= 0 and isinstance(checksum, int | None)
        if not sound or not are_facts(info):
            raise TypeError(line)
    return cast(dict[str, Any], line)


def _whole_lines(journal: bytes) -> list[bytes]:
    # After the last newline there may be a line that a writer did not finish.
    return journal[: journal.rfind(b"\n") + 1].splitlines()


def _apply(items: dict[str, dict[str, Any]], line: dict[str, Any]) -> None:
    if line.get("deleted"):
        items.pop(line["id"], None)
    else:
        items[line["id"]] = {**{key: line[key] for key in ("offset", "rows", "info")}, "crc32": line.get("crc32")}


def _make_or_match(path: Path, wanted: dict[str, Any], *, source: str) -> None:
    if is_packed(path):
        there = _read_header(path)
        for key, value in wanted.items():
            if there[key] != value:
                old, new = _difference(there[key], value)
                raise DataError(f"{path} was made with {key} {old}, not {new}; use another folder or delete this one")
        if there.get("source", "") == source:
            return
    temporary = path / (HEADER + ".part")
    temporary.write_text(json.dumps({**wanted, "source": source}, indent=1))
    os.replace(temporary, path / HEADER)


def _difference(there: Any, wanted: Any) -> tuple[Any, Any]:
    """Returns two values without what they have in common."""
    if not (isinstance(there, dict) and isinstance(wanted, dict)):
        return there, wanted
    different = [key for key in {**there, **wanted} if there.get(key) != wanted.get(key)]
    old, new = ({key: value[key] for key in different if key in value} for value in (there, wanted))
    return old, new


def _open_at_last_whole_item(path: Path, features: Packed) -> tuple[IO[bytes], IO[bytes]]:
    """Opens the two files and cuts off what a killed writer left: half a line, and rows without a line.

    Rows of items that were replaced or deleted stay: another process may still read them.
    """
    journal = open(path / ITEMS, "ab", buffering=0)
    lines = _whole_lines((path / ITEMS).read_bytes())
    _cut(journal, sum(len(line) + 1 for line in lines))
    ends = (line["offset"] + line["rows"] for line in map(json.loads, lines) if not line.get("deleted"))
    rows = open(path / ROWS, "ab", buffering=0)
    _cut(rows, max(ends, default=0) * features.columns * features.dtype.itemsize)
    return rows, journal


def _cut(file: IO[bytes], size: int) -> None:
    # Only where there is something to cut: Windows refuses it for a file that another process has mapped.
    if file.seek(0, os.SEEK_END) > size:
        file.truncate(size)


def _write(file: IO[bytes], data: bytes, *, undo_to: int) -> None:
    # On a full disk a part of the data may have been written; cutting it off keeps the file whole.
    # The file is unbuffered: failed data must not be written later, when a buffer is flushed.
    try:
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())
    except BaseException:
        os.ftruncate(file.fileno(), undo_to)
        raise
