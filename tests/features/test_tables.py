"""Features as tables: the rows that are packed, numbered and timed, as other engines read them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Prvr, says

from prvr.errors import DataError
from prvr.features import tables
from prvr.features.packed import PackedWriter
from prvr.features.tables import export_parquet

parquet = pytest.importorskip("pyarrow.parquet")

DOCUMENT = Path(__file__).parents[2] / "docs" / "data.md"
ABOUT = {"kind": "frames", "encoder": {"name": "tiny", "fingerprint": "0" * 16}}
ROWS = {"a.mp4": np.arange(12, dtype=np.float16).reshape(3, 4), "b/ü.mp4": np.ones((2, 4), np.float16)}
TIMES = {"a.mp4": [0.0, 0.5, 1.0], "b/ü.mp4": [0.0]}


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    return pack(tmp_path / "frames", ABOUT)


def pack(path: Path, about: dict[str, Any]) -> Path:
    with PackedWriter(path, columns=4, about=about, dtype="float16") as out:
        for id, rows in ROWS.items():
            out.append(id, rows, {"times": TIMES[id]})
    return path


def nothing(*_: object) -> None:
    pass


def test_a_row_for_each_frame(packed: Path, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    assert export_parquet(packed, tmp_path / "in" / "f.parquet", lambda *step: steps.append(step)) == 2
    table = parquet.read_table(tmp_path / "in" / "f.parquet")
    assert table.column_names == ["video", "frame", "seconds", "vector"]
    assert table["video"].to_pylist() == ["a.mp4"] * 3 + ["b/ü.mp4"] * 2
    assert table["frame"].to_pylist() == [0, 1, 2, 0, 1]
    # One time for two rows says nothing about either.
    assert table["seconds"].to_pylist() == [0.0, 0.5, 1.0, None, None]
    assert str(table.schema.field("vector").type) == "fixed_size_list<element: float>[4]"
    assert table["vector"].to_pylist() == np.concatenate(list(ROWS.values())).tolist()
    assert json.loads(table.schema.metadata[b"about"]) == ABOUT
    assert steps == [("b/ü.mp4", 2, 2)]


@pytest.mark.parametrize(("kind", "names"), [("words", ["caption", "word"]), ("sentences", ["caption", "sentence"])])
def test_text_has_no_times(tmp_path: Path, kind: str, names: list[str]) -> None:
    export_parquet(pack(tmp_path / "f", {"kind": kind}), tmp_path / "f.parquet", nothing)
    assert parquet.read_schema(tmp_path / "f.parquet").names == [*names, "vector"]


def test_memory_is_bounded_by_groups_of_rows(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "GROUP_BYTES", 2 * 4 * 4)
    export_parquet(packed, tmp_path / "f.parquet", nothing)
    about = parquet.read_metadata(tmp_path / "f.parquet")
    assert [about.row_group(number).num_rows for number in range(about.num_row_groups)] == [2, 1, 2]
    table = parquet.read_table(tmp_path / "f.parquet")
    assert table["frame"].to_pylist() == [0, 1, 2, 0, 1]
    assert table["seconds"].to_pylist() == [0.0, 0.5, 1.0, None, None]


def test_a_table_is_whole_or_absent(packed: Path, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = sorted(os.listdir(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        export_parquet(packed, tmp_path / "f.parquet", interrupted)
    assert sorted(os.listdir(tmp_path)) == before
    export_parquet(packed, tmp_path / "f.parquet", nothing)
    with pytest.raises(DataError, match="is there already; delete it, or name another file"):
        export_parquet(packed, tmp_path / "f.parquet", nothing)


def test_a_name_that_is_not_text(tmp_path: Path) -> None:
    with PackedWriter(tmp_path / "f", columns=1, about=ABOUT) as out:
        out.append(os.fsdecode(b"caf\xe9.mp4"), np.ones((1, 1)))
    with pytest.raises(DataError, match=r"'caf\\udce9.mp4' is not UTF-8"):
        export_parquet(tmp_path / "f", tmp_path / "f.parquet", nothing)
    assert not (tmp_path / "f.parquet").exists()


def test_the_command(packed: Path, tmp_path: Path, prvr: Prvr) -> None:
    file = tmp_path / "f.parquet"
    assert prvr("data", "export", packed, file).out == f"{file}: 2 items\n"
    assert prvr("data", "export", packed, tmp_path / "f.hdf5", "--json").json["items"] == 2
    says(prvr("data", "export", packed, file), "is there already")
    says(prvr("data", "export", packed, tmp_path / "g.parquet", "--branch", "inheritance"), "--branch", "leave them out")
    says(prvr("data", "export", tmp_path / "none", tmp_path / "g.parquet"), "no packed features in", "index")


# The blocks of docs/data.md, run where their file lies.


def block(language: str) -> str:
    (found,) = re.findall(
        rf"```{language}\n(.*?)```", DOCUMENT.read_text().partition("## Features and embeddings as tables")[2], re.S
    )
    return str(found)


def test_duckdb_reads_it(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb")
    export_parquet(packed, tmp_path / "frames.parquet", nothing)
    monkeypatch.chdir(tmp_path)
    assert duckdb.sql(block("sql")).fetchall() == [("a.mp4", 0.0, pytest.approx(1.0))]


@pytest.mark.slow
def test_lancedb_reads_it(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lancedb = pytest.importorskip("lancedb")
    export_parquet(packed, tmp_path / "frames.parquet", nothing)
    monkeypatch.chdir(tmp_path)
    *before, query = block("python").strip().splitlines()
    names = {"parquet": parquet, "lancedb": lancedb}
    exec("\n".join(before), names)
    (best,) = eval(query, names)
    assert (best["video"], best["frame"], best["seconds"]) == ("a.mp4", 0, 0.0)
