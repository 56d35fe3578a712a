"""From the relevance of frames to a span of time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from prvr.batch import resample
from prvr.moments import best_span, frame_edges


def span(relevance: list[float], **options: float) -> tuple[float, float]:
    """The span over frames of a second each."""
    return best_span(np.array(relevance, np.float32), [float(t) for t in range(len(relevance) + 1)], **options)


# Edges


def test_a_frame_stands_for_the_time_until_the_next() -> None:
    assert frame_edges([0.0, 1.0, 2.5], 4.0) == [0.0, 1.0, 2.5, 4.0]
    assert frame_edges([0.0, 1.0, 2.5], 4.0, most=3) == [0.0, 1.0, 2.5, 4.0]


def test_a_video_of_one_frame() -> None:
    assert frame_edges([0.0], 7.0) == [0.0, 7.0]
    assert frame_edges([0.0], 7.0, most=1) == [0.0, 7.0]
    assert best_span(np.array([0.3], np.float32), [0.0, 7.0]) == (0.0, 7.0)


def test_a_file_that_understates_its_duration() -> None:
    assert frame_edges([0.0, 1.0, 2.0], 1.5) == [0.0, 1.0, 2.0, 2.0]


def test_slots_of_a_long_video_by_hand() -> None:
    # 6 frames in 3 slots of two; the last slot averages frame 4 alone, and stands for the rest all the same.
    assert frame_edges([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 6.0, most=3) == [0.0, 2.0, 4.0, 6.0]
    # 5 in 2: slots begin at frame 0 and at round(2.5) = 2.
    assert frame_edges([0.0, 1.0, 2.0, 3.0, 4.0], 5.0, most=2) == [0.0, 2.0, 5.0]


@pytest.mark.parametrize("most", [1, 2, 5, 16, 128])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 17, 127, 128, 129, 200, 256, 257, 1000])
def test_an_edge_for_every_row_that_the_student_reads(count: int, most: int) -> None:
    times = [0.5 * n for n in range(count)]
    edges = frame_edges(times, 0.5 * count, most=most)
    rows = resample(np.array(times)[:, None], most)[:, 0]
    assert len(edges) == len(rows) + 1
    assert (edges[0], edges[-1]) == (0.0, 0.5 * count)
    assert all(a < b for a, b in itertools.pairwise(edges))
    # A row is the mean time of the frames in its slot, so it lies in its stretch.
    assert all(start <= row < end for start, row, end in zip(edges[:-1], rows, edges[1:], strict=True))


# Spans


def test_a_peak_by_hand() -> None:
    # Over three frames: 0 0 1 2 3 2 1 0 0. Lower quartile 0, at the best frame (the first of the three) 2.
    curve = [0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 0.0, 0.0, 0.0]
    assert span(curve) == (2, 7)
    assert span(curve, kept=0.6) == (3, 6)
    assert span(curve, kept=1.0) == (3, 6)
    assert span(curve, kept=0.0) == (0, 9)


def test_a_peak_at_either_end() -> None:
    # Over three frames: 3 2 1 0 0 0, the end standing for what is beyond it. Above 1.5 lie the first two.
    assert span([3.0, 3.0, 0.0, 0.0, 0.0, 0.0]) == (0, 2)
    # 0 0 0 1 2 3: the best frame is the first of the two, and above half of its 2 lie the last three.
    assert span([0.0, 0.0, 0.0, 0.0, 3.0, 3.0]) == (3, 6)


def test_of_two_peaks_the_higher() -> None:
    assert span([0.0, 0.0, 5.0, 5.0, 0.0, 0.0, 0.0, 6.0, 6.0, 0.0, 0.0]) == (7, 9)
    assert span([0.0, 0.0, 6.0, 6.0, 0.0, 0.0, 0.0, 5.0, 5.0, 0.0, 0.0]) == (2, 4)


def test_of_two_equal_peaks_the_first() -> None:
    assert span([0.0, 0.0, 6.0, 6.0, 0.0, 0.0, 0.0, 6.0, 6.0, 0.0, 0.0]) == (2, 4)


def test_a_frame_that_drops_out_does_not_cut_a_moment() -> None:
    assert span([0.0, 0.0, 0.0, 0.9, 1.0, 0.3, 0.9, 0.9, 0.0, 0.0, 0.0, 0.0]) == (3, 8)


def test_a_flat_curve_is_the_whole_video() -> None:
    assert span([0.4] * 6) == (0, 6)


def test_times_are_those_of_the_edges() -> None:
    edges = [0.0, 1.0, 2.5, 4.0, 9.0, 10.0, 11.0, 12.0]
    assert best_span(np.array([0.0, 0.0, 4.0, 4.0, 0.0, 0.0, 0.0], np.float32), edges, kept=0.6) == (2.5, 9.0)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_a_span_holds_the_best_frame_and_nothing_far_below_it(count: int, kept: float) -> None:
    random = np.random.default_rng(count)
    for _ in range(40):
        curve = random.normal(size=count).astype(np.float32)
        start, end = best_span(curve, [float(t) for t in range(count + 1)], kept=kept)
        best = int(curve.argmax())
        assert start <= best < end
        around = [[curve[min(max(f + step, 0), count - 1)] for step in (-1, 0, 1)] for f in range(count)]
        smooth = np.array([sum(three) / 3 for three in around])
        background = np.quantile(smooth, 0.25)
        least = background + kept * (smooth[best] - background)
        inside = [f for f in range(int(start), int(end)) if f != best]
        assert (smooth[inside] >= least - 1e-6).all()
        # It could not be longer.
        for neighbour in (int(start) - 1, int(end)):
            assert not 0 <= neighbour < count or smooth[neighbour] < least + 1e-6


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
@pytest.mark.parametrize("shift", [0.0, -5.0])
def test_a_span_does_not_depend_on_scale_or_shift(scale: float, shift: float) -> None:
    curve = [0.125, 0.25, 0.75, 1.0, 0.875, 0.375, 0.25, 0.125]
    assert best_span(np.array([scale * (s + shift) for s in curve]), [float(t) for t in range(9)]) == span(curve) != (0, 8)
