"""The first page, the version, the groups of commands, `prvr list`, `prvr doctor` and `prvr setup` without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import Prvr, says
from tiny_encoders import make_clip, make_textual, make_visual
from tiny_videos import SECONDS, plain, write_video

from prvr.cli.groups import GROUPS
from prvr.cli.terminal import app
from prvr.search import index_folder, zero_shot


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two videos, one of them twice, with its index of an encoder beside it."""
    root = tmp_path_factory.mktemp("machine")
    (root / "videos" / "trips").mkdir(parents=True)
    for name, colour in (("b.mp4", "red"), ("a.mp4", "blue")):
        write_video(root / "videos" / name, [(100 * n, plain(colour)) for n in range(30)])
    shutil.copy(root / "videos" / "a.mp4", root / "videos" / "trips" / "again.mp4")
    make_clip(root / "tiny-clip")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "own")
    own = tmp_path / "own"
    index_folder(own / "videos", own / "videos" / ".prvr", zero_shot(own / "tiny-clip"))
    return own


def test_the_first_page_has_the_three_commands_of_a_new_user(prvr: Prvr) -> None:
    answer = prvr()
    assert answer.status == 0
    commands = [line.split()[:2] for line in answer.out.splitlines() if line.startswith("  prvr ")]
    assert commands == [["prvr", "index"], ["prvr", "search"], ["prvr", "serve"]]


def test_the_version(prvr: Prvr) -> None:
    from importlib.metadata import version

    assert prvr("--version").out == f"prvr {version('prvr')}\n"


def test_every_command_is_in_one_group(prvr: Prvr) -> None:
    out = prvr("--help").out
    assert "Other" not in out
    sections = [line.rstrip(":") for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert sections == ["Options", *GROUPS]
    names = [name for names in GROUPS.values() for name in names]
    # Typer makes the command from the registered functions and groups.
    import typer.main

    assert sorted(names) == sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_the_list_of_an_index(prvr: Prvr, root: Path) -> None:
    lines = prvr("list", root / "videos").out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["0:02.9", "0:02.9"]
    assert lines[0].endswith("  a.mp4 = trips/again.mp4")
    assert lines[1].endswith("  b.mp4")
    assert lines[2] == "2 videos, 0:05.9"
    videos = prvr("list", root / "videos", "--json").json["videos"]
    assert [(one["video"], one["copies"], one["problem"]) for one in videos] == [
        ("a.mp4", ["trips/again.mp4"], None),
        ("b.mp4", [], None),
    ]
    assert all(one["duration"] == pytest.approx(2.95, abs=0.06) for one in videos)
    says(prvr("list", root), "no index in")


def test_doctor_of_a_good_index(prvr: Prvr, root: Path) -> None:
    answer = prvr("doctor", root / "videos", "--json")
    assert answer.status == 0, answer.out
    told = answer.json
    assert (told["ready"], told["missing"]) == (True, {})
    assert "2 videos of" in told["facts"]["index"]
    assert told["facts"]["encoder"].startswith("tiny_clip from ")
    assert "h264" in told["facts"]["decoders"]
    assert {"prvr", "python", "torch", "av", "device", "free disk"} <= told["facts"].keys()


def test_doctor_names_what_is_missing_and_the_command_that_mends_it(
    prvr: Prvr, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    videos = root / "videos"

    def missing(*arguments: object) -> dict[str, str]:
        answer = prvr("doctor", *arguments, "--json")
        assert answer.status == 1
        assert not answer.json["ready"]
        return answer.json["missing"]

    write_video(videos / "new.mp4", [(100 * n, plain(SECONDS[0])) for n in range(20)])
    (videos / "b.mp4").unlink()
    assert missing(videos) == {
        "the index lacks 1 files of its folder, and has 1 that are gone": f"prvr index {videos} {videos / '.prvr'}"
    }
    (root / "bare").mkdir()
    assert missing(root / "bare", "--encoder", root / "tiny-clip") == {
        f"no index in {root / 'bare'}": f"prvr index VIDEOS {root / 'bare'}"
    }
    shutil.move(root / "tiny-clip", root / "moved")
    (problem,) = [what for what in missing(videos) if "encoder" in what]
    assert str(root / "tiny-clip") in problem
    (command,) = missing("--encoder", "some/encoder").values()
    assert command.startswith("prvr setup --encoder some/encoder")
    lines = prvr("doctor", "--encoder", "some/encoder").out.splitlines()
    assert lines[-1] == "1 missing"
    assert lines[-2].startswith("missing: the encoder some/encoder is not on this machine: prvr setup")


def test_doctor_of_an_onnx_folder_needs_no_hub(prvr: Prvr, tmp_path: Path) -> None:
    make_textual(make_visual(tmp_path / "onnx", size=[8, 12]))
    assert prvr("doctor", "--encoder", tmp_path / "onnx").status == 0


def test_setup_with_a_folder_that_is_there(prvr: Prvr, root: Path) -> None:
    answer = prvr("setup", "--encoder", root / "tiny-clip", "--json")
    assert answer.json["folder"] == str(root / "tiny-clip")
    says(prvr("setup", "--encoder", root / "nowhere" / "clip"), "no such folder; check the path")
