"""Cuts: the right pictures and sound, whole files or none, and a line for each wrong wish."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from itertools import pairwise, takewhile
from pathlib import Path

import numpy as np
import pytest
from numbered_videos import number_of, tone_begins, write_numbered
from tiny_videos import colour_of, plain, write_video

from prvr.errors import DataError, PrvrError, SettingError, VideoError
from prvr.video import VideoReader
from prvr.video.cutting import cut, suffix_for, write_cut

EVERY = 1000.0


def numbers(path: Path) -> list[tuple[float, int]]:
    return [(time, number_of(image)) for time, image in VideoReader(path, rate=EVERY)]


@pytest.mark.parametrize(
    ("name", "format", "codec"),
    [
        ("a.mp4", None, "libx264"),
        ("a.mov", None, "libx264"),
        ("a.mkv", None, "libx264"),
        ("a.ts", None, "libx264"),
        ("a.avi", None, "mpeg4"),
        ("a.flv", None, "libx264"),
        ("a.mpg", "mpeg", "mpeg2video"),
    ],
)
def test_a_copy_begins_at_the_key_frame_before_with_its_sound(tmp_path: Path, name: str, format: str | None, codec: str) -> None:
    b_frames = 0 if name.endswith("avi") else 2
    source = write_numbered(
        tmp_path / name, format=format, codec=codec, gop=20 if codec == "libx264" else 12, b_frames=b_frames, tone_at=2.0
    )
    shown = numbers(source)
    made = cut(source, tmp_path / "cut", 1.5, 2.6)
    assert made.path == (tmp_path / "cut").with_suffix(suffix_for(source))
    assert made.encoder is None
    found = numbers(made.path)
    # From a key frame on, every picture up to the end once, at its distance from the first one.
    of = dict((number, time) for time, number in shown)
    first = found[0][1]
    assert of[first] == pytest.approx(made.start, abs=0.002)
    assert made.start <= 1.5 + 0.001
    expected = [number for time, number in shown if made.start - 0.002 <= time < 2.6 - 0.002]
    assert [number for _, number in found][: len(expected)] == expected
    assert len(found) <= len(expected) + 3
    assert found[0][0] == pytest.approx(0.0, abs=0.025)
    for (time, number), (following, after) in pairwise(found):
        assert following - time == pytest.approx(of[after] - of[number], abs=0.003)
    # In step: the tone is as far from the first picture as in the source.
    assert tone_begins(made.path) - found[0][0] == pytest.approx(tone_begins(source) - of[first], abs=0.03)


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_an_exact_cut_has_the_very_frames_and_samples(tmp_path: Path, name: str) -> None:
    source = write_numbered(tmp_path / name, gop=40, tone_at=2.0)
    of = {number: time for time, number in numbers(source)}
    made = cut(source, tmp_path / "exact.mp4", of[38] + 0.001, of[71], exact=True)
    found = numbers(made.path)
    assert [number for _, number in found] == list(range(38, 71))
    assert found[1][0] == pytest.approx(of[39] - of[38], abs=0.002)
    assert made.encoder == "libx264"
    assert tone_begins(made.path) == pytest.approx(tone_begins(source) - of[38], abs=0.03)


def test_an_exact_cut_of_varying_frames_keeps_their_times(tmp_path: Path) -> None:
    times = [Fraction(40 * n + 15 * (n % 3), 1000) for n in range(60)]
    source = write_numbered(tmp_path / "vfr.mp4", 60, times=times)
    made = cut(source, tmp_path / "exact", 0.8, 1.6, exact=True)
    shown = [(float(time), n) for n, time in enumerate(times) if time < 1.6]
    start = max(n for time, n in shown if time <= 0.8 + 0.001)
    assert [n for _, n in numbers(made.path)] == [n for _, n in shown[start:]]
    for (time, n), (was, _) in zip(numbers(made.path)[1:], shown[start + 1 :], strict=True):
        assert time == pytest.approx(was - 0.8, abs=0.002), n


def test_an_exact_cut_is_upright_and_a_copy_keeps_the_turn(tmp_path: Path) -> None:
    pictures = [(40 * n, np.concatenate([plain("red")[:24], plain("blue")[24:]])) for n in range(50)]
    source = write_video(tmp_path / "turned.mp4", pictures, turn=(90, False))
    with VideoReader(source, rate=1.0) as reader:
        shown = reader.still(1.0)
    for exact in (False, True):
        made = cut(source, tmp_path / f"{exact}", 0.5, 1.5, exact=exact)
        with VideoReader(made.path, rate=1.0) as reader:
            image = reader.still(0.2)
        assert image.shape == shown.shape
        assert colour_of(image[:, :20]) == colour_of(shown[:, :20])
        assert colour_of(image[:, -20:]) == colour_of(shown[:, -20:])


def test_a_margin_stays_within_the_video(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "a.mp4", 50, gop=1, b_frames=0)
    made = cut(source, tmp_path / "b", 0.2, 1.9, margin=5.0)
    assert [n for _, n in numbers(made.path)] == list(range(50))
    made = cut(source, tmp_path / "c", 0.8, 1.0, margin=0.2)
    assert [n for _, n in numbers(made.path)] == list(range(15, 30))


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [(70, 80, "outside"), (1, 70, "outside"), (-1, 1, "is none"), (1, 1, "is none"), (float("nan"), 1, "is none")],
)
def test_a_stretch_outside_the_video_is_refused(tmp_path: Path, start: float, end: float, said: str) -> None:
    source = write_numbered(tmp_path / "a.mp4", 50)
    for exact in (False, True):
        with pytest.raises(SettingError, match=said):
            cut(source, tmp_path / "cut", start, end, exact=exact)
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_nothing_is_overwritten_without_being_asked(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "a.mp4", 50)
    (tmp_path / "cut.mp4").write_bytes(b"mine")
    with pytest.raises(DataError, match="exists"):
        cut(source, tmp_path / "cut.mp4", 0, 1)
    assert (tmp_path / "cut.mp4").read_bytes() == b"mine"
    with pytest.raises(DataError, match="exists"):
        cut(source, source, 0, 1)
    cut(source, tmp_path / "cut.mp4", 0, 1, replace=True)
    assert numbers(tmp_path / "cut.mp4")


@pytest.mark.parametrize("links", [True, False])
def test_what_appears_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    source, target = write_numbered(tmp_path / "a.mp4", 50), tmp_path / "cut.mp4"

    def refuse(*_: object) -> None:
        raise PermissionError

    if not links:
        monkeypatch.setattr(os, "link", refuse)
        assert cut(source, tmp_path / "other.mp4", 0, 1).path.stat().st_size
        (tmp_path / "other.mp4").unlink()
    # Another cut to the same place begins and ends meanwhile.
    synced = os.fsync
    inner: list[object] = []

    def race(handle: int) -> None:
        synced(handle)
        if not inner:
            inner.append(True)
            inner.append(cut(source, target, 0, 1, replace=True))

    monkeypatch.setattr(os, "fsync", race)
    with pytest.raises(DataError, match="exists by now"):
        cut(source, target, 1, 2)
    assert numbers(target)[0] == (0.0, 0)
    inner.clear()
    inner.clear()
    cut(source, target, 1, 2, replace=True)
    assert numbers(target)
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "cut.mp4"]


@pytest.mark.parametrize("exact", [False, True])
def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    source = write_numbered(tmp_path / "a.mp4", 60, tone_at=0.5)
    (tmp_path / "cut.mp4").write_bytes(b"an older one")
    opened = Path.open

    class Full(io.FileIO):
        def write(self, data: object) -> int:
            if self.tell() > 500:
                raise OSError(28, "No space left on device")
            return super().write(data)  # type: ignore[arg-type]

    def open_full(path: Path, mode: str = "r", *more: object, **named: object) -> object:
        return Full(path, "w+") if path.name.endswith(".part") else opened(path, mode, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(DataError, match="No space left on device"):
        cut(source, tmp_path / "cut.mp4", 0, 2, exact=exact, replace=True)
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "cut.mp4"]
    assert (tmp_path / "cut.mp4").read_bytes() == b"an older one"


@pytest.mark.parametrize("exact", [False, True])
def test_an_interrupt_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    source = write_numbered(tmp_path / "a.mp4", 60, tone_at=0.5)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cut(source, tmp_path / "cut.mp4", 0, 2, exact=exact)
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_file_that_is_no_video_or_has_no_times_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("not a video")
    with pytest.raises(VideoError, match="text file"):
        cut(tmp_path / "a.mp4", tmp_path / "cut", 0, 1)
    raw = write_numbered(tmp_path / "a.h264", 50, format="h264")
    with pytest.raises(VideoError, match="--exact"):
        cut(raw, tmp_path / "cut", 0, 1)
    made = cut(raw, tmp_path / "cut", 0.4, 1, exact=True)
    assert [n for _, n in numbers(made.path)] == list(range(10, 25))


def test_a_frame_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "a.mp4", 20)
    with pytest.raises(VideoError, match="pixels"):
        write_cut(source, io.BytesIO(), 0, 0.5, most_pixels=1000)


@pytest.mark.shared
def test_cuts_of_real_clips_have_the_frames_of_their_sources(tmp_path: Path, shared: Path) -> None:
    folder = shared / "data" / "videos" / "clips"
    done = 0
    for number, source in enumerate(sorted(folder.iterdir())[::3][:10]):
        with VideoReader(source, rate=1.0) as reader:
            start, end = 0.4 * reader.duration, 0.5 * reader.duration
        for exact in (False, True):
            made = cut(source, tmp_path / f"{number}-{exact}", start, end, exact=exact)
            frames = list(VideoReader(made.path, rate=EVERY))
            for time, image in (frames[0], frames[-1]):
                at = made.start + time - frames[0][0]
                # One clip (AVI with packed frames) has its last picture a few frames away.
                shown = takewhile(lambda one, at=at: one[0] < at + 0.15, VideoReader(source, rate=EVERY, after=at - 0.15))
                height, width = image.shape[:2]
                apart = min(np.abs(image.astype(int) - was[:height, :width]).mean() for _, was in shown)
                assert apart < (4 if exact else 0.5), (source.name, exact, time)
            assert made.start <= start + 0.001
            done += 1
    assert done == 20


def test_errors_are_of_the_package(tmp_path: Path) -> None:
    with pytest.raises(PrvrError):
        cut(tmp_path / "missing.mp4", tmp_path / "cut", 0, 1)
    source = write_numbered(tmp_path / "a.mp4", 20)
    with pytest.raises(DataError, match="cannot write"):
        cut(source, tmp_path / "no folder" / "cut", 0, 0.5)
