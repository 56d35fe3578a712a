"""The first stage: sketches hold what they should, grow without being made again, and miss little on hard queries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import index_speed
from benchmarks.index_gallery import World, chunks, easy_queries, hard_queries
from benchmarks.measure import SMALL
from prvr.errors import SettingError
from prvr.index import columns as column_module
from prvr.index import scan, sketches
from prvr.index.columns import Columns, find_columns, principal
from prvr.index.scan import Codes, Gallery, products_by_numpy, quantise
from prvr.index.sketches import FirstStage, Sketch, sketch_gallery

WEIGHTS = (0.7, 0.3)


def world(videos: int, **settings: float) -> tuple[World, list[np.ndarray], np.ndarray]:
    its = World(videos, columns=48, fewest=8, most=30, **settings)
    (fields, starts), *rest = chunks(its)
    assert not rest
    return its, list(fields), starts


def sketch_of(fields: list[np.ndarray], starts: np.ndarray, count: int, *, share: float = 0.45) -> Sketch:
    codes = [quantise(rows) for rows in fields]
    its = Sketch([principal(field, count) for field in codes], WEIGHTS, share)
    its.add(codes, [starts, starts])
    return its


def stage(fields: list[np.ndarray], starts: np.ndarray, *sketches: Sketch) -> FirstStage:
    codes = [quantise(rows) for rows in fields]
    return FirstStage(Gallery(codes, [starts, starts], WEIGHTS, threads=1), sketches)


def part(fields: list[np.ndarray], starts: np.ndarray, begin: int, end: int) -> tuple[list[Codes], np.ndarray]:
    return [quantise(rows[starts[begin] : starts[end]]) for rows in fields], starts[begin : end + 1] - starts[begin]


def test_sketches_of_all_rows_and_columns_score_as_the_rows_do() -> None:
    its, fields, starts = world(30)
    codes = [quantise(rows) for rows in fields]
    whole = Sketch([principal(field, 48) for field in codes], (0.5, 0.5), 1.0)
    whole.add(codes, [starts, starts])
    queries = hard_queries(its, 5)
    for number in range(5):
        query = [field[number] for field in queries]
        exact = sum(np.maximum.reduceat(f @ q, starts[:-1]) for f, q in zip(fields, query, strict=True)) / 2
        np.testing.assert_allclose(whole.scores(query), exact, atol=0.02)


def sketch(rows: np.ndarray, columns: Columns, share: float) -> list[list[int]]:
    wanted, found = sketches._sketches(rows, np.array([0, len(rows)]), columns, share)
    return found[int(wanted[0])][0].tolist()


def test_a_sketch_by_hand() -> None:
    rows = np.array([[1, 0], [1, 0], [0.8, 0.6], [0, 1], [0, 1], [0, 1], [-1, 0], [-1, 0]], np.float32)
    columns = Columns(np.zeros(2, np.float32), np.eye(2, dtype=np.float32) / 100)
    assert sketch(rows, columns, 0.5) == [[100, 0], [80, 60], [0, 100], [-100, 0]]
    # Beside others, of which one is longer: the same, and no row is joined to one of another video.
    twice = np.concatenate([rows, rows, rows[::-1], rows[:1]])
    wanted, found = sketches._sketches(twice, np.array([0, 8, 24, 25]), columns, 0.5)
    assert (wanted.tolist(), list(found)) == ([4, 8, 4], [4, 8])
    assert found[4].tolist() == [sketch(rows, columns, 0.5), [[100, 0]] * 4]
    assert found[8].tolist() == [sketch(twice[8:24], columns, 0.5)]


def test_short_videos_are_sketched_by_repeating_a_row() -> None:
    columns = Columns(np.zeros(2, np.float32), np.eye(2, dtype=np.float32) / 100)
    assert sketch(np.array([[0, 1]], np.float32), columns, 0.5) == [[0, 100]] * 4


def test_values_beyond_int8_stay_at_its_ends() -> None:
    columns = Columns(np.zeros(2, np.float32), np.eye(2, dtype=np.float32) / 1000)
    assert sketch(np.array([[1, -1]], np.float32), columns, 1.0) == [[127, -127]] * 4


def test_principal_columns_are_those_of_the_most_variance() -> None:
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((400, 6)).astype(np.float32) * np.array([1, 5, 1, 1, 9, 1], np.float32)
    codes = quantise(rows)
    decoded = codes.values * codes.scales[:, None]
    kept = principal(codes, 2)
    variances = np.linalg.eigvalsh(np.cov(decoded, rowvar=False, bias=True))[::-1]
    along = (decoded - kept.mean) @ (kept.axes / np.linalg.norm(kept.axes, axis=0))
    np.testing.assert_allclose(along.var(0), variances[:2], rtol=1e-3)


def test_a_direction_of_the_queries_is_the_first_column_and_no_other_has_it() -> None:
    its, fields, _ = world(60)
    codes, way = quantise(fields[0]), hard_queries(its, 50)[0].mean(0)
    kept, plain = principal(codes, 6, along=3 * way), principal(codes, 6)
    units = kept.axes / np.linalg.norm(kept.axes, axis=0)
    np.testing.assert_allclose(units[:, 0], scan.rotate(way[None])[0], atol=1e-6)
    np.testing.assert_allclose(units.T @ units, np.eye(6), atol=1e-4)
    # Each as long as its column varies.
    decoded = codes.values * codes.scales[:, None]
    np.testing.assert_allclose(np.linalg.norm(kept.axes, axis=0), (decoded @ units).std(0) * column_module.STEP, rtol=1e-3)
    # It says more of what sentences ask for, and less of what rows have in common.
    asked = scan.rotate(hard_queries(its, 20)[0])
    exact = asked @ decoded.T
    off = {}
    for name, columns in (("plain", plain), ("with", kept)):
        onto = columns.axes / np.linalg.norm(columns.axes, axis=0)
        about = asked @ (columns.mean + (decoded - columns.mean) @ onto @ onto.T).T
        off[name] = (about - exact).std()
    assert off["with"] < 0.8 * off["plain"]


def test_the_first_of_many_columns_are_those_that_are_found_alone() -> None:
    its, fields, _ = world(60)
    codes, way = quantise(fields[0]), hard_queries(its, 50)[0].mean(0)
    for along in (None, way):
        of_many, alone = principal(codes, 12, along=along).first(5), principal(codes, 5, along=along)
        assert all(np.array_equal(*pair) for pair in zip(of_many, alone, strict=True))


def test_a_direction_that_is_none_is_left_out() -> None:
    _, fields, _ = world(10)
    codes = quantise(fields[0])
    for nothing in (np.zeros(48, np.float32), np.full(48, np.nan, np.float32)):
        assert all(np.array_equal(*pair) for pair in zip(principal(codes, 4, along=nothing), principal(codes, 4), strict=True))


def test_a_field_that_counts_for_less_has_fewer_rows() -> None:
    _, fields, starts = world(30)
    codes = [quantise(rows) for rows in fields]
    columns = [principal(field, 8) for field in codes]
    sizes = {}
    for weights in ((0.5, 0.5), (0.8, 0.2), (1.0, 0.0), (1.0, -0.5)):
        its = Sketch(columns, weights, 0.9)
        its.add(codes, [starts, starts])
        sizes[weights] = its.nbytes
    lengths = np.diff(starts)
    rows = {share: int((4 * np.maximum(1, np.ceil(share * lengths / 4))).sum()) for share in (0.9, 0.45, 0.225, 0)}
    assert {weights: size // 8 for weights, size in sizes.items()} == {
        (0.5, 0.5): 2 * rows[0.9],
        (0.8, 0.2): rows[0.9] + rows[0.225],
        (1.0, 0.0): rows[0.9] + rows[0],
        (1.0, -0.5): rows[0.9] + rows[0.45],
    }


def test_the_heaviest_field_alone() -> None:
    its, fields, starts = world(30)
    codes, query = [quantise(rows) for rows in fields], [field[0] for field in hard_queries(its, 1)]
    columns = [principal(field, 8) for field in codes]
    for weights, heaviest in (((0.7, 0.3), 0), ((0.2, -0.8), 1)):
        alone, both = (Sketch(columns, weights, 0.5, heaviest=only) for only in (True, False))
        for made in (alone, both):
            made.add(codes, [starts, starts])
        assert len(alone) == len(both) == 30
        other = [field if number == heaviest else np.zeros_like(field) for number, field in enumerate(query)]
        np.testing.assert_array_equal(alone.scores(query), both.scores(other))


def test_nearly_all_of_the_best_are_kept_on_hard_queries() -> None:
    its, fields, starts = world(400, seed=1)
    rough, fine = sketch_of(fields, starts, 16, share=0.5), sketch_of(fields, starts, 32, share=0.8)
    first = stage(fields, starts, rough, fine)
    for queries, wanted in ((hard_queries(its, 40), 0.98), (easy_queries(its, 40), 0.99)):
        kept = 0
        for number in range(40):
            query = [field[number] for field in queries]
            exact = sum(w * np.maximum.reduceat(f @ q, starts[:-1]) for w, f, q in zip(WEIGHTS, fields, query, strict=True))
            kept += len(set(np.argsort(-exact)[:10]) & set(first.candidates(query, 10, (200, 100))))
        assert kept / 400 >= wanted
    assert rough.nbytes < 0.2 * sum(rows.size for rows in fields)


def test_where_all_are_kept_the_exact_best_are_candidates() -> None:
    its, fields, starts = world(40)
    first = stage(fields, starts, sketch_of(fields, starts, 2, share=0.1))
    query = [field[0] for field in hard_queries(its, 1)]
    allowed = np.arange(40) % 3 > 0
    found = first.candidates(query, 5, [40], allowed).tolist()
    assert found[:5] == first.gallery.candidates(query, 5, allowed).tolist()[:5]
    assert len(set(found)) == 15 == allowed[found].sum()
    assert len(first.candidates(query, 40, [40])) == 40


def test_each_step_keeps_the_best_of_those_before_it() -> None:
    its, fields, starts = world(60)
    rough, fine = sketch_of(fields, starts, 4, share=0.2), sketch_of(fields, starts, 24)
    first = stage(fields, starts, rough, fine)
    query = [field[0] for field in hard_queries(its, 1)]
    # Few of many, which are gathered, and most of them, which are scanned with all.
    for allowed in (np.arange(60) % 5 == 0, np.arange(60) % 5 > 0, np.ones(60, bool)):
        among = np.flatnonzero(allowed)
        best = among[np.argsort(-rough.scores(query)[among])[:9]]
        wanted = best[np.argsort(-fine.scores(query)[best])[:5]]
        assert first.promising(query, (9, 5), allowed).tolist() == sorted(wanted.tolist())
        assert first.promising(query, (99, 99), allowed).tolist() == among.tolist()
    assert not len(first.promising(query, (9, 5), np.zeros(60, bool)))


def test_some_videos_have_the_scores_that_they_have_among_all() -> None:
    its, fields, starts = world(50)
    whole, query = sketch_of(fields, starts, 8), [field[0] for field in hard_queries(its, 1)]
    for places in (np.array([3]), np.array([49, 0, 7, 7]), np.arange(50), np.zeros(0, np.int64)):
        assert np.array_equal(whole.scores(query, places), whole.scores(query)[places])


@pytest.mark.parametrize("at_once", [1, 40, 1 << 17])
def test_a_sketch_that_grew_scores_as_one_made_at_once(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "SKETCH_ROWS_AT_ONCE", at_once)
    its, fields, starts = world(30)
    whole = sketch_of(fields, starts, 8)
    grown = Sketch([principal(quantise(rows), 8) for rows in fields], WEIGHTS, 0.45)
    for begin, end in ((0, 1), (1, 2), (2, 2), (2, 17), (17, 30)):
        codes, of_part = part(fields, starts, begin, end)
        grown.add(codes, [of_part] * 2)
        assert len(grown) == end
    query = [field[0] for field in hard_queries(its, 1)]
    np.testing.assert_allclose(grown.scores(query), whole.scores(query), atol=1e-6)
    assert grown.nbytes == whole.nbytes


@pytest.mark.parametrize("at_once", [1, 50, 1 << 15])
def test_a_stage_of_a_gallery_that_came_in_parts(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "ROWS_AT_ONCE", at_once)
    its, fields, starts = world(30)
    # The second field has half of the rows: its blocks are others.
    fields[1], halves = fields[1][: starts[-1] // 2 * 2 : 2], starts // 2
    codes, of_both = [quantise(rows) for rows in fields], [starts, halves]
    assert halves[-1] == len(fields[1])
    gallery = Gallery(
        [Codes(*(part[: s[1]] for part in of)) for of, s in zip(codes, of_both, strict=True)], [s[:2] for s in of_both], WEIGHTS
    )
    for begin, end in ((1, 2), (2, 2), (2, 17), (17, 30)):
        taken = [Codes(*(part[s[begin] : s[end]] for part in of)) for of, s in zip(codes, of_both, strict=True)]
        gallery.add(taken, [s[begin : end + 1] - s[begin] for s in of_both])
    parts = list(gallery.parts())
    assert sum(len(of_first) - 1 for _, (of_first, _) in parts) == 30
    for number, of_field in enumerate(codes):
        joined = scan.join([of_part[number] for of_part, _ in parts])
        assert all(np.array_equal(one, other) for one, other in zip(joined, of_field, strict=True))
        lengths = np.concatenate([np.diff(of_part[number]) for _, of_part in parts])
        assert lengths.tolist() == np.diff(of_both[number]).tolist()
    made = sketch_gallery(gallery, find_columns(gallery, 8), share=0.5)
    expected = Sketch([principal(of_field, 8) for of_field in codes], WEIGHTS, 0.5)
    expected.add(codes, of_both)
    query = [field[0] for field in hard_queries(its, 1)]
    np.testing.assert_array_equal(made.scores(query), expected.scores(query))
    assert len(made) == 30


def test_principal_columns_are_found_from_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    its, fields, starts = world(60)
    monkeypatch.setattr(scan, "ROWS_AT_ONCE", 100)
    codes = [quantise(rows) for rows in fields]
    gallery, seen = Gallery(codes, [starts, starts], WEIGHTS), []
    monkeypatch.setattr(column_module, "SAMPLE", 200)
    monkeypatch.setattr(
        column_module,
        "principal",
        lambda of, count, along: seen.append(len(of.values)) or principal(of, count, along=along),
    )
    made = sketch_gallery(gallery, find_columns(gallery, 48), share=1.0)
    assert len(seen) == 2
    assert all(200 <= count < 400 for count in seen)
    query = [field[0] for field in hard_queries(its, 1)]
    np.testing.assert_allclose(made.scores(query), sketch_of(fields, starts, 48, share=1.0).scores(query), atol=0.02)


def test_videos_that_come_one_by_one_are_scanned_together(monkeypatch: pytest.MonkeyPatch) -> None:
    _, fields, starts = world(20)
    whole = sketch_of([rows[: starts[1]] for rows in fields], starts[:2], 4)
    codes, of_part = part(fields, starts, 0, 1)
    for _ in range(10):
        whole.add(codes, [of_part] * 2)
    scans: list[int] = []
    monkeypatch.setattr(sketches, "kernel", lambda: lambda rows, vector: scans.append(1) or by_numpy(rows, vector))
    whole.scores([rows[0] for rows in fields])
    assert len(scans) == 2


def by_numpy(rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return products_by_numpy(rows, vector[None])[:, 0].astype(np.int32)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 3), (37, 64), (33, 100), (64, 1024)])
def test_kernels_agree_to_the_last_bit(rows: int, columns: int) -> None:
    draw = np.random.default_rng(columns)
    values, vector = draw.integers(-127, 128, (rows, columns), np.int8), draw.integers(-127, 128, columns, np.int8)
    values[0] = vector[:] = 127
    expected = (values.astype(np.int64) @ vector.astype(np.int64)).tolist()
    assert sketches.kernel()(values, vector).tolist() == by_numpy(values, vector).tolist() == expected


def test_a_query_without_a_direction_breaks_nothing() -> None:
    _, fields, starts = world(12)
    first = stage(fields, starts, sketch_of(fields, starts, 4))
    for query in (np.zeros(48, np.float32), np.full(48, np.nan, np.float32)):
        assert not first.sketches[0].scores([query, query]).any()
        assert len(first.candidates([query, query], 3, [5])) == 5


def test_shares_that_say_nothing_are_refused() -> None:
    _, fields, starts = world(3)
    for share in (0.0, -1.0, 1.5):
        with pytest.raises(SettingError, match=f"share {share}; a share of the rows is above 0 and at most 1"):
            sketch_of(fields, starts, 4, share=share)


# The benchmark


def test_exact_scores_by_hand_and_recall_of_all() -> None:
    rows, starts = np.eye(3, dtype=np.float32), np.array([0, 2, 3])
    query = np.array([[0, 1, 0]], np.float32)
    scores = index_speed.exact_scores((rows, rows), starts, (query, query))
    np.testing.assert_allclose(scores, [[1, 0]])
    its = index_speed.asked(SMALL, 40)
    assert {kind: scores.shape for kind, scores in its.scores.items()} == {"hard": (40, 40), "easy": (40, 40)}
    for number in range(5):
        places = its.gallery.candidates(index_speed._query(its, "hard", number), 10)
        assert index_speed._found(its, "hard", number, places) == 1


def test_the_picture_has_a_panel_for_each_gallery(tmp_path: Path) -> None:
    lines = index_speed._lines(SMALL, 20)
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
    own = {}
    for name, queries in (("hard", hard_queries(its, 30)), ("easy", easy_queries(its, 30))):
        best = np.sort(np.maximum.reduceat(frames @ queries[0].T, starts[:-1], axis=0), axis=0)
        own[name] = (best[-1].mean(), (best[-1] - best[-2]).mean())
    assert own["hard"][0] < 0.35 < 0.7 < own["easy"][0]
    assert own["hard"][1] < 0.5 * own["easy"][1]
