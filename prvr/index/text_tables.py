"""The tables of timed texts in the file of an index, with an index of their words (FTS5).

texts         a row per text: its video, its times in seconds, its kind, confidence and language, a checksum
texts_words   the words of each text, as `prvr.index.words` folds them
words_rule    one row: the rule by which the words are folded; older indexes have none
text_sources  a row per video and kind: what the texts were made of, up to which second, and what could not be read
text_worth    one row or none: the weights of texts beside a picture (`prvr.search.senses`)
text_readers  a row per kind that was chosen: the setting of its reader, or NULL for a kind that is not read

Embeddings of the texts are in tables of their own (`prvr.index.text_embeddings`). A part of a video's texts is written with the
second that it reaches in one transaction: whatever ends the reading, the next one goes on from there. The tables are made with
the first text; older indexes do not have them, and older versions of prvr ignore them.
"""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, final

from prvr.encoders.timed_texts import TextSource, TextsPart, TimedText
from prvr.errors import ModelError, VideoError
from prvr.index.text_embeddings import EmbeddingTables
from prvr.index.words import RULE, Term, words_of

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS texts (number INTEGER PRIMARY KEY, video INTEGER NOT NULL, start REAL NOT NULL,"
    " end REAL NOT NULL, kind TEXT NOT NULL, confidence REAL NOT NULL, language TEXT NOT NULL, text TEXT NOT NULL,"
    " crc32 INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS texts_of_video ON texts (video, kind, start)",
    "CREATE TABLE IF NOT EXISTS words_rule (rule TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS text_sources (video INTEGER NOT NULL, kind TEXT NOT NULL, made_of TEXT NOT NULL,"
    " seconds REAL NOT NULL, is_complete INTEGER NOT NULL, problems TEXT NOT NULL, PRIMARY KEY (video, kind)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS text_worth (worth TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS text_readers (kind TEXT PRIMARY KEY, setting TEXT)",
)
WORDS = (
    "CREATE VIRTUAL TABLE texts_words USING fts5(words, prefix = '2 3',"
    " tokenize = \"unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'\")"
)
COLUMNS = "start, end, text, kind, confidence, language"
# The best texts by BM25 that are looked at for one query.
CANDIDATES = 500
# Of one video, so that a long film that repeats a word leaves room for others.
MOST_OF_VIDEO = 20


class FoundText(NamedTuple):
    """A text that has some of a query's terms, by their places in the query."""

    video: str
    text: TimedText
    terms: frozenset[int]


class FoundTexts(NamedTuple):
    """What was found for a query: texts, and in how many videos each term is."""

    texts: list[FoundText]
    videos_with_term: list[int]


@final
class TextTables:
    """The tables of texts in a connection; videos are known by their numbers. Within a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.embeddings = EmbeddingTables(connection)

    def read(self, video: int, *, start: float = -math.inf, end: float = math.inf) -> list[TimedText]:
        """The texts of a video that begin from a second up to another one, in the order of their times.

        Raises:
            ModelError: one of them is damaged.
        """
        # What is no number is damaged, and is neither less nor more than one.
        chosen = "WHERE video = ? AND (start BETWEEN ? AND ? OR typeof(start) <> 'real') ORDER BY start, number"
        return [text for *_, text in self._rows(chosen, (video, start, end))]

    def count(self) -> dict[str, int]:
        """The number of videos with texts of each kind."""
        rows = self._connection.execute("SELECT kind, count(DISTINCT video) FROM texts GROUP BY kind") if self._exist() else ()
        return {str(kind): int(number) for kind, number in rows}

    def sources(self) -> dict[int, dict[str, TextSource]]:
        """What has been read, by video and kind."""
        found: dict[int, dict[str, TextSource]] = {}
        if self._exist():
            rows = self._connection.execute("SELECT video, kind, made_of, seconds, is_complete, problems FROM text_sources")
            for video, kind, made_of, seconds, is_complete, problems in rows:
                # Of a damaged row nothing is known: its texts are read again.
                if isinstance(seconds, int | float) and 0 <= seconds < math.inf:
                    source = TextSource(str(made_of), float(seconds), bool(is_complete), tuple(_lines(problems)))
                    found.setdefault(video, {})[str(kind)] = source
        return found

    def extend(self, video: int, kind: str, part: TextsPart, *, made_of: str, is_complete: bool, after: float = 0.0) -> None:
        """Adds texts, and notes up to where they go; texts that were made of something else are removed.

        Raises:
            VideoError: they begin at a later second, and those before are gone.
        """
        self._make()
        where = (video, kind)
        known = self._connection.execute(
            "SELECT made_of, problems FROM text_sources WHERE video = ? AND kind = ?", where
        ).fetchone()
        if known is None or known[0] != made_of:
            if after > 0:
                raise VideoError("its texts were removed while it was read; run again")
            self._drop("video = ? AND kind = ?", where)
            known = made_of, "[]"
        for text in part.texts:
            values = (text.start, text.end, text.text, text.kind, text.confidence, text.language)
            insert = f"INSERT INTO texts (video, {COLUMNS}, crc32) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            number = self._connection.execute(insert, (video, *values, _checksum(text))).lastrowid
            self._keep_words(number, text.text)
        problems = json.dumps([*_lines(known[1]), *part.problems])
        source = (*where, made_of, part.seconds, is_complete, problems)
        self._connection.execute("INSERT OR REPLACE INTO text_sources VALUES (?, ?, ?, ?, ?, ?)", source)

    def readers(self) -> dict[str, str | None]:
        """The setting of the reader of each kind that was chosen."""
        rows = self._connection.execute("SELECT kind, setting FROM text_readers") if self._exist() else ()
        return {str(kind): None if setting is None else str(setting) for kind, setting in rows}

    def keep_readers(self, readers: Mapping[str, str | None]) -> None:
        """Notes what is read from now on, and removes the texts of kinds that are not."""
        self._make()
        self._connection.execute("DELETE FROM text_readers")
        self._connection.executemany("INSERT INTO text_readers VALUES (?, ?)", [*readers.items()])
        for kind, setting in readers.items():
            if setting is None:
                self._drop("kind = ?", (kind,))

    def weights(self) -> str | None:
        """The text that `keep_weights` wrote last."""
        found = self._exist() and self._connection.execute("SELECT worth FROM text_worth").fetchone()
        return str(found[0]) if found else None

    def keep_weights(self, text: str | None) -> None:
        """Writes the weights of texts beside a picture, in place of those there; nothing for None."""
        self._make()
        self._connection.execute("DELETE FROM text_worth")
        if text is not None:
            self._connection.execute("INSERT INTO text_worth VALUES (?)", (text,))

    def drop(self, video: int) -> None:
        """Removes all texts of a video."""
        if self._exist():
            self._drop("video = ?", (video,))

    def move(self, before: int, after: int) -> None:
        """Gives a video the texts of another number."""
        if self._exist():
            for table in ("texts", "text_sources"):
                self._connection.execute(f"UPDATE {table} SET video = ? WHERE video = ?", (after, before))
            self.embeddings.move(before, after)

    def find(
        self, terms: Sequence[Term], kinds: Collection[str], videos: Sequence[int] | None, names: Mapping[int, str]
    ) -> FoundTexts:
        """As of `TextStore`; names: the id of each video."""
        if not terms or not self._exist():
            return FoundTexts([], [0] * len(terms))
        required = [term.match for term in terms if term.is_required]
        match = " AND ".join(required) or " OR ".join(term.match for term in terms)
        chosen = "kind IN (SELECT value FROM json_each(?))"
        values: list[Any] = [match, json.dumps([*kinds])]
        if videos is not None:
            chosen += " AND video IN (SELECT value FROM json_each(?))"
            values.append(json.dumps(videos))
        # The function bm25() is not known where rows are numbered, the column `rank` of the same value is.
        ranked = (
            "SELECT texts.number AS chosen, words, score, row_number() OVER (PARTITION BY video ORDER BY score, texts.number) AS"
            " place FROM (SELECT rowid, words, rank AS score FROM texts_words WHERE texts_words MATCH ?) AS matched"
            f" JOIN texts ON texts.number = matched.rowid WHERE {chosen}"
        )
        best = (
            f"JOIN ({ranked}) ON chosen = texts.number WHERE place <= {MOST_OF_VIDEO} ORDER BY score, number LIMIT {CANDIDATES}"
        )
        texts = []
        for video, words, text in self._rows(best, values, "words"):
            split = str(words).split()
            has = frozenset(place for place, term in enumerate(terms) if term.is_in(split))
            if has and video in names:
                texts.append(FoundText(names[video], text, has))
        # In all videos, whichever are chosen: a word is as rare in each search.
        count = (
            "SELECT count(DISTINCT video) FROM texts JOIN texts_words ON texts_words.rowid = texts.number"
            " WHERE texts_words MATCH ? AND kind IN (SELECT value FROM json_each(?))"
        )
        counts = [self._connection.execute(count, [term.match, values[1]]).fetchone()[0] for term in terms]
        return FoundTexts(texts, counts)

    def check(self, video: int) -> None:
        """Compares all texts of a video with their checksums and with the index of their words, and the embeddings with theirs.

        Raises:
            ModelError: one of them is damaged.
        """
        self.read(video)
        if self._exist() and self.has_current_words():
            rows = "SELECT text, words FROM texts LEFT JOIN texts_words ON texts_words.rowid = texts.number WHERE video = ?"
            if any(" ".join(words_of(text)) != words for text, words in self._connection.execute(rows, (video,))):
                raise ModelError(DAMAGED)
        self.embeddings.read(video)

    def has_current_words(self) -> bool:
        """Whether the words are folded by the rule of this version; also if there are none."""
        if not self._has("texts_words"):
            return True
        return self._has("words_rule") and self._connection.execute("SELECT rule FROM words_rule").fetchone() == (RULE,)

    def videos_to_embed(self, made_by: str) -> set[int]:
        """The videos of which a text lacks an embedding made by this."""
        return self.embeddings.incomplete(made_by) if self._exist() else set()

    def _rows(self, rest: str, values: Sequence[Any], also: str = "NULL") -> Iterator[tuple[int, Any, TimedText]]:
        """The video, another column, and the text of rows."""
        if not self._exist():
            return
        select = f"SELECT video, {also}, texts.crc32, {COLUMNS} FROM texts {rest}"
        for video, other, crc32, *fields in self._connection.execute(select, values):
            try:
                text = TimedText(*fields)
                is_right = _checksum(text) == crc32
            except (TypeError, ValueError, AttributeError):
                is_right = False
            if not is_right:
                raise ModelError(DAMAGED)
            yield video, other, text

    def _drop(self, where: str, values: Sequence[Any]) -> None:
        chosen = f"SELECT number FROM texts WHERE {where}"
        self._connection.execute(f"DELETE FROM texts_words WHERE rowid IN ({chosen})", values)
        for table in ("texts", "text_sources"):
            self._connection.execute(f"DELETE FROM {table} WHERE {where}", values)
        self.embeddings.drop(where, values)

    def _make(self) -> None:
        for statement in SCHEMA:
            self._connection.execute(statement)
        if not self._has("texts_words") or not self.has_current_words():
            self._fold()

    def _fold(self) -> None:
        """Makes the index of words from the texts, in place of one by another rule."""
        self._connection.execute("DROP TABLE IF EXISTS texts_words")
        self._connection.execute(WORDS)
        # As bytes: a damaged text is a fault of its video alone.
        for number, text in self._connection.execute("SELECT number, CAST(text AS BLOB) FROM texts"):
            self._keep_words(number, text.decode(errors="replace"))
        self._connection.execute("DELETE FROM words_rule")
        self._connection.execute("INSERT INTO words_rule VALUES (?)", (RULE,))

    def _keep_words(self, number: int | None, text: str) -> None:
        self._connection.execute("INSERT INTO texts_words (rowid, words) VALUES (?, ?)", (number, " ".join(words_of(text))))

    def _exist(self) -> bool:
        return self._has("text_readers")

    def _has(self, table: str) -> bool:
        return bool(self._connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone())


DAMAGED = "its texts are damaged; remove damaged videos with: prvr index verify INDEX --drop, and index again"


def _checksum(text: TimedText) -> int:
    numbers = f"{float(text.start)} {float(text.end)} {float(text.confidence)}"
    return zlib.crc32("\n".join([numbers, text.kind, text.language, text.text]).encode(errors="surrogatepass"))


def _lines(problems: Any) -> list[str]:
    try:
        return [str(line) for line in json.loads(problems)]
    except (ValueError, TypeError, RecursionError):
        return []
