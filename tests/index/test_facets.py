"""What conditions can choose from: each choice finds as many videos as it says."""

from __future__ import annotations

from prvr.index import facets
from prvr.index.conditions import parse, select
from prvr.index.facets import Facets, facets_of

ABOUTS = {
    "a.mp4": {"duration": 61.5, "date": "2026-03-01T23:59:59+00:00"},
    "trips/b.mp4": {"duration": None, "date": "2024-12-31T00:00:00+00:00", "copies": ["trips/alps/b.mp4", "home/b.mp4"]},
    "trips/alps/c.mp4": {"duration": 3, "copies": []},
    "trips/alps/2026/d.mp4": {},
}


def test_folders_with_all_that_is_below_them_durations_and_dates() -> None:
    found = facets_of(ABOUTS)
    assert found == Facets(
        {"home": 1, "trips": 3, "trips/alps": 3, "trips/alps/2026": 1}, (3.0, 61.5), ("2024-12-31", "2026-03-01")
    )
    for folder, count in found.folders.items():
        assert len(select(ABOUTS, [parse(f"folder={folder}")])) == count
    assert found.dates is not None
    assert len(select(ABOUTS, [parse(f"date>={found.dates[0]}"), parse(f"date<={found.dates[1]}")])) == 2


def test_without_videos_or_fields_there_is_nothing_to_choose() -> None:
    assert facets_of({}) == facets_of({"a.mp4": {}}) == Facets({}, None, None)


def test_of_too_many_folders_those_nearest_to_the_top_stay() -> None:
    assert facets.MOST_FOLDERS < 1100
    abouts = {f"deep/{number}/a.mp4": {} for number in range(1100)} | {"z/a.mp4": {}}
    found = facets_of(abouts)
    assert len(found.folders) == facets.MOST_FOLDERS
    assert {"deep", "z"} <= found.folders.keys()
    assert found.folders["deep"] == 1100
