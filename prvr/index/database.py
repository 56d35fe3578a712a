"""The file of an index: SQLite, in which a video is either complete or absent.

header   one row: the fields of `Header`
videos   a row per video: its id, the shapes of its fields, its windows, what is known of it, the times between its frames
rows     of each video its embeddings, field after field, as float16 or float32
codes    of each video the int8 codes of its embeddings, which a scan reads instead (`prvr.index.codes`)
reference  one row or none: what unrelated sentences reach here, and their embeddings (`prvr.index.reference`)
stage_setting, segments  what approximate search scans, where a setting was measured (`prvr.index.stage_tables`)
texts    what is said and written in the videos, with tables of words, sources and embeddings (`prvr.index.text_tables`)

Readers continue while one process writes (SQLite's write-ahead log). A video that is replaced gets a new number, and numbers
are never used again, so a reader knows what it has read. SQLite finds damage to its own structure, checksums find the rest.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, final
from urllib.parse import quote

import numpy as np
from jaxtyping import Float

from prvr.device import widen
from prvr.errors import DataError, ModelError, PrvrError
from prvr.index.codes import Codes, codes_bytes, parse_codes
from prvr.index.contract import Entry, Header
from prvr.index.stage_tables import StageTables
from prvr.index.text_tables import TextTables

FORMAT = 2
APPLICATION = int.from_bytes(b"prvr")
PAGE_BYTES = 1 << 14
# Bytes of a number.
DTYPES = {"float16": 2, "float32": 4}
# Bytes of the file that are mapped; SQLite maps no more than this.
MAPPED = (1 << 31) - (1 << 16)
# Seconds that a writer waits for another writer's transaction.
PATIENCE = 10.0
REMEDY = "remove damaged videos with: prvr index verify {} --drop, and index again"

SCHEMA = (
    "CREATE TABLE header (model TEXT NOT NULL, dtype TEXT NOT NULL, videos TEXT NOT NULL)",
    "CREATE TABLE videos (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, shapes TEXT NOT NULL,"
    " windows TEXT NOT NULL, about TEXT NOT NULL, edges TEXT NOT NULL)",
    "CREATE TABLE rows (number INTEGER PRIMARY KEY, crc32 INTEGER NOT NULL, data BLOB NOT NULL)",
    "CREATE TABLE codes (number INTEGER PRIMARY KEY, crc32 INTEGER NOT NULL, data BLOB NOT NULL)",
)
# Created when it is first needed: older indexes do not have it, and older versions of prvr ignore it.
REFERENCE = "CREATE TABLE IF NOT EXISTS reference (known TEXT NOT NULL, queries BLOB NOT NULL)"


class Record(NamedTuple):
    """A video as it is in the file, with its rows as float32; JSON is parsed only when the entry is needed."""

    id: str
    windows: str
    about: str
    edges: str
    rows: tuple[Float[np.ndarray, "_ _"], ...]

    def entry(self) -> Entry:
        """The video.

        Raises:
            ModelError: its windows, its times or its description are damaged.
        """
        try:
            windows, edges = tuple(map(int, json.loads(self.windows))), json.loads(self.edges)
            edges = None if edges is None else tuple(map(float, edges))
            if edges is not None and not np.isfinite(edges).all():
                raise ValueError(edges)
            about: dict[str, Any] = dict(json.loads(self.about))
        except (ValueError, TypeError, RecursionError, OverflowError):
            raise ModelError(
                f"the times of {self.id!r} are damaged; remove damaged videos with: prvr index verify INDEX --drop"
            ) from None
        return Entry(self.id, self.rows, windows, edges, about)


@final
class Database:
    """One connection to the file.

    Raises:
        ModelError: the file does not exist, is damaged, or has another format; later also: a video that is read is damaged.
        DataError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Within a transaction: the number of each video, in the order of addition.
        self.videos: dict[str, int] = {}
        self._version: tuple[int, int] | None = None
        self._checked: set[tuple[str, int]] = set()
        # The columns of each field, of the first video that was read.
        self._widths: tuple[int, ...] = ()
        if not path.is_file():
            raise ModelError(f"no index in {path.parent}; build one: prvr index VIDEOS {path.parent} --model RUN")
        with sqlite_errors(path):
            self._connection = _connect(path)
        try:
            with sqlite_errors(path):
                # Rows are copied from mapped pages in a quarter of the time of reads. SQLite maps what is there when it opens.
                # What was acknowledged must outlive a loss of power, too.
                for pragma in (f"mmap_size = {MAPPED}", "synchronous = FULL"):
                    self._connection.execute(f"PRAGMA {pragma}")
                self.header = self._read_header()
        except BaseException:
            self._connection.close()
            raise
        self.text_tables, self.stage = TextTables(self._connection), StageTables(self._connection)

    @staticmethod
    def make(path: Path, header: Header) -> Database:
        """The file with a header; created if it does not exist."""
        with sqlite_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, isolation_level=None)
            try:
                for pragma in (f"page_size = {PAGE_BYTES}", "auto_vacuum = INCREMENTAL", "journal_mode = WAL"):
                    connection.execute(f"PRAGMA {pragma}")
                connection.execute("BEGIN IMMEDIATE")
                if not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
                    for statement in (f"PRAGMA application_id = {APPLICATION}", f"PRAGMA user_version = {FORMAT}", *SCHEMA):
                        connection.execute(statement)
                    connection.execute("INSERT INTO header VALUES (?, ?, ?)", (header.model, header.dtype, header.videos))
                connection.execute("COMMIT")
            finally:
                connection.close()
        return Database(path)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A transaction in which everything is read from one state of the file."""
        with sqlite_errors(self.path), self._connection:
            self._connection.execute("BEGIN")
            version = (self._connection.execute("PRAGMA data_version").fetchone()[0], self._connection.total_changes)
            if version != self._version:
                found = self._connection.execute("SELECT id, number FROM videos ORDER BY number")
                self.videos, self._version = {_id_of(key): number for key, number in found}, version
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction in which everything is written or nothing.

        Raises:
            DataError: another process writes, or the disk is full.
        """
        with sqlite_errors(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield

    @property
    def version(self) -> object:
        """Differs after every change of the file. Within `reading`."""
        return self._version

    def about(self, number: int) -> dict[str, Any]:
        """What is known of a video."""
        key, text = self._select_all("id, about", "videos", [number])[0]
        try:
            about: dict[str, Any] = dict(json.loads(text))
        except (ValueError, TypeError, RecursionError):
            raise ModelError(self._damage_message(_id_of(key), "description")) from None
        return about

    def record(self, number: int) -> Record:
        """A video with its rows. The checksum is compared the first time that this connection reads them."""
        return self.records([number])[0]

    def records(self, numbers: Sequence[int]) -> list[Record]:
        """As `record`, of several videos at once."""
        found = self._select_all("id, crc32, data, shapes, windows, about, edges", "videos JOIN rows USING (number)", numbers)
        return [self._record(number, *row) for number, row in zip(numbers, found, strict=True)]

    def _record(self, number: int, key: Any, crc32: Any, data: Any, *texts: Any) -> Record:
        if not (isinstance(data, bytes) and isinstance(key, bytes) and all(isinstance(text, str) for text in texts)):
            raise ModelError(self._damage_message(_id_of(key), "embeddings"))
        if ("rows", number) not in self._checked and crc32 != _checksum(data, key, *texts):
            raise ModelError(self._damage_message(_id_of(key), "embeddings"))
        self._checked.add(("rows", number))
        shapes, windows, about, edges = texts
        sizes = self._shapes(key, shapes, len(data))
        wide = widen(data, self.header.dtype)
        fields, start = [], 0
        for rows, columns in sizes:
            fields.append(wide[start : start + rows * columns].reshape(rows, columns))
            start += rows * columns
        return Record(_id_of(key), windows, about, edges, tuple(fields))

    def codes(self, numbers: Sequence[int]) -> list[list[Codes]]:
        """The codes of videos, of each field by field. They are checked the first time that this connection reads them."""
        columns, tables = "id, codes.crc32, codes.data, shapes, length(rows.data)", "videos JOIN codes USING (number) JOIN rows"
        found = self._select_all(columns, f"{tables} USING (number)", numbers)
        return [self._codes(number, *row) for number, row in zip(numbers, found, strict=True)]

    def _codes(self, number: int, key: Any, crc32: Any, data: Any, shapes: Any, size: Any) -> list[Codes]:
        known = ("codes", number) in self._checked
        if not isinstance(data, bytes) or (not known and crc32 != zlib.crc32(data)):
            raise ModelError(self._damage_message(_id_of(key), "codes"))
        sizes = self._shapes(key, shapes, size)
        if sum(codes_bytes(*shape) for shape in sizes) != len(data):
            raise ModelError(self._damage_message(_id_of(key), "shapes"))
        fields = parse_codes(data, sizes)
        if not known and not all(field.are_possible() for field in fields):
            raise ModelError(self._damage_message(_id_of(key), "codes"))
        self._checked.add(("codes", number))
        return fields

    def put(self, entry: Entry, codes: Sequence[Codes], *, texts_of: int | None = None) -> int:
        """Writes a video in place of the one with the same id, and returns its number. Within `writing`.

        Args:
            texts_of: the number of a video that was taken out by `detach`, whose texts this one gets.
        """
        self.drop(entry.video)
        key = key_of(entry.video)
        texts = [json.dumps(value) for value in ([rows.shape for rows in entry.fields], entry.windows, entry.about, entry.edges)]
        insert = "INSERT INTO videos (id, shapes, windows, about, edges) VALUES (?, ?, ?, ?, ?)"
        number = int(self._connection.execute(insert, (key, *texts)).lastrowid or 0)
        rows = b"".join(field.tobytes() for field in entry.fields)
        data = b"".join(part.tobytes() for of_field in codes for part in of_field)
        self._connection.execute("INSERT INTO rows VALUES (?, ?, ?)", (number, _checksum(rows, key, *texts), rows))
        self._connection.execute("INSERT INTO codes VALUES (?, ?, ?)", (number, zlib.crc32(data), data))
        if texts_of is not None:
            self.text_tables.move(texts_of, number)
        return number

    def drop(self, id: str) -> None:
        """Removes a video and its texts if it exists. Within `writing`."""
        if (number := self.number_of(id)) is not None:
            self.detach(number)
            self.text_tables.drop(number)

    def detach(self, number: int) -> None:
        """Removes a video without its texts, which another number gets by `put`. Within `writing`."""
        for table in ("videos", "rows", "codes"):
            self._connection.execute(f"DELETE FROM {table} WHERE number = ?", (number,))
        self.stage.drop(number)

    def numbers(self) -> list[int]:
        """The numbers of all videos. Within `writing`."""
        return [int(number) for (number,) in self._connection.execute("SELECT number FROM videos ORDER BY number")]

    def number_of(self, id: str) -> int | None:
        """The number of a video. Within `writing`."""
        found = self._connection.execute("SELECT number FROM videos WHERE id = ?", (key_of(id),)).fetchone()
        return found and int(found[0])

    def reference(self) -> tuple[str, bytes] | None:
        """The text and the bytes that `keep_reference` wrote last; None if there are none, or if they are damaged."""
        exists = self._connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'reference'").fetchone()
        found = exists and self._connection.execute("SELECT known, queries FROM reference").fetchone()
        return found if found and isinstance(found[0], str) and isinstance(found[1], bytes) else None

    def keep_reference(self, known: str, queries: bytes) -> None:
        """Writes a reference in place of the one before. Within `writing`."""
        self._connection.execute(REFERENCE)
        self._connection.execute("DELETE FROM reference")
        self._connection.execute("INSERT INTO reference VALUES (?, ?)", (known, queries))

    def move(self, videos: str) -> None:
        """Changes the folder of the videos in the header. Within `writing`."""
        self._connection.execute("UPDATE header SET videos = ?", (videos,))
        self.header = replace(self.header, videos=videos)

    def shrink(self) -> None:
        """Returns free pages to the file system if they are more than half of the file."""
        with sqlite_errors(self.path):
            pages, free = (self._connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count"))
            if 2 * free > pages:
                # `execute` would stop after one page.
                self._connection.executescript("PRAGMA incremental_vacuum")

    def faults(self) -> list[str]:
        """The errors that SQLite finds in the structure of the file. All checksums are compared again after this."""
        self._checked.clear()
        found = [text for (text,) in self._connection.execute("PRAGMA integrity_check(5)")]
        return [] if found == ["ok"] else found

    def _shapes(self, key: Any, text: Any, size: Any) -> Sequence[tuple[int, int]]:
        """The shapes of a video's fields, checked against the bytes of its rows and the widths of the first video."""
        shapes = _parse_shapes(text)
        widths = tuple(columns for _, columns in shapes)
        fit = bool(shapes) and all(rows > 0 and columns > 0 for rows, columns in shapes)
        if not fit or sum(rows * columns for rows, columns in shapes) * DTYPES[self.header.dtype] != size:
            raise ModelError(self._damage_message(_id_of(key), "shapes"))
        self._widths = self._widths or widths
        if widths != self._widths:
            raise ModelError(self._damage_message(_id_of(key), "shapes"))
        return shapes

    def _read_header(self) -> Header:
        application, version = (
            self._connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("application_id", "user_version")
        )
        if (application, version) == (0, 0) and not self._connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
            raise ModelError(f"no index in {self.path.parent}: it was never begun; run the command again that makes it")
        if application != APPLICATION:
            raise ModelError(f"{self.path} is a database of something else; index into another folder")
        if version != FORMAT:
            newer = "update prvr to read it" if version > FORMAT else f"delete {self.path} and index again"
            raise ModelError(f"{self.path} has format {version}, this prvr reads {FORMAT}; {newer}")
        found = self._connection.execute("SELECT model, dtype, videos FROM header").fetchone()
        if found is None or not all(isinstance(text, str) for text in found) or found[1] not in DTYPES:
            raise ModelError(f"the header of {self.path} is damaged ({found!r:.80}); delete {self.path} and index again")
        return Header(*found)

    def _select_all(self, columns: str, tables: str, numbers: Sequence[int]) -> list[tuple[Any, ...]]:
        """The rows of videos, in the order of the numbers."""
        listed = ",".join(map(str, numbers))
        rows = self._connection.execute(f"SELECT number, {columns} FROM {tables} WHERE number IN ({listed})")
        found = {number: values for number, *values in rows}
        if missing := set(numbers) - found.keys():
            raise ModelError(self._damage_message(f"number {min(missing)}", "place"))
        return [tuple(found[number]) for number in numbers]

    def _damage_message(self, video: str, what: str) -> str:
        return f"the {what} of {video!r} in {self.path} are damaged; {REMEDY.format(self.path.parent)}"


@lru_cache
def _parse_shapes(text: Any) -> tuple[tuple[int, int], ...]:
    """The shapes in a text; none where it holds something else."""
    try:
        return tuple((int(rows), int(columns)) for rows, columns in json.loads(text))
    except (ValueError, TypeError, RecursionError, OverflowError):
        return ()


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Raises SQLite's errors as one line.

    Raises:
        DataError: another process writes, or the disk does not permit it.
        ModelError: the file is damaged.
    """
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as problem:
        raise _translate(path, problem) from problem


def key_of(id: str) -> bytes:
    """A video's id as it is in the file; the name of a file need not be UTF-8."""
    return id.encode("utf-8", "surrogatepass")


def _id_of(key: Any) -> str:
    return repr(key) if not isinstance(key, bytes) else key.decode("utf-8", "surrogatepass")


def _checksum(rows: bytes, key: bytes, *texts: str) -> int:
    return zlib.crc32(rows, zlib.crc32(b"\0".join([key, *(text.encode() for text in texts)])))


def _connect(path: Path) -> sqlite3.Connection:
    # A folder that is not writable has no room for SQLite's shared memory; without a log nothing can change there.
    still = not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()
    mode = "mode=ro&immutable=1" if still else "mode=rw"
    uri = f"file:{quote(os.fsencode(path.absolute()))}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=PATIENCE, check_same_thread=False)


def _translate(path: Path, problem: Exception) -> PrvrError:
    # Extended codes hold the primary one in their lowest byte.
    code = getattr(problem, "sqlite_errorcode", None)
    code = None if code is None else code & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DataError(f"another process is writing to {path}; wait for it to end")
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return DataError(f"cannot write to {path}: {problem}; what was finished is kept: make room and run again")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return DataError(f"cannot open {path}: {problem}; check its permissions and that of its folder")
    return ModelError(f"{path} is damaged ({problem}); {REMEDY.format(path.parent)}, or delete it and index again")
