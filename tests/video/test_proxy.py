"""Windows that browsers play: the right pictures and sound at the player's times, and a still around them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numbered_videos import number_of, tone_begins, write_numbered
from tiny_videos import write_video

from prvr.errors import SettingError, VideoError
from prvr.video import VideoReader, proxy
from prvr.video.proxy import write_window

av = pytest.importorskip("av")

EVERY = 1000.0


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "WINDOW", 1.0)


def window(source: Path, number: int, path: Path) -> list[tuple[float, int]]:
    """The times and numbers of the pictures of a window."""
    with path.open("w+b") as file:
        write_window(source, file, number)
    return [(time, number_of(image)) for time, image in VideoReader(path, rate=EVERY)]


@pytest.mark.parametrize(
    ("name", "format", "codec", "rate"),
    [
        ("a.mp4", None, "libx264", 25),
        ("a.ts", None, "libx264", 25),
        ("a.mpg", "vob", "mpeg2video", 25),
        ("a.avi", None, "mpeg4", 10),
        ("a.mkv", None, "libx264", 25),
    ],
)
def test_a_window_has_the_pictures_and_the_sound_of_its_seconds(
    tmp_path: Path, name: str, format: str | None, codec: str, rate: int
) -> None:
    b_frames = 0 if codec == "mpeg4" else 2
    options = {"gop": 12} if codec == "mpeg2video" else {"gop": 40}
    source = write_numbered(
        tmp_path / name, 3 * rate, rate=rate, format=format, codec=codec, b_frames=b_frames, tone_at=1.5, **options
    )
    of = [(time, number_of(image)) for time, image in VideoReader(source, rate=EVERY)]
    first = max(entry for entry in of if entry[0] <= 1.001)[1]
    expected = [(max(time, 1.0), number) for time, number in of if number >= first and time < 2.0]
    found = window(source, 1, tmp_path / "w.mp4")
    # A still from 0 on, the window, and its last picture to the end.
    assert found[0] == (0.0, first)
    assert [number for _, number in found[1:-2]] == [number for _, number in expected]
    assert [time for time, _ in found[1:-2]] == pytest.approx([time for time, _ in expected], abs=0.001)
    assert [number for _, number in found[-2:]] == [expected[-1][1]] * 2
    assert found[-2][0] == pytest.approx(2.0)
    with VideoReader(tmp_path / "w.mp4", rate=1.0) as made:
        assert made.duration == pytest.approx(of[-1][0] + 1 / rate, abs=0.1)
    assert tone_begins(tmp_path / "w.mp4") == pytest.approx(1.5, abs=0.03)


def test_the_first_and_the_last_window(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "a.mp4", 60)
    assert [n for _, n in window(source, 0, tmp_path / "w.mp4")] == [*range(25), 24, 24]
    assert [n for _, n in window(source, 2, tmp_path / "w.mp4")] == [50, *range(50, 60)]
    with pytest.raises(SettingError, match=r"3 s is outside .* has 2\.4 s"):
        window(source, 3, tmp_path / "w.mp4")


def test_a_film_longer_than_stated_goes_on_after_the_window(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "a.mp4", 60)
    with (tmp_path / "w.mp4").open("w+b") as file:
        write_window(source, file, 1, duration=1.5)
    assert max(time for time, _ in VideoReader(tmp_path / "w.mp4", rate=EVERY)) > 2.5


def test_a_large_picture_is_made_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "LINES", 24)
    found = window(write_numbered(tmp_path / "a.mp4", 30), 0, tmp_path / "w.mp4")
    assert [number for _, number in found] == [*range(25), 24, 24]
    with av.open(str(tmp_path / "w.mp4")) as made:
        assert (made.streams.video[0].width, made.streams.video[0].height) == (80, 24)
    with pytest.raises(VideoError, match="pixels"):
        write_window(tmp_path / "a.mp4", io.BytesIO(), 0, most_pixels=1000)


def test_a_turned_picture_is_upright(tmp_path: Path) -> None:
    pictures = [(40 * n, np.zeros((48, 80, 3), np.uint8)) for n in range(10)]
    source = write_video(tmp_path / "turned.mp4", pictures, turn=(90, False))
    with (tmp_path / "w.mp4").open("w+b") as file:
        write_window(source, file, 0)
    with av.open(str(tmp_path / "w.mp4")) as made:
        assert (made.streams.video[0].width, made.streams.video[0].height) == (48, 80)


def test_the_other_encoder_and_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_numbered(tmp_path / "a.mp4", 60, tone_at=0.5)
    monkeypatch.setattr(proxy, "ENCODERS", ("libopenh264-of-nobody", "libvpx-vp9"))
    assert [n for _, n in window(source, 1, tmp_path / "w.mp4")] == [25, *range(25, 50), 49, 49]
    with av.open(str(tmp_path / "w.mp4")) as made:
        assert [stream.codec_context.codec.canonical_name for stream in made.streams] == ["vp9", "aac"]
    monkeypatch.setattr(proxy, "ENCODERS", ("libopenh264-of-nobody",))
    with pytest.raises(VideoError, match="encodes none of libopenh264-of-nobody; install it from PyPI"):
        window(source, 0, tmp_path / "w.mp4")


def test_a_full_disk_and_a_file_that_is_no_video(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "a.mp4", 60)

    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        write_window(source, Full(), 0)
    (tmp_path / "b.mp4").write_text("not a video")
    with pytest.raises(VideoError, match="text file"):
        write_window(tmp_path / "b.mp4", io.BytesIO(), 0)
