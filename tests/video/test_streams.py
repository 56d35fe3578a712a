"""Times are the player's, joined recordings are whole, the stream is the one that a player shows, other files are refused."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tiny_videos import HEIGHT, SECONDS, WIDTH, colour_of, colourful, noisy, plain, write_video

from prvr.errors import VideoError
from prvr.video import VideoReader
from prvr.video.containers import WHITELIST

av = pytest.importorskip("av")

MPEG = {"codec": "mpeg2video", "options": {"g": "12", "bf": "2", "b": "4000000"}}
H264 = {"options": {"g": "50", "bf": "2"}}


def shown(path: Path, *, rate: float = 1.0, after: float | None = None) -> tuple[list[float], list[str], VideoReader]:
    with VideoReader(path, rate=rate, after=after) as reader:
        pairs = list(reader)
    return [time for time, _ in pairs], [colour_of(picture) for _, picture in pairs], reader


def later(seconds: float, frames: list[tuple[int, np.ndarray]]) -> list[tuple[int, np.ndarray]]:
    return [(at + round(1000 * seconds), picture) for at, picture in frames]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_the_stamp_itself_is_the_time_in_mp4_and_matroska(tmp_path: Path, suffix: str) -> None:
    times, colours, reader = shown(write_video(tmp_path / f"a{suffix}", later(3, colourful(seconds=3)), **H264))
    assert times == pytest.approx([3, 4, 5], abs=0.001)
    assert colours == SECONDS[:3]
    assert reader.problem is None
    assert reader.duration == reader.end == pytest.approx(6, abs=0.05)


@pytest.mark.parametrize(("suffix", "settings"), [(".ts", H264), (".ts", MPEG), (".mpg", MPEG), (".vob", MPEG)])
def test_times_count_from_the_containers_start_in_streams(tmp_path: Path, suffix: str, settings: dict) -> None:
    path = write_video(tmp_path / f"a{suffix}", later(61.52, colourful(seconds=3)), format=FORMATS[suffix], **settings)
    times, colours, reader = shown(path)
    assert times == pytest.approx([0, 1, 2], abs=0.001)
    assert colours == SECONDS[:3]
    assert reader.problem is None


FORMATS = {".ts": "mpegts", ".mpg": "mpeg", ".vob": "vob"}


@pytest.mark.parametrize("begins", [0.0, 1.0, 3600.0])
@pytest.mark.parametrize(("suffix", "settings"), [(".ts", H264), (".ts", MPEG), (".mpg", MPEG)])
def test_joined_recordings_are_whole(tmp_path: Path, suffix: str, settings: dict, begins: float) -> None:
    """Stamps that begin again, overlap, or jump an hour ahead."""
    frames = colourful(seconds=5)
    first = write_video(tmp_path / f"a{suffix}", frames[:75], format=FORMATS[suffix], **settings)
    second = write_video(tmp_path / f"b{suffix}", later(begins - 3, frames[75:]), format=FORMATS[suffix], **settings)
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    times, colours, reader = shown(joined)
    assert times == pytest.approx([0, 1, 2, 3, 4], abs=0.09)
    assert colours == SECONDS
    assert reader.duration == pytest.approx(5, abs=0.1)
    assert reader.problem is not None
    assert re.match(r"its time stamps jump at (2\.9|3\.0) s", reader.problem)
    with VideoReader(joined, rate=1.0) as stills:
        assert colour_of(stills.still(4.5)) == SECONDS[4]
    with VideoReader(joined, rate=1.0) as stills:
        assert colour_of(stills.still(1.5)) == SECONDS[1]


def test_a_pause_of_a_few_seconds_is_a_pause(tmp_path: Path) -> None:
    frames = colourful(seconds=4)
    times, _, reader = shown(write_video(tmp_path / "a.ts", frames[:50] + later(5, frames[50:]), **H264))
    assert times == pytest.approx([0, 1, 7, 8], abs=0.001)
    assert reader.problem is None


KINDS: dict[str, dict] = {"a.mp4": H264, "a.mkv": H264, "a.ts": H264, "a.mpg": MPEG, "a.avi": MPEG, "a.flv": H264, "a.h264": H264}


@pytest.mark.parametrize("name", KINDS)
def test_a_still_is_the_frame_of_its_time(tmp_path: Path, name: str) -> None:
    settings = {"format": "h264"} if name.endswith("h264") else {"format": "mpeg"} if name.endswith("mpg") else {}
    path = write_video(tmp_path / name, colourful(seconds=5), **settings, **KINDS[name])
    for tenth in range(3, 50, 4):
        with VideoReader(path, rate=1.0) as reader:
            assert colour_of(reader.still(tenth / 10)) == SECONDS[tenth // 10], tenth


@pytest.mark.parametrize("name", KINDS)
def test_a_reading_from_a_time_on_is_the_tail_of_a_whole_one(tmp_path: Path, name: str) -> None:
    settings = {"format": "h264"} if name.endswith("h264") else {"format": "mpeg"} if name.endswith("mpg") else {}
    frames = [(40 * n, noisy(n)) for n in range(120)]
    path = write_video(tmp_path / name, frames, **settings, **{**KINDS[name], "options": {"g": "24", "bf": "2", "b": "4000000"}})
    with VideoReader(path, rate=2.0) as reader:
        whole = list(reader)
    assert len(whole) == 10
    for after in (-1.0, 0.0, 0.3, 1.0, 2.1, whole[6][0], 4.4, 100.0):
        with VideoReader(path, rate=2.0, after=after) as reader:
            tail = list(reader)
        expected = [pair for pair in whole if pair[0] > after]
        assert [time for time, _ in tail] == [time for time, _ in expected]
        for (_, ours), (_, theirs) in zip(tail, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "settings"), [("a.mp4", H264), ("a.mkv", H264), ("a.ts", H264), ("a.ts", MPEG), ("a.vob", MPEG)]
)
def test_what_comes_before_a_fresh_start_is_not_decoded_again(tmp_path: Path, name: str, settings: dict) -> None:
    settings = {**settings, "options": {**settings["options"], "g": "25"}}
    path = write_video(tmp_path / name, [(40 * n, noisy(n)) for n in range(250)], **settings)
    with VideoReader(path, rate=1.0, after=7.5) as reader:
        decoded = reader._decode
        count = 0

        def counted(packet: object) -> list[object]:
            nonlocal count
            count += 1
            return decoded(packet)

        reader._decode = counted  # type: ignore[method-assign]
        assert [time for time, _ in reader] == pytest.approx([8, 9], abs=0.001)
    assert count < 100


def test_pictures_without_stamps_are_counted(tmp_path: Path) -> None:
    raw = write_video(tmp_path / "a.h264", colourful(seconds=4), format="h264", **H264)
    path = raw.rename(tmp_path / "a.mp4")
    times, colours, reader = shown(path)
    assert times == pytest.approx([0, 1, 2, 3], abs=0.001)
    assert colours == SECONDS[:4]
    assert reader.duration == pytest.approx(4, abs=0.05)
    assert reader.problem is None


RAW = [(".mp4", "h264", "libx264"), (".mp4", "hevc", "libx265"), (".m2v", "mpeg2video", "mpeg2video")]


@pytest.mark.parametrize("rate", [Fraction(10), Fraction(50), Fraction(24000, 1001)], ids=str)
@pytest.mark.parametrize(("suffix", "kind", "codec"), RAW)
def test_pictures_without_stamps_come_at_the_rate_that_they_state(
    tmp_path: Path, suffix: str, kind: str, codec: str, rate: Fraction
) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    if codec == "mpeg2video" and rate == 10:
        rate = Fraction(30)  # MPEG-2 does not know 10.
    path, frames = tmp_path / f"a{suffix}", round(4 * rate)
    with av.open(str(path), "w", format=kind) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.options = {"threads": "1", **({"x265-params": "log-level=none"} if codec == "libx265" else {})}
        for number in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(plain(SECONDS[int(number / rate)]), format="rgb24")))
        out.mux(stream.encode())
    times, colours, reader = shown(path)
    assert reader.duration == pytest.approx(4, abs=0.1)
    assert reader.frame_seconds == pytest.approx(float(1 / rate))
    assert times == pytest.approx([0, 1, 2, 3], abs=float(1 / rate))
    assert colours == SECONDS[:4]


@pytest.mark.parametrize("tag", [b"00:00:01.000000000", b"nan:00:04.000000000", b"99:00:04.000000000", b"-1:00:04.000000000"])
def test_a_duration_that_is_not_so_is_not_believed(tmp_path: Path, tag: bytes) -> None:
    path = write_video(tmp_path / "a.mkv", colourful(seconds=4), **H264)
    data = path.read_bytes()
    assert data.count(b"00:00:04.000000000") == 1
    path.write_bytes(data.replace(b"00:00:04.000000000", tag))
    times, _, reader = shown(path)
    assert len(times) == 4
    assert reader.duration == reader.end == pytest.approx(4, abs=0.05)
    assert reader.problem is None


@pytest.mark.parametrize("units", [1, 2**31 - 1])
def test_nor_that_of_an_mp4(tmp_path: Path, units: int) -> None:
    path = write_video(tmp_path / "a.mp4", colourful(seconds=4), **H264)
    data = bytearray(path.read_bytes())
    place = data.index(b"mdhd") + 4 + 16
    data[place : place + 4] = units.to_bytes(4)
    path.write_bytes(data)
    times, _, reader = shown(path)
    assert len(times) == 4
    assert reader.duration == pytest.approx(4, abs=0.05)
    assert reader.problem is None


@pytest.mark.parametrize("name", ["a.avi", "a.flv", "a.mp4", "a.mkv"])
def test_a_file_that_was_cut_off_is_told_by_its_structure(tmp_path: Path, name: str) -> None:
    frames = [(40 * n, noisy(n)) for n in range(100)]
    settings = {"container_options": {"movflags": "faststart"}} if name == "a.mp4" else {}
    path = write_video(tmp_path / name, frames, options={"g": "25", "bf": "0"}, **settings)
    assert shown(path)[2].problem is None
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    _, _, reader = shown(path)
    assert reader.problem is not None
    assert reader.problem.startswith("stops at ")
    assert reader.end < 3.5


def several(path: Path, *streams: tuple[str, str, bool]) -> Path:
    """A file with a stream of one colour for each (codec, colour, default)."""
    with av.open(str(path), "w") as out:
        made = []
        for codec, colour, default in streams:
            stream = out.add_stream(codec, rate=5)
            stream.width, stream.height = WIDTH, HEIGHT
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = av.stream.Disposition.default if default else av.stream.Disposition(0)
            made.append((stream, colour))
        for stream, colour in made:
            for n in range(1 if stream.name == "mjpeg" else 10):
                frame = av.VideoFrame.from_ndarray(plain(colour), format="rgb24")
                frame.pts = n
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_default_stream_is_shown(tmp_path: Path, suffix: str) -> None:
    path = several(tmp_path / f"a{suffix}", ("libx264", "red", False), ("libx264", "green", True))
    assert shown(path)[1] == ["green", "green"]


def test_the_first_is_shown_where_none_is_the_default(tmp_path: Path) -> None:
    assert shown(several(tmp_path / "a.mkv", ("libx264", "red", False), ("libx264", "green", False)))[1] == ["red", "red"]


@pytest.mark.parametrize("default", [False, True])
def test_a_still_is_never_shown_for_a_film(tmp_path: Path, default: bool) -> None:
    path = several(tmp_path / "a.mkv", ("mjpeg", "red", default), ("libx264", "green", True))
    assert shown(path)[1] == ["green", "green"]


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(3, 2), (48, 120)), (Fraction(1, 2), (96, 80)), (Fraction(90, 1), (48, 80))]
)
def test_pixels_are_stretched_as_for_display(tmp_path: Path, aspect: Fraction, size: tuple[int, int]) -> None:
    path = write_video(tmp_path / "a.mp4", colourful(seconds=1), aspect=aspect)
    with VideoReader(path, rate=1.0) as reader:
        ((_, picture),) = list(reader)
    assert picture.shape[:2] == size
    with VideoReader(path, rate=1.0) as reader:
        assert reader.still(0.5).shape[:2] == size


def test_frames_that_are_shorter_than_the_rounding_of_stamps(tmp_path: Path) -> None:
    frames = [(n, plain("red" if n < 200 else "blue")) for n in range(400)]
    path = write_video(tmp_path / "a.mkv", frames, options={"bf": "0"}, rate=1000)
    times, colours, _ = shown(path, rate=5.0)
    assert times == pytest.approx([0, 0.2], abs=1e-9)
    assert colours == ["red", "blue"]


def concat(folder: Path) -> str:
    write_video(folder / "secret.mp4", colourful(seconds=1))
    return "ffconcat version 1.0\nfile secret.mp4\n"


def playlist(folder: Path) -> str:
    write_video(folder / "secret.ts", colourful(seconds=1))
    return "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsecret.ts\n#EXT-X-ENDLIST\n"


def picture(folder: Path) -> bytes:
    with av.open(str(folder / "a.png"), "w", format="image2") as out:
        stream = out.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "rgb24"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(plain("red"), format="rgb24")))
        out.mux(stream.encode())
    return (folder / "a.png").read_bytes()


STRANGERS: dict[str, tuple[Callable[[Path], str | bytes], str]] = {
    "a list of files": (concat, "is a list of other files, not a video"),
    "a playlist": (playlist, "is a playlist, not a video"),
    "a manifest": (lambda folder: "<?xml version='1.0'?><MPD><Period/></MPD>", "is an XML file, not a video"),
    "a session": (
        lambda folder: "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "is a session description, not a video",
    ),
    "text art": (lambda folder: "\x1b[31mhello\n" * 500, "cannot read .* as a video|is a text file"),
    "a picture": (picture, r"is a picture \(PNG\), not a video"),
    "subtitles": (lambda folder: "1\n00:00:00,000 --> 00:00:02,000\nhello\n", "is a text file, not a video"),
}


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv", ".txt", ""])
@pytest.mark.parametrize("kind", STRANGERS)
def test_what_lists_other_files_or_is_no_film_is_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    make, words = STRANGERS[kind]
    content = make(tmp_path)
    path = tmp_path / f"upload{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(VideoError, match=words) as problem:
        VideoReader(path, rate=1.0)
    assert "\n" not in str(problem.value)


def test_no_container_that_reads_other_files_is_allowed() -> None:
    known = av.formats_available
    assert not {"concat", "hls", "dash", "tty", "image2", "lavfi", "sdp", "rtsp", "imf", "vobsub", "ffmetadata"} & set(WHITELIST)
    assert not [name for name in WHITELIST if name.endswith("_pipe")]
    # A name that this FFmpeg does not have is harmless, and a list without known names would refuse everything.
    assert len(set(WHITELIST) & {part for name in known for part in name.split(",")}) > 15


@pytest.mark.parametrize("begins", ["ftyp", "wide"])
def test_a_recording_without_its_moov_box_is_named(tmp_path: Path, begins: str) -> None:
    path = write_video(tmp_path / "a.mov", [(40 * n, noisy(n)) for n in range(50)])
    data = path.read_bytes()[: path.stat().st_size // 2]
    # A camera that wrote QuickTime before there was `ftyp`.
    path.write_bytes(data if begins == "ftyp" else b"\0\0\0\x08wide" + data[data.index(b"mdat") - 4 :])
    with pytest.raises(VideoError, match="has no moov box: the recording or the copy was not finished"):
        VideoReader(path, rate=1.0)


def test_tags_that_are_not_utf8_cost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        out.metadata["title"] = "caffeine"
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(plain("red"), format="rgb24")))
        out.mux(stream.encode())
    data = path.read_bytes()
    assert b"caffeine" in data
    path.write_bytes(data.replace(b"caffeine", b"caf\xe9\xffein"))
    assert shown(path)[1] == ["red"]


def test_lost_packets_are_called_that(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", [(40 * n, noisy(n)) for n in range(75)], options={"bf": "0", "g": "25"})
    data = path.read_bytes()
    packets = len(data) // 188
    start = packets // 2 * 188
    path.write_bytes(data[:start] + data[start + packets // 10 * 188 :])
    problem = shown(path)[2].problem
    assert problem is not None
    assert "packets were lost" in problem or "are missing" in problem
    # A hole within one picture.
    path.write_bytes(data[:start] + data[start + 4 * 188 :])
    assert "packets were lost" in str(shown(path)[2].problem)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_of_two_programmes_the_first_is_shown(tmp_path: Path) -> None:
    path, command = tmp_path / "a.ts", ["ffmpeg", "-v", "error"]
    for colour in ("blue", "red"):
        command += ["-f", "lavfi", "-i", f"color={colour}:size={WIDTH}x{HEIGHT}:rate=5:duration=2"]
    command += ["-map", "1", "-map", "0", "-c:v", "libx264", "-threads", "1"]
    # Their numbers do not count.
    command += ["-program", "program_num=7:st=0", "-program", "program_num=3:st=1", str(path)]
    subprocess.run(command, check=True)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    times, colours, reader = shown(path)
    assert times == pytest.approx([0, 1], abs=0.001)
    assert colours == ["red", "red"]
    assert reader.problem is None
