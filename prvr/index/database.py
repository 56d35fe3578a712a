"""The file of an index: SQLite, in which a video is there whole or not at all.

header   one row: what `Header` says
videos   a row per video: its id, the shapes of its fields, windows, what is known of it, and the times between its frames
rows     of each video its embeddings, field after field, as float16 or float32
codes    of each video the int8 codes of its embeddings, which a scan reads instead (`prvr.index.scan`)
stage    one row or none: the setting of a first stage that was measured here (`prvr.index.proven`)

Readers go on while one process writes (SQLite's write-ahead log). A video that is replaced gets a new number, and numbers
are never used again: so a reader knows what it has read. SQLite sees damage to its own structure, the checksums see the rest.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from prvr.errors import ModelError
from prvr.index.connection import REMEDY, connected, told
from prvr.index.contract import Entry, Header
from prvr.index.record import Video, checksum, codes_of, fields_of, key_of, name_of
from prvr.index.scan import Codes

FORMAT = 2
APPLICATION = int.from_bytes(b"prvr")
PAGE_BYTES = 1 << 14

SCHEMA = (
    "CREATE TABLE header (model TEXT NOT NULL, dtype TEXT NOT NULL, videos TEXT NOT NULL)",
    "CREATE TABLE videos (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, shapes TEXT NOT NULL,"
    " windows TEXT NOT NULL, about TEXT NOT NULL, edges TEXT NOT NULL)",
    "CREATE TABLE rows (number INTEGER PRIMARY KEY, crc32 INTEGER NOT NULL, data BLOB NOT NULL)",
    "CREATE TABLE codes (number INTEGER PRIMARY KEY, crc32 INTEGER NOT NULL, data BLOB NOT NULL)",
)
# Made when it is first needed: indexes that are there already lack it, and an older prvr leaves it alone.
STAGE = "CREATE TABLE IF NOT EXISTS stage (proven TEXT NOT NULL)"


@final
class Database:
    """One connection to the file.

    Raises:
        ModelError: there is none, it is broken, or of another format.
        DataError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise ModelError(f"no index in {path.parent}; build one: prvr index VIDEOS {path.parent} --model RUN")
        with told(path):
            self._connection = connected(path)
        try:
            with told(path):
                header = self._header()
        except BaseException:
            self._connection.close()
            raise
        if header is None:
            self._connection.close()
            raise ModelError(f"no index in {path.parent}: it was never begun; run the command again that makes it")
        self.header = header
        self._checked: set[int] = set()

    @staticmethod
    def make(path: Path, header: Header) -> Database:
        """The file with a header, made if it is not there."""
        with told(path):
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
        """Lets the file go."""
        self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All that is read inside is of one moment."""
        with told(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._end("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """All that is written inside is there at its end, or nothing of it.

        Raises:
            DataError: another process writes, or the disk is full.
        """
        with told(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._end("ROLLBACK")
                raise

    def _end(self, how: str) -> None:
        # An error may have ended the transaction already.
        if self._connection.in_transaction:
            self._connection.execute(how)

    def version(self) -> tuple[int, int]:
        """Differs when anything was written, by whichever process."""
        (others,) = self._connection.execute("PRAGMA data_version").fetchone()
        return others, self._connection.total_changes

    def videos(self) -> dict[str, int]:
        """The number of each video, in the order they were added in."""
        found = self._connection.execute("SELECT id, number FROM videos ORDER BY number")
        return {name_of(key): number for key, number in found}

    def about(self, number: int) -> dict[str, Any]:
        """What is known of a video.

        Raises:
            ModelError: it is damaged.
        """
        id, text = self._video("id, about", number)
        try:
            about: dict[str, Any] = json.loads(text)
        except ValueError:
            raise ModelError(self._damaged(name_of(id), "description")) from None
        return about

    def entry(self, number: int) -> Entry:
        """A video.

        Raises:
            ModelError: it is damaged.
        """
        video, data = self._whole(number)
        edges = json.loads(video.edges)
        return Entry(
            name_of(video.id),
            fields_of(bytearray(data), json.loads(video.shapes), self.header.dtype),
            tuple(json.loads(video.windows)),
            None if edges is None else tuple(edges),
            json.loads(video.about),
        )

    def rows(self, number: int) -> tuple[np.ndarray, ...]:
        """A video's embeddings as float32, field by field. They are checked the first time.

        Raises:
            ModelError: they are damaged.
        """
        if number in self._checked:
            (shapes,) = self._video("shapes", number)
            _, data = self._data("rows", number)
        else:
            video, data = self._whole(number)
            shapes = video.shapes
            self._checked.add(number)
        # By torch: NumPy widens each number alone.
        wide = torch.frombuffer(bytearray(data), dtype=getattr(torch, self.header.dtype)).float().numpy()
        return fields_of(wide, json.loads(shapes), "float32")

    def codes(self, number: int) -> list[Codes]:
        """A video's codes, field by field.

        Raises:
            ModelError: they are damaged.
        """
        id, shapes = self._video("id, shapes", number)
        crc32, data = self._data("codes", number)
        if crc32 != zlib.crc32(data):
            raise ModelError(self._damaged(name_of(id), "codes"))
        return codes_of(data, json.loads(shapes))

    def put(self, entry: Entry, codes: Sequence[Codes]) -> None:
        """Writes a video in the place of the one of that id; inside of `writing`."""
        self.drop(entry.video)
        text = [json.dumps(value) for value in ([rows.shape for rows in entry.fields], entry.windows, entry.about, entry.edges)]
        cursor = self._connection.execute(
            "INSERT INTO videos (id, shapes, windows, about, edges) VALUES (?, ?, ?, ?, ?)", (key_of(entry.video), *text)
        )
        number = cursor.lastrowid
        assert number is not None
        rows = b"".join(field.tobytes() for field in entry.fields)
        data = b"".join(part.tobytes() for of_field in codes for part in of_field)
        crc32 = checksum(Video(number, key_of(entry.video), *text), rows)
        self._connection.execute("INSERT INTO rows VALUES (?, ?, ?)", (number, crc32, rows))
        self._connection.execute("INSERT INTO codes VALUES (?, ?, ?)", (number, zlib.crc32(data), data))

    def drop(self, id: str) -> None:
        """Takes a video out, if it is there; inside of `writing`."""
        found = self._connection.execute("SELECT number FROM videos WHERE id = ?", (key_of(id),)).fetchone()
        if found:
            for table in ("videos", "rows", "codes"):
                self._connection.execute(f"DELETE FROM {table} WHERE number = ?", found)

    def proven(self) -> str | None:
        """What `prove` kept last."""
        if not self._connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'stage'").fetchone():
            return None
        found = self._connection.execute("SELECT proven FROM stage").fetchone()
        return None if found is None else str(found[0])

    def prove(self, proven: str | None) -> None:
        """Keeps a text about the first stage in place of the one before, or none; inside of `writing`."""
        self._connection.execute(STAGE)
        self._connection.execute("DELETE FROM stage")
        if proven is not None:
            self._connection.execute("INSERT INTO stage VALUES (?)", (proven,))

    def move(self, videos: str) -> None:
        """Notes that the videos are in another folder now; inside of `writing`."""
        self._connection.execute("UPDATE header SET videos = ?", (videos,))
        self.header = replace(self.header, videos=videos)

    def tidy(self) -> None:
        """Gives room back to the disk where more than half of the file is empty."""
        with told(self.path):
            pages, empty = (self._connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count"))
            if 2 * empty > pages:
                # `execute` would stop after one page.
                self._connection.executescript("PRAGMA incremental_vacuum")

    def faults(self) -> list[str]:
        """What SQLite finds wrong with the structure of its file."""
        found = [text for (text,) in self._connection.execute("PRAGMA integrity_check(5)")]
        return [] if found == ["ok"] else found

    def _header(self) -> Header | None:
        application, version = (
            self._connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("application_id", "user_version")
        )
        if (application, version) == (0, 0) and not self._connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
            return None
        if application != APPLICATION:
            raise ModelError(f"{self.path} is a database of something else; index into another folder")
        if version != FORMAT:
            newer = "update prvr to read it" if version > FORMAT else f"delete {self.path} and index again"
            raise ModelError(f"{self.path} has format {version}, this prvr reads {FORMAT}; {newer}")
        return Header(*self._connection.execute("SELECT model, dtype, videos FROM header").fetchone())

    def _whole(self, number: int) -> tuple[Video, bytes]:
        video = Video(*self._video("*", number))
        crc32, data = self._data("rows", number)
        if crc32 != checksum(video, data):
            raise ModelError(self._damaged(name_of(video.id), "embeddings"))
        return video, data

    def _video(self, columns: str, number: int) -> tuple[Any, ...]:
        found: tuple[Any, ...] | None = self._connection.execute(
            f"SELECT {columns} FROM videos WHERE number = ?", (number,)
        ).fetchone()
        if found is None:
            raise ModelError(self._damaged(f"number {number}", "place"))
        return found

    def _data(self, table: str, number: int) -> tuple[int, bytes]:
        found = self._connection.execute(f"SELECT crc32, data FROM {table} WHERE number = ?", (number,)).fetchone()
        return found or (-1, b"")

    def _damaged(self, video: str, what: str) -> str:
        return f"the {what} of {video!r} in {self.path} are damaged; {REMEDY.format(self.path.parent)}"
