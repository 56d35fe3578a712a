"""The index's file: readers beside a writer, and what is said where something is wrong with it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from prvr.errors import DataError, ModelError
from prvr.index import database
from prvr.index.contract import Entry, Header
from prvr.index.database import FORMAT, PAGE_BYTES
from prvr.index.disk import DiskIndex
from prvr.index.measure import exact_search, measure_recall
from prvr.index.place import FILE
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig
from prvr.search.hits import find

COLUMNS = 32
HEADER = Header("0123456789abcdef", "float16", "videos")
MODEL = ZeroShot(ZeroShotConfig(), frame_columns=COLUMNS, word_columns=COLUMNS).eval()
QUERY = (torch.linspace(-1, 1, COLUMNS)[None],)


def entry(id: str, seed: int, *, frames: int = 20) -> Entry:
    rows = np.random.default_rng(seed).normal(size=(frames, COLUMNS)).astype(np.float32)
    return Entry(id, (rows,), (frames,), tuple(float(n) for n in range(frames + 1)), {"seed": seed})


def made(path: Path, *, count: int = 6) -> DiskIndex:
    index = DiskIndex.make(path, MODEL, HEADER)
    index.add([entry(f"{n}.mp4", n) for n in range(count)])
    return index


def found(index: DiskIndex, k: int = 99) -> list[str]:
    return [hit.video for hit in index.search(QUERY, k)[0]]


def test_what_was_added_comes_back(tmp_path: Path) -> None:
    strange = dataclasses.replace(entry("strange/ä \udcff.mp4", 7), windows=(12, 8), edges=None, about={"tags": ["é", None, 1.5]})
    made(tmp_path).add([strange])
    back = DiskIndex(tmp_path, MODEL).fetch(["strange/ä \udcff.mp4", "2.mp4"])
    assert [entry.video for entry in back.values()] == ["strange/ä \udcff.mp4", "2.mp4"]
    for ours, theirs in zip((strange, entry("2.mp4", 2)), back.values(), strict=True):
        assert dataclasses.replace(theirs, fields=()) == dataclasses.replace(ours, fields=())
        np.testing.assert_array_equal(theirs.fields[0], ours.fields[0].astype(np.float16))


def test_a_reader_sees_each_change_of_a_writer_and_the_writer_its_own(tmp_path: Path) -> None:
    writer = made(tmp_path, count=2)
    reader = DiskIndex(tmp_path, MODEL)
    assert sorted(found(reader)) == sorted(found(writer)) == ["0.mp4", "1.mp4"]
    writer.add([entry("2.mp4", 2)])
    assert sorted(found(reader)) == sorted(found(writer)) == ["0.mp4", "1.mp4", "2.mp4"]
    before = reader.search(QUERY, 9)[0]
    writer.add([entry("1.mp4", 50)])
    after = reader.search(QUERY, 9)[0]
    assert {hit.video for hit in before} == {hit.video for hit in after}
    assert {h for h in before if h.video != "1.mp4"} == {h for h in after if h.video != "1.mp4"}
    assert {h for h in before if h.video == "1.mp4"} != {h for h in after if h.video == "1.mp4"}
    writer.delete(["0.mp4", "2.mp4"])
    assert found(reader) == found(writer) == ["1.mp4"]
    assert (reader.ids, reader.count(), "0.mp4" in reader) == (["1.mp4"], 1, False)


def test_a_reader_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, reads = made(tmp_path, count=5), []
    reader = DiskIndex(tmp_path, MODEL)
    real = type(reader._database).codes
    monkeypatch.setattr(type(reader._database), "codes", lambda self, some: reads.extend(some) or real(self, some))
    found(reader)
    assert len(reads) == 5
    writer.add([entry("5.mp4", 5), entry("0.mp4", 60)])
    writer.delete(["1.mp4"])
    assert len(found(reader)) == 5
    assert len(reads) == 7
    found(reader)
    assert len(reads) == 7


def test_only_as_many_are_scored_again_as_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, reads = made(tmp_path, count=200), []
    real = type(index._database).records
    monkeypatch.setattr(type(index._database), "records", lambda self, some: reads.extend(some) or real(self, some))
    best = index.search(QUERY, 3)
    assert best == [row[:3] for row in index.search(QUERY, 200)]
    reads.clear()
    assert index.search(QUERY, 3) == best
    assert 3 <= len(reads) < 60


def test_the_rows_of_a_hit_are_read_and_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, count=40).close()
    index, reads, checks = DiskIndex(tmp_path, MODEL), [], []
    real, checksum = type(index._database).records, database._checksum
    monkeypatch.setattr(type(index._database), "records", lambda self, some: reads.extend(some) or real(self, some))
    monkeypatch.setattr(database, "_checksum", lambda *data: checks.append(1) or checksum(*data))
    (hits,) = find(index, QUERY, 3)
    assert len(hits) == 3
    assert all(hit.spans and hit.branches for hit in hits)
    assert 3 <= len(reads) == len(set(reads)) == len(checks)
    find(index, QUERY, 3)
    assert len(checks) == len(set(reads))


def test_recall_of_the_search_and_of_its_codes(tmp_path: Path) -> None:
    index = made(tmp_path, count=60)
    # Videos that differ by less than codes can tell.
    near = [entry("0.mp4", 0).fields[0] + np.random.default_rng(n).normal(scale=1e-3, size=(20, COLUMNS)) for n in range(20)]
    index.add([Entry(f"near{n}.mp4", (rows.astype(np.float32),), (20,)) for n, rows in enumerate(near)])
    queries = (torch.cat([torch.from_numpy(near[0][:8]).float(), torch.randn(8, COLUMNS, generator=torch.manual_seed(0))]),)
    measured = measure_recall(index, queries)
    assert (measured.queries, measured.k, measured.search) == (16, 10, 1.0)
    assert 0.5 < measured.codes < 1.0
    for exact, row in zip(exact_search(index, queries, 5), index.search(queries, 5), strict=True):
        assert [score for _, score in exact] == pytest.approx([hit.score for hit in row], abs=1e-6)
    assert [id for id, _ in exact] == [hit.video for hit in row]


# Several at once


def test_many_readers_beside_a_writer_see_whole_videos_only(tmp_path: Path) -> None:
    writer, shared = made(tmp_path, count=8), DiskIndex(tmp_path, MODEL)
    known = [exact_score(entry("any", seed)) for seed in range(60)]
    seen: list[float] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def read(index: DiskIndex) -> None:
        try:
            while not done.is_set():
                row = index.search(QUERY, 20)[0]
                assert 6 <= len(row) <= 8
                assert len({hit.video for hit in row}) == len(row)
                seen.extend(hit.score for hit in row)
        except BaseException as problem:
            failed.append(problem)

    readers = [threading.Thread(target=read, args=(index,)) for index in (shared, shared, DiskIndex(tmp_path, MODEL))]
    for reader in readers:
        reader.start()
    for seed in range(8, 60):
        writer.add([entry(f"{seed % 7}.mp4", seed)])
        if seed % 5 == 0:
            writer.delete(["7.mp4", f"{seed % 7}.mp4"])
            writer.add([entry("7.mp4", seed), entry(f"{seed % 7}.mp4", seed)])
    done.set()
    for reader in readers:
        reader.join()
    assert failed == []
    # Every score is one that a whole video has.
    assert len(set(seen)) > 8
    assert all(min(abs(score - one) for one in known) < 1e-6 for score in set(seen))


def exact_score(of: Entry) -> float:
    rows = of.fields[0].astype(np.float16).astype(np.float64)
    query = QUERY[0][0].numpy().astype(np.float64)
    return float((rows @ query / np.linalg.norm(rows, axis=1)).max() / np.linalg.norm(query))


def test_a_second_writer_waits_for_a_video_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path).close()
    monkeypatch.setattr("prvr.index.database.PATIENCE", 0.05)
    index = DiskIndex(tmp_path, MODEL)
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DataError, match=r"another process is writing to .*index\.sqlite; wait for it to end"):
        index.add([entry("new.mp4", 1)])
    # Who reads is not held up.
    assert len(found(index)) == 6
    other.execute("COMMIT")
    index.add([entry("new.mp4", 1)])
    assert len(found(index)) == 7


def test_a_writer_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    index = made(tmp_path, count=3)

    def cut_off() -> None:
        with index._database.writing():
            index._database.put(entry("half.mp4", 1), [])
            index._database.drop("0.mp4")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    assert index.verify() == {}
    assert sorted(found(index)) == ["0.mp4", "1.mp4", "2.mp4"]


def test_a_folder_that_cannot_be_written_to_can_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    index = DiskIndex(tmp_path, MODEL)
    assert len(found(index)) == 6
    with pytest.raises(DataError, match=r"cannot open .*readonly"):
        index.add([entry("new.mp4", 1)])


# Damage


def overwrite(path: Path, table: str, id: str) -> None:
    """Changes bytes within a video's blob, which SQLite itself does not notice."""
    made(path).close()
    with sqlite3.connect(path / FILE) as file:
        (number,) = file.execute("SELECT number FROM videos WHERE id = ?", (id.encode(),)).fetchone()
        with file.blobopen(table, "data", number) as blob:
            blob.seek(100)
            blob.write(b"\x7b\x7c\x7d")
    file.close()


@pytest.mark.parametrize("table", ["rows", "codes"])
def test_damage_within_a_video_is_named_and_never_searched(table: str, tmp_path: Path) -> None:
    overwrite(tmp_path, table, "3.mp4")
    index = DiskIndex(tmp_path, MODEL)
    what = {"rows": "embeddings", "codes": "codes"}[table]
    remedy = rf"the {what} of '3\.mp4' in .* are damaged; .*prvr index verify .* --drop"
    with pytest.raises(ModelError, match=remedy):
        found(index)
    assert list(index.verify()) == ["3.mp4"]
    index.delete(["3.mp4"])
    assert index.verify() == {}
    assert sorted(found(index)) == ["0.mp4", "1.mp4", "2.mp4", "4.mp4", "5.mp4"]


def test_pages_of_nonsense_are_one_line(tmp_path: Path) -> None:
    made(tmp_path, count=60).close()
    whole = (tmp_path / FILE).read_bytes()
    pages, silent, told = len(whole) // PAGE_BYTES, 0, []
    for page in range(pages):
        start = page * PAGE_BYTES
        (tmp_path / FILE).write_bytes(whole[:start] + b"\xa5" * PAGE_BYTES + whole[start + PAGE_BYTES :])
        try:
            index = DiskIndex(tmp_path, MODEL)
            silent += index.verify() == {}
            index.close()
        except ModelError as problem:
            told.append(str(problem))
        with contextlib.suppress(ModelError):
            index = DiskIndex(tmp_path, MODEL)
            assert len(found(index, k=3)) == 3
            index.about()
    assert pages > 10
    assert told
    assert all("\n" not in line and str(tmp_path) in line for line in told)
    # Of a page that holds nothing, nothing can be lost.
    assert silent <= 1


def test_a_file_that_is_cut_short(tmp_path: Path) -> None:
    made(tmp_path, count=60).close()
    whole = (tmp_path / FILE).read_bytes()
    for length in (0, 7, 100, PAGE_BYTES, len(whole) // 2, len(whole) - 1):
        (tmp_path / FILE).write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"damaged|never begun"):
            found(DiskIndex(tmp_path, MODEL))


def test_a_file_of_another_format_or_of_something_else(tmp_path: Path) -> None:
    made(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as file:
        file.execute(f"PRAGMA user_version = {FORMAT + 1}")
    file.close()
    with pytest.raises(ModelError, match=rf"has format {FORMAT + 1}, this prvr reads {FORMAT}; update prvr"):
        DiskIndex(tmp_path, MODEL)
    with sqlite3.connect(tmp_path / FILE) as file:
        file.execute("PRAGMA application_id = 7")
    file.close()
    with pytest.raises(ModelError, match="a database of something else"):
        DiskIndex(tmp_path, MODEL)
    (tmp_path / FILE).write_text("this is not a database" * 1000)
    with pytest.raises(ModelError, match="is damaged"):
        DiskIndex(tmp_path, MODEL)
    with pytest.raises(ModelError, match=r"no index in .*; build one"):
        DiskIndex(tmp_path / "nowhere", MODEL)


# A disk that is full


def test_on_a_full_disk_what_was_finished_stays(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk; it needs a process of its own."""
    code = """
        import resource, sys
        from pathlib import Path
        from tests.index.test_disk import DiskIndex, MODEL, entry, found, made
        from prvr.errors import DataError
        index = made(Path(sys.argv[1]), count=5)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        count = 5
        try:
            for n in range(1000):
                index.add([entry(f"more{n}.mp4", n, frames=200)])
                count += 1
        except DataError as problem:
            print(problem)
        assert len(found(index)) == count and index.verify() == {}
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        index.add([entry("last.mp4", 1)])
        print(count, len(found(DiskIndex(Path(sys.argv[1]), MODEL))))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    line, counts = done.stdout.splitlines()
    assert "make room and run again" in line
    before, after = map(int, counts.split())
    assert after == before + 1 > 6


def test_room_is_given_back(tmp_path: Path) -> None:
    for folder, tidies in ((tmp_path / "tidied", True), (tmp_path / "as it is", False)):
        index = made(folder, count=0)
        index.add([entry(f"{n}.mp4", n, frames=500) for n in range(20)])
        index.delete([f"{n}.mp4" for n in range(15)])
        if tidies:
            index.tidy()
        assert index.verify() == {}
        index.close()
    sizes = [(tmp_path / name / FILE).stat().st_size for name in ("tidied", "as it is")]
    assert sizes[0] < 0.6 * sizes[1]
