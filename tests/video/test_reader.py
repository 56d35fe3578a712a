"""Video files made here, frame by frame: what is known of them must come back, from broken ones too."""

from __future__ import annotations

import gc
import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_videos import COLOURS, HEIGHT, SECONDS, WIDTH, av, colour_of, colourful, noisy, plain, write_video

from prvr.errors import DataError, VideoError
from prvr.video import TYPES, VideoReader, find_passed_over, find_videos


def read(path: Path, rate: float = 1.0) -> tuple[list[float], list[np.ndarray], VideoReader]:
    with VideoReader(path, rate=rate) as reader:
        pairs = list(reader)
    return [time for time, _ in pairs], [picture for _, picture in pairs], reader


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts", "a.flv"])
def test_one_frame_a_second_with_its_time(tmp_path: Path, name: str) -> None:
    times, pictures, reader = read(write_video(tmp_path / name, colourful(), options={"bf": "3"}))
    assert times == pytest.approx([0, 1, 2, 3, 4], abs=0.025)
    assert [colour_of(picture) for picture in pictures] == SECONDS
    assert pictures[0].shape == (HEIGHT, WIDTH, 3)
    assert pictures[0].dtype == np.uint8
    assert reader.duration == pytest.approx(5, abs=0.1)
    assert reader.problem is None


def test_avi_knows_times_to_a_frame_or_two(tmp_path: Path) -> None:
    """AVI holds no presentation times; what FFmpeg guesses is late where frames are reordered."""
    times, pictures, reader = read(write_video(tmp_path / "a.avi", colourful(), options={"bf": "3"}), 5.0)
    assert times == pytest.approx([n / 5 for n in range(25)], abs=0.09)
    for time, picture in zip(times, pictures, strict=True):
        assert colour_of(picture) == SECONDS[int(time)] or time % 1 < 0.1
    assert reader.problem is None


@pytest.mark.parametrize("rate", [0.5, 3.0, 4.0, 100.0])
def test_other_rates(tmp_path: Path, rate: float) -> None:
    times, _, _ = read(write_video(tmp_path / "a.mkv", colourful()), rate)
    wanted = [n / rate for n in range(math.ceil(5 * rate))] if rate < 25 else [n / 25 for n in range(125)]
    assert times == pytest.approx(wanted, abs=0.04)


def test_skipping_frames_changes_no_frame(tmp_path: Path) -> None:
    frames = [(40 * n, noisy(n // 3)) for n in range(150)]
    path = write_video(tmp_path / "a.mp4", frames, options={"bf": "4", "b-pyramid": "none", "g": "60"})
    times, pictures, _ = read(path, 2.0)
    with av.open(str(path)) as container:
        every = {round(frame.time, 3): frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)}
    assert times == pytest.approx([0.5 * n if n % 2 == 0 else 0.5 * n + 0.02 for n in range(12)])
    for time, picture in zip(times, pictures, strict=True):
        np.testing.assert_array_equal(picture, every[round(time, 3)])


GROUPS = {
    "closed": ("libx264", {"x264-params": "keyint=30:min-keyint=30:scenecut=0:bframes=3"}),
    "open": ("libx264", {"x264-params": "keyint=30:min-keyint=30:scenecut=0:bframes=3:open-gop=1"}),
    "gradual": ("libx264", {"x264-params": "keyint=30:scenecut=0:bframes=0:intra-refresh=1"}),
    "hevc, closed": (
        "libx265",
        {"x265-params": "keyint=30:min-keyint=30:scenecut=0:bframes=3:open-gop=0:log-level=none:pools=none:frame-threads=1"},
    ),
    "hevc, open": (
        "libx265",
        {"x265-params": "keyint=30:min-keyint=30:scenecut=0:bframes=3:open-gop=1:log-level=none:pools=none:frame-threads=1"},
    ),
}


@pytest.mark.parametrize(("group", "suffix"), [*((group, "mp4") for group in GROUPS), ("closed", "mkv"), ("open", "ts")])
def test_what_no_wanted_frame_needs_is_not_decoded_and_changes_nothing(tmp_path: Path, group: str, suffix: str) -> None:
    codec, options = GROUPS[group]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.options = {"preset": "ultrafast", "threads": "1", **options}
        for n in range(125):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(noisy(n // 2), format="rgb24")))
        out.mux(stream.encode())
    with av.open(str(path)) as container:
        start = float(container.streams.video[0].start_time * container.streams.video[0].time_base)
        every = {round(frame.time - start, 2): frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)}
    for rate in (0.4, 0.7):
        times, pictures, reader = read(path, rate)
        assert times == pytest.approx([math.ceil(25 * n / rate - 1e-6) / 25 for n in range(math.ceil(5 * rate))], abs=0.002)
        for time, picture in zip(times, pictures, strict=True):
            np.testing.assert_array_equal(picture, every[round(time, 2)])
        assert reader.problem is None
        assert reader.end == pytest.approx(5, abs=0.1)


def test_groups_without_a_wanted_frame_are_passed_over(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [(40 * n, noisy(n)) for n in range(250)], options={"g": "25", "bf": "3"})
    with VideoReader(path, rate=0.2) as reader:
        # Of some ten groups two hold a wanted frame, and the rest of these is not needed either.
        assert 2 <= sum(packet.size > 0 for packet, _ in reader._needed) < 30


def test_frames_that_do_not_come_evenly(tmp_path: Path) -> None:
    instants = [0, 100, 2300, 2310, 7000, 7900, 8100]
    frames = [(at, plain(SECONDS[n % 5])) for n, at in enumerate(instants)]
    times, pictures, _ = read(write_video(tmp_path / "a.mkv", frames, options={"bf": "2"}))
    assert times == pytest.approx([0, 2.3, 7.0, 8.1], abs=0.001)
    assert [colour_of(picture) for picture in pictures] == ["red", "blue", "black", "green"]


def test_times_count_from_the_start_of_the_stream(tmp_path: Path) -> None:
    late = [(at + 61_500, picture) for at, picture in colourful(seconds=3)]
    times, pictures, reader = read(write_video(tmp_path / "a.ts", late))
    assert times == pytest.approx([0, 1, 2], abs=0.001)
    assert [colour_of(picture) for picture in pictures] == SECONDS[:3]
    assert reader.problem is None


def corners() -> np.ndarray:
    """Red at the top left, green top right, blue bottom left, white bottom right."""
    picture = plain("red")
    picture[: HEIGHT // 2, WIDTH // 2 :] = COLOURS["green"]
    picture[HEIGHT // 2 :, : WIDTH // 2] = COLOURS["blue"]
    picture[HEIGHT // 2 :, WIDTH // 2 :] = COLOURS["white"]
    return picture


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_pictures_are_turned_as_for_display(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    path = write_video(tmp_path / "a.mp4", [(40 * n, corners()) for n in range(3)], turn=(degrees, mirrored))
    picture = read(path)[1][0]
    shown = np.rot90(corners(), degrees // 90)
    shown = shown[:, ::-1] if mirrored else shown
    assert picture.shape == shown.shape
    assert np.abs(picture.astype(int) - shown).mean() < 6


def test_a_telephone_held_upright(tmp_path: Path) -> None:
    """The track header's matrix written by hand, (0 1 -1 0): the top left of the sensor is shown at the top right."""
    path = write_video(tmp_path / "a.mp4", [(40 * n, corners()) for n in range(3)])
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    for place, value in enumerate([0, 0x10000, 0, -0x10000, 0, 0, HEIGHT * 0x10000, 0]):
        data[matrix + 4 * place : matrix + 4 * place + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    picture = read(path)[1][0]
    assert picture.shape == (WIDTH, HEIGHT, 3)
    assert colour_of(picture[: WIDTH // 2, HEIGHT // 2 :]) == "red"
    assert colour_of(picture[WIDTH // 2 :, HEIGHT // 2 :]) == "green"
    assert colour_of(picture[: WIDTH // 2, : HEIGHT // 2]) == "blue"


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_file_cut_short_gives_what_there_is_and_says_so(tmp_path: Path, name: str) -> None:
    frames = [(40 * n, noisy(n)) for n in range(250)]
    faststart = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = write_video(tmp_path / name, frames, options={"g": "25"}, container_options=faststart)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 55 // 100])
    times, _, reader = read(path)
    assert times == pytest.approx([0, 1, 2, 3, 4, 5], abs=0.001)
    assert reader.duration == pytest.approx(10, abs=0.1)
    assert reader.problem is not None
    assert reader.problem.startswith("stops at 5.")
    assert "of 10.0 s" in reader.problem
    assert reader.end == pytest.approx(5.5, abs=0.5)


def test_a_damaged_middle_does_not_hide_the_rest(tmp_path: Path) -> None:
    frames = [(40 * n, noisy(n)) for n in range(250)]
    path = write_video(tmp_path / "a.mp4", frames, options={"g": "25"})
    data = bytearray(path.read_bytes())
    start = len(data) // 2
    data[start : start + len(data) // 10] = bytes(len(data) // 10)
    path.write_bytes(data)
    times, _, reader = read(path)
    assert times[:4] == pytest.approx([0, 1, 2, 3], abs=0.05)
    assert times[-3:] == pytest.approx([7, 8, 9], abs=0.05)
    assert reader.problem is not None
    assert reader.problem.startswith("damaged in ")


def test_a_single_frame_is_a_video(tmp_path: Path) -> None:
    times, pictures, reader = read(write_video(tmp_path / "a.mp4", [(0, plain("green"))]))
    assert times == [0.0]
    assert colour_of(pictures[0]) == "green"
    assert reader.problem is None


def test_a_file_that_does_not_know_its_duration(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", colourful(seconds=2), container_options={"live": "1"})
    with VideoReader(path, rate=1.0) as reader:
        assert reader.duration == 0.0
        assert len(list(reader)) == 2
        assert reader.duration == pytest.approx(2.0, abs=0.05)
        assert reader.problem is None


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "zero bytes": (lambda path: path.write_bytes(b""), r"is empty \(0 bytes\)"),
    "text": (lambda path: path.write_text("hello world\n" * 50), "a.mp4 is a text file, not a video"),
    "playlist": (lambda path: path.write_text("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n"), "is a playlist, not a video"),
    "sound": (sound_only, "holds no video, only: audio"),
    "missing": (lambda path: None, "cannot open .*No such file"),
    "folder": (lambda path: path.mkdir(), "cannot"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    make, line = BROKEN[kind]
    path = tmp_path / "a.mp4"
    make(path)
    with pytest.raises(VideoError, match=line) as problem:
        read(path)
    assert "\n" not in str(problem.value)
    assert str(path) in str(problem.value)


def test_a_file_without_one_good_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [(40 * n, noisy(n)) for n in range(10)], container_options={"movflags": "faststart"})
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + bytes(len(data) - start))
    with pytest.raises(VideoError, match=r"no frame of .* can be decoded"):
        read(path)


def test_videos_of_a_folder(tmp_path: Path) -> None:
    for name in ["b.mp4", "a.MKV", "in/side/c.webm", "in/.hidden.mp4", ".cache/d.mp4", "e.mp4.part", "notes.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.mp4").mkdir()
    found = find_videos(tmp_path)
    assert list(found) == ["a.MKV", "b.mp4", "in/side/c.webm"]
    assert found["in/side/c.webm"] == tmp_path / "in/side/c.webm"


BEGINNINGS = {
    "clip.2021": (b"\0\0\0\x20ftypisom", "MP4.*end in .mp4"),
    "old.dat": (b"\0\0\x01\xba\x44", "program stream.*end in .mpg"),
    "card/00001.bin": (b"G" + bytes(187), "transport stream.*end in .ts"),
    "web.bin": (b"\x1aE\xdf\xa3\x9fB\x82\x84webm", "WebM.*end in .webm"),
    "free.dat": (b"\0\0\0\x0cfree\0\0\0\0\0\0\0\x20ftypisom", "MP4.*end in .mp4"),
    "wide.dat": (b"\0\0\0\x08wide\0\0\0\0mdat", "QuickTime.*end in .mov"),
    "raw.h264": (b"\0\0\0\x01\x09\xf0", "H.264.*end in .mp4"),
    "short.264": (b"\0\0\x01\x27\x42", "H.264.*end in .mp4"),
    "raw.hevc": (b"\0\0\0\x01\x46\x01\x50", "H.265.*end in .mp4"),
    "raw.asp": (b"\0\0\x01\xb0\x01", "MPEG-4.*end in .m4v"),
    "clip.ivf": (b"DKIF\0\0 \0VP80", "IVF.*end in .webm"),
    "riff.x": (b"RIFF\0\0\0\0AVI LIST", "AVI.*end in .avi"),
}
QUIET = {
    "song.m4a": b"\0\0\0\x20ftypM4A ",
    "photo.heic": b"\0\0\0\x20ftypheic",
    "song.ogg": b"OggS\0\x02" + bytes(22) + b"\x01vorbis",
    "words.srt": b"1\n00:00:01,000 --> 00:00:02,000\nhello\n",
    "photo.jpg": b"\xff\xd8\xff\xe0",
    "README": b"Good evening",
    "RIVER": b"The wide river flows on.",
    "NOTES": b"xxxxmdat, xxxxmoov",
    "free.txt": "ééfree, for all".encode(),
    "song.dat": b"\0\0\0\x08free\0\0\0\x20ftypM4A ",
    "empty": b"",
    ".hidden": b"\0\0\0\x20ftypisom",
    "broken.mp4": b"x",
}


def test_videos_under_other_names_are_named_and_other_files_are_not(tmp_path: Path) -> None:
    for name, content in [*((name, start) for name, (start, _) in BEGINNINGS.items()), *QUIET.items()]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content * 10 if name == "card/00001.bin" else content)
    reasons = find_passed_over(tmp_path)
    assert reasons.keys() == BEGINNINGS.keys()
    for name, (_, wanted) in BEGINNINGS.items():
        assert re.search(wanted, reasons[name]), reasons[name]


@pytest.mark.parametrize("before", [b"", bytes(4)], ids=["188", "192"])
def test_a_scrambled_transport_stream_is_called_encrypted(tmp_path: Path, before: bytes) -> None:
    path = write_video(tmp_path / "a.ts", colourful())
    data, noise = bytearray(path.read_bytes()), np.random.default_rng(0)
    for at in range(0, len(data), 188):
        if int.from_bytes(data[at + 1 : at + 3]) & 0x1FFF == 0x100:
            data[at + 3] |= 0x80
            data[at + 12 : at + 188] = noise.bytes(176)
    path.write_bytes(b"".join(before + data[at : at + 188] for at in range(0, len(data), 188)))
    with pytest.raises(VideoError, match="encrypted"):
        read(path)
    with VideoReader(path, rate=1) as reader, pytest.raises(VideoError, match="encrypted"):
        reader.still(1)


@pytest.mark.parametrize(("start", "kind"), [(b"\xff\x0a", "JPEG XL"), (b"8BPS", "Photoshop"), (b"P6\n8 8\n255\n\xff", "PPM")])
def test_pictures_under_the_name_of_a_video_are_told(tmp_path: Path, start: bytes, kind: str) -> None:
    (tmp_path / "a.mp4").write_bytes(start + bytes(3000))
    with pytest.raises(VideoError, match=f"is a picture .{kind}"):
        read(tmp_path / "a.mp4")


def test_a_picture_in_the_boxes_of_a_film_is_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", colourful(seconds=1))
    path.write_bytes(path.read_bytes().replace(b"ftypisom", b"ftypavif", 1))
    with pytest.raises(VideoError, match="is a picture"):
        read(path)


@pytest.mark.parametrize("made", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.flv", "a.h264", "a.ivf"])
def test_a_file_without_a_suffix_is_a_video_if_it_begins_like_one(tmp_path: Path, made: str) -> None:
    (tmp_path / "in").mkdir()
    settings = {"codec": "libvpx", "options": {}} if made == "a.ivf" else {"options": {"bf": "0", "x264-params": "aud=1"}}
    write_video(tmp_path / made, colourful(seconds=2), **settings).rename(tmp_path / "in" / "clip")
    for name, content in QUIET.items():
        if "." not in name:
            (tmp_path / name).write_bytes(content)
    assert list(find_videos(tmp_path)) == ["in/clip"]
    assert find_passed_over(tmp_path) == {}
    assert len(read(tmp_path / "in" / "clip")[0]) in (2, 3)
    assert TYPES[(tmp_path / "in" / "clip").suffix] == "application/octet-stream"


def test_a_folder_of_videos_under_other_names_says_what_to_do(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", colourful(seconds=1)).rename(tmp_path / "a.bin")
    with pytest.raises(DataError, match=r"no video in .*; a.bin is skipped: it begins like MP4"):
        find_videos(tmp_path)


def test_a_link_without_a_suffix_that_leads_out_is_named(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    outside = write_video(tmp_path / "a.mp4", colourful(seconds=1))
    (tmp_path / "videos" / "clip").symlink_to(outside)
    assert "leads out of the folder" in find_passed_over(tmp_path / "videos")["clip"]


def test_what_is_no_file_of_the_folder_is_named_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    videos = tmp_path / "videos"
    (videos / "in").mkdir(parents=True)
    write_video(tmp_path / "outside" / "a.mp4", colourful(seconds=1))
    shutil.copy(tmp_path / "outside" / "a.mp4", videos / "in")
    for name, target in (
        ("trips", "../outside"),
        ("film.mp4", "gone.mp4"),
        ("loop.mp4", "loop.mp4"),
        ("notes.txt", "gone"),
        ("same", "in"),
    ):
        (videos / name).symlink_to(target)
    for name in ("pipe.mp4", "pipe"):
        os.mkfifo(videos / name)
    assert list(find_videos(videos)) == ["in/a.mp4"]
    reasons = find_passed_over(videos)
    assert reasons.keys() == {"trips", "film.mp4", "loop.mp4", "pipe.mp4"}
    assert "link to a folder" in reasons["trips"]
    assert "does not exist" in reasons["film.mp4"]
    assert "does not exist" in reasons["loop.mp4"]
    assert "is not a file" in reasons["pipe.mp4"]


@pytest.mark.parametrize("box", [b"free", b"skip", b"wide"])
def test_a_film_without_a_suffix_whose_first_box_is_empty(tmp_path: Path, box: bytes) -> None:
    path = write_video(
        tmp_path / "a.mp4",
        colourful(seconds=2),
        options={"bf": "0"},
        container_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    )
    (tmp_path / "clip").write_bytes(b"\0\0\0\x08" + box + path.read_bytes())
    assert list(find_videos(tmp_path)) == ["a.mp4", "clip"]
    assert len(read(tmp_path / "clip")[0]) == 2


@pytest.mark.parametrize("suffix", ["vob", "mxf", "mts", "m2ts", "asf", "3g2", "dv", "mod", "tod", "f4v", "mpe", "rm"])
def test_files_of_cameras_and_discs_are_videos(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix.upper()}").write_bytes(b"x")
    assert list(find_videos(tmp_path)) == [f"a.{suffix.upper()}"]


def test_a_folder_without_videos(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no video in"):
        find_videos(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        find_videos(tmp_path / "nowhere")


@pytest.mark.shared
def test_real_files_decode_to_their_end(shared: Path) -> None:
    for path in list(find_videos(shared / "data" / "videos").values())[::3]:
        times, _, reader = read(path)
        assert reader.problem is None, path
        assert times == pytest.approx(range(len(times)), abs=0.2), path
        assert len(times) == pytest.approx(reader.duration, abs=1.5), path


def test_nothing_that_was_read_waits_for_python_to_look_for_circles(tmp_path: Path) -> None:
    """Decoded pictures are megabytes that Python does not count: some hundred of them would wait."""
    path = write_video(tmp_path / "a.mp4", colourful())

    def of_pyav() -> int:
        return sum(str(type(one).__module__).startswith("av.") for one in gc.get_objects())

    gc.collect()
    before = of_pyav()
    gc.disable()
    try:
        for _ in range(3):
            read(path)
            with VideoReader(path, rate=1.0) as reader:
                reader.still(2.0)
        del reader
        assert of_pyav() == before
    finally:
        gc.enable()
