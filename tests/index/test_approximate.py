"""Approximate search: offered after it was measured, of the videos that it was measured with, and exact where all are kept."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_encoders import make_textual, make_visual

from benchmarks.index_gallery import World, chunks, easy_queries, hard_queries
from prvr.cli import main
from prvr.errors import DataError, MissingExtra, ModelError, SettingError
from prvr.index import approximate, disk, measure
from prvr.index.conditions import parse
from prvr.index.contract import Entry, Header, Store, require_approximate
from prvr.index.disk import DiskIndex
from prvr.index.exact import ExactIndex
from prvr.index.measure import Measured, Trial, choose_setting, fastest
from prvr.index.place import FILE
from prvr.index.resident import ResidentCodes
from prvr.index.scan import Gallery
from prvr.index.setting import MeasuredSetting, Setting
from prvr.index.stage import FirstStage
from prvr.index.stores import make_store
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.contract import Embeddings, Model
from prvr.methods.dl_dkd import DlDkd, DlDkdConfig
from prvr.methods.ms_sl import MsSl, MsSlConfig
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig
from prvr.search import MODEL, copy_index, open_index, verify_index, zero_shot

COLUMNS = 32
HEADER = Header("0123456789abcdef", "float16", "videos")
ONE_FIELD = ZeroShot(ZeroShotConfig(), frame_columns=COLUMNS, word_columns=COLUMNS).eval()
TWO_FIELDS = DlDkd(DlDkdConfig(hidden=COLUMNS, heads=2, exploration_weight=0.4), frame_columns=6, word_columns=6).eval()
ALL, FEW = Setting(1.0), Setting(0.1)
REMEDY = r"prvr index verify .* --queries FILE --approximate"


def entry(id: str, seed: int, *, fields: int = 1) -> Entry:
    draw = np.random.default_rng(seed)
    rows = tuple(draw.normal(size=(8 + seed % 5, COLUMNS)).astype(np.float32) for _ in range(fields))
    return Entry(id, rows, (len(rows[0]),), None, {"odd": seed % 2})


def queries(count: int = 4, *, fields: int = 1) -> Embeddings:
    draw = torch.manual_seed(1)
    return tuple(torch.randn(count, COLUMNS, generator=draw) for _ in range(fields))


def made(path: Path, count: int = 40, *, model: Model = ONE_FIELD) -> DiskIndex:
    index = DiskIndex.make(path, model, HEADER)
    index.add([entry(f"{n}.mp4", n, fields=len(model.embedding_fields)) for n in range(count)])
    assert len(index.ids) == count
    return index


def keep(index: Any, setting: Setting, asked: Embeddings | None = None) -> Any:
    """The index, with a first stage and a setting that were not measured."""
    fields = len(index.model.embedding_fields)
    learned = index.learn_stage(queries(fields=fields) if asked is None else asked)
    index.keep_setting(setting, learned, recall=1.0, queries=20)
    return index


def of_world(path: Path, world: World) -> DiskIndex:
    index = DiskIndex.make(path, ONE_FIELD, HEADER)
    (fields, starts), *_ = chunks(world)
    index.add([Entry(f"{n:03d}.mp4", (fields[0][a:b],), (b - a,)) for n, (a, b) in enumerate(pairwise(starts.tolist()))])
    return index


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which a scan takes eight seconds, as in a large gallery, and a first stage one."""
    clock = [0.0]
    monkeypatch.setattr(Gallery, "scores_of_each", _told(Gallery.scores_of_each, clock, 8.0))
    monkeypatch.setattr(FirstStage, "candidates", _told(FirstStage.candidates, clock, 1.0))
    monkeypatch.setattr(measure, "perf_counter", lambda: clock[0])


def _told(real: Callable[..., Any], clock: list[float], seconds: float) -> Callable[..., Any]:
    def scores(*arguments: Any) -> Any:
        clock[0] += seconds
        return real(*arguments)

    return scores


# What is found


@pytest.mark.parametrize("model", [ONE_FIELD, TWO_FIELDS], ids=["one field", "two fields"])
def test_where_all_videos_are_kept_the_answer_is_the_exact_one(model: Model, tmp_path: Path) -> None:
    index, asked = made(tmp_path, model=model), queries(fields=len(model.embedding_fields))
    # Before and after codes are in memory.
    before = keep(index, ALL, asked).search_approximately(asked, 5)
    for k in (1, 5, 99):
        exact = index.search(asked, k)
        found = index.search_with_setting(asked, k, setting=ALL, learned=index.learn_stage(asked))
        assert found == index.search_approximately(asked, k) == exact
        assert k != 5 or before == exact
        assert [len(row) for row in exact] == [min(k, 40)] * 4


def test_an_easy_gallery_is_found_whole(large: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(80, columns=COLUMNS, fewest=6, most=12)
    index, asked = of_world(tmp_path, world), (torch.from_numpy(easy_queries(world, 10)[0]),)
    worst, good, better = Setting(0.01), Setting(0.4), Setting(0.9)
    monkeypatch.setattr(measure, "SETTINGS", (worst, good, better))
    told: list[tuple[int, int]] = []
    done = choose_setting(index, asked, least_recall=0.99, on_setting=lambda *numbers: told.append(numbers))
    assert [one.setting for one in done.measured] == [worst, good, better]
    assert done.measured[0].recall < 0.95 < 0.99 <= round(done.measured[1].recall, 9) <= done.measured[2].recall == 1.0
    assert done.kept == done.measured[1]
    assert (done.kept.exact_seconds, done.kept.seconds) == (8.0, 1.0)
    assert told == [(1, 3), (2, 3), (3, 3)]
    exact, found = index.search(asked, 10), index.search_approximately(asked, 10)
    assert sum(len(set(a) & set(b)) for a, b in zip(exact, found, strict=True)) / 100 == done.kept.recall


def test_what_is_found_has_its_exact_score_and_more_kept_finds_more(tmp_path: Path) -> None:
    world = World(80, columns=COLUMNS, fewest=6, most=12)
    index, asked = of_world(tmp_path, world), (torch.from_numpy(hard_queries(world, 8)[0]),)
    exact, shares = index.search(asked, 80), []
    learned = index.learn_stage(asked)
    for kept in (0.1, 0.3, 1.0):
        found = index.search_with_setting(asked, 10, setting=Setting(kept), learned=learned)
        assert all(set(row) <= set(known) for row, known in zip(found, exact, strict=True))
        shares.append(sum(len(set(row) & set(known[:10])) for row, known in zip(found, exact, strict=True)) / 80)
    assert shares == sorted(shares)
    assert shares[0] < 0.9 < shares[-1] == 1.0


def test_conditions_are_met_before_videos_are_kept(tmp_path: Path) -> None:
    index, odd = made(tmp_path), [parse("odd=1")]
    keep(index, FEW)
    found = index.search_approximately(queries(), 10, where=odd)
    assert all(len(row) == 10 and {int(hit.video[:-4]) % 2 for hit in row} == {1} for row in found)
    keep(index, ALL)
    assert index.search_approximately(queries(), 10, where=odd) == index.search(queries(), 10, where=odd)
    assert index.search_approximately(queries(1), 3, where=[parse("odd=2")]) == [[]]
    with pytest.raises(SettingError, match="no video has a field 'od'"):
        index.search_approximately(queries(), 10, where=[parse("od=1")])


def test_sketches_follow_what_another_process_adds_replaces_and_deletes(tmp_path: Path) -> None:
    writer = made(tmp_path)
    keep(writer, ALL)
    reader = DiskIndex(tmp_path, ONE_FIELD)

    def check(count: int) -> None:
        found = reader.search_approximately(queries(), 99)
        assert found == reader.search(queries(), 99) == DiskIndex(tmp_path, ONE_FIELD).search_approximately(queries(), 99)
        assert [len(row) for row in found] == [count] * 4

    check(40)
    writer.add([entry("new.mp4", 90), entry("3.mp4", 91)])
    check(41)
    writer.delete(["0.mp4", "new.mp4"])
    check(39)
    # More than half of what the reader holds: it begins anew.
    writer.delete([f"{n}.mp4" for n in range(25)])
    check(15)
    writer.add([entry("0.mp4", 0)])
    check(16)
    writer.delete(writer.ids)
    check(0)
    writer.add([entry("0.mp4", 0)])
    check(1)


def test_sketches_are_read_once_and_again_when_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, count = keep(made(tmp_path), FEW), []
    real = FirstStage.extend
    monkeypatch.setattr(FirstStage, "extend", lambda self, new: real(self, [(count.append(one[0]), one)[1] for one in new]))
    reader = DiskIndex(tmp_path, ONE_FIELD)
    for _ in range(3):
        reader.search_approximately(queries(), 5)
    assert count == [*range(1, 41)]
    writer.add([entry("new.mp4", 90)])
    reader.search_approximately(queries(), 5)
    assert count[40:] == [41]
    keep(writer, FEW, queries(6))
    del count[:]
    reader.search_approximately(queries(), 5)
    assert count == [*range(1, 42)]


def test_nothing_of_a_video_is_read_to_open_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(made(tmp_path), FEW).close()
    index, read = DiskIndex(tmp_path, ONE_FIELD), []
    for name in ("codes", "records"):
        real = getattr(index._database, name)
        told = partial(lambda real, name, numbers: read.append((name, len(numbers))) or real(numbers), real, name)
        monkeypatch.setattr(index._database, name, told)
    assert len(index.search_approximately(queries(1), 5)[0]) == 5
    assert sum(count for name, count in read if name == "codes") == 5
    assert sum(count for name, count in read if name == "records") <= 5


def test_without_faiss_a_search_is_exact_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    index = keep(made(tmp_path), FEW)
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(disk, "find_spec", lambda name: None)
    for _ in range(2):
        assert index.search_approximately(queries(), 5) == index.search(queries(), 5)
    assert [record.getMessage() for record in caplog.records] == [
        "faiss is not installed, so approximate searches are exact; pip install 'prvr[index]'"
    ]
    with pytest.raises(MissingExtra, match=r"faiss is not installed; pip install 'prvr\[index\]'"):
        index.learn_stage(queries())
    # Videos are still sketched.
    index.add([entry("new.mp4", 90)])
    monkeypatch.undo()
    assert len(DiskIndex(tmp_path, ONE_FIELD).search_approximately(queries(1), 41)[0]) == 41


# What is kept of a measurement


def test_how_many_are_kept_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ((10, 1000), (1, 1000), (20, 1000), (10, 50), (10, 1001))
    assert [Setting(0.03).candidates(*one) for one in asked] == [30, 30, 60, 10, 31]
    # Of more than any gallery has.
    assert Setting(0.03).candidates(10**400, 1000) == 10**400
    assert str(Setting(0.015)) == "1.5% of the videos"
    index, kept = keep(made(tmp_path), Setting(0.5)), []
    real = FirstStage.candidates
    monkeypatch.setattr(FirstStage, "candidates", lambda self, *asked: kept.append(asked[1]) or real(self, *asked))
    index.search_approximately(queries(1), 10)
    # No fewer than were measured, though they are of fewer videos.
    index.delete([f"{n}.mp4" for n in range(10)])
    index.search_approximately(queries(1), 10)
    index.add([entry(f"more{n}.mp4", n) for n in range(10)])
    index.search_approximately(queries(1), 10)
    index.search_approximately(queries(1), 30)
    assert kept == [20, 20, 20, 60]


def test_a_setting_outlives_its_process_and_the_last_one_counts(tmp_path: Path) -> None:
    index = made(tmp_path)
    for one in (FEW, ALL):
        learned = index.learn_stage(queries())
        index.keep_setting(one, learned, recall=0.995, queries=25)
        again = DiskIndex(tmp_path, ONE_FIELD)
        assert again.search_approximately(queries(), 7) == again.search_with_setting(queries(), 7, setting=one, learned=learned)
    with sqlite3.connect(tmp_path / FILE) as file:
        ((text,),) = file.execute("SELECT setting FROM stage_setting").fetchall()
        assert file.execute("SELECT count(*) FROM segments").fetchone() == (40,)
    file.close()
    assert MeasuredSetting.from_json(text) == MeasuredSetting(ALL, 0.995, 25, 40, 40, HEADER.model)
    again.forget_setting()
    with pytest.raises(ModelError, match="no measured setting"):
        index.search_approximately(queries(), 7)
    assert index.verify() == {}


def test_a_sketch_is_written_and_removed_with_its_video(tmp_path: Path) -> None:
    index = keep(made(tmp_path), ALL)
    index.add([entry("3.mp4", 91), entry("new.mp4", 92)])
    index.rearrange({"4.mp4": ("moved.mp4", {}), "5.mp4": ("6.mp4", {}), "6.mp4": ("5.mp4", {})}, delete=["7.mp4"])
    index.delete(["8.mp4"])
    with sqlite3.connect(tmp_path / FILE) as file:
        numbers = [
            [n for (n,) in file.execute(f"SELECT number FROM {table} ORDER BY number")] for table in ("videos", "segments")
        ]
    file.close()
    assert numbers[0] == numbers[1] == index.numbers
    assert index.search_approximately(queries(), 99) == index.search(queries(), 99)


def test_videos_that_came_while_it_was_measured_are_sketched(tmp_path: Path) -> None:
    index, other = made(tmp_path), DiskIndex(tmp_path, ONE_FIELD)
    learned = index.learn_stage(queries())
    other.add([entry("new.mp4", 90)])
    other.delete(["0.mp4"])
    index.keep_setting(ALL, learned, recall=1.0, queries=20)
    assert index.search_approximately(queries(), 99) == index.search(queries(), 99)


def test_videos_that_went_while_it_is_measured_are_no_candidates(tmp_path: Path) -> None:
    index, other = made(tmp_path), DiskIndex(tmp_path, ONE_FIELD)
    learned = index.learn_stage(queries())
    other.delete(["0.mp4"])
    other.add([entry("1.mp4", 90)])
    found = index.search_with_setting(queries(), 99, setting=ALL, learned=learned)
    assert [len(row) for row in found] == [38] * 4
    assert not {hit.video for row in found for hit in row} & {"0.mp4", "1.mp4"}


def test_a_codebook_is_learned_from_few_segments_of_each_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, sizes = made(tmp_path, 10), []
    real = approximate.learn_codebook
    monkeypatch.setattr(approximate, "SAMPLE_OF_VIDEO", 2)
    monkeypatch.setattr(approximate, "learn_codebook", lambda sample, asked: sizes.append(len(sample)) or real(sample, asked))
    assert min(len(sketch.codes) for sketch in index.learn_stage(queries()).sketches.values()) > 2
    assert sizes == [20]


def test_few_of_the_candidates_are_scored_by_all_their_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, scored = made(tmp_path), []
    monkeypatch.setattr(approximate, "PROMISING", 5)
    learned, exact = index.learn_stage(queries()), index.search(queries(), 3)
    real = ResidentCodes.rescore
    monkeypatch.setattr(
        ResidentCodes, "rescore", lambda held, query, numbers: scored.append(len(numbers)) or real(held, query, numbers)
    )
    found = index.search_with_setting(queries(), 3, setting=Setting(0.9), learned=learned)
    assert scored == [15] * 4
    same = [len({hit.video for hit in one} & {hit.video for hit in other}) for one, other in zip(found, exact, strict=True)]
    assert sum(same) >= 11


def test_a_stage_of_an_earlier_version_is_measured_again(tmp_path: Path) -> None:
    index = keep(made(tmp_path), ALL)
    index.close()
    with sqlite3.connect(tmp_path / FILE) as file:
        file.execute("ALTER TABLE segments RENAME TO sketches")
        file.execute("ALTER TABLE stage_setting RENAME TO first_stage")
    file.close()
    index = DiskIndex(tmp_path, ONE_FIELD)
    with pytest.raises(ModelError, match=f"has no measured setting .*{REMEDY}"):
        index.search_approximately(queries(), 5)
    index.add([entry("new.mp4", 90)])
    keep(index, ALL)
    assert index.search_approximately(queries(), 99) == index.search(queries(), 99)
    with sqlite3.connect(tmp_path / FILE) as file:
        tables = {name for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    file.close()
    assert not tables & {"first_stage", "sketches"}


def test_a_stage_begins_anew_where_most_of_its_videos_are_gone(tmp_path: Path) -> None:
    index = keep(made(tmp_path), ALL)
    held = []
    for gone in (0, 20, 25):
        index.delete([f"{n}.mp4" for n in range(gone)])
        assert index.search_approximately(queries(), 99) == index.search(queries(), 99)
        held.append(len(index._approximate.kept()[1]._numbers))
    assert held == [40, 40, 15]


def test_the_fastest_that_finds_enough_and_is_faster_than_the_exact_search() -> None:
    one, two, three, slow = (
        Measured(FEW, *numbers) for numbers in ((0.98, 1.0, 9.0), (0.99, 3.0, 9.0), (1.0, 4.0, 18.0), (1.0, 9.0, 9.0))
    )
    # The machine was half as fast when the third was measured.
    assert fastest([one, two, three, slow], least_recall=0.99) is three
    assert fastest([one, two, slow], least_recall=0.99) is two
    assert fastest([one, two], least_recall=0.9) is one
    assert fastest([one, slow], least_recall=0.99) is None
    # 198 of 200, as a mean over queries.
    assert fastest([Measured(FEW, sum([0.9, 0.9, *[1.0] * 18]) / 20, 1.0, 9.0)], least_recall=0.99)


def test_where_none_is_good_enough_none_is_kept(large: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = made(tmp_path)
    keep(index, ALL)
    monkeypatch.setattr(measure, "SETTINGS", (Setting(0.01),))
    assert choose_setting(index, queries(6), least_recall=0.99).kept is None
    with pytest.raises(ModelError, match="no measured setting"):
        index.search_approximately(queries(), 5)


# What is refused


def test_nothing_is_approximate_before_it_was_measured(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"no measured setting for an approximate search; .*{REMEDY}"):
        made(tmp_path).search_approximately(queries(), 5)


def test_a_gallery_that_has_changed_a_lot_since(tmp_path: Path) -> None:
    index = keep(made(tmp_path), FEW)
    index.add([entry(f"{n}.mp4", 50 + n) for n in range(10)])
    assert len(index.search_approximately(queries(1), 5)[0]) == 5
    index.add([entry("one more.mp4", 99)])
    with pytest.raises(ModelError, match=f"11 videos in .* are newer than the setting .* measured with 40; .*{REMEDY}"):
        index.search_approximately(queries(), 5)
    assert len(index.search(queries(), 5)[0]) == 5
    keep(index, FEW)
    assert len(index.search_approximately(queries(1), 5)[0]) == 5


def test_a_setting_of_another_model(tmp_path: Path) -> None:
    index = keep(made(tmp_path), FEW)
    with sqlite3.connect(tmp_path / FILE) as file:
        file.execute("UPDATE stage_setting SET setting = replace(setting, '0123456789abcdef', 'fedcba9876543210')")
    file.close()
    with pytest.raises(ModelError, match=f"measured with checkpoint fedcba9876543210, not 0123456789abcdef; .*{REMEDY}"):
        index.search_approximately(queries(), 5)


SOUND = MeasuredSetting(FEW, 1.0, 20, 40, 40, HEADER.model).to_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"setting": 1}',
        SOUND[:-5],
        SOUND.replace('"kept": 0.1', '"kept": 2'),
        SOUND.replace('"kept": 0.1', '"kept": null'),
        SOUND.replace('"kept": 0.1', '"kept": 0'),
        SOUND.replace('"kept": 0.1', '"kept": NaN'),
        SOUND.replace('"kept": 0.1', '"kept": "half"'),
        SOUND.replace('"videos": 40', '"videos": Infinity'),
        SOUND.replace('"videos": 40', '"videos": -1'),
        SOUND.replace('"videos": 40', f'"videos": {"9" * 308}'),
        "[" * 5000,
    ],
)
def test_a_damaged_setting(text: str, tmp_path: Path) -> None:
    assert text != SOUND
    index = keep(made(tmp_path, 3), FEW)
    with index._database.writing():
        index._database._connection.execute("UPDATE stage_setting SET setting = ?", (text,))
    with pytest.raises(ModelError, match=f"the setting for an approximate search in .* is damaged: .*; .*{REMEDY}"):
        index.search_approximately(queries(), 5)


def test_a_method_of_another_score_is_refused_by_name(tmp_path: Path) -> None:
    index = DiskIndex.make(tmp_path, MsSl(MsSlConfig(hidden=8, heads=2), frame_columns=6, word_columns=6), HEADER)
    for search in (partial(index.search_approximately, k=5), index.learn_stage):
        with pytest.raises(ModelError, match=r"^MsSl does not score by a weighted sum of best cosines, .* search it exactly$"):
            search(queries())


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda path: ExactIndex(ONE_FIELD), "ExactIndex"),
        (lambda path: make_store(f"shards://{path}", ONE_FIELD, HEADER), "ShardedIndex"),
    ],
)
def test_indexes_elsewhere_are_refused_with_the_reason(make: Callable[[Path], Store], name: str, tmp_path: Path) -> None:
    with pytest.raises(
        SettingError,
        match=f"^{name} is searched where its videos are, and exactly; .* needs the codes of all videos in this process",
    ):
        require_approximate(make(tmp_path))


# By the command line, and by Python


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    root = tmp_path_factory.mktemp("encoder")
    return zero_shot(make_textual(make_visual(root / "tiny", size=[8, 12])), rate=2.0)


@pytest.fixture
def gallery(teacher: Checkpoint, tmp_path: Path) -> Path:
    """An index of 40 videos that nobody filmed, and a file of 24 sentences beside it."""
    path = tmp_path / "gallery"
    checkpoints.save(teacher, path / MODEL)
    index = DiskIndex.make(path, teacher.model, Header(teacher.fingerprint, "float16", str(tmp_path)))
    draw = np.random.default_rng(0)
    index.add(
        [
            Entry(f"{n:02d}.mp4", (draw.normal(size=(6, 288)).astype(np.float32),), (6,), tuple(n / 2 for n in range(7)))
            for n in range(40)
        ]
    )
    index.close()
    who, does, where = ("dog", "cat", "man", "woman"), ("runs", "sits", "cooks"), ("kitchen", "beach")
    sentences = [f"a {a} {b} on the {c}" for a, b, c in product(who, does, where)]
    (tmp_path / "queries.txt").write_text("".join(f"{sentence}\n" for sentence in sentences))
    (tmp_path / "few.txt").write_text("".join(f"{sentence}\n" for sentence in 2 * sentences[:19]))
    return path


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["prvr", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return call


def test_verified_and_then_searched_by_the_command_line(
    large: None, gallery: Path, said: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "SETTINGS", (Setting(0.99),))
    status, _, told = said("search", gallery, "a dog runs", "--approximate")
    assert status == 1
    assert told.startswith(f"prvr: the index in {gallery} has no measured setting for an approximate search; ")
    verify = ("index", "verify", gallery, "--queries", gallery.parent / "queries.txt", "--approximate")
    status, out, told = said(*verify)
    assert (status, told) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == [f"{gallery}: 40 videos, 0 damaged", "24 queries: recall@10 1.0000 against the exact scan"]
    assert lines[3].split("  ") == ["videos that the first stage keeps", "recall@10", "ms a query"]
    assert len({len(line) for line in lines[3:-1]}) == 1
    assert lines[-2].startswith("99% of the videos")
    assert lines[-1] == "kept for prvr search --approximate: 99% of the videos"
    assert len(json.loads(said("search", gallery, "a dog runs", "--approximate", "--json")[1])["hits"]) == 10
    monkeypatch.setattr(measure, "SETTINGS", (Setting(0.01),))
    found = json.loads(said(*verify, "--least-recall", 1, "--json")[1])["first_stages"]
    assert (found["queries"], found["kept"], len(found["measured"])) == (24, None, 1)
    assert found["measured"][0]["setting"] == {"kept": 0.01}
    assert (found["measured"][0]["seconds"], found["measured"][0]["exact_seconds"]) == (1.0, 8.0)
    assert "no measured setting" in said("search", gallery, "a dog runs", "--approximate")[2]
    with sqlite3.connect(gallery / FILE) as file, file.blobopen("rows", "data", 5) as blob:
        blob.write(b"\x99" * 8)
    file.close()
    status, out, _ = said(*verify)
    assert (status, out.splitlines()[1:]) == (1, ["nothing was measured with the queries: remove damaged videos first (--drop)"])


def test_what_is_said_where_nothing_is_good_enough() -> None:
    *_, row, last = Trial(20, (Measured(FEW, 0.5, 0.00123, 0.009),), None).lines(0.99)
    assert row == f"{'10% of the videos':<33}     0.5000        1.23"
    assert last == "none finds 0.99 of the ten best in less time than the exact search; nothing is kept"


def test_what_cannot_be_measured_is_refused_before_anything_is_read(
    gallery: Path, said: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiskIndex, "verify", lambda self: pytest.fail("the index was read"))
    few, enough = gallery.parent / "few.txt", gallery.parent / "queries.txt"
    assert said("index", "verify", gallery, "--approximate")[2].startswith("prvr: first stages are measured by your own queries")
    with pytest.raises(DataError, match=r"few.txt holds 19 different queries, too few to tell .*; write 20 or more"):
        verify_index(gallery, queries=few, least_recall=0.99)
    assert (
        "--least-recall is for --approximate" in said("index", "verify", gallery, "--queries", enough, "--least-recall", 0.9)[2]
    )
    with pytest.raises(SettingError, match=r"the least recall is 99\.0; it is a share"):
        verify_index(gallery, queries=enough, least_recall=99.0)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "faiss", None)
        with pytest.raises(MissingExtra, match=r"faiss is not installed; pip install 'prvr\[index\]'"):
            verify_index(gallery, queries=enough, least_recall=0.99)
    url = f"shards://{gallery.parent / 'shards'}?shards=2"
    copy_index(gallery, url)
    for arguments in (("index", "verify", url, "--queries", enough), ("search", url, "a dog")):
        status, _, told = said(*arguments, "--model", gallery / MODEL, "--approximate")
        assert (status, len(told.splitlines())) == (1, 1)
        assert told.startswith("prvr: ShardedIndex is searched where its videos are, and exactly; ")


@pytest.mark.parametrize("statement", ["UPDATE stage_setting SET crc32 = 0", "UPDATE segments SET crc32 = 0 WHERE number = 7"])
def test_a_damaged_stage_costs_no_video_and_is_measured_again(
    statement: str, large: None, gallery: Path, said: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "SETTINGS", (Setting(0.99),))
    index = open_index(gallery)
    keep(require_approximate(index.index), ALL, index.encode("a cat sits"))
    index.index.close()
    with sqlite3.connect(gallery / FILE) as file:
        file.execute(statement)
    file.close()
    verify = ("index", "verify", gallery, "--drop")
    status, out, told = said(*verify)
    assert (status, out.splitlines(), len(told.splitlines())) == (1, [f"{gallery}: 40 videos, 0 damaged"], 1)
    assert re.match(f"prvr: {gallery}, approximate search: the .* is damaged.*; measure one with .*{REMEDY}", told)
    status, out, told = said(*verify, "--queries", gallery.parent / "queries.txt", "--approximate")
    assert (status, out.splitlines()[-1]) == (1, "kept for prvr search --approximate: 99% of the videos")
    assert told.endswith("; this measurement replaced it\n")
    assert said(*verify)[::2] == (0, "")
    assert open_index(gallery).index.count() == 40


def test_searched_approximately_by_python(gallery: Path) -> None:
    index = open_index(gallery)
    with pytest.raises(ModelError, match="no measured setting"):
        index.search("a dog runs", approximate=True)
    keep(require_approximate(index.index), ALL, index.encode("a cat sits"))
    hits = open_index(gallery).search("a dog runs", k=4, approximate=True)
    assert hits == index.search("a dog runs", k=4)
    assert all(hit.spans for hit in hits)


def test_the_service_searches_approximately_as_the_command_line_does(
    gallery: Path, said: Callable[..., tuple[int, str, str]]
) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from serving import running

    asked = ("search", gallery, "a dog runs", "--approximate")
    with running(gallery) as service:

        def answered(**more: object) -> list[tuple[str, float]]:
            answer = service.client.get("/api/search", params={"q": "a dog runs", "k": 10, **more})
            assert answer.status_code == 200
            return [(hit["video"], hit["score"]) for hit in answer.json()["hits"]]

        refused = service.client.get("/api/search", params={"q": "a dog runs", "approximate": "true"})
        assert refused.status_code == 409
        # The service names no path of its machine.
        status, out, err = said(*asked)
        assert (status, out, err.replace(str(gallery), "INDEX")) == (1, "", f"prvr: {refused.json()['error']}\n")
        assert "has no measured setting for an approximate search; " in refused.json()["error"]
        index = DiskIndex(gallery, ONE_FIELD)
        assert index.count() == 40
        keep(index, Setting(0.25), (torch.randn(4, 288, generator=torch.manual_seed(1)),))
        index.close()
        expected = [(hit["video"], pytest.approx(hit["score"])) for hit in json.loads(said(*asked, "--json")[1])["hits"]]
        assert answered(approximate="true") == expected
        index = DiskIndex(gallery, ONE_FIELD)
        index.forget_setting()
        index.close()
        assert service.client.get("/api/search", params={"q": "a dog runs", "approximate": "true"}).status_code == 409
        assert answered() == answered(approximate="false")
        assert service.client.get("/api/search", params={"q": "a dog", "min_score": "nan"}).status_code == 422


# What is damaged


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE stage_setting SET codebook = x'00'", "the codebook of the first stage is damaged: its checksum differs"),
        ("UPDATE stage_setting SET codebook = 'text'", "the codebook of the first stage is damaged: its checksum differs"),
        ("UPDATE segments SET data = x'00' WHERE number = 7", "the sketch of the video with number 7 is damaged"),
        ("UPDATE segments SET data = zeroblob(999999) WHERE number = 7", "the sketch of the video with number 7 is damaged"),
        ("UPDATE segments SET data = 'text' WHERE number = 7", "the sketch of the video with number 7 is damaged"),
        ("UPDATE segments SET data = substr(data, 2) WHERE number = 7", "the sketch of the video with number 7 is damaged"),
        ("DELETE FROM segments WHERE number < 3", "2 videos in .* have no sketch"),
        ("DELETE FROM segments", "40 videos in .* have no sketch"),
    ],
)
def test_a_damaged_stage_is_one_line_and_the_exact_search_goes_on(statement: str, told: str, tmp_path: Path) -> None:
    index = keep(made(tmp_path), FEW)
    exact = index.search(queries(), 5)
    with sqlite3.connect(tmp_path / FILE) as file:
        file.execute(statement)
    file.close()
    for _ in range(2):
        with pytest.raises(ModelError, match=f"^{told}; .*{REMEDY}"):
            index.search_approximately(queries(), 5)
    assert index.search(queries(), 5) == exact
    assert index.verify() == {}
    assert re.match(told, index.stage_fault() or "") if "DELETE" not in statement else index.stage_fault() is None
    # Nor does it stand in the way of a video that is added.
    index.add([entry("new.mp4", 90)])
    assert "new.mp4" in index
    keep(index, ALL)
    assert index.search_approximately(queries(), 99) == index.search(queries(), 99)
