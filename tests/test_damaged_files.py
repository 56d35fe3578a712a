"""Every reader of files that strangers may have made: a right result or one line, nothing else, and no other file is opened."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from damage import LEAVES, altered_json, altered_lines, altered_words, damaged, only_within
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers import READERS, Reader, make_index, read_index

from prvr.errors import PrvrError

# PRVR_TEST_EXAMPLES=2000 looks further, with other examples each time.
EXAMPLES = int(os.environ.get("PRVR_TEST_EXAMPLES", "0"))
MOST_SECONDS = 5.0


def limited(check: Callable[..., None]) -> Callable[..., None]:
    """A property with the examples of this file."""
    return settings(
        max_examples=EXAMPLES or 40,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )(check)


@contextmanager
def right_or_refused(folder: Path) -> Iterator[None]:
    """Asserts that a reader ends soon and well, or with one of the package's errors in one line, and opens nothing else."""
    begun = time.process_time()
    with only_within(folder):
        try:
            yield
        except PrvrError as problem:
            text = str(problem)
            assert len(text.splitlines()) == 1, text
    assert time.process_time() - begun < MOST_SECONDS


@pytest.mark.parametrize("reader", READERS, ids=str)
def test_a_damaged_file_is_read_right_or_refused_in_one_line(reader: Reader, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    reader.make(folder)
    whole = (folder / reader.file).read_bytes()
    reader.read(folder)

    @limited
    @given(changes_of(reader, whole))
    def check(data: bytes) -> None:
        # A new file: the old one may still be mapped.
        (folder / reader.file).unlink(missing_ok=True)
        (folder / reader.file).parent.mkdir(exist_ok=True)
        (folder / reader.file).write_bytes(data)
        with right_or_refused(folder):
            reader.read(folder)

    check()


def changes_of(reader: Reader, whole: bytes) -> st.SearchStrategy[bytes]:
    if reader.form == "json":
        return damaged(whole) | altered_json(whole)
    if reader.form == "lines":
        return damaged(whole) | altered_lines(whole)
    return damaged(whole) | altered_words(whole, reader.separators) if reader.form == "words" else damaged(whole)


def test_any_value_in_any_column_of_an_index_is_read_right_or_refused_in_one_line(tmp_path: Path) -> None:
    make_index(tmp_path)
    whole = (tmp_path / "index.sqlite").read_bytes()
    columns = columns_of(tmp_path / "index.sqlite")
    assert {
        "header",
        "videos",
        "rows",
        "codes",
        "stage_setting",
        "segments",
        "texts",
        "text_sources",
        "text_worth",
        "text_readers",
    } <= {t for t, _ in columns}

    @limited
    @given(st.sampled_from(columns), st.data())
    def check(column: tuple[str, str], data: st.DataObject) -> None:
        for beside in tmp_path.glob("index.sqlite*"):
            beside.unlink()
        (tmp_path / "index.sqlite").write_bytes(whole)
        change(tmp_path / "index.sqlite", *column, data)
        with right_or_refused(tmp_path):
            read_index(tmp_path)

    check()


def columns_of(path: Path) -> list[tuple[str, str]]:
    """The columns of the tables of ours; those of the index of words are SQLite's."""
    with closing(sqlite3.connect(path)) as file:
        tables = [name for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        ours = [name for name in tables if not name.startswith("texts_words")]
        return [(table, row[1]) for table in ours for row in file.execute(f"PRAGMA table_info({table})")]


def change(path: Path, table: str, column: str, data: st.DataObject) -> None:
    """Writes a value into a column of one row: any one, or the JSON that is there with another value in it."""
    with closing(sqlite3.connect(path)) as file, suppress(sqlite3.Error, OverflowError):
        (old,) = file.execute(f"SELECT {column} FROM {table} LIMIT 1").fetchone()
        try:
            inner = st.binary(max_size=9) | altered_json(old.encode()).map(lambda text: text.decode(errors="replace"))
        except (ValueError, AttributeError):
            inner = damaged(old) if isinstance(old, bytes) else st.binary(max_size=9)
        value = data.draw(inner | LEAVES.filter(lambda leaf: not isinstance(leaf, str) or leaf.isprintable()))
        file.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (value, old))
        file.commit()
