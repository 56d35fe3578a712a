"""The file of an index after somebody changed it: one line that says what is damaged and what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from prvr.errors import ModelError
from prvr.index.codes import quantise
from prvr.index.contract import Entry, Header
from prvr.index.database import Database

SHAPES = ["[[1, 2]]", "[[4, 3]]", "[]", "x", "{}", "5", "[[-3, -4]]", "[[1e400, 4]]", "[[3]]", '[["a", "b"]]', "[" * 5000]
REPLACED = ["data = x''", "data = 'text'", "data = zeroblob(5)", "data = zeroblob(10000000)", "crc32 = 'x'"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "index.sqlite"
    database = Database.make(path, Header("model", "float16", "videos"))
    with database.writing():
        for video in ("a", "b"):
            rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float16)
            database.put(Entry(video, (rows,), (3,), (0.0, 1.0, 2.0, 3.0)), [quantise(rows.astype(np.float32))])
    database.close()
    return path


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def read_all(path: Path) -> None:
    database = Database(path)
    try:
        with database.reading():
            for number in database.videos.values():
                database.codes([number])
                database.record(number).entry()
                database.about(number)
    finally:
        database.close()


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as problem:
        read_all(path)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def test_the_file_itself_is_read(path: Path) -> None:
    read_all(path)


@pytest.mark.parametrize("shapes", SHAPES, ids=lambda text: text[:12])
def test_shapes_that_do_not_fit(path: Path, shapes: str) -> None:
    change(path, f"UPDATE videos SET shapes = '{shapes}'")
    assert "the shapes of 'a'" in refusal(path)
    assert "prvr index verify" in refusal(path)


@pytest.mark.parametrize("table", ["rows", "codes"])
@pytest.mark.parametrize("replaced", REPLACED)
def test_bytes_that_do_not_fit(path: Path, table: str, replaced: str) -> None:
    change(path, f"UPDATE {table} SET {replaced}")
    assert "'a'" in refusal(path)


def test_a_video_of_another_width(path: Path) -> None:
    database = Database(path)
    with database.writing():
        rows = np.ones((2, 5), np.float16)
        database.put(Entry("c", (rows,), (2,)), [quantise(rows.astype(np.float32))])
    database.close()
    assert "the shapes of 'c'" in refusal(path)


@pytest.mark.parametrize("part", ["scales", "errors"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 3e38])
def test_codes_that_are_changed_with_their_checksum(path: Path, part: str, value: float) -> None:
    rows = np.ones((3, 4), np.float16)
    codes = quantise(rows.astype(np.float32))
    getattr(codes, part)[1] = value
    database = Database(path)
    with database.writing():
        database.put(Entry("a", (rows,), (3,)), [codes])
    database.close()
    assert "the codes of 'a' in" in refusal(path)
    assert "prvr index verify" in refusal(path)


@pytest.mark.parametrize("column", ["windows", "edges", "about"])
@pytest.mark.parametrize("text", ["[NaN]", "[", '"x"', "5", "[" * 5000])
def test_texts_that_are_changed(path: Path, column: str, text: str) -> None:
    change(path, f"UPDATE videos SET {column} = '{text}'")
    assert "of 'a'" in refusal(path)


def test_texts_that_are_changed_with_their_checksum(path: Path) -> None:
    database = Database(path)
    with database.writing():
        rows = np.ones((3, 4), np.float16)
        database.put(Entry("a", (rows,), (3,), (0.0, float("nan"), 2.0, 3.0)), [quantise(rows.astype(np.float32))])
    database.close()
    assert "the times of 'a' are damaged" in refusal(path)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM header", "the header of"),
        ("UPDATE header SET dtype = 'float99'", "the header of"),
        ("UPDATE header SET videos = x'ff'", "the header of"),
        ("DROP TABLE header", "is damaged"),
        ("DROP TABLE videos", "is damaged"),
        ("ALTER TABLE videos RENAME COLUMN about TO abuot", "is damaged"),
        ("DELETE FROM rows", "number 1"),
        ("DELETE FROM codes", "number 1"),
        ("UPDATE videos SET id = 'text' || number", "'text1'"),
        ("PRAGMA user_version = 99", "update prvr"),
        ("PRAGMA user_version = 1", "has format 1"),
        ("PRAGMA application_id = 7", "a database of something else"),
    ],
)
def test_tables_that_are_changed(path: Path, statement: str, said: str) -> None:
    change(path, statement)
    assert said in refusal(path)


@pytest.mark.parametrize("content", [b"", b"no database, but a text" * 99, b"SQLite format 3\0" + bytes(5000)])
def test_files_that_are_no_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for beside in path.parent.glob("index.sqlite-*"):
        beside.unlink()
    assert str(path.parent) in refusal(path)


@pytest.mark.parametrize("seed", range(4))
def test_bytes_changed_anywhere(path: Path, seed: int) -> None:
    whole, draw, said = path.read_bytes(), np.random.default_rng(seed), list[str]()
    for _ in range(25):
        data = bytearray(whole)
        for place in draw.integers(0, len(data), 200):
            data[place] = draw.integers(0, 256)
        path.write_bytes(data if seed % 2 else data[: draw.integers(1, len(data))])
        try:
            read_all(path)
        except ModelError as problem:
            said.append(str(problem))
    assert said
    assert "\n" not in "".join(said)
