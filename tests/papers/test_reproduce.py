"""The papers' tables: every row builds, a table runs, resumes and is written down, and a sweep agrees with the model."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Prvr

from prvr.config import to_dict
from prvr.datasets.splits import ANNOTATIONS, open_splits
from prvr.errors import DataError, SettingError
from prvr.evaluate.evaluation import evaluate_model
from prvr.evaluate.metrics import retrieval
from prvr.evaluate.rescoring import choose_rescoring
from prvr.evaluate.saved_scores import QueryFacts, SavedScores, load_scores
from prvr.evaluate.sweep import sweep_seeds
from prvr.extract.convert import convert_package
from prvr.features.sources import FeatureSources, Source
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import features_for
from prvr.methods.zero_shot import FIELDS
from prvr.papers import complexity, costs
from prvr.papers.complexity import StepSizes
from prvr.papers.costs import COST_ROWS, CostRow, recipe_and_sources, write_costs
from prvr.papers.plan import Materials, Plan
from prvr.papers.ratios import division_lines, division_values, divisions, draw_divisions
from prvr.papers.row_run import recipe_of
from prvr.papers.run import Scored, score_rows
from prvr.papers.tables import TABLES, Row, Table, table
from prvr.papers.toy import write_toy
from prvr.papers.write import write_table

DOCS = Path(__file__).parents[2] / "docs"
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


TWICE = Plan(seeds=2, changes=QUICK)


@pytest.fixture(scope="module")
def main_results(materials: Materials, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of the rows of `main`, trained with two seeds."""
    out = tmp_path_factory.mktemp("results")
    score_rows(TABLES["main"], out, materials, TWICE, on_progress=silent)
    return out


def kept(out: Path) -> dict[Path, int]:
    """The test runs of a folder, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in out.rglob("test.npz")}


@pytest.mark.parametrize("collection", ["tvr", "activitynet", "charades", "toy", "elsewhere"])
@pytest.mark.parametrize("name", TABLES)
def test_every_row_builds_on_every_data_set(name: str, collection: str) -> None:
    for row in TABLES[name].rows:
        if row.base:
            ours = row.base.startswith("dl-dkd")
            there = vars(recipe_of(row, collection, ()).settings)
            small = [change for change in SMALL if change.partition("=")[0] in there]
            recipe = recipe_of(row, collection, small)
            parts = vars(recipe.settings) | vars(recipe.distillation)
            assert {field: parts[field] for field in row.changes} == row.changes
            columns = 12 + 6 if row.text == "roles" else 12
            made = checkpoints.build(recipe.method, recipe.settings, FeatureSources(Source("f", 20), Source("w", columns)))
            if ours:
                assert len(made.model.embedding_fields) == len(recipe.settings.branches)


def test_the_settings_are_the_published_ones() -> None:
    assert recipe_of(Row("", "dl-dkd++"), "tvr", ()).training.lr == 3e-4
    assert recipe_of(Row("", "dl-dkd++"), "charades", ()).settings.dropout == 0.15
    assert recipe_of(Row("", "dl-dkd"), "activitynet", ()).settings.margin == 0.2
    assert recipe_of(Row("", "dl-dkd"), "tvr", ("margin=0.4",)).settings.margin == 0.4


def test_a_table_runs_once_and_is_written_down(materials: Materials, main_results: Path, tmp_path: Path) -> None:
    main, files = TABLES["main"], kept(main_results)
    assert len(files) == 7
    scored = score_rows(main, main_results, materials, TWICE, on_progress=silent)
    assert kept(main_results) == files
    counted = write_table(main, scored, tmp_path, materials=materials, plan=TWICE, command="prvr reproduce main")
    assert [len(one.runs) for one in scored] == [2, 2, 2, 1]
    values = json.loads((tmp_path / "main.json").read_text())
    assert values["protocol"] == "honest"
    assert values["rows"][1]["published"] == {"R@1": 14.4, "R@5": 34.9, "R@10": 45.8, "R@100": 84.9, "SumR": 179.9}
    figures = [retrieval(run.scores, run.correct).sumr for run in scored[0].runs]
    assert values["rows"][0]["mean"]["SumR"] == pytest.approx(np.mean(figures))
    assert values["rows"][0]["std"]["SumR"] == pytest.approx(np.std(figures, ddof=1))
    assert values["rows"][3]["std"] is None
    effect = values["compared_with_first"]["teacher, zero-shot"]["sumr"]
    assert effect["difference"] == pytest.approx(values["rows"][3]["mean"]["SumR"] - np.mean(figures))
    text = (tmp_path / "main.md").read_text()
    assert text == "\n".join(counted.lines) + "\n"
    for expected in ("Protocol `honest`", "prvr reproduce main", "14.4/34.9/45.8/84.9/179.9", "8 videos", "CPU cores"):
        assert expected in text
    assert re.search(r"\| DL-DKD\+\+ \| [\d.]+ ± [\d.]+ \|", text)


@pytest.mark.slow
def test_prvr_train_repeats_each_run_from_its_recipe(main_results: Path, tmp_path: Path, prvr: Prvr) -> None:
    recipes = sorted(main_results.rglob("seed1/recipe.toml"))
    assert len(recipes) == sum(bool(row.base) for row in TABLES["main"].rows)
    for place, recipe in enumerate(recipes):
        answer = prvr("train", tmp_path / str(place), "--recipe", recipe)
        assert answer.status == 0, (recipe, answer.err)
        weights = [(run / "model.safetensors").read_bytes() for run in (tmp_path / str(place), recipe.parent)]
        assert weights[0] == weights[1], recipe


def test_no_row_is_compared_with_one_that_did_not_learn(materials: Materials, main_results: Path, tmp_path: Path) -> None:
    scored = score_rows(TABLES["main"], main_results, materials, TWICE, on_progress=silent)
    # One of two seeds of the first row.
    marked = dataclasses.replace(scored[0].runs[0], untrained=("exploration",))
    scored[0] = dataclasses.replace(scored[0], runs=(marked, *scored[0].runs[1:]))
    write_table(TABLES["main"], scored, tmp_path, materials=materials, plan=TWICE, command="prvr reproduce main")
    values, text = json.loads((tmp_path / "main.json").read_text()), (tmp_path / "main.md").read_text()
    first, second, *others = (one.row.name for one in scored)
    assert [row["untrained"] for row in values["rows"]] == [["exploration"], [], [], []]
    assert list(values["compared_with_first"]) == others
    assert values["baseline"] == second
    assert f"| against {second} (SumR, 95 %) |" in text
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {first} "))
    assert line.startswith(f"| {first} (did not learn: exploration) | ")
    assert re.search(r"\| {2}\| {2}\| [\d./]*\s*\|$", line)
    assert f"Not compared, because a branch had learned nothing in the epoch that was kept: {first} (did not" in text


def test_what_was_cut_off_goes_on_and_gives_the_same(materials: Materials, tmp_path: Path) -> None:
    plan, decay = Plan(seeds=1, changes=QUICK), TABLES["decay"]
    first = score_rows(decay, tmp_path, materials, plan, on_progress=silent)
    gone = sorted(tmp_path.rglob("test.npz"))[0]
    before = load_scores(gone)
    gone.unlink()
    second = score_rows(decay, tmp_path, materials, plan, on_progress=silent)
    assert np.array_equal(load_scores(gone).scores, before.scores)
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
        curve = sweep_seeds(one.branches, (0.0, 1.0))
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
    latent, concept = (load_scores(next(tmp_path.rglob(name))).scores for name in ("test-latent.npz", "test-concepts.npz"))
    scaled = [(s - s.min()) / (s.max() - s.min()) for s in (latent, concept)]
    np.testing.assert_allclose(published.runs[0].scores, 0.6 * scaled[0] + 0.4 * scaled[1], atol=1e-3)
    assert not np.allclose(own.runs[0].scores, published.runs[0].scores, atol=0.01)


def test_a_row_is_re_scored_as_was_best_on_dev(materials: Materials, tmp_path: Path) -> None:
    plan = Plan(seeds=1, changes=QUICK)
    plus, rescored = (row for row in TABLES["additions"].rows if row.name in ("DL-DKD++", "DL-DKD++ re-scored by anchors"))
    both = dataclasses.replace(TABLES["additions"], rows=(plus, rescored))
    plain, after = (one.runs[0] for one in score_rows(both, tmp_path, materials, plan, on_progress=silent))
    (run,) = {path.parent for path in tmp_path.rglob("history.jsonl")}
    features = features_for(materials.features, student := checkpoints.load(run))
    splits = open_splits(materials.data, protocol="honest", seed=0)
    chosen = choose_rescoring(student, splits.dev, features).rescoring
    expected = evaluate_model(student.model, splits.test, features, rescoring=chosen)
    np.testing.assert_allclose(after.scores, expected.scores, atol=1e-6)
    assert (chosen.weight > 0) == bool((after.scores != plain.scores).any())


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
    with pytest.raises(SettingError, match="unknown table 'complexty'; did you mean 'complexity'"):
        table("complexty")


def test_every_table_is_linked_from_the_papers_page() -> None:
    text = (DOCS / "paper.md").read_text()
    for name in (*TABLES, "complexity"):
        assert f"`prvr reproduce {name} OUT" in text, name


def test_the_published_costs_are_there() -> None:
    assert {one.row.name: one.published for one in COST_ROWS if any(one.published)} == {
        "DL-DKD, RoBERTa, TVR": ("1.04", "4455"),
        "DL-DKD, Bi-GRU, TVR": ("0.98", "4057"),
        "DL-DKD, graph, TVR": ("1.01", "4229"),
        "HGR, graph, TVR": ("2.96", "8555"),
        "Dual Encoding, Bi-GRU, TVR": ("5.24", "5837"),
        "DE++, Bi-GRU, TVR": ("5.30", "3515"),
        "RIVRL, RoBERTa, TVR": ("8.64", "4809"),
        "XML, RoBERTa, TVR": ("0.80", "2451"),
        "ReLoCLNet, RoBERTa, TVR": ("0.96", "2673"),
        "MS-SL, RoBERTa, TVR": ("1.22", "5349"),
    }


@pytest.mark.parametrize("row", COST_ROWS, ids=lambda row: row.row.name)
def test_what_a_row_costs_can_be_counted(row: CostRow) -> None:
    whole, reads = recipe_and_sources(row)
    there = vars(whole.settings)
    small = {key: int(value) for key, value in (change.split("=") for change in SMALL) if key in there}
    recipe = dataclasses.replace(whole, settings=dataclasses.replace(whole.settings, **small))
    reads = dataclasses.replace(reads, frames=Source("frames", 20))
    cost = complexity.complexity(recipe, reads, frames=6, words=3)
    assert min(cost.parameters, cost.video_flops, cost.query_flops) > 0
    about = {"distillation": to_dict(recipe.distillation)}
    made = dataclasses.replace(checkpoints.build(recipe.method, recipe.settings, reads), about=about)
    complexity._steps(made, StepSizes(videos=3, queries=6, frames=6, words=3, teacher_columns=8), torch.device("cpu"))


def test_the_costs_are_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "COST_ROWS", [one for one in COST_ROWS if one.row.base in ("dl-dkd++", "hgr")])
    monkeypatch.setattr(costs, "training_memory", lambda recipe, reads, *, sizes, device: 3 << 20)
    counted = write_costs(tmp_path, command="c", device="cpu", sizes=StepSizes(), on_progress=silent)
    text = (tmp_path / "complexity.md").read_text()
    assert text == "\n".join(counted.lines) + "\n"
    assert "| DL-DKD++, TVR | 5.76 | 1.032 | 0.109 | 1.141 |  | 3 |  |" in text
    assert re.search(r"\| HGR, graph, TVR \| [\d.]+ \| [\d.]+ \| [\d.]+ \| [\d.]+ \| 2\.96 \| 3 \| 8555 \|", text)
    assert text.endswith("\nHGR, graph, TVR reads 20 frames.\n")
    assert json.loads((tmp_path / "complexity.json").read_text())["rows"][1]["published"] == {"GFLOPs": "2.96", "MiB": "8555"}


# By moment-to-video ratio


def test_the_rows_of_main_by_ratio(materials: Materials, main_results: Path, tmp_path: Path) -> None:
    ratio, files = TABLES["ratio"], kept(main_results)
    scored = score_rows(ratio, main_results, materials, TWICE, on_progress=silent)
    # What `main` trained is not trained again.
    assert kept(main_results) == files
    counted = write_table(ratio, scored, tmp_path, materials=materials, plan=TWICE, command="c")
    assert (tmp_path / "ratio.png").read_bytes().startswith(b"\x89PNG")
    assert "ratio.png" in (tmp_path / "ratio.md").read_text()
    found = json.loads((tmp_path / "ratio.json").read_text())["sumr_by_ratio"]
    assert found == counted.values["sumr_by_ratio"]
    bins, sextiles = found["equal_width"], found["sextiles"]
    assert len(bins["groups"]) == 5
    assert len(sextiles["groups"]) == 6
    queries = len(scored[0].runs[0].queries)
    for division in (bins, sextiles):
        assert sum(division["queries"]) == queries
        assert list(division["SumR"]) == [one.row.name for one in scored]
        assert division["SumR"]["teacher, zero-shot"]["std"] is None
    # Of all parts together, each by its queries, it is the SumR of the table.
    for row in counted.values["rows"]:
        parts = zip(bins["SumR"][row["name"]]["mean"], bins["queries"], strict=True)
        whole = sum(mean * count for mean, count in parts if count) / queries
        assert whole == pytest.approx(row["mean"]["SumR"])


def answered(name: str, *ranks: tuple[int, ...], ratios: tuple[float, ...]) -> Scored:
    """A system whose runs rank the own video of each query there, among 20."""
    runs = []
    for of_seed in ranks:
        scores = np.zeros((len(of_seed), 20))
        for row, rank in enumerate(of_seed):
            scores[row, 1:rank] = 2
            scores[row, 0] = 1
        queries, videos = (tuple(f"{kind}{n}" for n in range(count)) for kind, count in (("q", len(of_seed)), ("v", 20)))
        facts = QueryFacts(ratios=np.array(ratios))
        runs.append(SavedScores(scores, queries, videos, np.zeros(len(of_seed), np.int64), facts=facts))
    return Scored(Row(name), tuple(runs))


def test_ratios_by_hand(tmp_path: Path) -> None:
    ratios = (0.1, 0.2, 0.5, 1.0, np.nan)
    first = answered("ours", (1, 2, 7, 1, 1), (1, 1, 20, 1, 20), ratios=ratios)
    # Another row's ratios are not asked, nor is whether it knows any.
    other = answered("other", (20, 20, 20, 20, 1), ratios=(np.nan,) * 5)
    bins, sextiles = divisions([other, first])
    assert bins.groups == ("[0, 0.2]", "(0.2, 0.4]", "(0.4, 0.6]", "(0.6, 0.8]", "(0.8, 1]")
    assert bins.queries == (2, 0, 1, 0, 1)
    assert bins.unknown == 1
    # Ranks 1 and 2: 50 + 100 + 100 + 100; both 1: 400. Rank 7: 0 + 0 + 100 + 100; rank 20: 0 + 0 + 0 + 100.
    np.testing.assert_equal(bins.mean["ours"], [375.0, np.nan, 150.0, np.nan, 400.0])
    np.testing.assert_allclose(bins.std["ours"], [50 / 2**0.5, np.nan, 100 / 2**0.5, np.nan, 0.0])
    assert bins.std["other"] is None
    assert sum(sextiles.queries) == 4
    lines = division_lines(bins)
    assert lines[0].startswith("| SumR by moment / video, bins of equal width | [0, 0.2], 2 queries | (0.2, 0.4], 0 queries |")
    assert "| ours | 375.0 ± 35.4 | – | 150.0 ± 70.7 | – | 400.0 ± 0.0 |" in lines
    assert "| other | 100.0 | – | 100.0 | – | 100.0 |" in lines
    assert lines[-1] == "The ratio of 1 queries is not known."
    assert division_values(bins)["SumR"]["ours"]["mean"] == [375.0, None, 150.0, None, 400.0]
    draw_divisions([bins, sextiles], tmp_path / "p.png", title="t")
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_without_moments_there_are_no_ratios(materials: Materials, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no test query has an annotated moment in a video of known length"):
        divisions([answered("ours", (1, 2), ratios=(np.nan, np.nan))])
    package = tmp_path / "bare" / "tvr"
    shutil.copytree(materials.data, package)
    shutil.rmtree(package / ANNOTATIONS)
    bare = dataclasses.replace(materials, data=package)
    with pytest.raises(
        DataError, match=r"'ratio' needs the moments of the test captions, and tvr has none; .* --annotations DIR"
    ):
        score_rows(TABLES["ratio"], tmp_path / "out", bare, Plan(seeds=1, changes=QUICK), on_progress=silent)
    assert not list((tmp_path / "out").rglob("*.npz"))


# The teacher alone in parts


def test_each_row_of_the_teacher_alone_says_what_it_is() -> None:
    parts = {row.changes.get("parts", "frames"): row.name for row in TABLES["peers"].rows if not row.base}
    assert parts == {
        "frames": "zero-shot, best frame",
        "clips": "zero-shot, best clip",
        "clips_and_frames": "zero-shot, clips and frames",
        "segments": "zero-shot, best segment",
        "propagated": "zero-shot, best segment, propagated",
        "consensus": "zero-shot, consensus of segments (TF-PRVR)",
    }
    assert set(parts) == set(FIELDS)
    names = [row.name for row in TABLES["peers"].rows]
    assert len(set(names)) == len(names)
