"""Groups of queries: by hand, and the statistics of real annotation files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from prvr.evaluate.groups import by_kind, by_parts, by_ratio
from prvr.evaluate.metrics import ceilings


def places(*ranks: int) -> np.ndarray:
    return np.array(ranks, float)[:, None]


def test_ratio_bins_by_hand() -> None:
    ratios = np.array([0.0, 0.2, 0.21, 0.4, 0.9, 1.3, np.nan])
    groups = by_ratio(places(1, 3, 1, 8, 1, 200, 1), ratios, videos=300)
    assert [(group.name, group.queries) for group in groups] == [
        ("[0, 0.2]", 2),
        ("(0.2, 0.4]", 2),
        ("(0.4, 0.6]", 0),
        ("(0.6, 0.8]", 0),
        ("(0.8, 1]", 2),
        ("unknown", 1),
    ]
    first, second, empty, _, last, _ = groups
    assert (first.retrieval.r1, first.retrieval.r5, first.retrieval.sumr) == (50, 100, 350)
    assert (second.retrieval.r5, second.retrieval.r10) == (50, 100)
    assert empty.retrieval is None
    assert last.retrieval.r100 == 50


def test_every_query_is_in_one_group() -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 9, 200) / 10
    values[random.permutation(200)[:20]] = np.nan
    place = random.integers(1, 50, (200, 1)).astype(float)
    for groups in (by_ratio(place, values, videos=50), by_parts(place, values, parts=6, videos=50)):
        assert sum(group.queries for group in groups) == 200
        of_all = sum(group.queries * group.retrieval.r5 for group in groups if group.retrieval) / 200
        assert of_all == pytest.approx(100 * (place <= 5).mean())


def test_parts_are_equal_in_count_and_never_part_equal_values() -> None:
    groups = by_parts(np.ones((12, 1)), np.arange(12.0), parts=3, videos=5)
    assert [group.queries for group in groups] == [4, 4, 4]
    same = by_parts(np.ones((7, 1)), np.array([3.0] * 6 + [np.nan]), parts=3, videos=5)
    assert [(group.name, group.queries) for group in same] == [("3", 6), ("unknown", 1)]
    unknown = by_parts(np.ones((4, 1)), np.full(4, np.nan), parts=3, videos=5)
    assert [(group.name, group.queries) for group in unknown] == [("unknown", 4)]


def test_kinds() -> None:
    groups = by_kind(places(1, 2, 1, 1), ["v", "t", None, "v"], videos=9)
    assert [(group.name, group.queries, group.retrieval.r1) for group in groups] == [
        ("t", 1, 0),
        ("v", 2, 100),
        ("unknown", 1, 100),
    ]


# Real annotation files; read plainly here, so that these tests say what the files hold and not what our readers make of it.

Line = tuple[str, str, float]


def tvr(root: Path) -> Iterator[Line]:
    for line in map(json.loads, (root / "tvr" / "tvr_val_release.jsonl").read_text().splitlines()):
        yield line["vid_name"], line["desc"], (line["ts"][1] - line["ts"][0]) / line["duration"]


def activitynet(root: Path) -> Iterator[Line]:
    for video, its in json.loads((root / "activitynet" / "val.json").read_text()).items():
        for (start, end), text in zip(its["timestamps"], its["sentences"], strict=True):
            yield video, text, (end - start) / its["duration"]


def activitynet_searched(root: Path) -> Iterator[Line]:
    """The 4,430 videos in which this field searches, of the 4,917 of the official split."""
    with zipfile.ZipFile(root / "prvr_multigt" / "multigt_labels.zip") as archive:
        lines = archive.read("activitynet/activitynetdenseval.caption.txt").decode().splitlines()
    gallery = {line.partition("#")[0] for line in lines}
    return (line for line in activitynet(root) if line[0] in gallery)


def charades(root: Path) -> Iterator[Line]:
    for line in (root / "charades_sta" / "charades_sta_test.txt").read_text().splitlines():
        moment, text = line.split("##")
        yield moment.split()[0], text, np.nan


@pytest.mark.shared
@pytest.mark.parametrize(
    ("read", "queries", "expected"),
    [
        (tvr, 10_895, (99.47, 99.95, 100)),
        (activitynet, 17_505, (99.06, 99.63, 99.74)),
        (activitynet_searched, 15_753, (99.05, 99.62, 99.73)),
        (charades, 3_720, (76.85, 94.62, 97.66)),
    ],
)
def test_the_ceilings_of_the_data_sets(shared: Path, read, queries: int, expected: tuple[float, ...]) -> None:
    videos, texts, _ = zip(*read(shared / "data" / "annotations"), strict=True)
    assert len(texts) == queries
    column = np.unique(videos, return_inverse=True)[1]
    correct = np.zeros((queries, column.max() + 1), bool)
    correct[np.arange(queries), column] = True
    most = ceilings(texts, correct)
    assert [most[k] for k in (1, 5, 10)] == pytest.approx(expected, abs=0.005)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("read", "shares", "edges"),
    [
        (tvr, (85.3, 9.2, 2.9, 1.2, 1.4), (0.035, 0.05, 0.07, 0.10, 0.18)),
        (activitynet_searched, (42.6, 25.3, 16.5, 6.8, 8.7), (0.07, 0.145, 0.25, 0.385, 0.58)),
    ],
)
def test_the_groups_of_the_data_sets(shared: Path, read, shares: tuple[float, ...], edges: tuple[float, ...]) -> None:
    ratios = np.array([ratio for _, _, ratio in read(shared / "data" / "annotations")])
    place = np.ones((len(ratios), 1))
    found = [100 * group.queries / len(ratios) for group in by_ratio(place, ratios, videos=2)]
    assert found == pytest.approx(shares, abs=0.06)
    sextiles = by_parts(place, ratios, parts=6, videos=2)
    # The specification's edges are rounded to a twentieth and less.
    assert [float(group.name.split(", ")[1][:-1]) for group in sextiles[:-1]] == pytest.approx(edges, abs=0.006)
    assert max(abs(group.queries / len(ratios) - 1 / 6) for group in sextiles) < 0.002
