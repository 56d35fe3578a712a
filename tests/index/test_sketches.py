"""The first stage: sketches hold what they should, grow without being made again, and miss little on hard queries."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from benchmarks import index_speed
from benchmarks.index_gallery import World, chunks, easy_queries, hard_queries
from benchmarks.measure import SMALL
from prvr.errors import ModelError
from prvr.index import stage as stage_module
from prvr.index.sketches import Codebook, Segments, Sketch, divide, learn_codebook
from prvr.index.stage import FirstStage

WEIGHTS = (0.7, 0.3)


def drawn(videos: int) -> tuple[World, list[np.ndarray], list[Segments]]:
    """A world, its exact scores for hard queries, and each video's segments."""
    world = World(videos, columns=48, fewest=8, most=30)
    ((fields, starts),) = chunks(world)
    spans = list(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))
    segments = [divide([rows[a:b] for rows in fields], WEIGHTS) for a, b in spans]
    return world, [np.asarray(index_speed.exact_scores(fields, starts, hard_queries(world, 40), WEIGHTS))], segments


@pytest.fixture(scope="module")
def learned() -> tuple[np.ndarray, list[list[np.ndarray]], Codebook, list[Sketch]]:
    """Exact scores, queries, a codebook of half of these, and the sketches of 200 videos."""
    world, (scores,), segments = drawn(200)
    queries = hard_queries(world, 40)
    book = learn_codebook(
        np.concatenate([of.vectors for of in segments]), np.concatenate([field[20:] for field in queries], axis=1)
    )
    return scores, [[field[n] for field in queries] for n in range(20)], book, [book.sketch(of) for of in segments]


def staged(book: Codebook, sketches: list[Sketch]) -> FirstStage:
    stage = FirstStage(book)
    stage.follow(range(1, len(sketches) + 1), enumerate(sketches, start=1))
    return stage


# Segments


def test_segments_by_hand() -> None:
    # Three rows alike, two alike, one: the only changes are between them.
    rows = np.array([[2, 0]] * 3 + [[0, 1]] * 2 + [[-3, 0]], np.float32)
    other = np.array([[0, 5], [0, 5], [7, 0]], np.float32)
    found, firsts = divide([rows, other], (0.75, 0.25), share=0.5)
    # The second field has half as many rows: rows 0 to 1, 1 to 2 and 2 of it.
    half = 0.25 / np.sqrt(2)
    expected = [[0.75, 0, 0, 0.25], [0, 0.75, half, half], [-0.75, 0, 0.25, 0]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert firsts.tolist() == [0, 3, 5]


def test_a_field_without_weight_is_left_out_and_a_vector_of_the_whole_video_is_in_every_segment() -> None:
    draw = np.random.default_rng(0)
    rows, whole, none = draw.normal(size=(12, 4)), np.array([[3.0, 4.0]]), draw.normal(size=(5, 7))
    found, _ = divide([rows, whole, none], (0.6, 0.4, 0.0), share=0.5)
    assert found.shape[1] == 6
    assert 1 < len(found) <= 6
    np.testing.assert_allclose(found[:, 4:], np.tile([0.24, 0.32], (len(found), 1)), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_counts_as_zero(value: float) -> None:
    rows = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    zeroed, rows[3, 2] = rows.copy(), value
    zeroed[3] = 0
    np.testing.assert_array_equal(divide([rows], (1.0,)).vectors, divide([zeroed], (1.0,)).vectors)


@pytest.mark.parametrize("rows", [np.ones((1, 3)), np.ones((9, 3))])
def test_what_never_changes_is_one_segment(rows: np.ndarray) -> None:
    assert divide([rows], (1.0,)).vectors.shape == (1, 3)


def test_more_segments_of_a_video_score_nearer_to_its_rows() -> None:
    world = World(30, columns=48, fewest=8, most=30)
    ((fields, starts),) = chunks(world)
    queries = hard_queries(world, 8)
    exact = index_speed.exact_scores(fields, starts, queries, WEIGHTS)
    errors = []
    for share in (0.1, 0.4, 1.0):
        spans = pairwise(starts)
        vectors = [divide([rows[a:b] for rows in fields], WEIGHTS, share=share).vectors for a, b in spans]
        scores = np.stack([(np.concatenate(queries, axis=1) @ of.T).max(1) for of in vectors], axis=1)
        errors.append(float(np.abs(scores - exact).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02


# Codes


def test_codes_are_the_nearest_centroids_two_in_a_byte() -> None:
    centroids = np.zeros((2, 16, 2), np.float32)
    centroids[:, :, 0] = np.arange(16)
    book = Codebook(np.ones(4, np.float32), np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32), centroids)
    assert book.encode(np.array([[3.2, 1, 14.9, 1], [0, 1, 99, 1]], np.float32)).tolist() == [[2 + 16 * 14], [0 + 16 * 15]]
    assert book.bytes_a_segment == 1


def test_products_of_columns_are_those_of_vectors() -> None:
    draw = np.random.default_rng(0)
    vectors, queries = (draw.normal(size=(n, 8)).astype(np.float32) for n in (60, 20))
    book = learn_codebook(vectors, queries)
    centred = vectors - book.mean
    np.testing.assert_allclose(book.project(queries) @ (centred @ book.axes).T, queries @ centred.T, atol=1e-4)


def test_what_queries_have_in_common_is_among_few_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prvr.index.sketches.COLUMNS", 4)
    draw = np.random.default_rng(0)
    # All queries lie along the column that varies least.
    vectors = (draw.normal(size=(500, 16)) * np.linspace(2, 0.1, 16)).astype(np.float32)
    queries = (np.eye(16)[15] * 5 + draw.normal(size=(20, 16)) / 100).astype(np.float32)
    book = learn_codebook(vectors, queries)
    scores = book.project(queries) @ ((vectors - book.mean) @ book.axes).T
    assert np.corrcoef(scores.ravel(), (queries @ vectors.T).ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("segments", "columns"), [(1, 1), (3, 5), (20, 7)])
def test_small_galleries_have_a_codebook_too(segments: int, columns: int, capfd: pytest.CaptureFixture) -> None:
    draw = np.random.default_rng(0)
    vectors, queries = draw.normal(size=(segments, columns)).astype(np.float32), draw.normal(size=(4, columns)).astype(np.float32)
    book = learn_codebook(vectors, queries)
    assert FirstStage(book).codebook.encode(vectors).shape == (segments, -(-columns // 4))
    assert capfd.readouterr() == ("", "")


def test_a_codebook_is_read_as_it_was_written_and_nothing_else_is() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(40, 8)).astype(np.float32)
    book = learn_codebook(vectors, vectors)
    again = Codebook.from_bytes(book.to_bytes())
    assert all(np.array_equal(one, other) for one, other in zip(book, again, strict=True))
    wrong = (
        book._replace(mean=book.mean[1:]),
        book._replace(axes=book.axes[:, 1:]),
        book._replace(query_axes=book.query_axes[:, :4]),
        book._replace(centroids=book.centroids[:, :8]),
        book._replace(mean=book.mean.astype(np.float64)),
        book._replace(mean=np.array(1, np.float32)),
        book._replace(axes=np.array(1, np.float32)),
        book._replace(query_axes=np.array(1, np.float32)),
        book._replace(centroids=np.array(1, np.float32)),
        book._replace(centroids=np.full_like(book.centroids, np.nan)),
    )
    for data in (b"", b"x" * 99, *(save({name: values.copy() for name, values in one._asdict().items()}) for one in wrong)):
        with pytest.raises(ValueError, match=r"Error|do not fit together"):
            Codebook.from_bytes(data)
    with pytest.raises(ModelError, match="the codebook of the first stage has 8 columns, the embeddings 7"):
        book.encode(vectors[:, 1:])


# The stage


def test_nearly_all_of_the_best_are_kept_on_hard_queries(
    learned: tuple[np.ndarray, list[list[np.ndarray]], Codebook, list[Sketch]],
) -> None:
    scores, queries, book, sketches = learned
    stage, shares = staged(book, sketches), {}
    for count in (10, 40, 100):
        kept = [set(stage.candidates(query, count).numbers.tolist()) for query in queries]
        assert {len(row) for row in kept} == {count}
        best = [set((np.argsort(-row)[:10] + 1).tolist()) for row in scores]
        shares[count] = np.mean([len(of & row) / 10 for of, row in zip(best, kept, strict=False)])
    assert shares[10] > 0.5
    assert shares[40] > 0.9
    assert shares[100] > 0.98


def test_candidates_are_those_with_the_largest_inner_products_best_first(
    learned: tuple[np.ndarray, list[list[np.ndarray]], Codebook, list[Sketch]],
) -> None:
    _, queries, book, sketches = learned
    stage = staged(book, sketches)
    nibbles = [np.stack([of & 15, of >> 4], 2).reshape(len(of), -1) for of, _ in sketches]
    columns = [book.centroids[np.arange(len(book.centroids)), of].reshape(len(of), -1) for of in nibbles]
    for query in queries[:5]:
        slow = np.array([(of @ book.project(np.concatenate(query)[None])[0]).max() for of in columns])
        found = slow[stage.candidates(query, 20).numbers - 1]
        # FAISS adds products in 8 bits.
        assert (np.diff(found) < 0.02).all()
        assert found.min() > np.sort(slow)[-20] - 0.02


@pytest.mark.parametrize("segments", [1, 40, 1 << 19])
def test_a_stage_that_grew_finds_what_one_made_at_once_does(
    segments: int, learned: tuple[np.ndarray, list[list[np.ndarray]], Codebook, list[Sketch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, queries, book, sketches = learned
    whole = staged(book, sketches[:60])
    monkeypatch.setattr(stage_module, "SEGMENTS_IN_PART", segments)
    grown = FirstStage(book)
    for end in (0, 1, 2, 2, 30, 60):
        grown.follow(range(1, end + 1), [(n, sketches[n - 1]) for n in range(grown.last + 1, end + 1)])
        assert len(grown) == grown.last == end
    for query in queries:
        # FAISS adds products in 8 bits, so that some tie.
        assert len(set(grown.candidates(query, 15).numbers) & set(whole.candidates(query, 15).numbers)) >= 13


def test_only_videos_that_are_there_and_allowed_are_candidates(
    learned: tuple[np.ndarray, list[list[np.ndarray]], Codebook, list[Sketch]],
) -> None:
    _, queries, book, sketches = learned
    stage = staged(book, sketches)
    stage.follow(range(101, 201), [])
    found = stage.candidates(queries[0], 10).numbers
    assert len(found) == 10
    assert found.min() > 100
    # The allowed ones are far down the list: more is asked for until there are enough.
    last = stage.candidates(queries[0], 100).numbers[-12:]
    assert set(stage.candidates(queries[0], 10, last.tolist()).numbers.tolist()) < set(last.tolist())
    assert stage.candidates(queries[0], 10, [150, 1]).numbers.tolist() == [150]
    assert FirstStage(book).candidates(queries[0], 10).numbers.tolist() == []


@pytest.mark.parametrize("segments", [1, 40, 1 << 19])
def test_candidates_come_with_the_rows_of_the_segments_that_found_them(
    segments: int, learned: tuple[np.ndarray, list[list[np.ndarray]], Codebook, list[Sketch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, queries, book, sketches = learned
    monkeypatch.setattr(stage_module, "SEGMENTS_IN_PART", segments)
    stage = staged(book, sketches)
    stage.follow(range(50, 201), [])
    for query in queries[:5]:
        found = stage.candidates(query, 20)
        assert sorted(set(found.of.tolist())) == list(range(20))
        assert len(found.of) == len(found.firsts) == len(found.ends) > 20
        # The best segment of the first video comes first.
        assert found.of[0] == 0
        for of, first, end in zip(found.of, found.firsts, found.ends, strict=True):
            firsts = [*sketches[found.numbers[of] - 1].firsts.tolist(), stage_module.LAST]
            assert firsts[firsts.index(first) + 1] == end
    assert len(stage.candidates(queries[0], 151).of) == 0


# The benchmark


def test_exact_scores_by_hand() -> None:
    rows, starts = np.eye(3, dtype=np.float32), np.array([0, 2, 3])
    query = np.array([[0, 1, 0]], np.float32)
    np.testing.assert_allclose(index_speed.exact_scores((rows, rows), starts, (query, query), WEIGHTS), [[1, 0]])


def test_a_gallery_larger_than_its_index_is_measured_by_what_is_kept() -> None:
    with index_speed.drawn_gallery(replace(SMALL, frames=8), 40, held=25) as gallery:
        assert (gallery.index.count(), gallery.videos) == (25, 40)
        lines = index_speed.gallery_lines(gallery, SMALL, rivals={})
    assert len(lines) == 3 + 3 * len(index_speed.SETTINGS)
    assert all(line.ours and min(line.ours) >= 0 for line in lines)


def test_the_picture_has_a_panel_for_each_gallery(tmp_path: Path) -> None:
    with index_speed.drawn_gallery(SMALL, 20) as gallery:
        lines = index_speed.gallery_lines(gallery, SMALL, rivals=index_speed.rivals(gallery, graphs=False))
    several = [*lines, *(replace(line, part=line.part.replace("20 videos", "40 videos")) for line in lines)]
    for name, given in (("one", lines), ("two", several)):
        index_speed.draw_index(given, tmp_path / f"{name}.png")
    widths = [int.from_bytes((tmp_path / f"{name}.png").read_bytes()[16:20]) for name in ("one", "two")]
    assert widths == [720, 1440]


# The made-up gallery


def test_the_same_world_is_drawn_each_time_and_another_seed_draws_another() -> None:
    one, other, third = (next(chunks(World(3, columns=16, seed=seed)))[0][0] for seed in (0, 0, 1))
    assert np.array_equal(one, other)
    assert len(one) != len(third) or not np.allclose(one, third)


def test_frames_are_of_length_one_and_resemble_their_neighbours() -> None:
    (one, two), starts = next(chunks(World(60, decay=2.0, cone=0.0)))
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, rtol=1e-5)
    near, far = (one[1:] * one[:-1]).sum(1).mean(), (one[40:] * one[:-40]).sum(1).mean()
    assert near > 0.8
    assert far < 0.4
    assert 0.2 < (np.diff(one, axis=0) == 0).all(1).mean() < 0.35
    assert ((np.diff(starts) >= 64) & (np.diff(starts) <= 128)).all()
    assert 0.7 < (one * two).sum(1).mean() < 0.85


def test_hard_queries_are_far_from_all_frames_and_easy_ones_near_their_own() -> None:
    its = World(60)
    (frames, _), starts = next(chunks(its))
    own, kinds = {}, {"hard": hard_queries(its, 30), "turned": hard_queries(its, 30, turned=True), "easy": easy_queries(its, 30)}
    for name, queries in kinds.items():
        best = np.sort(np.maximum.reduceat(frames @ queries[0].T, starts[:-1], axis=0), axis=0)
        own[name] = (best[-1].mean(), (best[-1] - best[-2]).mean())
    assert max(own["hard"][0], own["turned"][0]) < 0.35 < 0.7 < own["easy"][0]
    assert own["hard"][1] < 0.5 * own["easy"][1]
