"""Embeddings of texts in the file of an index, as int8 codes; and the search for those nearest to a sentence.

text_embeddings  a row per window of texts (`prvr.index.text_windows`): its video, kind and times, its codes, a checksum
text_embedded    a row per video and kind all of whose windows are there: made by what, and of which texts
text_background  one row or none: what made all, and embeddings of unrelated sentences, which a text has to be nearer than

The tables are made with the first embedding; older indexes do not have them, and older versions of prvr ignore them.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int8

from prvr.errors import ModelError
from prvr.index.codes import ROWS_AT_ONCE, code_query, quantise
from prvr.index.scan import kernel

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS text_embeddings (number INTEGER PRIMARY KEY AUTOINCREMENT, video INTEGER NOT NULL,"
    " key TEXT NOT NULL, kind TEXT NOT NULL, start REAL NOT NULL, end REAL NOT NULL, scale REAL NOT NULL, codes BLOB NOT NULL,"
    " crc32 INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS text_embeddings_of_video ON text_embeddings (video)",
    "CREATE TABLE IF NOT EXISTS text_embedded (video INTEGER NOT NULL, kind TEXT NOT NULL, made_by TEXT NOT NULL,"
    " texts TEXT NOT NULL, PRIMARY KEY (video, kind)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS text_background (made_by TEXT NOT NULL, columns INTEGER NOT NULL, rows BLOB NOT NULL)",
)
# The texts that embeddings are of: their number, and the last one.
TEXTS = "SELECT video, kind, count(*) || ' ' || max(number) FROM texts GROUP BY video, kind"


Direction = Float[np.ndarray, "E"]
"""The embedding of a sentence, of unit length."""


class TextEmbedding(NamedTuple):
    """The embedding of a window of texts. key: what it is made of (`TextWindow.key`). codes: int8, of the rotated direction."""

    key: str
    kind: str
    start: float
    end: float
    scale: float
    codes: bytes


class NearestText(NamedTuple):
    """The window of a video that is nearest to a sentence."""

    video: str
    kind: str
    start: float
    end: float
    cosine: float


class TextBackground(NamedTuple):
    """What all embeddings are made by (`text_windows.embedded_by`); and rows of unrelated sentences, of unit length.

    Of an encoder that gives no embeddings of sentences there are no rows, and no columns.
    """

    made_by: str
    rows: Float32[np.ndarray, "S E"]


def to_embeddings(keys: Sequence[tuple[str, str, float, float]], rows: Float[np.ndarray, "N E"]) -> list[TextEmbedding]:
    """Returns rows as they are stored; keys: of each the key, the kind, start and end."""
    codes = quantise(rows)
    return [
        TextEmbedding(*key, float(scale), values.tobytes())
        for key, scale, values in zip(keys, codes.scales, codes.values, strict=True)
    ]


@final
class EmbeddingTables:
    """The tables of embeddings in a connection; videos are known by their numbers. Within a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._resident = _Resident()

    def incomplete(self, made_by: str) -> set[int]:
        """The videos of which a text lacks an embedding made by this, or an embedding lacks its text."""
        texts = {(video, kind): state for video, kind, state in self._connection.execute(TEXTS)}
        done: dict[tuple[int, str], str] = {}
        if self._exist():
            rows = self._connection.execute("SELECT video, kind, texts FROM text_embedded WHERE made_by = ?", (made_by,))
            done = {(video, kind): state for video, kind, state in rows}
        unlike = {video for video, kind in texts.keys() | done.keys() if texts.get((video, kind)) != done.get((video, kind))}
        # A damaged row may have anything as its video.
        return {video for video in unlike if isinstance(video, int)}

    def read(self, video: int) -> list[TextEmbedding]:
        """The embeddings of a video.

        Raises:
            ModelError: one of them is damaged.
        """
        if not self._exist():
            return []
        select = "SELECT crc32, key, kind, start, end, scale, codes FROM text_embeddings WHERE video = ? ORDER BY number"
        found = [(crc32, TextEmbedding(*fields)) for crc32, *fields in self._connection.execute(select, (video,))]
        try:
            is_right = all(crc32 == _checksum(one) for crc32, one in found)
        except (ValueError, TypeError):
            is_right = False
        if not is_right:
            raise ModelError(DAMAGED)
        return [one for _, one in found]

    def keep(self, video: int, made_by: str, add: Sequence[TextEmbedding], *, drop: Collection[str], is_complete: bool) -> None:
        """Adds embeddings to a video and removes some by their keys; is_complete: all of its texts have theirs."""
        self._make()
        self._connection.executemany("DELETE FROM text_embeddings WHERE video = ? AND key = ?", [(video, key) for key in drop])
        insert = "INSERT INTO text_embeddings (video, key, kind, start, end, scale, codes, crc32) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        self._connection.executemany(insert, [(video, *one, _checksum(one)) for one in add])
        self._connection.execute("DELETE FROM text_embedded WHERE video = ?", (video,))
        if is_complete:
            rest = TEXTS.replace(" GROUP BY", " WHERE video = ? GROUP BY")
            states = [(of, kind, made_by, state) for of, kind, state in self._connection.execute(rest, (video,)).fetchall()]
            self._connection.executemany("INSERT INTO text_embedded VALUES (?, ?, ?, ?)", states)

    def drop(self, where: str, values: Sequence[object]) -> None:
        """Removes the embeddings of videos, or of a kind."""
        if self._exist():
            for table in ("text_embeddings", "text_embedded"):
                self._connection.execute(f"DELETE FROM {table} WHERE {where}", values)

    def move(self, before: int, after: int) -> None:
        """Gives a video the embeddings of another number."""
        if self._exist():
            for table in ("text_embeddings", "text_embedded"):
                self._connection.execute(f"UPDATE {table} SET video = ? WHERE video = ?", (after, before))

    def background(self) -> TextBackground | None:
        """What `keep_background` wrote; None if there is nothing, or if it is damaged."""
        found = self._exist() and self._connection.execute("SELECT made_by, columns, rows FROM text_background").fetchone()
        try:
            made_by, columns, data = found or ("", 1, b"")
            if (columns, data) == (0, b""):
                return TextBackground(str(made_by), np.empty((0, 0), np.float32))
            rows = np.frombuffer(data, np.float16).reshape(-1, columns).astype(np.float32)
        except (ValueError, TypeError, OverflowError):
            return None
        return TextBackground(str(made_by), rows) if rows.size and np.isfinite(rows).all() else None

    def keep_background(self, background: TextBackground) -> None:
        """Writes what embeddings are made by, and rows of unrelated sentences, in place of those before."""
        self._make()
        self._connection.execute("DELETE FROM text_background")
        values = (background.made_by, background.rows.shape[1], background.rows.astype(np.float16).tobytes())
        self._connection.execute("INSERT INTO text_background VALUES (?, ?, ?)", values)

    def nearest(
        self,
        sentence: Float[np.ndarray, "E"],
        count: int,
        *,
        kinds: Collection[str],
        videos: Collection[int] | None,
        names: Mapping[int, str],
        version: object,
    ) -> list[NearestText]:
        """The videos with the texts nearest to a sentence of unit length, the nearest first, each with its nearest window.

        Args:
            kinds: of texts. videos: only these; None for all. names: the id of each video.
            version: what is held in memory is read again when it is another one.

        Raises:
            ModelError: the embeddings are damaged.
        """
        if not self._exist():
            return []
        self._resident.follow(self._connection, version)
        best = self._resident.nearest(sentence, count, kinds, names if videos is None else {*videos} & names.keys())
        found = []
        for number, video, cosine in best:
            select = "SELECT kind, start, end FROM text_embeddings WHERE number = ?"
            kind, start, end = self._connection.execute(select, (number,)).fetchone()
            if not (isinstance(start, float) and isinstance(end, float)):
                raise ModelError(DAMAGED)
            found.append(NearestText(names[video], str(kind), start, end, cosine))
        return found

    def _make(self) -> None:
        for statement in SCHEMA:
            self._connection.execute(statement)

    def _exist(self) -> bool:
        return bool(self._connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'text_background'").fetchone())


DAMAGED = "the embeddings of its texts are damaged; remove damaged videos with: prvr index verify INDEX --drop, and index again"


class _Resident:
    """The codes of all embeddings in memory, in the order of their numbers."""

    def __init__(self) -> None:
        self._version: object = None
        self._numbers: Int[np.ndarray, "N"] = np.empty(0, np.int64)
        self._videos: Int[np.ndarray, "N"] = np.empty(0, np.int64)
        self._kinds: list[str] = []
        self._kind: Int[np.ndarray, "N"] = np.empty(0, np.int64)
        self._codes: Int8[np.ndarray, "N E"] = np.empty((0, 0), np.int8)
        self._scales: Float32[np.ndarray, "N"] = np.empty(0, np.float32)

    def follow(self, connection: sqlite3.Connection, version: object) -> None:
        """Reads new embeddings, and leaves out removed ones."""
        if self._version == version:
            return
        rows = connection.execute("SELECT number, video, kind FROM text_embeddings ORDER BY number").fetchall()
        numbers = np.array([number for number, _, _ in rows], np.int64)
        kinds = sorted({str(kind) for *_, kind in rows})
        kind_of = np.array([kinds.index(str(kind)) for *_, kind in rows], np.int64)
        # Of a damaged video, the number is that of none.
        videos = np.array([video if isinstance(video, int) else 0 for _, video, _ in rows], np.int64)
        stay: Bool[np.ndarray, "N"] = np.isin(self._numbers, numbers)
        last = int(self._numbers[-1]) if len(self._numbers) else 0
        new = connection.execute("SELECT scale, codes FROM text_embeddings WHERE number > ? ORDER BY number", (last,)).fetchall()
        try:
            codes = np.frombuffer(b"".join(data for _, data in new), np.int8).reshape(len(new), -1) if new else self._codes[:0]
            codes = np.concatenate([self._codes[stay], codes]) if self._codes.size else codes
            scales = np.concatenate([self._scales[stay], np.array([scale for scale, _ in new], np.float32)])
            if not np.isfinite(scales).all() or not len(codes) == len(scales) == len(numbers):
                raise ValueError
        except (ValueError, TypeError, OverflowError):
            raise ModelError(DAMAGED) from None
        # All or nothing: rows that are damaged are read again once they are repaired.
        self._numbers, self._videos, self._kinds, self._kind = numbers, videos, kinds, kind_of
        self._codes, self._scales, self._version = codes, scales, version

    def nearest(
        self, sentence: Float[np.ndarray, "E"], count: int, kinds: Collection[str], videos: Collection[int]
    ) -> list[tuple[int, int, float]]:
        """The number, the video and the cosine of the nearest window of each of the nearest videos."""
        if not len(self._numbers):
            return []
        if self._codes.shape[1] != len(sentence):
            raise ModelError(DAMAGED)
        query = code_query(np.asarray(sentence, np.float32))
        # In blocks: without numkong, the kernel makes float32 of its rows.
        blocks = [self._codes[start : start + ROWS_AT_ONCE] for start in range(0, len(self._codes), ROWS_AT_ONCE)]
        cosines = np.concatenate([kernel()(block, query.values) @ query.scales for block in blocks]) * self._scales
        chosen = np.isin(self._kind, [place for place, kind in enumerate(self._kinds) if kind in kinds])
        chosen &= np.isin(self._videos, list(videos))
        found: dict[int, tuple[int, int, float]] = {}
        for place in np.argsort(-np.where(chosen, cosines, -np.inf), kind="stable")[: int(chosen.sum())]:
            video = int(self._videos[place])
            found.setdefault(video, (int(self._numbers[place]), video, float(cosines[place])))
            if len(found) == count:
                break
        return list(found.values())


def _checksum(one: TextEmbedding) -> int:
    about = json.dumps([one.key, one.kind, float(one.start), float(one.end), float(one.scale)])
    return zlib.crc32(one.codes, zlib.crc32(about.encode(errors="surrogatepass")))
