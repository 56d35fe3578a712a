"""The demo, all of it, on a world of a few videos."""

from __future__ import annotations

import os
import random
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from serving import running

from prvr.datasets import Caption, Dataset
from prvr.demo import run, teacher
from prvr.errors import DataError, ProcessLost


@pytest.mark.slow
def test_the_whole_demo_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "TRAINING", {"epochs": 2, "batch_videos": 8})
    monkeypatch.setattr(teacher, "STILLS", 16)
    monkeypatch.setattr(run, "train_teacher", lambda folder, **more: teacher.train_teacher(folder, steps=3, **more))
    monkeypatch.setattr(run, "SEEDS", 2)
    sizes = {"train": 4, "dev": 3, "test": 4}
    demo = run.run_demo(tmp_path, videos=sizes)
    assert list(demo.figures) == ["zero-shot teacher", "no-distillation", "dl-dkd++"]
    assert [len(evaluations) for evaluations in demo.figures.values()] == [1, 2, 2]
    assert all(each.retrieval.videos == 4 for evaluations in demo.figures.values() for each in evaluations)
    page = demo.report.read_text()
    assert page.count("<section ") == len(demo.answers) == run.QUERIES
    # Six frames of each best hit; where it is wrong, six of the right moment, too.
    assert page.count("data:image/jpeg;base64,") == sum(6 if answer.rank == 1 else 12 for answer in demo.answers)
    assert "http" not in page.replace("http-equiv", "")
    for answer in demo.answers:
        assert answer.caption.text in page
        assert 1 <= answer.rank <= 4
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/model.safetensors")}
    again = run.run_demo(tmp_path, videos=sizes)
    assert [answer.hits for answer in again.answers] == [answer.hits for answer in demo.answers]
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/model.safetensors")}
    assert demo.lines()[-2] == f"report: {demo.report}"
    *command, gallery = shlex.split(demo.lines()[-1].removeprefix("search it in the browser: "))
    assert command == ["prvr", "serve"]
    with running(Path(gallery)) as served:
        assert "<title>" in served.client.get("/").text
        hits = served.client.get("/api/search", params={"q": demo.answers[0].caption.text}).json()["hits"]
    assert hits[0]["video"] == demo.answers[0].hits[0].video
    assert [each["videos"] for each in demo.as_dict()["test"]["dl-dkd++"]["seeds"]] == [4, 4]
    # The demo of a version with another teacher, and a world of other sizes, from before demos kept their plan.
    (tmp_path / "prvr-demo.json").unlink(missing_ok=True)
    (tmp_path / "teacher" / "demo.json").write_text('{"made_by": "prvr demo teacher 3", "seed": 0, "steps": 3}')
    monkeypatch.setattr(run, "train_teacher", lambda folder, **more: teacher.train_teacher(folder, steps=4, **more))
    monkeypatch.setattr(run, "SEEDS", 1)
    monkeypatch.setattr(run, "STUDENTS", ("dl-dkd++",))
    anew = run.run_demo(tmp_path, videos={"train": 2, "dev": 1, "test": 3})
    assert [each["videos"] for each in anew.as_dict()["test"]["dl-dkd++"]["seeds"]] == [3]
    assert len(list((tmp_path / "unseen").iterdir())) == 3


def test_a_folder_of_somebody_else_stops_the_demo_while_the_teacher_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_for_ever(folder: Path, *, seed: int, on_progress: Callable[[int, int, float, float], None]) -> None:
        while True:
            on_progress(1, 2, 1.0, 0.5)
            time.sleep(0.01)

    monkeypatch.setattr(run, "train_teacher", train_for_ever)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "captions.jsonl").write_text("mine\n")
    with pytest.raises(DataError, match="use another folder"):
        run.run_demo(tmp_path, videos={"train": 2, "dev": 1, "test": 1})


def die_beside(*_: object, on_progress: run.Progress | None = None) -> list[tuple[object, tuple[str, ...]]]:
    """Ends its process where it is the other one; else reports progress for 20 seconds."""
    if on_progress is None:
        os._exit(7)
    for _ in range(200):
        on_progress("epoch 1", 1, 2)
        time.sleep(0.1)
    return []


@pytest.mark.slow
def test_a_dead_process_is_noticed_while_this_one_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_make_world_and_teacher", "extract_folder", "load", "teacher_features", "evaluate_model"):
        monkeypatch.setattr(run, name, MagicMock())
    monkeypatch.setattr(run.checkpoints, "build", MagicMock())
    monkeypatch.setattr(run, "_train_students", die_beside)
    with pytest.raises(ProcessLost, match="status 7"):
        run.run_demo(tmp_path, videos={"train": 2, "dev": 1, "test": 1})


def test_epochs_of_other_processes_are_counted_from_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "TRAINING", {"epochs": 15})
    folders = [tmp_path / name for name in "abc"]
    for folder, epochs in zip(folders, (15, 4), strict=False):
        folder.mkdir()
        line = '{"epoch": 0, "losses": {"triplet": 1.0}, "dev": {"sumr": 100.0}}\n'
        (folder / "history.jsonl").write_text(line * epochs)
    shown: list[tuple[str, float, float]] = []
    run._show_epochs({"one": folders[:2], "other": folders[2:]}, lambda *progress: shown.append(progress))
    assert shown == [("students", 19, 45)]


def test_queries_are_drawn_by_the_seed_alone() -> None:
    captions = tuple(Caption(str(number), f"video {number % 9}", f"text {number}") for number in range(40))
    drawn = run._draw_queries(Dataset("world", "test", captions, tuple(f"video {number}" for number in range(9))))
    assert len({caption.id for caption in drawn}) == run.QUERIES
    assert drawn == random.Random("queries 0").sample(captions, run.QUERIES)


@pytest.mark.thorough
def test_the_student_finds_most_of_what_a_person_would_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SEEDS", 1)
    monkeypatch.setattr(run, "STUDENTS", ("dl-dkd++",))
    demo = run.run_demo(tmp_path)
    found = demo.figures["dl-dkd++"][0].retrieval
    assert found.videos == 48
    assert found.r1 >= 60
