"""The papers' tables: every row builds, a table runs, resumes and is written down, and a sweep agrees with the model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from prvr import checkpoint as checkpoints
from prvr.checkpoint import Reads, Source
from prvr.convert import convert_package
from prvr.errors import DataError, SettingError
from prvr.metrics import retrieval
from prvr.reproduce.costs import STUDENTS
from prvr.reproduce.run import Materials, Plan, recipe_of, score_rows
from prvr.reproduce.tables import TABLES, Row, Table, table
from prvr.reproduce.write import sweep, write_table
from prvr.runs import load_run
from prvr.toy import write_toy

DOCS = Path(__file__).parent.parent / "docs"
QUICK = ("hidden=8", "heads=2", "epochs=1", "batch_videos=8")
SMALL = ("hidden=8", "heads=2", "latent=8", "concepts=6", "frame_gru=4", "word_gru=4", "filters=4", "segment_filters=4")
LEVELS = ("frame_gru=4", "word_gru=4", "filters=4")


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Materials:
    root = tmp_path_factory.mktemp("reproduce")
    # Under the name of a published collection, so that its settings and figures stand beside ours.
    package = write_toy(root, collection="tvr", train_videos=16, test_videos=8)
    convert_package(package, root / "packed", sampling=None)
    texts = {"words": "words", "roles": "roles"}
    return Materials(package, root / "packed", "toy_frames", texts, ("strong", "second"))


def silent(note: str, done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("collection", ["tvr", "activitynet", "charades", "toy", "elsewhere"])
@pytest.mark.parametrize("name", TABLES)
def test_every_row_builds_on_every_data_set(name: str, collection: str) -> None:
    for row in TABLES[name].rows:
        if row.base:
            ours = row.base.startswith("dl-dkd")
            widths = (12,) if ours else ()
            there = vars(recipe_of(row, collection, (), teacher_columns=widths).settings)
            small = [change for change in SMALL if change.partition("=")[0] in there]
            recipe = recipe_of(row, collection, small, teacher_columns=widths)
            parts = vars(recipe.settings) | (vars(recipe.distillation) if recipe.distillation else {})
            assert {field: parts[field] for field in row.changes} == row.changes
            columns = 12 + 6 if row.text == "roles" else 12
            made = checkpoints.build(recipe.method, recipe.settings, Reads(Source("f", 20), Source("w", columns)))
            if ours:
                assert len(made.model.embedding_fields) == len(recipe.settings.branches)


def test_the_settings_are_the_published_ones() -> None:
    assert recipe_of(Row("", "dl-dkd++"), "tvr", ()).training.lr == 3e-4
    assert recipe_of(Row("", "dl-dkd++"), "charades", ()).settings.dropout == 0.15
    assert recipe_of(Row("", "dl-dkd"), "activitynet", ()).settings.margin == 0.2
    assert recipe_of(Row("", "dl-dkd"), "tvr", ("margin=0.4",)).settings.margin == 0.4


def test_a_table_runs_once_and_is_written_down(materials: Materials, tmp_path: Path) -> None:
    plan, main = Plan(seeds=2, changes=QUICK), TABLES["main"]
    scored = score_rows(main, tmp_path, materials, plan, on_progress=silent)
    counted = write_table(main, scored, tmp_path, materials=materials, plan=plan, command="prvr reproduce main")
    assert [len(one.runs) for one in scored] == [2, 2, 2, 1]
    values = json.loads((tmp_path / "main.json").read_text())
    assert values["protocol"] == "honest"
    assert values["rows"][1]["published"] == {"R@1": 14.4, "R@5": 34.9, "R@10": 45.8, "R@100": 84.9, "SumR": 179.9}
    figures = [retrieval(run.scores, run.correct).sumr for run in scored[0].runs]
    assert values["rows"][0]["mean"]["SumR"] == pytest.approx(np.mean(figures))
    assert values["rows"][0]["std"]["SumR"] == pytest.approx(np.std(figures, ddof=1))
    assert values["rows"][3]["std"] is None
    effect = values["compared with the first row"]["teacher, zero-shot"]["sumr"]
    assert effect["difference"] == pytest.approx(values["rows"][3]["mean"]["SumR"] - np.mean(figures))
    text = (tmp_path / "main.md").read_text()
    assert text == "\n".join(counted.lines) + "\n"
    for expected in ("Protocol `honest`", "prvr reproduce main", "14.4/34.9/45.8/84.9/179.9", "8 videos", "CPU cores"):
        assert expected in text
    assert re.search(r"\| DL-DKD\+\+ \| [\d.]+ ± [\d.]+ \|", text)

    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("test.npz")}
    assert len(files) == 7
    score_rows(main, tmp_path, materials, plan, on_progress=silent)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("test.npz")} == files


def test_what_was_cut_off_goes_on_and_gives_the_same(materials: Materials, tmp_path: Path) -> None:
    plan, decay = Plan(seeds=1, changes=QUICK), TABLES["decay"]
    first = score_rows(decay, tmp_path, materials, plan, on_progress=silent)
    gone = sorted(tmp_path.rglob("test.npz"))[0]
    before = load_run(gone)
    gone.unlink()
    second = score_rows(decay, tmp_path, materials, plan, on_progress=silent)
    assert np.array_equal(load_run(gone).scores, before.scores)
    for one, two in zip(first, second, strict=True):
        assert np.array_equal(one.runs[0].scores, two.runs[0].scores)


def test_tables_share_what_they_have_in_common(materials: Materials, tmp_path: Path) -> None:
    plan = Plan(seeds=1, changes=QUICK)
    score_rows(TABLES["decay"], tmp_path, materials, plan, on_progress=silent)
    runs = {path.parent.name for path in tmp_path.rglob("seed0")}
    assert len(runs) == 4
    score_rows(TABLES["distillation"], tmp_path, materials, plan, on_progress=silent)
    assert len({path.parent.name for path in tmp_path.rglob("seed0")}) == 4 + 3
    community = Plan(seeds=1, changes=QUICK, protocol="community")
    score_rows(TABLES["decay"], tmp_path, materials, community, on_progress=silent)
    assert len({path.parent.name for path in tmp_path.rglob("seed0")}) == 7 + 4


def test_a_sweep_agrees_with_the_model_where_it_was_trained(materials: Materials, tmp_path: Path) -> None:
    plan = Plan(seeds=2, changes=QUICK)
    beta = TABLES["beta"]
    scored = score_rows(beta, tmp_path, materials, plan, on_progress=silent)
    for one in scored:
        for run, (first, second) in zip(one.runs, one.branches, strict=True):
            np.testing.assert_allclose(0.7 * first.scores + 0.3 * second.scores, run.scores, atol=1e-5)
            assert not np.allclose(first.scores, second.scores)
        curve = sweep(one, (0.0, 1.0))
        ends = [[retrieval(run.scores, run.correct).sumr for run in pair] for pair in one.branches]
        assert curve["mean"] == pytest.approx(np.mean(ends, axis=0))
        assert curve["std"] == pytest.approx(np.std(ends, axis=0, ddof=1))
    write_table(beta, scored, tmp_path, materials=materials, plan=plan, command="c")
    assert (tmp_path / "beta.png").read_bytes().startswith(b"\x89PNG")
    assert "| Dual-exploration |" in (tmp_path / "beta.md").read_text()
    assert "beta.png" in (tmp_path / "beta.md").read_text()


def test_dual_encoding_learns_from_a_teacher_by_the_similarities_of_a_batch(materials: Materials, tmp_path: Path) -> None:
    plan, msrvtt = Plan(seeds=1, changes=(*LEVELS, "hidden=8", "epochs=2", "batch_videos=8")), TABLES["msrvtt"]
    scored = score_rows(msrvtt, tmp_path, materials, plan, on_progress=silent)
    assert not np.allclose(scored[0].runs[0].scores, scored[1].runs[0].scores)
    terms = [json.loads(path.read_text().splitlines()[-1])["losses"] for path in sorted(tmp_path.rglob("history.jsonl"))]
    weights = sorted(its["distillation"] for its in terms if "distillation" in its)
    # The same weight in the first epoch, less in the second of the one that decays.
    assert len(weights) == 2
    assert weights[0] / weights[1] == pytest.approx(0.95, abs=0.02)
    assert [sorted(its) for its in terms].count(["triplet"]) == 1


def test_the_published_fusion_is_over_the_whole_test(materials: Materials, tmp_path: Path) -> None:
    plan = Plan(seeds=1, changes=(*LEVELS, "latent=8", "concepts=6", "epochs=2", "batch_videos=8"))
    own, published, _ = score_rows(TABLES["fusion"], tmp_path, materials, plan, on_progress=silent)
    assert len(list(tmp_path.rglob("history.jsonl"))) == 2
    latent, concept = (load_run(next(tmp_path.rglob(name))).scores for name in ("test-latent.npz", "test-concepts.npz"))
    scaled = [(s - s.min()) / (s.max() - s.min()) for s in (latent, concept)]
    np.testing.assert_allclose(published.runs[0].scores, 0.6 * scaled[0] + 0.4 * scaled[1], atol=1e-3)
    assert not np.allclose(own.runs[0].scores, published.runs[0].scores, atol=0.01)


def test_a_row_without_its_features_is_left_out_and_says_so(materials: Materials, tmp_path: Path) -> None:
    plan, text = Plan(seeds=1, changes=QUICK), TABLES["text"]
    scored = score_rows(text, tmp_path, materials, plan, on_progress=silent)
    assert [bool(one.left_out) for one in scored] == [False, True, False]
    write_table(text, scored, tmp_path, materials=materials, plan=plan, command="c")
    assert (
        "Bi-GRU was left out: it reads caption features of the kind 'vectors', and none were named (--vectors NAME)."
        in (tmp_path / "text.md").read_text()
    )


def test_a_table_that_cannot_be_run_at_all_is_refused(materials: Materials, tmp_path: Path) -> None:
    alone = Table("t", "t", "s", "c", (Row("both", teachers=(0, 5)),))
    with pytest.raises(DataError, match="no row of 't' can be run: it needs 6 teachers, and 2 were named"):
        score_rows(alone, tmp_path, materials, Plan(seeds=1), on_progress=silent)
    with pytest.raises(SettingError, match="seeds is 0"):
        Plan(seeds=0)
    with pytest.raises(SettingError, match="unknown table 'decya'; did you mean 'decay'"):
        table("decya")


def test_every_table_is_linked_from_the_papers_page() -> None:
    text = (DOCS / "paper.md").read_text()
    for name in (*TABLES, "complexity"):
        assert f"`prvr reproduce {name} OUT" in text, name


def test_the_published_costs_are_there() -> None:
    published = {name: (flops, memory) for name, *_, flops, memory in STUDENTS if flops}
    assert published == {
        "DL-DKD, RoBERTa, TVR": ("1.04", "4455"),
        "DL-DKD, Bi-GRU, TVR": ("0.98", "4057"),
        "DL-DKD, graph, TVR": ("1.01", "4229"),
    }
