"""Conditions on what is known of a video."""

from __future__ import annotations

import pytest

from prvr.errors import SettingError
from prvr.index.where import accepted, parse

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
    found = accepted(VIDEOS, [parse(text)])
    assert found == [id for id in VIDEOS if id[-5] in letters]


def test_several_conditions_must_all_be_met() -> None:
    assert accepted(VIDEOS, [parse("folder=trips"), parse("duration>60")]) == ["trips/alps/c.mp4"]
    assert accepted(VIDEOS, []) == list(VIDEOS)
    assert accepted({}, [parse("anything=1")]) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("camera", "is not a condition; write FIELD=VALUE"),
        ("=north", "is not a condition"),
        ("camera=", "is not a condition"),
        ("", "is not a condition"),
        ("folder>trips", "a folder is asked for by = or !="),
        ("duration>long", "a duration is a number of seconds"),
        ("duration>nan", "a duration is a number of seconds"),
        ("camra=north", "no video has a field 'camra'; did you mean 'camera'?"),
    ],
)
def test_what_is_no_condition(text: str, line: str) -> None:
    with pytest.raises(SettingError, match=line.replace("?", r"\?")):
        accepted(VIDEOS, [parse(text)])
