"""The packed format: what was acknowledged is there, whole, whatever happens to the writer."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prvr.errors import DataError
from prvr.features.compaction import compact, remove, tidy
from prvr.features.packed import AsRead, Packed, PackedWriter

ABOUT = {"kind": "test"}


def rows(count: int, seed: int = 0, columns: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, columns)).astype(np.float32)


def writer(path: Path, **changes: Any) -> PackedWriter:
    return PackedWriter(path, **{"columns": 3, "about": ABOUT, **changes})


def assert_holds(path: Path, items: dict[str, np.ndarray]) -> None:
    features = Packed(path)
    assert set(features) == set(items)
    for id, wanted in items.items():
        np.testing.assert_array_equal(features[id], wanted)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with writer(tmp_path / "f") as out:
        out.append("a", rows(4, 1), {"times": [0.0, 1.0]})
        out.extend([("b", rows(1, 2), {}), ("ü\n", rows(2, 3), {})])
        np.testing.assert_array_equal(out.features["b"], rows(1, 2))
    assert_holds(tmp_path / "f", {"a": rows(4, 1), "b": rows(1, 2), "ü\n": rows(2, 3)})
    assert Packed(tmp_path / "f").info("a") == {"times": [0.0, 1.0]}


def test_a_name_that_is_not_utf8_is_an_id(tmp_path: Path) -> None:
    id = os.fsdecode(b"caf\xe9.mp4")
    with writer(tmp_path / "f") as out:
        out.append(id, rows(2))
    assert_holds(tmp_path / "f", {id: rows(2)})


def test_what_a_killed_writer_left_is_taken_away_and_nothing_else(tmp_path: Path) -> None:
    with writer(tmp_path / "f") as out:
        out.append("a", rows(4, 1))
        out.append("b", rows(2, 2))
        out.delete("b")
    files = {path: path.read_bytes() for path in (tmp_path / "f").iterdir()}
    for name, data in (("rows.bin", bytes(5 * 12)), ("items.jsonl", b'{"id": "c", "off')):
        with open(tmp_path / "f" / name, "ab") as file:
            file.write(data)
    writer(tmp_path / "f").close()
    # Six rows: those of an item that was deleted stay, for whoever still reads them.
    assert {path: path.read_bytes() for path in (tmp_path / "f").iterdir()} == files


def test_a_checksum_for_each_item(tmp_path: Path) -> None:
    with writer(tmp_path / "f") as out:
        out.extend([("a", rows(4, 1), {}), ("b", rows(2, 2), {})])
    path = tmp_path / "f" / "rows.bin"
    data = path.read_bytes()
    assert [json.loads(line)["crc32"] for line in (tmp_path / "f" / "items.jsonl").read_text().splitlines()] == [
        zlib.crc32(data[:48]),
        zlib.crc32(data[48:]),
    ]
    path.write_bytes(data[:50] + bytes([data[50] ^ 4]) + data[51:])
    features = Packed(tmp_path / "f")
    assert [features.is_sound(id) for id in "ab"] == [True, False]
    journal = tmp_path / "f" / "items.jsonl"
    journal.write_text(re.sub(r'"crc32": \d+, ', "", journal.read_text()))
    assert [Packed(tmp_path / "f").is_sound(id) for id in "ab"] == [None, None]


def test_rows_that_were_prepared_are_marked_in_every_view(tmp_path: Path) -> None:
    for unit in (True, False):
        with writer(tmp_path / str(unit), about={"read": {"most": 9, "unit": unit}}) as out:
            out.append("a", rows(4), {"of": 30})
            out.append("b", rows(4))
            assert isinstance(out.features["a"], AsRead) == unit
        features = Packed(tmp_path / str(unit))
        assert isinstance(features["a"][:2], AsRead) == unit
        assert [features.rows_before(id) for id in "ab"] == [30, 4]
        with pytest.raises(ValueError, match="read-only"):
            features["a"][0] = 1


def test_replace_delete_and_reopen(tmp_path: Path) -> None:
    with writer(tmp_path / "f") as out:
        out.append("a", rows(4, 1))
        out.append("b", rows(2, 2))
        out.append("a", rows(3, 3))
        out.delete("b")
        out.delete("never there")
    with writer(tmp_path / "f") as out:
        assert "b" not in out.features
        out.append("c", rows(1, 4))
    assert_holds(tmp_path / "f", {"a": rows(3, 3), "c": rows(1, 4)})


def test_float16(tmp_path: Path) -> None:
    with writer(tmp_path / "f", dtype="float16") as out:
        out.append("a", rows(2))
        with pytest.raises(DataError, match="beyond float16"):
            out.append("b", np.full((1, 3), 1e6, np.float32))
    assert Packed(tmp_path / "f")["a"].dtype == np.float16


@pytest.mark.parametrize(
    "bad",
    [np.array([[0, np.nan, 0]]), np.array([[0, np.inf, 0]]), np.zeros((2, 4)), np.zeros((0, 3)), np.zeros(3)],
    ids=["nan", "inf", "other columns", "no rows", "no matrix"],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_changes(tmp_path: Path, bad: np.ndarray) -> None:
    with writer(tmp_path / "f") as out:
        out.append("a", rows(2))
        with pytest.raises(DataError, match="'b'"):
            out.extend([("c", rows(1), {}), ("b", bad, {})])
    assert_holds(tmp_path / "f", {"a": rows(2)})


@pytest.mark.parametrize("changes", [{"columns": 4}, {"about": {"kind": "other"}}, {"dtype": "float16"}])
def test_a_folder_of_another_origin_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    writer(tmp_path / "f").close()
    with pytest.raises(DataError, match="was made with"):
        writer(tmp_path / "f", **changes)
    writer(tmp_path / "f").close()


def test_the_latest_source_is_remembered_and_need_not_match(tmp_path: Path) -> None:
    with writer(tmp_path / "f", source="old/place") as out:
        out.append("a", rows(2))
    with writer(tmp_path / "f", source="new/place") as out:
        assert out.features.source == "new/place"
    assert Packed(tmp_path / "f").source == "new/place"
    assert_holds(tmp_path / "f", {"a": rows(2)})


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with writer(tmp_path / "f"):
        with pytest.raises(DataError, match="another process is writing"):
            writer(tmp_path / "f")
        with pytest.raises(DataError, match="another process is writing"):
            compact(tmp_path / "f")
    writer(tmp_path / "f").close()


def test_a_reader_sees_what_is_added_after_refresh(tmp_path: Path) -> None:
    with writer(tmp_path / "f") as out:
        out.append("a", rows(2, 1))
        reader = Packed(tmp_path / "f")
        np.testing.assert_array_equal(reader["a"], rows(2, 1))
        out.append("b", rows(2, 2))
        assert "b" not in reader
        reader.refresh()
        np.testing.assert_array_equal(reader["b"], rows(2, 2))


def test_a_journal_line_that_was_not_finished_is_as_if_never_begun(tmp_path: Path) -> None:
    with writer(tmp_path / "f") as out:
        out.append("a", rows(2, 1))
        out.append("b", rows(2, 2))
    journal = tmp_path / "f" / "items.jsonl"
    journal.write_bytes(journal.read_bytes()[:-5])
    with open(tmp_path / "f" / "rows.bin", "ab") as file:
        file.write(b"\x01\x02\x03")
    assert_holds(tmp_path / "f", {"a": rows(2, 1)})
    with writer(tmp_path / "f") as out:
        out.append("c", rows(3, 3))
    assert_holds(tmp_path / "f", {"a": rows(2, 1), "c": rows(3, 3)})


@pytest.mark.parametrize("text", ["5", "[]", '{"most": 3}', '{"most": "3", "unit": true}', '{"most": 3, "unit": "no"}'])
def test_a_broken_read_is_named(tmp_path: Path, text: str) -> None:
    with writer(tmp_path / "f") as out:
        out.append("a", rows(2))
    header = tmp_path / "f" / "packed.json"
    header.write_text(header.read_text().replace('"kind": "test"', f'"read": {text}'))
    with pytest.raises(DataError, match=r"packed.json is broken"):
        Packed(tmp_path / "f")


@pytest.mark.parametrize("text", ["{broken\n", "[1]\n", "{}\n", '{"dtype": "float32", "columns": 3, "id": "a"}\n'])
@pytest.mark.parametrize("name", ["items.jsonl", "packed.json"])
def test_a_broken_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    with writer(tmp_path / "f") as out:
        out.append("a", rows(2))
    (tmp_path / "f" / name).write_text(text)
    with pytest.raises(DataError, match=name):
        Packed(tmp_path / "f")


def test_rows_cut_short_are_refused_by_reader_and_writer(tmp_path: Path) -> None:
    with writer(tmp_path / "f") as out:
        out.append("a", rows(2))
        out.append("b", rows(2))
    os.truncate(tmp_path / "f" / "rows.bin", 3 * 12 + 5)
    for opened in (lambda: Packed(tmp_path / "f"), lambda: writer(tmp_path / "f")):
        with pytest.raises(DataError, match=r"cut short: it lacks rows of 1 items, 'b' first"):
            opened()
    (tmp_path / "f" / "rows.bin").unlink()
    with pytest.raises(DataError, match="cut short"):
        Packed(tmp_path / "f")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no features in"):
        Packed(tmp_path / "nowhere")


def test_compact_drops_dead_space_only(tmp_path: Path) -> None:
    with writer(tmp_path / "f", source="place") as out:
        out.append("a", rows(100, 1), {"times": [1]})
        out.append("b", rows(5, 2))
        out.append("a", rows(3, 3), {"times": [2]})
        out.delete("b")
    compact(tmp_path / "f")
    assert_holds(tmp_path / "f", {"a": rows(3, 3)})
    assert Packed(tmp_path / "f").info("a") == {"times": [2]}
    assert Packed(tmp_path / "f").source == "place"
    assert (tmp_path / "f" / "rows.bin").stat().st_size == 3 * 3 * 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "f.lock"]


def test_tidy_waits_until_more_than_half_is_dead(tmp_path: Path) -> None:
    with writer(tmp_path / "f") as out:
        out.append("a", rows(10, 1))
        out.append("b", rows(10, 2))
        out.delete("a")
    tidy(tmp_path / "f")
    assert Packed(tmp_path / "f").dead_rows == 10
    with writer(tmp_path / "f") as out:
        out.append("b", rows(2, 3))
    tidy(tmp_path / "f")
    assert_holds(tmp_path / "f", {"b": rows(2, 3)})
    assert (Packed(tmp_path / "f").dead_rows, Packed(tmp_path / "f").stored_rows) == (0, 2)


def test_a_kill_between_the_renames_of_compact_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writer(tmp_path / "f") as out:
        out.append("a", rows(10, 1))
        out.append("a", rows(4, 2))
    real, renamed = Path.rename, []

    def killed(self: Path, target: Path) -> Path:
        renamed.append(target)
        if len(renamed) == 2:
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            compact(tmp_path / "f")
    with writer(tmp_path / "f") as out:
        out.append("b", rows(1, 3))
    assert_holds(tmp_path / "f", {"a": rows(4, 2), "b": rows(1, 3)})


def test_a_kill_before_the_old_folder_is_removed_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writer(tmp_path / "f") as out:
        out.append("a", rows(10, 1))
        out.append("a", rows(4, 2))
    with monkeypatch.context() as patch:
        patch.setattr("prvr.features.compaction.shutil.rmtree", lambda *_, **__: None)
        compact(tmp_path / "f")
    assert (tmp_path / "f.old").exists()
    with writer(tmp_path / "f") as out:
        out.append("a", rows(2, 3))
    compact(tmp_path / "f")
    assert_holds(tmp_path / "f", {"a": rows(2, 3)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "f.lock"]


def test_an_item_is_annotated_without_new_rows(tmp_path: Path) -> None:
    with writer(tmp_path / "f") as out:
        out.append("a", rows(3, 1), {"n": 1})
        out.append("b", rows(2, 2))
        out.annotate("a", {"n": 2})
        assert out.features.info("a") == {"n": 2}
        assert out.features.stored_rows == 5
    assert_holds(tmp_path / "f", {"a": rows(3, 1), "b": rows(2, 2)})
    features = Packed(tmp_path / "f")
    assert (features.info("a"), features.is_sound("a"), features.dead_rows) == ({"n": 2}, True, 0)


def test_removing_leaves_what_is_of_others(tmp_path: Path) -> None:
    for name in ("f", "g"):
        with writer(tmp_path / name) as out:
            out.append("a", rows(3))
    (tmp_path / "f" / "notes.txt").touch()
    with writer(tmp_path / "f"), pytest.raises(DataError, match="another process is writing"):
        remove(tmp_path / "f")
    assert_holds(tmp_path / "f", {"a": rows(3)})
    remove(tmp_path / "f")
    remove(tmp_path / "g")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["f", "f/notes.txt"]


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what is written last is written in part, then fails, as on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_keeps_what_is_whole_and_the_writer_goes_on(tmp_path: Path) -> None:
    with writer(tmp_path / "f") as out:
        out.append("a", rows(10, 1))
        with disk_of(10 * 12 + 100), pytest.raises(OSError, match="large"):
            out.append("b", rows(20, 2))
        assert_holds(tmp_path / "f", {"a": rows(10, 1)})
        out.append("c", rows(3, 3))
        with disk_of((tmp_path / "f" / "items.jsonl").stat().st_size + 20), pytest.raises(OSError, match="large"):
            out.append("d", rows(1, 4), {"text": "x" * 200})
        out.append("e", rows(2, 5))
    assert_holds(tmp_path / "f", {"a": rows(10, 1), "c": rows(3, 3), "e": rows(2, 5)})


KILLED = """
import sys, numpy as np
from pathlib import Path
from prvr.features.packed import PackedWriter
with PackedWriter(Path(sys.argv[1]), columns=64, about={}) as out:
    for n in range(100000):
        out.append(str(n), np.full((1 + n % 50, 64), n, np.float32), {"n": n})
        print(n, flush=True)
"""


def test_a_killed_writer_leaves_every_acknowledged_item(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "f")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line == "60\n":
            process.kill()
            break
    acknowledged = max([60, *map(int, process.stdout.read().split())])
    process.stdout.close()
    process.wait()
    features = Packed(tmp_path / "f")
    assert set(map(str, range(acknowledged + 1))) <= set(features)
    for id in features:
        np.testing.assert_array_equal(features[id], np.full((1 + int(id) % 50, 64), int(id)))
    journal = (tmp_path / "f" / "items.jsonl").read_text().splitlines()
    assert json.loads(journal[0])["id"] == "0"


def test_rows_that_were_released_are_found_where_another_process_has_moved_them(tmp_path: Path) -> None:
    with PackedWriter(tmp_path / "f", columns=2, about={}) as out:
        for number in range(4):
            out.append(str(number), np.full((2, 2), number, np.float32))
    features = Packed(tmp_path / "f")
    assert features["2"][0, 0] == 2
    features.release()
    with PackedWriter(tmp_path / "f", columns=2, about={}) as out:
        out.delete("0")
        out.delete("1")
    compact(tmp_path / "f")
    assert [float(features[name][0, 0]) for name in "23"] == [2, 3]
