"""What files say of their recording, from tags as cameras write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_videos import colourful, write_video

from prvr.video import VideoReader
from prvr.video.tags import read_tags

TELEPHONE = {
    "creation_time": "2024-05-01T14:30:05.000000Z",
    "com.apple.quicktime.creationdate": "2024-05-01T23:30:00+0900",
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.model": "iPhone 15",
    "com.apple.quicktime.location.ISO6709": "+35.6581+139.7414+010.000/",
}


def test_the_date_with_an_offset_goes_first() -> None:
    assert read_tags([TELEPHONE]) == {
        "captured": "2024-05-01T23:30:00+09:00",
        "camera": "Apple iPhone 15",
        "gps": {"lat": 35.6581, "lon": 139.7414},
    }


def test_streams_say_what_the_container_does_not() -> None:
    streams = {"creation_time": "2020-01-02T03:04:05.000000Z", "title": "second"}
    assert read_tags([{"title": "first"}, streams]) == {"captured": "2020-01-02T03:04:05+00:00", "title": "first"}


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ({"creation_time": "1904-01-01T00:00:00Z"}, {}),
        ({"creation_time": "1970-01-01T00:00:00Z"}, {}),
        ({"creation_time": "2024-13-01T00:00:00Z"}, {}),
        ({"creation_time": "9999-12-31T23:59:59-12:00"}, {}),
        ({"creation_time": "yesterday", "date": "2021-02-03T04:05:06+02:00"}, {"captured": "2021-02-03T04:05:06+02:00"}),
        # A year is no moment.
        ({"date": "2021"}, {}),
        ({"CREATION_TIME": "2021-02-03 04:05:06"}, {"captured": "2021-02-03T04:05:06+00:00"}),
        ({"make": "GoPro", "model": "GoPro HERO9"}, {"camera": "GoPro HERO9"}),
        ({"model-eng": "X-T4"}, {"camera": "X-T4"}),
        ({"title": "  two\nlines \x1b[31m \x00"}, {"title": "two lines [31m"}),
        ({"title": "  "}, {}),
        ({"location-eng": "+4812.5-01622.5/"}, {"gps": {"lat": 48.208333, "lon": -16.375}}),
        ({"location": "-481230.0+0162230.0/"}, {"gps": {"lat": -48.208333, "lon": 16.375}}),
        ({"location": "+00.0000+000.0000/"}, {}),
        ({"location": "+95.0000+000.1000/"}, {}),
        ({"location": "Vienna"}, {}),
    ],
)
def test_only_what_is_credible_is_a_field(tags: dict[str, str], wanted: dict[str, Any]) -> None:
    assert read_tags([tags]) == wanted


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_tags_of_files(tmp_path: Path, name: str) -> None:
    tags = {"creation_time": "2024-05-01T14:30:05.000000Z", "title": "Alps"}
    path = tmp_path / name
    write_video(path, colourful(seconds=1), metadata=tags)
    with VideoReader(path, rate=1) as reader:
        assert reader.tags == {"captured": "2024-05-01T14:30:05+00:00", "title": "Alps"}


def test_tags_that_are_not_utf_8_cost_nothing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", colourful(seconds=1), metadata={"title": "Caf\u00e9 menu"})
    path.write_bytes(path.read_bytes().replace("Caf\u00e9".encode(), b"Caf\xe9\xe9"))
    with VideoReader(path, rate=1) as reader:
        assert reader.tags["title"].startswith("Caf")
        assert len(list(reader)) == 1
        reader.tags["title"].encode()
