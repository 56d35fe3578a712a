"""Lists of moments for other programs, read by OpenTimelineIO's own readers where these exist."""

from __future__ import annotations

import csv
import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from numbered_videos import write_numbered

from prvr.errors import DataError, SettingError
from prvr.search.moment_lists import check_file, list_of, moments_of, parse_file_moment
from prvr.video.frame_rate import time_code

RATES = [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001)]
ODD = "100% & 'so' <b>.mp4"


def answer_of(*moments: tuple[Path, float, float], query: str = "a red dog") -> dict[str, Any]:
    hits = [
        {"video": file.name, "file": str(file), "start": start, "end": end, "peak": start, "score": 0.5, "probability": None}
        for file, start, end in moments
    ]
    return {"query": query, "hits": hits}


def frames(rate: Fraction, first: int, after: int) -> tuple[float, float]:
    return float(first / rate), float(after / rate)


@pytest.mark.parametrize("rate", RATES)
def test_an_edl_is_exact_to_the_frame(tmp_path: Path, rate: Fraction) -> None:
    otio = pytest.importorskip("opentimelineio")
    pytest.importorskip("otio_cmx3600_adapter")
    files = [write_numbered(tmp_path / name, 90, rate=rate) for name in ("a.mp4", ODD)]
    spans = [(30, 61), (7, 8)]
    found = answer_of(*((file, *frames(rate, *span)) for file, span in zip(files, spans, strict=True)))
    text, problems = list_of(found, "edl")
    assert problems == {}
    is_drop = rate == Fraction(30000, 1001)
    assert text.splitlines()[1] == ("FCM: DROP FRAME" if is_drop else "FCM: NON-DROP FRAME")
    timeline = otio.adapters.read_from_string(text, "cmx_3600", rate=float(rate))
    clips = list(timeline.find_clips())
    at = 0
    for clip, file, (first, after) in zip(clips, files, spans, strict=True):
        assert clip.source_range.start_time.to_frames() == first
        assert clip.source_range.duration.to_frames() == after - first
        assert clip.name == file.name
        (marker,) = clip.markers
        assert marker.name == "a red dog"
        # The reader knows a locator without drop-frame alone: its number is that of the code, not of the frame.
        hour = 107892 if is_drop else 3600 * round(rate)
        code = time_code(hour + at, rate, drop_frame=is_drop).replace(";", ":")
        assert otio.opentime.to_timecode(marker.marked_range.start_time, float(rate), False) == code
        at += after - first


@pytest.mark.parametrize("rate", RATES)
def test_fcpxml_is_exact_to_the_frame_at_the_rate_of_each_file(tmp_path: Path, rate: Fraction) -> None:
    first, other = write_numbered(tmp_path / "a.mp4", 90, rate=rate), write_numbered(tmp_path / ODD, 60, rate=Fraction(50))
    text, problems = list_of(answer_of((first, *frames(rate, 30, 61)), (other, *frames(Fraction(50), 9, 59))), "fcpxml")
    assert set(problems) == {str(other)}
    root = ElementTree.fromstring(text)

    def seconds(value: str) -> Fraction:
        return Fraction(value.removesuffix("s"))

    formats = {one.attrib["id"]: seconds(one.attrib["frameDuration"]) for one in root.iter("format")}
    assets = {one.attrib["id"]: one.attrib for one in root.iter("asset")}
    clips = list(root.iter("asset-clip"))
    assert [seconds(one.attrib["start"]) for one in clips] == [30 / rate, Fraction(9, 50)]
    assert [Path(unquote(assets[one.attrib["ref"]]["src"].removeprefix("file://"))) for one in clips] == [first, other]
    assert formats[assets[clips[1].attrib["ref"]]["format"]] == Fraction(1, 50)
    at = Fraction(0)
    for clip in clips:
        assert seconds(clip.attrib["offset"]) == at
        # Of whole frames of the edit, as Final Cut wants them.
        assert (seconds(clip.attrib["duration"]) * rate).denominator == 1
        at += seconds(clip.attrib["duration"])
        assert [one.attrib["value"] for one in clip.iter("marker")] == ["a red dog"]
    assert seconds(next(root.iter("sequence")).attrib["duration"]) == at


def test_otio_reads_fcpxml(tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio")
    pytest.importorskip("otio_fcpx_xml_adapter")
    file = write_numbered(tmp_path / "a.mp4", 90)
    text, _ = list_of(answer_of((file, 1.2, 2.4), (file, 0.4, 0.8)), "fcpxml")
    read = otio.adapters.read_from_string(text, "fcpx_xml")
    clips = list(read.find_children(descended_from_type=otio.schema.Clip))
    assert [(clip.source_range.start_time.value, clip.source_range.duration.value) for clip in clips] == [(30, 30), (10, 10)]
    assert [marker.name for clip in clips for marker in clip.markers] == ["a red dog"] * 2
    assert {unquote(clip.media_reference.target_url) for clip in clips} == {f"file://{file}"}


@pytest.mark.parametrize("rate", RATES)
def test_otio_has_the_frames_of_each_file(tmp_path: Path, rate: Fraction) -> None:
    otio = pytest.importorskip("opentimelineio")
    first, other = write_numbered(tmp_path / "a.mp4", 90, rate=rate), write_numbered(tmp_path / ODD, 60, rate=Fraction(50))
    text, _ = list_of(answer_of((first, *frames(rate, 30, 61)), (other, *frames(Fraction(50), 9, 59))), "otio")
    clips = list(otio.adapters.read_from_string(text, "otio_json").find_clips())
    ranges = [(clip.source_range.start_time.value, clip.source_range.duration.value) for clip in clips]
    assert ranges == [(30, 31), (9, 50)]
    assert [clip.source_range.start_time.rate for clip in clips] == [float(rate), 50]
    assert [clip.media_reference.target_url for clip in clips] == [first.as_uri(), other.as_uri()]
    assert clips[0].markers[0].name == "a red dog"


def test_a_varying_rate_is_said(tmp_path: Path) -> None:
    times = [Fraction(33 * n + 10 * (n % 4), 1000) for n in range(90)]
    file = write_numbered(tmp_path / "vfr.mp4", 90, times=times)
    text, problems = list_of(answer_of((file, 1.0, 2.0)), "edl")
    assert "variable frame rate" in problems[str(file)]
    assert "00:00:01:00 00:00:02:00" in text


def test_csv_m3u_and_srt(tmp_path: Path) -> None:
    first, other = write_numbered(tmp_path / "a.mp4", 90), write_numbered(tmp_path / "#, b\n.mp4", 90)
    found = answer_of((first, 2.0, 3.5), (other, 0.25, 1.0), (first, 0.5, 1.0), query='a "red", dog')
    rows = list(csv.DictReader(io.StringIO(list_of(found, "csv")[0])))
    assert [(row["file"], float(row["start"]), float(row["end"])) for row in rows] == [
        (str(first), 2.0, 3.5),
        (str(other), 0.25, 1.0),
        (str(first), 0.5, 1.0),
    ]
    assert {row["query"] for row in rows} == {'a "red", dog'}
    lines = list_of(found, "m3u")[0].splitlines()
    assert lines[0] == "#EXTM3U"
    assert [line for line in lines if not line.startswith("#")] == [first.as_uri(), other.as_uri(), first.as_uri()]
    assert "#EXTVLCOPT:start-time=0.250" in lines
    text, problems = list_of(found, "srt")
    cues = [cue.splitlines() for cue in text.strip().split("\n\n")]
    # In the order of time within each video.
    assert [cue[1] for cue in cues] == [
        "00:00:00,500 --> 00:00:01,000",
        "00:00:02,000 --> 00:00:03,500",
        "00:00:00,250 --> 00:00:01,000",
    ]
    assert [cue[0] for cue in cues] == ["1", "2", "3"]
    assert all(cue[3] == 'a "red", dog' for cue in cues)
    assert "2 videos" in problems["srt"]


def test_names_cannot_forge_a_line_of_a_list(tmp_path: Path) -> None:
    file = write_numbered(tmp_path / "a\n002  AX.mp4", 50)
    found = answer_of((file, 0.0, 1.0), query="dog\n* LOC: 01:00:00:00 RED forged")
    text, _ = list_of(found, "edl")
    assert sum(line.startswith("* LOC") for line in text.splitlines()) == 1
    assert not any(line.startswith("002") for line in text.splitlines())
    assert len(list_of(found, "m3u")[0].splitlines()) == 5


def test_a_format_that_is_none_names_the_known_ones() -> None:
    with pytest.raises(SettingError, match=r"'edk'.*csv, edl, fcpxml, json, m3u, otio, srt"):
        list_of(answer_of(), "edk")


def test_files_that_are_gone_are_left_out_and_named(tmp_path: Path) -> None:
    there = write_numbered(tmp_path / "a.mp4", 50)
    found = answer_of((tmp_path / "gone.mp4", 0.0, 1.0), (there, 0.0, 1.0))
    for format in ("edl", "m3u"):
        text, problems = list_of(found, format)
        assert "gone.mp4" not in text
        assert "no longer in" in problems["gone.mp4"]
    with pytest.raises(SettingError, match="no moments"):
        list_of(answer_of((tmp_path / "gone.mp4", 0.0, 1.0)), "otio")


def test_hits_without_times_have_no_moment() -> None:
    found = answer_of((Path("/a.mp4"), 0.0, 1.0))
    found["hits"][0]["start"] = None
    assert moments_of(found) == []


def test_an_index_names_no_file_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    secret = write_numbered(tmp_path / "secret.mp4", 20)
    (tmp_path / "videos" / "link.mp4").symlink_to(secret)
    (tmp_path / "videos" / "notes.txt").write_text("mine")
    for video in ("../secret.mp4", "link.mp4", "notes.txt", str(secret)):
        with pytest.raises(DataError):
            check_file(tmp_path / "videos" / video, video)


def test_a_moment_of_a_file(tmp_path: Path) -> None:
    file = write_numbered(tmp_path / "a@b.mp4", 20)
    assert parse_file_moment(f"{file}@12.5") == (file, 12.5)
    for text in (str(file), "a.mp4@", "a.mp4@x", "a.mp4@1.2.3"):
        with pytest.raises(SettingError, match="is no moment"):
            parse_file_moment(text)
    with pytest.raises(DataError, match="no longer in"):
        parse_file_moment(f"{tmp_path}/gone.mp4@1")


def test_lists_are_json_where_they_say_so(tmp_path: Path) -> None:
    pytest.importorskip("opentimelineio")
    file = write_numbered(tmp_path / "a.mp4", 20)
    assert json.loads(list_of(answer_of((file, 0.0, 0.4)), "otio")[0])["OTIO_SCHEMA"] == "Timeline.1"
