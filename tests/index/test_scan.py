"""Scores from int8 codes: near the exact ones, never farther than they say, and no video of the best is left out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prvr.errors import DataError
from prvr.index import codes, scan
from prvr.index.approximate import likely_share
from prvr.index.codes import Codes, join, quantise, rotation
from prvr.index.database import Record
from prvr.index.resident import best_by_rows
from prvr.index.scan import Gallery

KERNELS = {"numkong": scan.products_by_numkong, "numpy": scan.products_by_numpy}


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "numkong":
        pytest.importorskip("numkong")
    monkeypatch.setattr(scan, "kernel", lambda: KERNELS[request.param])
    return request.param


def units(rows: np.ndarray) -> np.ndarray:
    exact = rows.astype(np.float64)
    return exact / np.maximum(np.linalg.norm(exact, axis=-1, keepdims=True), 1e-200)


def exact_scores(
    fields: Sequence[np.ndarray], starts: Sequence[np.ndarray], weights: Sequence[float], queries: Sequence[np.ndarray]
) -> np.ndarray:
    scores = np.zeros(len(starts[0]) - 1)
    for video in range(len(scores)):
        for rows, of, weight, query in zip(fields, starts, weights, queries, strict=True):
            cosines = [float(units(row) @ units(query)) for row in rows[of[video] : of[video + 1]]]
            scores[video] += weight * max(cosines)
    return scores


def a_gallery(videos: int, columns: Sequence[int], seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    draw = np.random.default_rng(seed)
    starts = [np.append(0, np.cumsum(draw.integers(1, 6, videos))) for _ in columns]
    fields = [draw.standard_normal((int(of[-1]), d)).astype(np.float32) for of, d in zip(starts, columns, strict=True)]
    for rows in fields:
        rows[:, 0] *= 20  # a column far larger than the others, as embeddings have
    return fields, starts


def coded(fields: Sequence[np.ndarray], starts: Sequence[np.ndarray], weights: tuple[float, ...]) -> Gallery:
    return Gallery([quantise(rows) for rows in fields], starts, weights)


def decoded(codes: Codes) -> np.ndarray:
    return codes.values.astype(np.float64) * codes.scales[:, None]


# Codes


@pytest.mark.parametrize("columns", [1, 2, 7, 12, 64, 96, 384])
def test_the_rotation_keeps_every_angle(columns: int) -> None:
    turned = rotation(columns).astype(np.float64)
    np.testing.assert_allclose(turned @ turned.T, np.eye(columns), atol=1e-6)


@pytest.mark.parametrize("columns", [64, 96, 384])
def test_the_rotation_spreads_a_column_over_all(columns: int) -> None:
    assert np.abs(rotation(columns)).max() < 5 / np.sqrt(columns)


def test_the_rotation_is_the_one_that_files_were_written_with() -> None:
    assert np.round(rotation(6)[0] * 2).astype(int).tolist() == [-1, -1, 0, 0, -1, -1]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**31), st.sampled_from([1e-30, 1e-3, 1.0, 1e30]))
def test_no_row_is_farther_from_its_code_than_it_says(rows: int, columns: int, seed: int, size: float) -> None:
    values = (np.random.default_rng(seed).standard_normal((rows, columns)) * size).astype(np.float32)
    codes = quantise(values)
    away = np.linalg.norm(units(values) @ rotation(columns).astype(np.float64) - decoded(codes), axis=1)
    assert (away <= codes.errors).all()
    # Not by saying much: half a step in each column at most, and a hundredth of a step for rounding.
    assert (codes.errors <= 0.51 * np.sqrt(columns) * codes.scales + 1e-5).all()


@pytest.mark.parametrize("columns", [32, 96, 384])
@pytest.mark.parametrize("kind", ["random", "one column", "few columns", "like the query"])
def test_along_a_query_the_error_is_less_than_is_likely(kind: str, columns: int) -> None:
    draw = np.random.default_rng(0)
    values, queries = units(draw.standard_normal((2000, columns))), units(draw.standard_normal((50, columns)))
    if kind == "one column":
        values, queries = values + 3 * np.eye(columns)[draw.integers(0, columns, 2000)], np.eye(columns)[:50]
    elif kind == "few columns":
        values, queries = (
            values * (draw.random((2000, columns)) < 3 / columns) + 1e-9,
            queries * (draw.random((50, columns)) < 0.2),
        )
        queries = units(queries + 1e-9)
    elif kind == "like the query":
        values = queries[draw.integers(0, 50, 2000)] + 0.3 * values
    codes = quantise(values.astype(np.float32))
    asked = queries @ rotation(columns).astype(np.float64)
    away = np.abs(units(values) @ queries.T - decoded(codes) @ asked.T)
    assert (away <= codes.errors[:, None] * likely_share([columns])).mean() > 0.9999


def test_the_likely_error_is_the_largest_where_columns_are_not_mixed_or_few() -> None:
    assert likely_share([384]) == pytest.approx(6 / 384**0.5)
    assert likely_share([1024, 64]) == pytest.approx(6 / 8)
    assert [likely_share([columns]) for columns in (32, 36, 383, 300)] == [1, 1, 1, 1]


def test_rows_without_a_direction_are_zero() -> None:
    rows = np.array([[0, 0], [np.nan, 1], [np.inf, 1], [3, 4]], np.float32)
    codes = quantise(rows)
    assert not codes.values[:3].any()
    assert codes.scales[:3].tolist() == codes.errors[:3].tolist() == [0, 0, 0]
    np.testing.assert_allclose(decoded(codes)[3], [0.6, 0.8] @ rotation(2), atol=0.005)


def test_no_rows_have_no_codes() -> None:
    assert [len(field) for field in quantise(np.zeros((0, 8), np.float32))] == [0, 0, 0]


def test_many_rows_are_coded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).standard_normal((10, 8)).astype(np.float32)
    whole = quantise(rows)
    monkeypatch.setattr(codes, "ROWS_AT_ONCE", 3)
    for one, other in zip(quantise(rows), whole, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_float16_rows_are_coded_as_the_values_they_hold() -> None:
    rows = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float16)
    for one, other in zip(quantise(rows), quantise(rows.astype(np.float32)), strict=True):
        assert np.array_equal(one, other)


# Kernels


@pytest.mark.parametrize("columns", [1, 3, 63, 64, 384, 1040])
def test_kernels_agree_to_the_last_bit(columns: int, kernel: str) -> None:
    draw = np.random.default_rng(columns)
    rows, vector = draw.integers(-127, 128, (37, columns), np.int8), draw.integers(-127, 128, (2, columns), np.int8)
    rows[0] = vector[0] = 127
    assert KERNELS[kernel](rows, vector).tolist() == (rows.astype(np.int64) @ vector.astype(np.int64).T).tolist()


def test_numpy_stands_in_where_numkong_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "numkong", None)
    assert scan.kernel.__wrapped__() is scan.products_by_numpy


# A gallery


def test_scores_by_hand(kernel: str) -> None:
    first = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    second = np.array([[0, 2], [3, 0]], np.float32)
    gallery = coded([first, second], [np.array([0, 2, 3]), np.array([0, 1, 2])], (0.7, 0.3))
    scores, bounds = gallery.scores([np.array([5, 0], np.float32), np.array([0, 1], np.float32)])
    np.testing.assert_allclose(scores, [0.7 * 1 + 0.3 * 1, 0.7 * -1 + 0.3 * 0], atol=0.01)
    assert (bounds < 0.02).all()


@pytest.mark.parametrize("columns", [(384,), (64, 48), (5, 1, 33)])
@pytest.mark.parametrize("rows_at_once", [1, 20, 1 << 15])
def test_no_score_is_farther_from_the_exact_one_than_it_says(
    columns: tuple[int, ...], rows_at_once: int, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "ROWS_AT_ONCE", rows_at_once)
    monkeypatch.setattr(scan, "ROWS_IN_BLOCK", 2 * rows_at_once)
    fields, starts = a_gallery(30, columns, seed=len(columns))
    weights = (0.7, -0.3, 2.0)[: len(columns)]
    gallery, draw = coded(fields, starts, weights), np.random.default_rng(9)
    for _ in range(5):
        queries = [draw.standard_normal(d).astype(np.float32) for d in columns]
        scores, bounds = gallery.scores(queries)
        assert (np.abs(scores - exact_scores(fields, starts, weights, queries)) <= bounds).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_several_queries_have_the_scores_that_each_has_alone(threads: int, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prvr.device.thread_count", lambda: threads)
    monkeypatch.setattr(scan, "ROWS_AT_ONCE", 20)
    monkeypatch.setattr(scan, "ROWS_IN_BLOCK", 40)
    fields, starts = a_gallery(30, (64, 48), seed=5)
    gallery, draw = coded(fields, starts, (0.7, 0.3)), np.random.default_rng(9)
    several = [[draw.standard_normal(d).astype(np.float32) for d in (64, 48)] for _ in range(3)]
    for query, (scores, bounds) in zip(several, gallery.scores_of_each(several), strict=True):
        alone, same = gallery.scores(query)
        np.testing.assert_allclose(scores, alone, atol=1e-6)
        assert np.array_equal(bounds, same)


@pytest.mark.parametrize("rows_at_once", [1, 20, 1 << 15])
def test_some_videos_are_scored_again_within_half_the_bounds(
    rows_at_once: int, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "ROWS_AT_ONCE", rows_at_once)
    monkeypatch.setattr(scan, "ROWS_IN_BLOCK", 2 * rows_at_once)
    fields, starts = a_gallery(30, (64, 48), seed=5)
    gallery, draw = coded(fields, starts, (0.7, 0.3)), np.random.default_rng(9)
    queries = [draw.standard_normal(d).astype(np.float32) for d in (64, 48)]
    exact, (_, wide) = exact_scores(fields, starts, (0.7, 0.3), queries), gallery.scores(queries)
    for places in ([29, 0, 7, 8, 7], [3], []):
        chosen = np.array(places, int)
        scores, bounds = gallery.rescore(queries, chosen)
        assert (np.abs(scores - exact[chosen]) <= bounds).all()
        assert (bounds < 0.7 * wide[chosen]).all()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows_in_block", [1, 40, 1 << 17])
def test_segments_have_the_best_cosine_of_their_rows(
    rows_in_block: int, threads: int, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prvr.device.thread_count", lambda: threads)
    monkeypatch.setattr(scan, "ROWS_IN_BLOCK", rows_in_block)
    fields, starts = a_gallery(30, (64, 48), seed=5)
    # The second field is the heavier one: its rows divide the video.
    gallery, draw = coded(fields, starts, (0.3, -0.7)), np.random.default_rng(9)
    queries = [draw.standard_normal(d).astype(np.float32) for d in (64, 48)]
    places = draw.integers(0, 30, 50)
    lengths = np.diff(starts[1])[places]
    firsts = draw.integers(0, lengths)
    ends = draw.integers(firsts + 1, lengths + 9)
    found = gallery.score_segments(queries, places, firsts, ends)
    for number, (rows, of, weight) in enumerate(zip(fields, starts, (0.3, -0.7), strict=True)):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = unit @ (queries[number] / np.linalg.norm(queries[number]))
        for at, (place, first, end) in enumerate(zip(places, firsts, ends, strict=True)):
            count, length = of[place + 1] - of[place], starts[1][place + 1] - starts[1][place]
            begin, stop = int(first * count / length), math.ceil(min(end, length) * count / length)
            best = max(cosines[row] for row in range(of[place] + begin, of[place] + stop))
            assert abs(found[number, at] - weight * best) < 0.02
    # A file that was tampered with may hold rows that are not there.
    none = np.zeros(0, int)
    beyond = gallery.score_segments(queries, places, firsts + 10**6, ends + 10**6)
    assert np.isfinite(beyond).all()
    assert gallery.score_segments(queries, none, none, none).shape == (2, 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(0, 14), st.booleans())
def test_candidates_hold_the_exact_best(seed: int, videos: int, k: int, some: bool) -> None:
    fields, starts = a_gallery(videos, (24, 16), seed)
    draw = np.random.default_rng(seed)
    queries = [draw.standard_normal(d).astype(np.float32) for d in (24, 16)]
    allowed = draw.random(videos) < 0.5 if some else None
    scores = exact_scores(fields, starts, (0.6, 0.4), queries)
    if allowed is not None:
        scores[~allowed] = -np.inf
    found = coded(fields, starts, (0.6, 0.4)).candidates(queries, k, allowed)
    best = [place for place in np.argsort(-scores)[:k] if scores[place] > -np.inf]
    assert set(best) <= set(found.tolist())
    assert len(set(found.tolist())) == len(found)
    assert allowed is None or allowed[found].all()


def test_candidates_are_few_where_scores_are_far_apart_and_come_best_first() -> None:
    angles = np.linspace(0, np.pi / 2, 40)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = coded([rows], [np.arange(41)], (1.0,)).candidates([np.array([0, 1], np.float32)], 3)
    assert found.tolist()[:2] == [39, 38]
    assert 3 <= len(found) <= 8


def test_videos_that_tie_are_all_candidates() -> None:
    gallery = coded([np.ones((6, 8), np.float32)], [np.arange(7)], (1.0,))
    assert sorted(gallery.candidates([np.ones(8, np.float32)], 2)) == list(range(6))


@pytest.mark.parametrize("query", [np.zeros(8, np.float32), np.full(8, np.nan, np.float32)])
def test_a_query_without_a_direction_finds_nothing_better_than_the_rest(query: np.ndarray) -> None:
    gallery = coded([np.eye(8, dtype=np.float32)], [np.arange(9)], (1.0,))
    scores, bounds = gallery.scores([query])
    assert not scores.any()
    assert np.isfinite(bounds).all()


def test_a_broken_row_does_not_hide_the_others() -> None:
    rows = np.array([[np.nan, 1], [0, 1], [1, 0], [0, 0]], np.float32)
    gallery = coded([rows], [np.array([0, 2, 3, 4])], (1.0,))
    scores, _ = gallery.scores([np.array([0, 1], np.float32)])
    np.testing.assert_allclose(scores, [1, 0, 0], atol=0.01)


@pytest.mark.parametrize("rows_at_once", [1, 7, 1 << 15])
def test_a_gallery_that_grew_scores_as_one_made_at_once(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "ROWS_AT_ONCE", rows_at_once)
    monkeypatch.setattr(scan, "ROWS_IN_BLOCK", 2 * rows_at_once)
    fields, starts = a_gallery(20, (16, 8), seed=3)
    whole, grown = coded(fields, starts, (0.7, 0.3)), coded([rows[:0] for rows in fields], [of[:1] for of in starts], (0.7, 0.3))
    for begin, end in ((0, 1), (1, 2), (2, 2), (2, 13), (13, 20)):
        parts = [rows[of[begin] : of[end]] for rows, of in zip(fields, starts, strict=True)]
        grown.add([quantise(rows) for rows in parts], [of[begin : end + 1] - of[begin] for of in starts])
        assert len(grown) == end
    queries = [np.ones(16, np.float32), np.ones(8, np.float32)]
    for one, other in zip(grown.scores(queries), whole.scores(queries), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_videos_that_come_one_by_one_are_scanned_together(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = coded([np.ones((1, 8), np.float32)], [np.array([0, 1])], (1.0,))
    for _ in range(20):
        gallery.add([quantise(np.ones((1, 8), np.float32))], [np.array([0, 1])])
    asked = []
    monkeypatch.setattr(scan, "kernel", lambda: lambda rows, vector: asked.append(1) or scan.products_by_numpy(rows, vector))
    gallery.scores([np.ones(8, np.float32)])
    assert len(asked) == 1


def test_an_empty_gallery_has_no_candidates() -> None:
    gallery = coded([np.zeros((0, 8), np.float32)], [np.array([0])], (1.0,))
    assert len(gallery) == len(gallery.candidates([np.ones(8, np.float32)], 5)) == 0


def test_joined_codes_are_those_of_all_rows() -> None:
    rows = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    for one, other in zip(join([quantise(rows[:2]), quantise(rows[2:])]), quantise(rows), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_what_does_not_fit_together_is_refused() -> None:
    codes = quantise(np.ones((3, 8), np.float32))
    with pytest.raises(DataError, match=r"2 weights, but fields with \[3, 2\] videos; add the same videos in each field"):
        Gallery([codes, codes], [np.arange(4), np.array([0, 1, 3])], (0.5, 0.5))
    with pytest.raises(DataError, match=r"1 of 3 videos have no rows, or the 3 rows are not all of a video"):
        Gallery([codes], [np.array([0, 1, 1, 3])], (1.0,))
    with pytest.raises(DataError, match=r"0 of 2 videos have no rows, or the 3 rows are not all of a video"):
        Gallery([codes], [np.array([0, 1, 2])], (1.0,))


# Rows


def test_rows_are_read_of_the_best_and_of_those_that_may_be_better() -> None:
    rows = np.linspace(1, 0.5, 20, dtype=np.float32)
    read = []

    def records(numbers: Sequence[int]) -> list[Record]:
        read.append(list(numbers))
        angles = rows[list(numbers)]
        return [
            Record(f"{n:02}", "[1]", "{}", "null", (np.array([[c, np.sqrt(1 - c * c)]], np.float32),))
            for n, c in zip(numbers, angles, strict=True)
        ]

    query = [np.array([1, 0], np.float32)]
    best = best_by_rows(query, 3, np.arange(20), rows + np.float32(0.06), records, (1.0,))
    assert [one.video for one in best] == ["00", "01", "02"]
    # The third has 0.947; the fifth may have 0.955, the sixth 0.928.
    assert [number for some in read for number in some] == [0, 1, 2, 3, 4]
