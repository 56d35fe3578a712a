"""What a first stage needs, in the file of an index: its setting, its codebook and a sketch of every video.

stage_setting  one row or none: the measured setting and the codebook, as safetensors
segments     of each video its codes and first rows (`prvr.index.sketches`), written and removed with it

Created when a setting is kept: other indexes do not have them, and older versions of prvr ignore them. FAISS never reads a
file: its object is made from these arrays, whose sizes and checksums are compared first.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from typing import final

import numpy as np

from prvr.errors import ModelError
from prvr.index.sketches import Codebook, Sketch

FIRSTS = np.dtype("<i4")
TABLES = (
    # Of earlier versions.
    "DROP TABLE IF EXISTS stage",
    "DROP TABLE IF EXISTS first_stage",
    "DROP TABLE IF EXISTS sketches",
    "CREATE TABLE IF NOT EXISTS stage_setting (setting TEXT NOT NULL, crc32 INTEGER NOT NULL, codebook BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS segments (number INTEGER PRIMARY KEY, crc32 INTEGER NOT NULL, data BLOB NOT NULL)",
)


@final
class StageTables:
    """The tables of a first stage in a connection. Within a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def setting(self) -> tuple[str, int] | None:
        """The text of the setting, and the checksum of the codebook, which is another one after each measurement."""
        found = self._exist() and self._connection.execute("SELECT setting, crc32 FROM stage_setting").fetchone()
        return (str(found[0]), found[1] if isinstance(found[1], int) else -1) if found else None

    def codebook(self) -> Codebook | None:
        """The codebook; None if no setting is kept.

        Raises:
            ModelError: it is damaged.
        """
        found = self._exist() and self._connection.execute("SELECT crc32, codebook FROM stage_setting").fetchone()
        if not found:
            return None
        try:
            if not isinstance(found[1], bytes) or found[0] != zlib.crc32(found[1]):
                raise ValueError("its checksum differs")
            return Codebook.from_bytes(found[1])
        except ValueError as problem:
            raise ModelError(f"the codebook of the first stage is damaged: {problem}") from None

    def require_codebook(self) -> Codebook:
        """The codebook. Raises: ModelError, if it is damaged or missing."""
        if (codebook := self.codebook()) is None:
            raise ModelError("the codebook of the first stage is gone")
        return codebook

    def sketches(self, bytes_a_segment: int, *, after: int = 0) -> Iterator[tuple[int, Sketch]]:
        """The numbers of the videos above one and their sketches, in the order of the numbers.

        Raises:
            ModelError: one is damaged.
        """
        found = self._connection.execute("SELECT number, crc32, data FROM segments WHERE number > ? ORDER BY number", (after,))
        for number, crc32, data in found:
            if not isinstance(data, bytes) or not data or crc32 != zlib.crc32(data):
                raise ModelError(f"the sketch of the video with number {number} is damaged")
            count, rest = divmod(len(data), bytes_a_segment + FIRSTS.itemsize)
            firsts = np.frombuffer(data, FIRSTS, 0 if rest else count)
            if rest or firsts[0] != 0 or not (firsts[1:] > firsts[:-1]).all():
                raise ModelError(f"the sketch of the video with number {number} is damaged")
            yield number, Sketch(np.frombuffer(data, np.uint8, offset=firsts.nbytes).reshape(count, bytes_a_segment), firsts)

    def check(self) -> None:
        """Reads the codebook and all sketches. Raises: ModelError, as `codebook` and `sketches`."""
        if (codebook := self.codebook()) is not None:
            for _ in self.sketches(codebook.bytes_a_segment):
                pass

    def keep(self, setting: str, codebook: Codebook, sketches: Iterable[tuple[int, Sketch]]) -> None:
        """Writes all of a first stage in place of the one before."""
        self.forget()
        for statement in TABLES:
            self._connection.execute(statement)
        data = codebook.to_bytes()
        self._connection.execute("INSERT INTO stage_setting VALUES (?, ?, ?)", (setting, zlib.crc32(data), data))
        for number, sketch in sketches:
            self.put(number, sketch)

    def forget(self) -> None:
        """Removes all of a first stage."""
        if self._exist():
            self._connection.execute("DELETE FROM stage_setting")
            self._connection.execute("DELETE FROM segments")

    def put(self, number: int, sketch: Sketch) -> None:
        """Writes the sketch of a video."""
        data = sketch.firsts.astype(FIRSTS).tobytes() + sketch.codes.tobytes()
        self._connection.execute("INSERT INTO segments VALUES (?, ?, ?)", (number, zlib.crc32(data), data))

    def drop(self, number: int) -> None:
        """Removes the sketch of a video."""
        if self._exist():
            self._connection.execute("DELETE FROM segments WHERE number = ?", (number,))

    def _exist(self) -> bool:
        return self._connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'segments'").fetchone() is not None
