"""`--method` on every command that trains or opens a model of one's own: with it all work, without it nothing is imported."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import Prvr, says
from packed_toy import packed_toy
from tiny_folder import make_folder

import prvr as package
from prvr.methods import METHODS
from prvr.methods import checkpoint as checkpoints
from prvr.methods.plugins import import_method
from prvr.server.app import make_service
from prvr.train.recipe import Training

TEMPLATE = Path(__file__).parents[2] / "docs" / "tutorials" / "mymethod.py"
NAME = "cli_method"
MINE = f"{NAME}:Mine"
CLIP, WORDS = "clip_vit_base_patch32", "all_minilm_l6_v2"


def forget() -> None:
    """The module as if it had never been imported."""
    import_method.cache_clear()
    sys.modules.pop(NAME, None)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the class in a file, a run of it, the run beside its teacher, and an index."""
    root = make_folder(tmp_path_factory.mktemp("method"))
    (root / f"{NAME}.py").write_text(TEMPLATE.read_text().replace("width: int = 128", "width: int = 16"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(METHODS, "_registered", {})
        patch.syspath_prepend(root)
        patch.chdir(root)
        package.extract_folder(
            "videos", "features", encoders=["openai/clip-vit-base-patch32"], words=["sentence-transformers/all-MiniLM-L6-v2"]
        )
        features = package.student_features("features", frames=CLIP, words=WORDS)
        splits = package.open_splits("videos")
        recipe = package.preset("dl-dkd++", method=MINE)
        recipe = package.Recipe(recipe.method, recipe.settings, Training(epochs=2, batch_videos=4))
        notes = {"split_seed": 0, "protocol": "honest"}
        student = package.train_student("run", recipe, data=package.Data(splits.train, splits.dev, features), notes=notes)
        package.index_folder("videos", "gallery", student)
    forget()
    yield root
    forget()


@pytest.fixture
def here(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, with nothing registered and nothing imported."""
    monkeypatch.setattr(METHODS, "_registered", {})
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(world))])
    monkeypatch.chdir(world)
    forget()
    return world


OPENS: dict[str, tuple[str, ...]] = {
    "evaluate": ("evaluate", "videos", "features", "--model", "run"),
    "fuse": ("fuse", "videos", "features", "run", "fused", "--teacher", CLIP),
    "index": ("index", "videos", "another", "--model", "run"),
    "index again": ("index", "videos", "gallery"),
    "search": ("search", "gallery", "a red picture", "-k", "1"),
    "search of a run": ("search", "gallery", "a red picture", "--model", "run"),
    "list": ("list", "gallery"),
    "verify": ("index", "verify", "gallery"),
    "copy": ("index", "copy", "gallery", "backup"),
    "serve": ("serve", "gallery", "--port", "0"),
    "report": ("report", "run", "--data", "videos", "--features", "features"),
    "teacher run": (
        *("train", "videos", "features", "taught", "--preset", "xml", "--frames", CLIP, "--words", WORDS, "--teacher-run", "run"),
        *("hidden=8", "heads=2", "epochs=1", "distillation_target=batch_matrix", "distillation_weight=1"),
    ),
}


@pytest.mark.parametrize("case", OPENS)
def test_a_model_of_ones_own_is_opened_only_with_its_class(
    case: str, here: Path, monkeypatch: pytest.MonkeyPatch, prvr: Prvr
) -> None:
    import uvicorn

    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: None)
    command = OPENS[case]
    says(prvr(*command), f"the method {MINE} is not installed", "no code is imported because a file names it", f"--method {MINE}")
    assert NAME not in sys.modules
    option = "--teacher-method" if case == "teacher run" else "--method"
    answer = prvr(*command, option, MINE)
    assert answer.status == 0, answer.err
    assert NAME in sys.modules
    if case not in ("report", "teacher run"):
        says(prvr(*command, option, "xml"), f"it is of the method '{MINE}', and 'xml' is named; leave that out, or name its own")


def test_the_doctor_opens_an_index_of_ones_own_method(here: Path, prvr: Prvr) -> None:
    without = prvr("doctor", "gallery", "--json").json
    assert any(MINE in step for problem in without["missing"].items() for step in problem)
    assert "index" not in without["facts"]
    assert prvr("doctor", "gallery", "--method", MINE, "--json").json["facts"]["index"].startswith("gallery: 8 videos")


def test_the_run_beside_its_teacher(here: Path, prvr: Prvr) -> None:
    assert prvr("fuse", "videos", "features", "run", "beside", "--teacher", CLIP, "--method", MINE).status == 0
    METHODS._registered.clear()
    forget()
    evaluate = ("evaluate", "videos", "features", "--model", "beside")
    says(prvr(*evaluate), f"--method {MINE}")
    assert prvr(*evaluate, "--method", MINE).status == 0
    assert prvr("index", "videos", "beside-gallery", "--model", "beside", "--method", MINE).status == 0
    hits = prvr("search", "beside-gallery", "a red picture", "--method", MINE, "--json").json["hits"]
    assert {"frames", "teacher"} <= hits[0]["branches"].keys()


def test_search_finds_what_evaluation_ranks_first_with_moments_and_parts(here: Path, prvr: Prvr) -> None:
    (hit,) = prvr("search", "gallery", "a red picture", "-k", "1", "--method", MINE, "--json").json["hits"]
    assert hit["spans"]
    assert hit["branches"].keys() == {"frames"}
    model = checkpoints.load("run", method=MINE)
    gallery = package.open_index("gallery", method=MINE)
    assert gallery.checkpoint.fingerprint == model.fingerprint
    assert gallery.search("a red picture", k=1)[0].score == pytest.approx(hit["score"])


def test_the_service_updates_its_index_in_another_process(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(here)
    service = make_service(here / "gallery", method=MINE)
    try:
        report = asyncio.run(service.upkeep._run_command())
    finally:
        service.index.close()
        service.thumbnails.close()
    assert (report.error, report.added, report.kept) == (None, 0, 8)


def test_presets_with_a_class(here: Path, prvr: Prvr) -> None:
    (shown,) = prvr("presets", "gmmformer/tvr", "--method", MINE, "--json").json
    assert (shown["method"], shown["settings"]["width"], shown["paper"]) == (MINE, 16, None)
    lines = prvr("presets", "gmmformer/tvr", "--method", MINE).out.splitlines()
    assert lines[-2] == f"train: prvr train DATA FEATURES RUN --preset gmmformer/tvr --method {MINE} --frames NAME --words NAME"
    says(prvr("presets", "--method", MINE), f"{MINE} brings no presets")


def test_a_class_that_lacks_a_part_is_refused_before_data_is_read(here: Path, prvr: Prvr) -> None:
    (here / "cli_lacks.py").write_text(TEMPLATE.read_text().replace("def score", "def s").replace("def relevance", "def r"))
    lacks = "cli_lacks:Mine lacks score(queries, videos, mask), relevance(query, video)"
    no_data = ("nowhere", "nowhere", "nowhere-run", "--frames", "x", "--words", "y")
    says(prvr("train", *no_data, "--method", "cli_lacks:Mine"), lacks)
    says(prvr("train", *no_data, "--method", "cli_nothing:Mine"), "there is no module 'cli_nothing'")
    says(prvr("train", *no_data, "--method", f"{MINE}s"), "has no class 'Mines'; did you mean 'Mine'?")
    says(prvr("train", *no_data, "--method", MINE, "widht=3"), "unknown setting 'widht'; did you mean 'width'?")
    says(prvr("evaluate", "nowhere", "nowhere", "--zero-shot", "x", "--method", MINE), f"--method {MINE} is for --model")
    says(prvr("index", "videos", "z", "--zero-shot", "x", "--method", MINE), f"--method {MINE} is for --model")
    assert not (here / "nowhere-run").exists()


def test_no_file_of_the_folder_takes_the_place_of_an_installed_module(here: Path, prvr: Prvr) -> None:
    (here / "json.py").write_text(TEMPLATE.read_text())
    (here / "calendar.py").write_text("raise RuntimeError('taken')\n")
    says(prvr("presets", "xml", "--method", "json:Mine"), "json/__init__.py has no class 'Mine'")
    assert prvr("presets", "xml", "--method", MINE).status == 0
    assert sys.path[-1] == str(here)
    for name in ("json.py", "calendar.py"):
        (here / name).unlink()


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as it is installed: the working folder is not on the path of modules."""
    code = "from prvr.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-P", "-c", code, *arguments]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.thorough
def test_several_processes_train_what_one_trains(world: Path) -> None:
    names = ("videos", "features", "--frames", CLIP, "--words", WORDS, "--method", MINE, "epochs=2", "batch_videos=4")
    for out, more in (("one", ()), ("two", ("--devices", "2"))):
        done = command(world, "train", names[0], names[1], out, *names[2:], *more)
        assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(world)
        one, two = (checkpoints.load(world / out, method=MINE) for out in ("one", "two"))
    for ours, theirs in zip(one.model.parameters(), two.model.parameters(), strict=True):  # type: ignore[attr-defined]
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    forget()


@pytest.mark.slow
@pytest.mark.thorough
def test_a_row_of_a_table(here: Path, tmp_path: Path, prvr: Prvr) -> None:
    package_folder, packed = packed_toy(tmp_path, train_videos=16)
    data = ("--data", package_folder, "--features", packed, "--frames", "toy_frames", "--words", "words", "--teacher", "strong")
    more = (*data, "--method", MINE, "--seeds", "1")
    says(prvr("reproduce", "beta", tmp_path / "out", *more), "--method is not for beta")
    says(prvr("reproduce", "complexity", tmp_path / "out", *more), "--method is not for complexity")
    answer = prvr("reproduce", "soft-targets", tmp_path / "out", *more, "epochs=1", "--json")
    assert answer.status == 0, answer.err
    rows = {row["name"]: row for row in answer.json["rows"]}
    assert rows[MINE]["mean"]["SumR"] > 0
    assert len(list((tmp_path / "out" / "runs").glob(f"{NAME.replace('_', '-')}-mine-*"))) == 1
