"""A demo of another version is removed before the new one is made, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from prvr.demo.former import PLAN, remove_former

PLANNED = {"world": [3, {"train": 2}]}


def write(path: Path, *keys: str, name: str = "teacher") -> None:
    value: object = name
    for key in reversed(keys):
        value = {key: value}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_video(path: Path, comment: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 16
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} - {PLAN}


RUNS = ("runs/dl-dkd++/seed0", "runs/dl-dkd++/seed1", "runs/no-distillation/seed0")
OWN = {
    "teacher/demo.json",
    "features/clip/frames/packed.json",
    "features/teacher/sentences/packed.json",
    "runs/dl-dkd++/seed0/test.npz",
    "runs/dl-dkd++/seed1/config.json",
    "runs/dl-dkd++/seed1/state.safetensors",
    "runs/mine/config.json",
    "gallery/cuts/cut.mp4",
    "unseen/holiday.mp4",
    "unseen/video_001.mp4",
}


@pytest.fixture
def former(tmp_path: Path) -> Path:
    """A demo of an earlier version, which had no plan, and files of its user in its folders."""
    for name in OWN - {"unseen/video_001.mp4"}:
        write(tmp_path / name, "something")
    for kind in ("frames", "words"):
        write(tmp_path / "features" / "teacher" / kind / "packed.json", "about", "encoder", "name")
        (tmp_path / "features" / "teacher" / kind / "rows.bin").touch()
    # The user's: another encoder made them, or packed.json does not say that one of the demo did.
    write(tmp_path / "features" / "clip" / "frames" / "packed.json", "about", "encoder", "name", name="clip")
    write(tmp_path / "runs" / "dl-dkd++" / "seed1" / "config.json", "reads", "frames", "name", name="clip")
    write(tmp_path / "runs" / "mine" / "config.json", "reads", "frames", "name")
    for run in (RUNS[0], RUNS[2]):
        write(tmp_path / run / "config.json", "reads", "frames", "name")
        (tmp_path / run / "state.safetensors").touch()
    write(tmp_path / "gallery" / "model" / "config.json", "reads", "frames", "name")
    (tmp_path / "gallery" / "index.sqlite").touch()
    write(tmp_path / "gallery" / "features" / "packed.json", "about")
    write_video(tmp_path / "unseen" / "video_000.mp4", "prvr demo world 2, 0123456789abcdef")
    write_video(tmp_path / "unseen" / "video_001.mp4", "my holiday")
    return tmp_path


def remove(out: Path, plan: dict[str, object] = PLANNED) -> None:
    remove_former(out, plan, runs=[out / run for run in RUNS])


def test_what_the_demo_made_is_removed_and_what_its_user_made_stays(former: Path) -> None:
    remove(former)
    assert files(former) == OWN


def test_a_demo_of_the_same_plan_stays(former: Path) -> None:
    remove(former)
    write(former / RUNS[0] / "config.json", "reads", "frames", "name")
    remove(former)
    assert f"{RUNS[0]}/config.json" in files(former)
    remove(former, {"world": [4, {"train": 2}]})
    assert f"{RUNS[0]}/config.json" not in files(former)


def test_a_folder_without_the_teacher_of_the_demo_stays(former: Path) -> None:
    (former / "teacher" / "demo.json").unlink()
    before = files(former)
    remove(former)
    assert files(former) == before


def test_a_removal_that_was_interrupted_continues(former: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink = Path.unlink

    def remove_one(path: Path) -> None:
        unlink(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", remove_one)
    while files(former) != OWN:
        with pytest.raises(KeyboardInterrupt):
            remove(former)
    monkeypatch.undo()
    remove(former)
    assert files(former) == OWN
