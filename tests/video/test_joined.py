"""Recordings with other codecs, sizes and streams that were put together are read to their end."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_videos import SECONDS, av, colour_of, colourful, plain, write_video

from prvr.video import VideoReader
from prvr.video.joined import layout_of

H265 = "log-level=none:pools=none:frame-threads=1:keyint=25"
RECORDINGS: dict[str, dict[str, Any]] = {
    "h264": {"options": {"g": "25", "bf": "2"}},
    "hevc": {"codec": "libx265", "options": {"x265-params": H265}},
    "mpeg2": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2", "b": "4000000"}},
    "other numbers": {"options": {"g": "25"}, "container_options": {"mpegts_start_pid": "512", "mpegts_pmt_start_pid": "4352"}},
    "another programme": {
        "options": {"g": "25"},
        "container_options": {"mpegts_start_pid": "513", "mpegts_pmt_start_pid": "4353", "mpegts_service_id": "9"},
    },
}
PAIRS = [(a, b) for a in RECORDINGS for b in RECORDINGS if a != b]


def joined(path: Path, *kinds: str, gap: float = -3.0, suffix: str = ".ts") -> Path:
    """A recording of 2 s in each kind, in the colours of tiny_videos; the stamps of each go on after `gap` seconds."""
    frames, data, at = colourful(seconds=5), b"", 0.0
    for number, kind in enumerate(kinds):
        settings = RECORDINGS[kind]
        if settings.get("codec", "libx264") not in av.codecs_available:
            pytest.skip("this PyAV lacks an encoder")
        part = [(time + round(1000 * at), picture) for time, picture in frames[50 * number : 50 * number + 50]]
        name = path.with_name(f"part{number}{suffix}")
        form = {".ts": "mpegts", ".mpg": "mpeg"}[suffix]
        data += write_video(name, part, format=form, **settings).read_bytes()
        at += gap
    path.write_bytes(data)
    return path


def shown(path: Path, **settings: Any) -> tuple[list[float], list[str], VideoReader]:
    with VideoReader(path, rate=1.0, **settings) as reader:
        pairs = list(reader)
    return [time for time, _ in pairs], [colour_of(picture) for _, picture in pairs], reader


@pytest.mark.parametrize("gap", [0.0, -2.0, 3600.0])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_recording_of_another_kind_is_read_on(tmp_path: Path, first: str, second: str, gap: float) -> None:
    path = joined(tmp_path / "a.ts", first, second, gap=gap)
    times, colours, reader = shown(path)
    assert times == pytest.approx([0, 1, 2, 3], abs=0.041)
    assert colours == SECONDS[:4]
    # Without a jump, the muxer has moved the first recording by its delay.
    assert reader.duration == reader.end == pytest.approx(4, abs=0.081 if gap else 0.13)
    if gap:
        assert reader.problem is not None
        assert reader.problem.startswith("its time stamps jump at ")
    else:
        assert reader.problem is None
    for tenth in range(4, 38, 5):
        with VideoReader(path, rate=1.0) as stills:
            assert colour_of(stills.still(tenth / 10)) == SECONDS[tenth // 10], tenth
    for after in (0.5, 1.5, 2.5):
        assert shown(path, after=after)[0] == [time for time in times if time > after]


def test_three_recordings_of_which_the_last_is_like_the_first(tmp_path: Path) -> None:
    for second in ("hevc", "other numbers"):
        times, colours, _ = shown(joined(tmp_path / "a.ts", "h264", second, "h264", gap=-2.0))
        assert times == pytest.approx([0, 1, 2, 3, 4], abs=0.2)
        assert colours == SECONDS


def test_a_program_stream_that_goes_on_in_another_codec(tmp_path: Path) -> None:
    RECORDINGS["mpeg1"] = {"codec": "mpeg1video", "options": {"g": "12"}}
    times, colours, _ = shown(joined(tmp_path / "a.mpg", "mpeg2", "mpeg1", suffix=".mpg"))
    assert times == pytest.approx([0, 1, 2, 3], abs=0.13)
    assert colours == SECONDS[:4]


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_each_recording_has_the_shape_of_its_own_pixels(tmp_path: Path, suffix: str) -> None:
    settings: dict[str, Any] = {"format": {".ts": "mpegts", ".mpg": "mpeg"}[suffix], "rate": 25}
    codec: dict[str, Any] = {"codec": "mpeg2video", "options": {"b": "4000000"}}
    data = b""
    for number, aspect in enumerate((Fraction(1), Fraction(16, 15))):
        frames = colourful(seconds=2)[50 * number :] or [(40 * n, plain("blue")) for n in range(50)]
        data += write_video(tmp_path / f"{number}{suffix}", frames, aspect=aspect, **settings, **codec).read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(data)
    with VideoReader(tmp_path / f"a{suffix}", rate=1.0) as reader:
        sizes = [picture.shape[:2] for _, picture in reader]
    assert sizes == [(48, 80), (48, 80), (48, 85), (48, 85)]
    with VideoReader(tmp_path / f"a{suffix}", rate=1.0) as reader:
        assert reader.still(3).shape[:2] == (48, 85)


def test_a_second_stream_that_lasts_a_little_longer_is_not_read_on(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("mpeg2video", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        for n in range(105):
            for stream, colour in zip(streams, ("red", "blue"), strict=True):
                if n < 100 or colour == "blue":
                    frame = av.VideoFrame.from_ndarray(plain(colour), format="rgb24")
                    frame.pts = n
                    out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode())
    times, colours, reader = shown(path)
    assert colours == ["red"] * 4
    assert len(times) == 4
    assert reader.problem is None


@pytest.mark.parametrize(
    ("head", "layout"),
    [
        ("0000000109f0", "h264"),
        ("00000001674d401e", "h264"),
        ("000000014601500000", "hevc"),
        ("0000000140010c01", "hevc"),
        ("000001b31400f023", "mpeg"),
        ("000001000057fffb", "mpeg"),
        ("00000001060505ff", None),
        ("0000000000000000", None),
        ("0000000141 9a2466", None),
        ("47000001b3140000", None),
    ],
)
def test_layouts(head: str, layout: str | None) -> None:
    data = np.frombuffer(bytes.fromhex(head), np.uint8)
    assert layout_of(data) == layout
