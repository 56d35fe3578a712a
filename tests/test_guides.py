"""The guides about a folder of videos: their commands and their Python run, in their order, on a small folder."""

from __future__ import annotations

import re
import shlex
import shutil
import webbrowser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av")

from commands import Prvr
from PIL import Image
from tiny_encoders import make_siglip
from tiny_videos import SECONDS, plain, write_video

import prvr as package
from prvr.encoders.hub import DEFAULT_ENCODER
from prvr.search import playing

DOCS = Path(__file__).parent.parent / "docs"
GUIDES = ("indexing", "clips", "speech")
# What needs a store, a run, more time or captions, or does not end; other tests have it.
ELSEWHERE = ("s3://", "--model", "--workers", "--speech", "--screen-text", "--approximate", "prvr index weigh")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the guides' names stand for small things."""
    root = tmp_path_factory.mktemp("guides")
    for place, seconds in {"holiday/beach.mp4": 21, "a.mp4": 5, "b.mp4": 8, "trips/alps.mp4": 62}.items():
        (root / "videos" / place).parent.mkdir(parents=True, exist_ok=True)
        write_video(
            root / "videos" / place, [(1000 * n, plain(SECONDS[(n // 2 + seconds) % 5])) for n in range(seconds + 1)], rate=1
        )
    (root / "videos" / "trips" / "alps.srt").write_text("1\n00:00:01,000 --> 00:00:03,000\nWelcome back: the helicopter lands.\n")
    shutil.copyfile(root / "videos" / "holiday" / "beach.mp4", root / "beach.mp4")
    Image.new("RGB", (32, 32), (220, 30, 30)).save(root / "photo.jpg")
    (root / "queries.txt").write_text("a red picture\na blue picture\n")
    make_siglip(root / DEFAULT_ENCODER)
    return root


@pytest.mark.slow
def test_the_guides_do_what_they_say(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, prvr: Prvr
) -> None:
    played: list[str] = []
    monkeypatch.setattr(playing.shutil, "which", lambda name: None)
    monkeypatch.setattr(webbrowser, "open", lambda address: played.append(address) or True)
    monkeypatch.chdir(made)
    assert prvr("index", "videos", "gallery").status == 0
    names: dict[str, Any] = {"prvr": package}
    ran = 0
    for guide in GUIDES:
        text = (DOCS / f"{guide}.md").read_text()
        for language, block in re.findall(r"^```(bash|python)\n(.*?)^```", text, flags=re.M | re.S):
            if language == "python":
                if "approximate" not in block:
                    exec(compile(block, f"{guide}.md", "exec"), names)
                continue
            for line in block.splitlines():
                if any(part in line for part in ELSEWHERE):
                    continue
                words, _, target = line.partition(" > ")
                answer = prvr(*shlex.split(words, comments=True)[1:])
                assert answer.status == 0, (guide, line, answer.err)
                (made / target).write_text(answer.out) if target else None
                ran += 1
    assert ran >= 20
    assert names["moments"] == []
    assert names["hits"][0].video == "trips/alps.mp4"
    assert names["hits"][0].found_by == ("speech",)
    assert len(list((made / "dogs").iterdir())) == 4
    assert (made / "dog.mp4").exists()
    assert (made / "dogs.jpg").exists()
    assert "TITLE:" in (made / "dogs.edl").read_text()
    assert len(played) == 1
