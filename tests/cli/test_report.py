"""`prvr report` as one types it, on a small package and runs trained on it, and that every command of docs/report.md runs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from commands import Answer, Prvr, says

from prvr.datasets.splits import open_split
from prvr.errors import DataError
from prvr.evaluate.saved_scores import load_scores
from prvr.extract.convert import convert_package
from prvr.index.encode import add_videos, encode_queries
from prvr.index.exact import ExactIndex
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import features_for
from prvr.papers.plan import Materials, Plan
from prvr.papers.run import score_rows
from prvr.papers.tables import Row, Table
from prvr.papers.toy import write_toy
from prvr.papers.write import write_table
from prvr.report.queries import read_profiles
from prvr.report.scoring import DatasetScorer
from prvr.report.write import write_report
from prvr.search.hits import moment
from tests.report.test_build import Page

QUICK = ("hidden=8", "heads=2", "epochs=2", "batch_videos=8")
DATA = ("--data", "packages/tvr", "--features", "features/tvr")
DOCUMENT = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
TABLE = Table("main", "a title", "a source", "a claim", (Row("hybrid"), Row("teacher, zero-shot", base="")))


def refused(answer: Answer, *parts: str) -> None:
    says(answer, *parts)
    assert not list(Path().glob("*.html*"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with its features, a folder of `prvr reproduce` on it, and runs as `prvr train` leaves them."""
    root = tmp_path_factory.mktemp("report")
    package = write_toy(root / "packages", collection="tvr", train_videos=16, test_videos=8)
    convert_package(package, root / "features" / "tvr", sampling=None)
    materials = Materials(package, root / "features" / "tvr", "toy_frames", {"words": "words"}, ("strong",))
    plan = Plan(1, changes=QUICK)
    results = root / "results"
    scored = score_rows(TABLE, results, materials, plan, on_progress=lambda note, done, total: None)
    write_table(TABLE, scored, results, materials=materials, plan=plan, command="prvr reproduce main")
    (student,) = results.glob("runs/dl-dkd-*/seed0")
    (teacher,) = results.glob("runs/zero-shot-*/seed0")
    shutil.copy(teacher / "test.npz", root / "teacher.npz")
    for name in ("run", "run2"):
        shutil.copytree(student, root / name)
    (root / "run" / "test.npz").unlink()
    return root


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_a_run_and_its_data_fill_the_page(prvr: Prvr, place: Path) -> None:
    before = sorted(Path("run").iterdir())
    answer = prvr("report", "run", *DATA, "--out", "page.html", "--json")
    assert answer.status == 0, answer.err
    value = json.loads(answer.out)
    assert value["systems"] == ["run"]
    scorer = DatasetScorer(Path("packages/tvr"), Path("features/tvr"))
    made = write_report(["run"], "own.html", scorer=scorer, command=f"prvr report run {' '.join(DATA)} --out page.html --json")
    assert made.as_dict() == {**value, "report": "own.html"}
    assert Path("own.html").read_bytes() == Path("page.html").read_bytes()
    assert value["bytes"] == Path("page.html").stat().st_size < 100_000
    assert [line for line in value["missing"] if not line.startswith("No tests")] == []
    assert sorted(Path("run").iterdir()) == before
    page = Page(Path("page.html").read_text())
    # What the run answered when it was asked here is what was kept when it was trained.
    assert prvr("report", "run2", "--out", "kept.html").status == 0
    kept = Page(Path("kept.html").read_text())
    assert page.tables["systems"][0][1][1:] == kept.tables["systems"][0][1][1:]
    assert [row[2:] for row in page.tables["ratio"][0]] == [row[2:] for row in kept.tables["ratio"][0]]
    charts = [a["aria-label"] or "" for tag, a in page.tags if tag == "svg" and "aria-label" in a]
    assert sum(label.startswith("relevance over the video") for label in charts) == 10
    # The student's own weight of the second branch, 0.3, gives the student's own SumR.
    head, row = page.tables["beta"][0]
    assert row[head.index("0.3")] == page.tables["systems"][0][1][page.tables["systems"][0][0].index("SumR")]


def test_profiles_are_what_search_shows(place: Path) -> None:
    checkpoint, dataset = checkpoints.load("run"), open_split("packages/tvr", "test")
    features = features_for("features/tvr", checkpoint)
    wanted = [caption.id for caption in dataset.captions[:5]]
    found = read_profiles(checkpoint, dataset, features, wanted)
    index = ExactIndex(checkpoint.model)
    add_videos(index, dataset.video_ids, features.frames, durations=dataset.durations)
    for caption in dataset.captions[:5]:
        query = encode_queries(checkpoint.model, [features.text[caption.id]])
        one = found[caption.id]
        assert one.timed
        assert one.found == pytest.approx(moment(index, query, caption.video))
        assert one.moments == caption.moments != ()
        assert one.edges[0] == 0
        assert one.edges[-1] == pytest.approx(dataset.durations[caption.video])
        assert len(one.edges) == len(one.relevance) + 1 == len(features.frames[caption.video]) + 1
        best = max(range(len(one.relevance)), key=one.relevance.__getitem__)
        assert one.found is not None
        assert one.found[0] <= one.edges[best] < one.found[1]
    with pytest.raises(DataError, match="has no caption 'new', which is a query of the scores"):
        read_profiles(checkpoint, dataset, features, ["new"])


def test_a_teacher_alone_is_asked_by_its_name(prvr: Prvr, place: Path) -> None:
    told = {}
    for name, more in (("frames", ()), ("clips", ("--parts", "clips"))):
        kept = ("--zero-shot", "strong", *more, "--save", f"{name}.npz")
        assert prvr("evaluate", "packages/tvr", "features/tvr", *kept).status == 0
        told[name] = prvr("report", f"{name}.npz", *DATA, "--out", f"{name}.html", "--json").json["missing"]
        assert not any("--data" in line for line in told[name])
    assert not any("profiles" in line for line in told["frames"])
    charts = [a.get("aria-label") or "" for tag, a in Page(Path("frames.html").read_text()).tags if tag == "svg"]
    assert sum(label.startswith("relevance over the video") for label in charts) == 10
    assert any("the best frames of the teacher 'strong' have other scores." in line for line in told["clips"])
    # Of a student the answers alone are not enough, and nobody is taken for it.
    shutil.copy("run2/test.npz", "student.npz")
    (line,) = (line for line in prvr("report", "student.npz", *DATA, "--json").json["missing"] if "profiles" in line)
    assert "name its training run's folder in place of the scores; they are not the scores of a teacher alone" in line
    lines = prvr("report", "frames.npz", "--json").json["missing"]
    assert any("for a teacher alone, give prvr report --data DATA --features FEATURES" in line for line in lines)


def test_frames_without_times_have_a_profile_and_no_span(place: Path) -> None:
    shutil.rmtree("packages/tvr/annotations")
    checkpoint, dataset = checkpoints.load("run"), open_split("packages/tvr", "test")
    (one,) = read_profiles(checkpoint, dataset, features_for("features/tvr", checkpoint), [dataset.captions[0].id]).values()
    assert (one.timed, one.moments, one.found) == (False, (), None)
    assert one.edges == [float(n) for n in range(len(one.relevance) + 1)]


def test_a_folder_of_results(prvr: Prvr, place: Path) -> None:
    answer = prvr("report", "results", "--baseline", "teacher, zero-shot", "--resamples", 100)
    assert answer.status == 0, answer.err
    assert answer.out.splitlines()[-1].startswith("report.html: 2 systems, ")
    page = Page(Path("report.html").read_text())
    assert [row[0] for row in page.tables["systems"][0][1:]] == ["teacher, zero-shot", "hybrid"]
    written = json.loads(Path("results/main.json").read_text())
    sumr = {row["name"]: row["mean"]["SumR"] for row in written["rows"]}
    shown = {row[0]: row[page.tables["systems"][0][0].index("SumR")] for row in page.tables["systems"][0][1:]}
    assert shown == {name: f"{value:.1f}" for name, value in sumr.items()}
    assert [row[0] for row in page.tables["papers"][0][1:]] == ["hybrid", "teacher, zero-shot"]


def test_what_is_refused(prvr: Prvr, place: Path) -> None:
    refused(prvr("report", "run", "--data", "packages/tvr"), "--data and --features go together")
    refused(prvr("report", "none"), "none is neither a SCORES.npz", "prvr train", "name one of these")
    refused(prvr("report", "run", "run"), "two systems are called 'run'")
    refused(prvr("report", "results", "--baseline", "teecher, zero-shot"), "did you mean 'teacher, zero-shot'?")
    refused(prvr("report", "run", "--data", "nowhere", "--features", "features/tvr"), "nowhere")
    Path("run2/history.jsonl").write_text("{")
    refused(prvr("report", "run2"), "history.jsonl:1 does not describe an epoch of a training run")
    Path("run/config.json").write_text("{")
    refused(prvr("report", "run", *DATA), "config.json is broken")
    Path("results/main.json").write_text("{")
    refused(prvr("report", "results"), "main.json is not JSON")


def test_the_commands_of_the_document(prvr: Prvr, place: Path) -> None:
    commands = [line[2:] for block in re.findall(r"```console\n(.*?)```", DOCUMENT, flags=re.S) for line in block.splitlines()]
    assert len(commands) == 3
    for command in commands:
        answer = prvr(*shlex.split(command)[1:], "--resamples", 100)
        assert answer.status == 0, (command, answer.err)
    assert "Example: prvr report" in prvr("report", "--help").out


def test_the_kept_runs_are_whole(place: Path) -> None:
    """The material of these tests: a run with spans, so that the sections about them are not empty by accident."""
    run = load_scores("run2/test.npz")
    assert run.facts.overlaps is not None
    assert (run.facts.overlaps >= 0).all()
