"""What reaches the terminal: names that would control it, and progress in words."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
import torch
from commands import Prvr, says
from tiny_encoders import make_textual, make_visual
from tiny_videos import plain, write_video

from prvr.cli import terminal
from prvr.cli.terminal import Meter, printable

NAMES = ["a\nprvr: b.mp4: forged.mp4", "osc\x1b]0;title\x07.mp4", "csi\x9b31m.mp4", "\u202egpj.mp4", "sep\u2028arator.mp4"]


def controls(text: str) -> set[str]:
    return {one for one in text if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") or one == "\u202e"} - {"\n"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain café 日本 👩‍👩‍👧.mp4", "plain café 日本 👩‍👩‍👧.mp4"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b]0;x\x07\x9b\x7f", "\\x1b]0;x\\x07\\x9b\\x7f"),
        ("\u2028\u202e\u2066", "\\u2028\\u202e\\u2066"),
        ("\udce9", "\\udce9"),
    ],
)
def test_a_text_is_shown_and_does_nothing(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_no_name_reaches_the_terminal_as_it_is(prvr: Prvr, tmp_path: Path) -> None:
    videos, gallery = tmp_path / "videos", tmp_path / "gallery"
    videos.mkdir()
    encoder = make_textual(make_visual(tmp_path / "tiny", size=[8, 12]))
    for number, name in enumerate(NAMES):
        # So different in length that none is near-identical to another one.
        write_video(videos / name, [(100 * n, plain("red")) for n in range(20 + 2 * number)])
    (videos / "bad\n\x1b[2J.mp4").write_bytes(b"")
    answers = [
        prvr("index", videos, gallery, "--zero-shot", encoder),
        prvr("search", gallery, "a dog"),
        prvr("search", gallery, "a dog", "--json"),
        prvr("extract", videos, tmp_path / "f", "--encoder", encoder),
        prvr("index", videos / "no\n\x1b[2J", gallery),
    ]
    for answer in answers:
        assert controls(answer.out + answer.err) == set()
    indexed, found, as_json, _, refused = answers
    (problem,) = indexed.err.splitlines()
    assert problem.startswith("prvr: bad\\n\\x1b[2J.mp4: ")
    assert len(found.out.splitlines()) == len(NAMES)
    assert {hit["video"] for hit in json.loads(as_json.out)["hits"]} == set(NAMES)
    assert refused.status == 1
    assert len(refused.err.splitlines()) == 1


@pytest.mark.parametrize(
    "problem",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has"),
        RuntimeError("MPS backend out of memory (MPS allocated: 20.1 GB)"),
        MemoryError("Unable to allocate 9.31 GiB for an array with shape (50000, 50000) and data type float32"),
        None,
    ],
)
def test_too_little_memory_is_a_line(prvr: Prvr, monkeypatch: pytest.MonkeyPatch, problem: Exception | None) -> None:
    from prvr.report import leaderboard

    def fail(*given: object) -> None:
        if problem is not None:
            raise problem
        torch.empty(1 << 55)

    monkeypatch.setattr(leaderboard, "make_leaderboard", fail)
    says(prvr("leaderboard", "tvr"), "too little memory", "batch_videos", "completed work is kept")
    monkeypatch.setattr(leaderboard, "make_leaderboard", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prvr("leaderboard", "tvr")


def test_progress_of_video_in_words() -> None:
    meter = Meter(100.0)
    assert meter.text(0.0, 0.0, now=100.0) == "0:00.0 of 0:00.0 of video"
    assert meter.text(0.0, 7200.0, now=110.0) == "0:00.0 of 2:00:00.0 of video"
    # 1,800 s of video in 100 s; 5,400 s are left.
    assert meter.text(1800.0, 7200.0, now=200.0) == "30:00.0 of 2:00:00.0 of video, 18.0 times real time, 5:00.0 left"
    # Captions follow, counted from their own beginning.
    assert meter.text(0, 50, now=700.0) == "0 of 50"
    assert meter.text(25, 50, now=710.0) == "25 of 50, 0:10.0 left"
    assert meter.text(50, 50, now=720.0) == "50 of 50"


def test_without_a_terminal_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with terminal.progress() as tell:
        for second in range(100):
            now[0] = float(second)
            tell("film\n.mp4", 10.0 * second, 7200.0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0] == "film\\n.mp4: 5:00.0 of 2:00:00.0 of video, 10.0 times real time, 11:30.0 left"
