"""A problem is told where frames are missing, and never where none are: every container, damaged in every way."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_videos import av, noisy, write_video

from prvr.errors import VideoError
from prvr.video import VideoReader

FRAMES, RATE = 150, 48_000
CONTAINERS: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": ("libx264", {"container_options": {"movflags": "faststart"}}),
    "in fragments.mp4": ("libx264", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "mkv": ("libx264", {"container_options": {"cluster_time_limit": "1000"}}),
    "webm": ("libvpx", {"container_options": {"cluster_time_limit": "1000"}}),
    "ts": ("libx264", {}),
    "mpg": ("mpeg2video", {"format": "mpeg"}),
    "avi": ("mpeg4", {}),
    "of pictures.avi": ("mjpeg", {}),
    "flv": ("libx264", {}),
    "wmv": ("wmv2", {}),
    "ogv": ("libtheora", {}),
    "mxf": ("mpeg2video", {}),
    "rm": ("rv10", {}),
    "nut": ("libx264", {}),
}


@pytest.fixture(scope="module", params=CONTAINERS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    codec, settings = CONTAINERS[request.param]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    path = tmp_path_factory.mktemp("whole") / f"a.{request.param}"
    with av.open(str(path), "w", format=settings.get("format"), container_options=settings.get("container_options", {})) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height = (176, 144) if codec == "rv10" else (80, 48)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 800_000
        stream.codec_context.options = {"g": "25", "threads": "1", "deadline": "realtime"} if codec == "libvpx" else {"g": "25"}
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(noisy(number), format="rgb24").reformat(stream.width, stream.height)
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def frames_of(path: Path) -> tuple[int, str | None]:
    try:
        with VideoReader(path, rate=1000.0) as reader:
            return len(list(reader)), reader.problem
    except VideoError as problem:
        return 0, str(problem)


def noise(data: bytes) -> bytes:
    changed, draw = bytearray(data), random.Random(0)
    for _ in range(12):
        changed[draw.randrange(len(data) // 3, len(data) * 2 // 3)] = draw.randrange(256)
    return bytes(changed)


# What is done to the bytes of a file. Of what comes after its pictures nothing is missing.
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: data,
    "the end is missing": lambda data: data[: len(data) * 59 // 100],
    "zeros": lambda data: data[: len(data) // 2] + bytes(len(data) // 10) + data[len(data) // 2 + len(data) // 10 :],
    "a hole": lambda data: data[: len(data) // 2] + data[len(data) // 2 + len(data) // 10 :],
    "noise": noise,
    "other bytes follow": lambda data: data + bytes(5000),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_problem_is_told_exactly_where_frames_are_missing(whole: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / whole.name
    path.write_bytes(DAMAGES[damage](whole.read_bytes()))
    found, problem = frames_of(path)
    assert (found == frames_of(whole)[0]) == (problem is None), (found, problem)
    if damage in ("nothing", "other bytes follow"):
        assert problem is None
        assert found == FRAMES


def test_an_index_that_is_cut_off_costs_no_frame(tmp_path: Path) -> None:
    for name, options in (("a.avi", {}), ("a.mkv", {}), ("a.mp4", {"movflags": "frag_keyframe+empty_moov"})):
        frames = [(40 * n, noisy(n)) for n in range(50)]
        path = write_video(tmp_path / name, frames, options={"bf": "0"}, container_options=options)
        found, problem = frames_of(path)
        assert problem is None
        assert found >= 49
        path.write_bytes(path.read_bytes()[:-20])
        assert frames_of(path) == (found, None), name


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.flv", "a.wmv", "a.mp4", "a.ts"])
def test_pictures_that_do_not_come_evenly_are_whole(tmp_path: Path, name: str) -> None:
    codec = {"a.webm": "libvpx", "a.wmv": "wmv2"}.get(name, "libx264")
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    instants = [0, 40, 80, 1200, 1240, 1280, 1320, 5000, 5040, 9000]
    path = tmp_path / name
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 80, 48, "yuv420p", 400_000
        sound = out.add_stream("mp3" if name == "a.flv" else "libopus" if name == "a.webm" else "mp2", rate=RATE)
        for number, at in enumerate(instants):
            frame = av.VideoFrame.from_ndarray(noisy(number), format="rgb24")
            frame.pts, frame.time_base = at // 40, 1 / stream.average_rate
            out.mux(stream.encode(frame))
            silence = av.AudioFrame(
                format=sound.codec_context.format.name, layout="stereo", samples=960 if name == "a.webm" else 1152
            )
            for plane in silence.planes:
                plane.update(bytes(plane.buffer_size))
            silence.sample_rate, silence.pts = RATE, at * RATE // 1000
            out.mux(sound.encode(silence))
        out.mux(stream.encode())
        out.mux(sound.encode())
    with VideoReader(path, rate=1000.0) as reader:
        assert len(list(reader)) == len(instants)
        assert reader.problem is None


def test_a_reading_from_a_time_on_is_the_end_of_a_whole_one_and_decodes_only_that(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = 0
    decode = VideoReader._decode_with

    def count(*args: Any) -> list[Any]:
        nonlocal decoded
        decoded += 1
        return decode(*args)

    monkeypatch.setattr(VideoReader, "_decode_with", count)
    with VideoReader(whole, rate=2.0) as reader:
        frames, end = list(reader), reader.end
    for after in (0.7, 2.5, 4.6):
        decoded = 0
        with VideoReader(whole, rate=2.0, after=after) as reader:
            left = list(reader)
        assert [time for time, _ in left] == [time for time, _ in frames if time > after]
        assert all(np.array_equal(ours, theirs) for (_, ours), (_, theirs) in zip(left[::-1], frames[::-1], strict=False))
        assert (reader.problem, reader.end) == (None, end)
        # From the last of the key frames, one a second. H.264 without lengths is looked at only in streams.
        assert decoded <= 25 * (7 - int(after)) or whole.suffix == ".nut"
