"""Conditions on what is known of a video."""

from __future__ import annotations

from typing import Any

import pytest

from prvr.errors import SettingError
from prvr.index.conditions import parse, select

VIDEOS = {
    "a.mp4": {"duration": 59.5, "date": "2026-01-31T23:59:59+00:00", "camera": "north", "tags": ["snow", "dog"], "live": True},
    "trips/b.mp4": {"duration": 60.0, "date": "2026-02-01T00:00:00+00:00", "camera": "North", "tags": [], "take": 2},
    "trips/alps/c.mp4": {"duration": 3600.0, "date": "2025-12-24T12:00:00+00:00", "camera": None, "take": "2"},
    "tripsy/d.mp4": {"duration": 5.0, "date": "2026-02-01T08:00:00+00:00", "camera": "a = b"},
}


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("folder=trips", "bc"),
        ("folder=trips/", "bc"),
        ("folder = trips/alps", "c"),
        ("folder=trip", ""),
        ("folder=.", "abcd"),
        ("folder!=trips", "ad"),
        ("duration>60", "c"),
        ("duration>=60", "bc"),
        ("duration < 6e1", "ad"),
        ("duration!=5", "abc"),
        ("date>=2026-02-01", "bd"),
        ("date<=2026-01-31", "ac"),
        ("date=2026-01", "a"),
        ("date>2026-02-01", ""),
        ("date>2026-02-01T01:00:00", "d"),
        ("date>=2026", "abd"),
        ("date<2026", "c"),
        ("date<=2026-02-01T00:00:00", "abc"),
        ("date=2026-02-01 08:00", "d"),
        ("date=2026-02-01T08:00:00Z", "d"),
        ("date=2026-02-01T10:00:00+02:00", "d"),
        ("date>2026-02-01T10:00:00+02:00", ""),
        ("camera=north", "a"),
        ("camera!=north", "bcd"),
        ("camera=a = b", "d"),
        ("camera=null", "c"),
        ("tags=dog", "a"),
        ("tags!=dog", "b"),
        ("live=true", "a"),
        ("take=2", "bc"),
        ("take<10", "b"),
    ],
)
def test_who_meets_a_condition(text: str, letters: str) -> None:
    found = select(VIDEOS, [parse(text)])
    assert found == [id for id in VIDEOS if id[-5] in letters]


def test_several_conditions_must_all_be_met() -> None:
    assert select(VIDEOS, [parse("folder=trips"), parse("duration>60")]) == ["trips/alps/c.mp4"]
    assert select(VIDEOS, []) == list(VIDEOS)
    assert select({}, [parse("anything=1")]) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("camera", "is not a condition; write FIELD=VALUE"),
        ("=north", "is not a condition"),
        ("camera=", "is not a condition"),
        ("", "is not a condition"),
        ("folder>trips", "a folder takes = or !="),
        ("duration>long", "a duration is a number of seconds"),
        ("duration>nan", "a duration is a number of seconds"),
        ("date<31.12.1990", "'31.12.1990' is not a date; write a year, a month or a day, such as 'date>=2026-01-31'"),
        ("date>=01/02/2999", "'01/02/2999' is not a date"),
        ("date=2026-1", "'2026-1' is not a date"),
        ("date=abc", "'abc' is not a date"),
        ("date>yesterday", "'yesterday' is not a date"),
        ("date=2026-02-30", "'2026-02-30' is not a date"),
        ("date=2026-13", "'2026-13' is not a date"),
        ("date=0000", "'0000' is not a date"),
        ("date=20260131", "'20260131' is not a date"),
        ("date=2026-W05", "'2026-W05' is not a date"),
        ("date=2026-01-31T25:00", "'2026-01-31T25:00' is not a date"),
        ("date=2026-01-31T", "'2026-01-31T' is not a date"),
        ("date=0001-01-01T00:00+09:00", "is not a date; write a year"),
        ("camra=north", "no video has a field 'camra'; did you mean 'camera'?"),
    ],
)
def test_what_is_no_condition(text: str, line: str) -> None:
    with pytest.raises(SettingError, match=line.replace("?", r"\?")):
        select(VIDEOS, [parse(text)])


def test_the_stamps_of_files_are_no_fields_to_choose_from() -> None:
    noted = {"a.mp4": {"duration": 2.0, "file": {"size": 3, "sha256": "0"}, "recorded": {"title": "x"}, "title": "x"}}
    with pytest.raises(SettingError, match=r"no video has a field 'foo'; known: duration, folder, title$"):
        select(noted, [parse("foo=1")])


WITHIN: dict[str, dict[str, Any]] = {
    "a.mp4": {"gps": {"lat": 1.5, "place": {"name": "Bern"}}, "a.b": 1, "people": [{"name": "x"}, "y"]},
    "b.mp4": {"gps": {"lat": 47, "tags": ["peak"]}, "a": {"b": 2}, "crew": [{"name": "z"}], "seen": {}},
    "c.mp4": {"gps": "unknown", "crew": [], "seen": {}},
    "d.mp4": {},
}


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("gps.lat>1", "ab"),
        ("gps.lat<10", "a"),
        ("gps.place.name=Bern", "a"),
        ("gps.tags=peak", "b"),
        ("a.b>=1", "ab"),
        ("a.b=2", "b"),
        # What is compared is text, numbers and words: no object is equal to anything, or other than it.
        ("gps=1", ""),
        ("gps!=1", "c"),
        ("people=y", "a"),
        ("people={'name': 'x'}", ""),
        ("crew!=z", "c"),
    ],
)
def test_fields_within_fields(text: str, letters: str) -> None:
    assert select(WITHIN, [parse(text)]) == [id for id in WITHIN if id[0] in letters]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gps=1", "the field 'gps' holds JSON objects, which are not compared; name a field within, such as 'gps.lat'"),
        ("gps.place=Bern", "the field 'gps.place' holds JSON objects, .* such as 'gps.place.name'"),
        ("gps.lon>1", "no video has a field 'gps.lon'; did you mean 'gps.lat'"),
        ("gps.lat.deg>1", "no video has a field 'gps.lat.deg'; did you mean 'gps.lat'"),
        ("gps.>1", "no video has a field 'gps.'; did you mean 'gps"),
        ("crew=z", "the field 'crew' holds JSON objects, .*; put the values to search by into a field of their own"),
        ("seen=1", "the field 'seen' holds JSON objects, .*; put the values to search by into a field of their own"),
    ],
)
def test_objects_are_not_compared(text: str, line: str) -> None:
    with pytest.raises(SettingError, match=line):
        select({"a.mp4": WITHIN["a.mp4"], "b.mp4": WITHIN["b.mp4"]}, [parse(text)])
