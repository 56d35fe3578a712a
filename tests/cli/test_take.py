"""`prvr cut`, `prvr open`, and lists and sheets of `prvr search`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from commands import Prvr, says
from tiny_encoders import make_clip
from tiny_videos import colourful, plain, write_video

from prvr.search import index_folder, zero_shot


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("taken")
    (root / "videos" / "trips").mkdir(parents=True)
    write_video(root / "videos" / "a.mp4", colourful())
    write_video(root / "videos" / "trips" / "b.mp4", [(40 * n, plain("blue")) for n in range(50)])
    make_clip(root / "tiny-clip")
    index_folder(root / "videos", root / "index", zero_shot(root / "tiny-clip"))
    return root


def test_json_has_full_paths_and_curves_only_with_curve(prvr: Prvr, made: Path) -> None:
    hits = prvr("search", made / "index", "a red picture", "--json").json["hits"]
    assert {hit["file"] for hit in hits} == {str(made / "videos" / "a.mp4"), str(made / "videos" / "trips" / "b.mp4")}
    assert not any({"curve", "edges"} & set(hit) for hit in hits)
    assert prvr("search", made / "index", "a red picture", "--format", "json").json["hits"] == hits
    for hit in prvr("search", made / "index", "a red picture", "--json", "--curve").json["hits"]:
        assert len(hit["edges"]) == len(hit["curve"]) + 1


def test_cuts(prvr: Prvr, made: Path, tmp_path: Path) -> None:
    answer = prvr("cut", made / "index", "a red picture", "-k", 2, "--out", tmp_path / "cuts", "--json")
    assert answer.status == 0, answer.err
    files = [Path(one["file"]) for one in answer.json["cuts"]]
    assert sorted(file.name for file in files) == sorted(os.listdir(tmp_path / "cuts"))
    assert len(files) == 2
    says(prvr("cut", made / "index", "a red picture", "-k", 2, "--out", tmp_path / "cuts"), "exists", "--overwrite")
    exact = prvr("cut", made / "index", "--span", "a.mp4@1-2", "--out", tmp_path / "cuts", "--exact", "--margin", 0, "--json")
    assert [(one["start"], one["end"], one["encoder"]) for one in exact.json["cuts"]] == [(1.0, 2.0, "libx264")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--span", "a.mp4@70-80"], ["outside", "5.0 s"]),
        (["--span", "a.mp4@8-7"], ["is no stretch"]),
        (["--span", "c.mp4@1-2"], ["'c.mp4'"]),
        ([], ["--span"]),
        (["a red picture", "--margin=-1"], ["margin"]),
        (["a red picture", "-k", "0"], ["k is 0"]),
    ],
)
def test_what_cannot_be_cut(prvr: Prvr, made: Path, tmp_path: Path, arguments: list[str], said: list[str]) -> None:
    says(prvr("cut", made / "index", *arguments, "--out", tmp_path / "cuts"), *said)
    assert not (tmp_path / "cuts").exists() or os.listdir(tmp_path / "cuts") == []


def test_a_video_that_moved_is_not_cut(prvr: Prvr, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "world")
    prvr("index", tmp_path / "world" / "videos", tmp_path / "world" / "index")
    (tmp_path / "world" / "videos" / "a.mp4").unlink()
    says(prvr("cut", tmp_path / "world" / "index", "--span", "a.mp4@1-2", "--out", tmp_path / "cuts"), "a.mp4", "no longer in")


def test_lists_and_sheets(prvr: Prvr, made: Path, tmp_path: Path) -> None:
    answer = prvr("search", made / "index", "a red picture", "--format", "edl")
    assert answer.status == 0, answer.err
    assert answer.out.startswith("TITLE: a red picture\nFCM: NON-DROP FRAME\n")
    assert prvr("search", made / "index", "a red picture", "--sheet", tmp_path / "out.jpg").status == 0
    assert (tmp_path / "out.jpg").read_bytes().startswith(b"\xff\xd8")
    says(prvr("search", made / "index", "a red picture", "--format", "edk"), "'edk'", "csv, edl, fcpxml, json, m3u, otio, srt")
    says(prvr("search", made / "index", "a red picture", "--sheet", tmp_path / "out.txt"), ".jpg")
    says(prvr("search", made / "index", "a red picture", "--format", "csv", "--json"), "take one")
    refused = prvr("search", made / "index", "a red picture", "--sheet", made / "videos" / "a.mp4" / "out.jpg")
    assert refused.status == 1
    assert "cannot write" in refused.err.splitlines()[-1]


def test_a_moment_is_opened(prvr: Prvr, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prvr.search import playing

    opened: list[str] = []
    monkeypatch.setattr(playing.webbrowser, "open", opened.append)
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = prvr("open", made / "index", "a red picture", "--json")
    assert answer.status == 0, answer.err
    assert opened == [f"{Path(answer.json['file']).as_uri()}#t={answer.json['start']:.3f}"]
    assert prvr("open", f"{made}/videos/a.mp4@2.5").status == 0
    assert opened[1] == f"{(made / 'videos' / 'a.mp4').as_uri()}#t=2.500"
    says(prvr("open", f"{made}/videos/gone.mp4@2.5"), "gone.mp4")
    says(prvr("open", made / "index"), "is no moment")
    says(prvr("open", made / "index", "a red picture", "--hit", 9), "2 hits")
