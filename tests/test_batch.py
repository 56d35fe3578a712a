"""What a model reads of features: all rows, means, the first ones or evenly spaced ones, and packed rows that fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prvr.batch import Reading, check_widths, read_frames, video_item
from prvr.errors import DataError
from prvr.features import FeatureSet, TeacherFeatures
from prvr.features.joined import JoinedFeatures
from prvr.features.packed import Packed, PackedWriter
from prvr.features.sources import FeatureSources, Source

READING = Reading(1, 2, 4, None, unit=False, text="words")
WORDS = {"a#0": np.ones((3, 2), np.float32)}
SOURCES = FeatureSources(Source("frames", 1), Source("words", 2))


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


@pytest.mark.parametrize(
    ("sampling", "rows", "read"),
    [
        ("mean", 7, [0.5, 2.5, 4, 5]),
        ("first", 7, [0, 1, 2, 3]),
        ("spaced", 7, [0, 2, 4, 6]),
        # linspace(0, 5, 4) is 0, 1.67, 3.33, 5.
        ("spaced", 6, [0, 2, 3, 5]),
        ("first", 3, [0, 1, 2]),
        ("spaced", 4, [0, 1, 2, 3]),
    ],
)
def test_which_rows_are_read(sampling: str, rows: int, read: list[float]) -> None:
    reading = replace(READING, sampling=sampling)
    found = read_frames(column(*range(rows)), reading)
    assert found[:, 0].tolist() == read
    assert found.dtype == np.float32
    assert read_frames(column(*range(rows)), replace(reading, precision="float64")).dtype == np.float64


def test_a_teacher_sees_the_frames_that_its_student_reads() -> None:
    teacher = TeacherFeatures({"a": column(*range(10, 17))}, {"a#0": np.ones((1, 1), np.float32)})
    features = FeatureSet({"a": column(*range(7))}, WORDS, SOURCES, (teacher,))
    for sampling, read in (("first", [0, 1, 2, 3]), ("spaced", [0, 2, 4, 6])):
        item = video_item("a", ["a#0"], features, replace(READING, sampling=sampling))
        assert item.frames[:, 0].tolist() == read
        assert item.teachers[0][0][:, 0].tolist() == [10 + place for place in read]


def test_experts_keep_rows_of_their_own_where_a_model_stacks_them() -> None:
    joined = JoinedFeatures([({"a": column(1, 2, 3)}, 1), ({"a": column(7)}, 1)])
    reading = replace(READING, frame_columns=2)
    assert video_item("a", ["a#0"], FeatureSet(joined, WORDS, SOURCES), reading).frames.tolist() == [[1, 7], [2, 7], [3, 7]]
    stacked = video_item("a", ["a#0"], FeatureSet(joined, WORDS, SOURCES), replace(reading, stacked=True))
    assert stacked.frames.tolist() == [[1, 7], [2, 0], [3, 0]]


@pytest.mark.parametrize(("longest", "fits"), [(4, True), (5, False)])
def test_packed_rows_of_which_single_ones_are_chosen(longest: int, fits: bool, tmp_path: Path) -> None:
    with PackedWriter(tmp_path, columns=1, about={"kind": "frames", "read": {"most": 4, "unit": True}}) as writer:
        writer.append("a", column(1, 1, 1, 1), {"of": longest})
    reading = replace(READING, unit=True, max_frames=3, sampling="first")
    features = FeatureSet(Packed(tmp_path), WORDS, SOURCES)
    if fits:
        check_widths(features, reading)
        assert len(video_item("a", ["a#0"], features, reading).frames) == 3
        return
    with pytest.raises(DataError, match=r"this model reads .*'sampling': 'first'.*convert the package again with --whole"):
        check_widths(features, reading)
