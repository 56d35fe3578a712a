"""From the relevance of frames to spans of time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from prvr.batch import resample
from prvr.index.moments import Span, best_span, find_cuts, find_spans, frame_edges, peak_time


def spans(relevance: list[float], limit: int = 3) -> list[Span]:
    """The spans over parts of a second each."""
    return find_spans(np.array(relevance, np.float32), [float(t) for t in range(len(relevance) + 1)], limit=limit)


def times(relevance: list[float], limit: int = 3) -> list[tuple[float, float]]:
    return [(span.start, span.end) for span in spans(relevance, limit)]


# Edges


def test_a_frame_stands_for_the_time_until_the_next() -> None:
    assert frame_edges([0.0, 1.0, 2.5], 4.0) == [0.0, 1.0, 2.5, 4.0]
    assert frame_edges([0.0, 1.0, 2.5], 4.0, limit=3) == [0.0, 1.0, 2.5, 4.0]


def test_a_video_of_one_frame() -> None:
    assert frame_edges([0.0], 7.0) == [0.0, 7.0]
    assert frame_edges([0.0], 7.0, limit=1) == [0.0, 7.0]
    assert best_span(np.array([0.3], np.float32), [0.0, 7.0]) == (0.0, 7.0)


def test_a_file_that_understates_its_duration() -> None:
    assert frame_edges([0.0, 1.0, 2.0], 1.5) == [0.0, 1.0, 2.0, 2.0]


def test_slots_of_a_long_video_by_hand() -> None:
    # 6 frames in 3 slots of two; the last slot averages frame 4 alone, and stands for the rest all the same.
    assert frame_edges([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 6.0, limit=3) == [0.0, 2.0, 4.0, 6.0]
    # 5 in 2: slots begin at frame 0 and at round(2.5) = 2.
    assert frame_edges([0.0, 1.0, 2.0, 3.0, 4.0], 5.0, limit=2) == [0.0, 2.0, 5.0]


def test_single_frames_of_a_long_video_by_hand() -> None:
    times = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    # The first three end where the fourth begins; of evenly spaced ones each covers the time until the next.
    assert frame_edges(times, 6.0, limit=3, sampling="first") == [0.0, 1.0, 2.0, 3.0]
    assert frame_edges(times, 6.0, limit=3, sampling="spaced") == [0.0, 2.0, 5.0, 6.0]
    for sampling in ("first", "spaced"):
        assert frame_edges(times, 6.0, limit=6, sampling=sampling) == [*times, 6.0]


@pytest.mark.parametrize("limit", [1, 2, 5, 16, 128])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 17, 127, 128, 129, 200, 256, 257, 1000])
def test_an_edge_for_every_row_that_the_student_reads(count: int, limit: int) -> None:
    times = [0.5 * n for n in range(count)]
    edges = frame_edges(times, 0.5 * count, limit=limit)
    rows = resample(np.array(times)[:, None], limit)[:, 0]
    assert len(edges) == len(rows) + 1
    assert (edges[0], edges[-1]) == (0.0, 0.5 * count)
    assert all(a < b for a, b in itertools.pairwise(edges))
    # A row is the mean time of the frames in its slot, so it lies in its stretch.
    assert all(start <= row < end for start, row, end in zip(edges[:-1], rows, edges[1:], strict=True))


# Spans


def test_a_peak_by_hand() -> None:
    # Over three frames: 0 0 1 2 3 2 1 0 0. Background, the lower quartile, 0; the best frame, the first of the three,
    # stands at 2 there, so the bar at 1.2, and each of the three lies 1.8 above it, each other 1.2 below.
    curve = [0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 0.0, 0.0, 0.0]
    assert spans(curve) == [(3.0, 6.0, 3.0)]
    assert best_span(np.array(curve), [float(t) for t in range(10)]) == (3.0, 6.0)


def test_a_short_dip_does_not_cut_a_moment_and_a_long_one_does() -> None:
    # Over three frames the best stands at 12.5 / 3, so the bar at 2.5: a frame of 4 adds 1.5, one of 1 costs 1.5.
    zeros, peak = [0.0] * 8, [4.0, 4.5, 4.0]
    assert times([*zeros, *peak, 1.0, 4.0, 4.0, 4.0, *zeros], 1) == [(8, 15)]
    # Three frames of 1 cost 4.5: two of 4 beyond them are not worth it, four are.
    assert times([*zeros, *peak, 1.0, 1.0, 1.0, 4.0, 4.0, *zeros], 1) == [(8, 11)]
    assert times([*zeros, *peak, 1.0, 1.0, 1.0, 4.0, 4.0, 4.0, 4.0, *zeros], 1) == [(8, 18)]


def test_no_span_goes_through_the_background() -> None:
    # As above, but the dip lies below the background of 1: however much there is beyond, it is another moment.
    ones = [1.0] * 16
    curve = [*ones, 9.0, 9.0, 9.0, 0.0, 0.0, 0.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, *ones]
    assert times(curve) == [(16, 19), (22, 28)]


def test_several_peaks_best_first() -> None:
    curve = [0.0] * 40
    curve[4:8], curve[14:18], curve[30:34] = [9.5] * 4, [10.0] * 4, [9.7] * 4
    assert spans(curve) == [(14.0, 18.0, 10.0), (30.0, 34.0, pytest.approx(9.7)), (4.0, 8.0, 9.5)]
    assert spans(curve, limit=2) == spans(curve)[:2]
    assert spans(curve, limit=1) == spans(curve)[:1]


@pytest.mark.parametrize(("height", "found"), [(9.5, 2), (8.5, 1)])
def test_a_much_lower_peak_is_none(height: float, found: int) -> None:
    # Averaged, the middle of each stands as high as it is: 0.9 of the best's is 9.
    curve = [0.0] * 40
    curve[4:7], curve[20:23] = [10.0] * 3, [height] * 3
    assert len(spans(curve)) == found


def test_a_single_frame_is_no_other_peak() -> None:
    # It is as high as the best, but averaged it is a third of that.
    curve = [0.0] * 40
    curve[4:9], curve[20] = [10.0] * 5, 9.9
    assert times(curve) == [(4.0, 9.0)]


def test_a_peak_at_either_end() -> None:
    assert times([3.0, 3.0, 0.0, 0.0, 0.0, 0.0]) == [(0, 2)]
    assert times([0.0, 0.0, 0.0, 0.0, 3.0, 3.0]) == [(4, 6)]


def test_of_two_equal_peaks_the_first() -> None:
    assert times([0.0, 0.0, 6.0, 6.0, 0.0, 0.0, 0.0, 6.0, 6.0, 0.0, 0.0]) == [(2, 4), (7, 9)]


def test_a_lone_peak_in_a_hole_is_a_span() -> None:
    # Averaged, the best frame lies below the background of 4: the bar stands at the background itself.
    assert times([-9.0, 5.0, -9.0, *[4.0] * 20], 1) == [(1, 2)]


def test_a_flat_curve_is_the_whole_video() -> None:
    assert spans([0.4] * 6) == [(0.0, 6.0, pytest.approx(0.4))]
    assert spans([0.4] * 6, limit=0) == []


def test_times_are_those_of_the_edges() -> None:
    edges = [0.0, 1.0, 2.5, 4.0, 9.0, 10.0, 11.0, 12.0]
    assert best_span(np.array([0.0, 0.0, 4.0, 4.0, 0.0, 0.0, 0.0], np.float32), edges) == (2.5, 9.0)


# Clips


def test_clips_divide_the_frames_evenly() -> None:
    # Twelve frames of uneven length in six clips of two, and in eight of one and a half: the third and fourth.
    edges = [0.0, 1.0, 2.0, 3.0, 4.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0]
    assert best_span(np.array([0.0, 0.0, 5.0, 5.0, 0.0, 0.0]), edges) == (4.0, 13.0)
    assert best_span(np.array([0.0, 0.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.0]), edges) == (3.0, 11.0)


def test_more_clips_than_frames() -> None:
    assert best_span(np.array([0.0, 0.0, 0.0, 5.0, 5.0, 0.0, 0.0, 0.0]), [0.0, 10.0, 30.0]) == (7.5, 15.0)


@pytest.mark.parametrize("frames", [1, 2, 7, 32, 100, 3600])
def test_parts_that_are_the_frames_keep_their_times(frames: int) -> None:
    edges = np.cumsum(np.random.default_rng(frames).random(frames + 1)).tolist()
    for best in {0, frames // 2, frames - 1}:
        curve = np.zeros(frames)
        curve[best] = 1
        (span,) = find_spans(curve, edges) if frames > 1 else [Span(edges[0], edges[1], 0.0)]
        assert (span.start, span.end) == (edges[best], edges[best + 1])


# Ties


def nearly(curve: list[float], seed: int) -> np.ndarray:
    """The curve as another order of summation may give it: the last digits of float32 are others."""
    return (np.array(curve) * (1 + np.random.default_rng(seed).uniform(-1e-7, 1e-7, len(curve)))).astype(np.float32)


TIED = {
    # The bar is at 1.2, as in the peak by hand: parts of 0.9 and 1.5 add nothing, so the shorter stretch is taken.
    "stretches": ([0.0] * 8 + [3.0, 3.0, 3.0, 0.9, 1.5] + [0.0] * 8, [(8, 11)]),
    "stretches before the peak": ([0.0] * 8 + [1.5, 0.9, 3.0, 3.0, 3.0] + [0.0] * 8, [(10, 13)]),
    # The first of two peaks that tie, and their spans in the same order.
    "peaks": ([0.0] * 3 + [6.0, 6.0] + [0.0] * 6 + [6.0, 6.0] + [0.0] * 3, [(3, 5), (11, 13)]),
    "one peak of two parts": ([0.0] * 4 + [2.0, 1.0, 2.0] + [0.0] * 4, [(4, 7)]),
    # Averaged, the second peak is 0.9 of the first: it is just high enough.
    "another peak": ([0.0] * 8 + [10.0] * 3 + [0.0] * 8 + [9.0] * 3 + [0.0] * 8, [(8, 11), (19, 22)]),
    # A quarter of nine parts, the third, is the background: a part that ties with it may be in a span.
    "background": ([1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 1.0, 1.0, 1.0], [(3, 6)]),
    "nothing": ([0.3] * 9, [(0, 9)]),
}


@pytest.mark.parametrize(("curve", "expected"), TIED.values(), ids=list(TIED))
@pytest.mark.parametrize("shift", [0.0, 0.25, -20.0])
def test_no_choice_depends_on_the_last_digits(curve: list[float], expected: list[tuple[int, int]], shift: float) -> None:
    edges = [float(t) for t in range(len(curve) + 1)]
    for seed in range(50):
        found = find_spans(nearly([value + shift for value in curve], seed), edges)
        assert [(span.start, span.end) for span in found] == expected


def test_no_span_depends_on_the_order_of_summation() -> None:
    random = np.random.default_rng(0)
    rows, query = random.normal(size=(12, 96)).astype(np.float32), random.normal(size=96).astype(np.float32)
    # Moments that are there twice, and a still picture before, between and after them.
    rows = rows[[0, 0, 1, 2, 3, 0, 0, 0, 1, 2, 3, 0]]
    edges = [float(t) for t in range(13)]
    found = set()
    for seed in range(40):
        order = np.random.default_rng(seed).permutation(96)
        curve = np.zeros(12, np.float32)
        for column in order:
            curve += rows[:, column] * query[column]
        found.add(tuple((span.start, span.end) for span in find_spans(curve, edges)))
    assert len(found) == 1


# Against loops, and what must hold of any curve


def slowly(curve: list[float], most: int) -> list[tuple[int, int]]:
    """The rule in loops, over all stretches: first and last part of each span."""
    count = len(curve)
    smooth = [sum(curve[min(max(part + step, 0), count - 1)] for step in (-1, 0, 1)) / 3 for part in range(count)]
    background = float(np.quantile(smooth, 0.25))
    best = curve.index(max(curve))
    height = max(smooth[best] - background, 0)
    bar = background + 0.6 * height
    found: list[tuple[int, int]] = []
    while len(found) < most:
        outside = [part for part in range(count) if not any(first <= part <= last for first, last in found)]
        allowed = [part for part in outside if smooth[part] >= background]
        peaks = [part for part in allowed if curve[part] > bar]
        if found:
            top = max(smooth[found[0][0] : found[0][1] + 1])
            peaks = [part for part in peaks if smooth[part] - background >= 0.9 * (top - background)]
        else:
            peaks = [best]
        if not peaks:
            break
        peak = max(peaks, key=lambda part: (curve[part], -part))
        stretches = [
            (first, last)
            for first in range(peak + 1)
            for last in range(peak, count)
            if all(part == peak or part in allowed for part in range(first, last + 1))
        ]
        found.append(max(stretches, key=lambda ends: sum(curve[part] - bar for part in range(ends[0], ends[1] + 1))))
    return sorted(found, key=lambda ends: -max(curve[ends[0] : ends[1] + 1]))


@pytest.mark.parametrize("count", [2, 3, 5, 12, 24])
def test_against_all_stretches(count: int) -> None:
    random = np.random.default_rng(count)
    several = 0
    for turn in range(30):
        # Half of them drift, as frames of a video do.
        curve = random.normal(size=count) if turn % 2 else np.cumsum(random.normal(size=count))
        found = find_spans(curve, [float(t) for t in range(count + 1)])
        assert [(span.start, span.end) for span in found] == [(first, last + 1) for first, last in slowly(curve.tolist(), 3)]
        several += len(found) > 1
    assert several or count < 12


@pytest.mark.parametrize("count", [1, 2, 3, 30, 200])
def test_what_holds_of_any_curve(count: int) -> None:
    random = np.random.default_rng(count)
    for _ in range(40):
        curve = random.normal(size=count).astype(np.float32)
        found = find_spans(curve, [float(t) for t in range(count + 1)])
        assert found[0].start <= curve.argmax() < found[0].end
        assert [span.score for span in found] == sorted((span.score for span in found), reverse=True)
        for span in found:
            assert 0 <= span.start < span.end <= count
            assert span.score == curve[int(span.start) : int(span.end)].max()
        for one, other in itertools.combinations(found, 2):
            assert one.end < other.start or other.end < one.start


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
@pytest.mark.parametrize("shift", [0.0, -5.0])
def test_spans_do_not_depend_on_scale_or_shift(scale: float, shift: float) -> None:
    curve = [0.125, 0.25, 0.75, 1.0, 0.875, 0.375, 0.25, 0.125, 0.25, 0.9375, 0.9375, 0.9375, 0.25]
    moved = find_spans(np.array([scale * (s + shift) for s in curve]), [float(t) for t in range(14)])
    assert [(span.start, span.end) for span in moved] == times(curve)
    assert len(moved) == 2


# With the rows of the frames


def turned(shots: list[tuple[int, float]]) -> np.ndarray:
    """Rows of shots in a plane: how many frames, and the angle of their picture in degrees."""
    angles = np.radians(np.repeat([angle for _, angle in shots], [count for count, _ in shots]))
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def test_cuts_by_hand() -> None:
    # Two pictures at right angles, four frames each: the mean row has length sqrt(1/2), so that two rows of the video are 1/2
    # apart on average, and neighbours 1 at the cut: twice that, 1.4 above the bar of 0.6.
    assert find_cuts(turned([(4, 0), (4, 90)])) == pytest.approx([0, 0, 0, 0, 1.4, 0, 0, 0])
    # Lengths of rows say nothing of the picture.
    assert find_cuts(turned([(4, 0), (4, 90)]) * np.arange(1, 9)[:, None]) == pytest.approx([0, 0, 0, 0, 1.4, 0, 0, 0])


def test_what_changes_little_by_little_has_no_cuts() -> None:
    assert not find_cuts(turned([(1, angle) for angle in range(0, 90, 5)])).any()
    assert not find_cuts(turned([(7, 30)])).any()
    assert not find_cuts(turned([(1, 30)])).any()
    # Noise: every frame is as far from the one before as from any other.
    assert not find_cuts(np.random.default_rng(0).normal(size=(60, 128))).any()


def test_a_span_ends_at_a_cut() -> None:
    edges = [float(t) for t in range(13)]
    curve = np.array([0.0, 0, 0, 0, 5, 5, 5, 5, 4, 4, 0, 0])
    assert best_span(curve, edges) == (4, 10)
    assert best_span(curve, edges, frames=turned([(4, 0), (4, 90), (4, 180)])) == (4, 8)
    # Where the rows do not change, nothing changes.
    assert best_span(curve, edges, frames=turned([(12, 0)])) == (4, 10)
    # A cut before the peak, and one after the first part.
    assert best_span(curve[::-1].copy(), edges, frames=turned([(4, 0), (4, 90), (4, 180)])) == (4, 8)
    assert best_span(np.array([5.0, 4, 4, 0, 0, 0, 0, 0]), edges[:9], frames=turned([(1, 0), (7, 90)])) == (0, 1)


def test_a_long_answer_goes_on_beyond_a_cut() -> None:
    # A second of 5 is 0.4 of the height above the bar of 0.6; the cut costs 8 s times its strength, 1.4 at most.
    for seconds, end in ((20, 44.0), (40, 84.0)):
        curve = np.array([0.0] * 40 + [5.0] * (4 + seconds) + [0.0] * 40)
        curve[42] = 5.001
        rows = turned([(44, 0), (40 + seconds, 90)])
        assert (seconds * 0.4 > 8 * find_cuts(rows)[44]) == (end == 44 + seconds)
        assert best_span(curve, [float(t) for t in range(len(curve) + 1)], frames=rows) == (40, end)


def test_noise_alone_is_the_whole_shot() -> None:
    curve = np.array([0.30, 0.34, 0.27, 0.35, 0.29, 0.30, 0.34, 0.27, 0.33, 0.30])
    edges = [float(t) for t in range(11)]
    assert best_span(curve, edges) != (0, 10) == best_span(curve, edges, frames=turned([(10, 0)]))


def test_seconds_count_and_not_frames() -> None:
    # As many frames of a curve, in half and in twice the time, with a short dip.
    curve = np.array([0.0] * 8 + [4, 4.5, 4, 1, 4, 4, 4] + [0.0] * 8)
    for step in (0.25, 1.0, 4.0):
        edges = [step * n for n in range(len(curve) + 1)]
        assert best_span(curve, edges, frames=turned([(len(curve), 0)])) == (8 * step, 15 * step)


def test_frames_of_a_file_share_the_time_between_them() -> None:
    # At 25 frames a second a frame is seen for 0.04 s; the 0.96 s until the next sampled one are of both.
    assert frame_edges([0.0, 1.0, 2.0], 2.5, frame_seconds=0.04) == pytest.approx([0, 0.52, 1.52, 2.5])
    # A file with as many frames as are sampled, or fewer: each is seen until the next one.
    assert frame_edges([0.0, 1.0, 2.5], 4.0, frame_seconds=1.0) == pytest.approx([0, 1.0, 2.25, 4.0])
    assert frame_edges([0.0, 1.0, 2.5], 4.0, frame_seconds=5.0) == [0.0, 1.0, 2.5, 4.0]
    assert frame_edges([0.0, 1.0, 2.0, 3.0], 4.0, frame_seconds=0.0, limit=2) == [0.0, 1.5, 4.0]


def test_the_peak_is_in_the_middle_of_the_best_part() -> None:
    assert peak_time(np.array([0.1, 0.9, 0.9, 0.2]), [0.0, 0.52, 1.52, 2.52, 3.0]) == pytest.approx(1.02)
