"""Ranks and figures: by hand, beside slow loops, and what is refused."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

from prvr.errors import DataError
from prvr.metrics import overlap, ranks, recall_at, retrieval


def drawn(queries: int, videos: int, seed: int, *, levels: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Scores on so many levels (few: many ties), and one to three correct videos a query."""
    random = np.random.default_rng(seed)
    scores = random.integers(0, levels, (queries, videos)) / levels
    correct = np.zeros((queries, videos), bool)
    for row in correct:
        row[random.permutation(videos)[: random.integers(1, 4)]] = True
    return scores, correct


def test_ranks_by_hand() -> None:
    scores = np.array(
        [
            [0.9, 0.5, 0.1, 0.3],  # its video stands first
            [0.9, 0.5, 0.1, 0.3],  # second
            [0.9, 0.5, 0.1, 0.3],  # last
            [0.7, 0.7, 0.7, 0.7],  # all the same: last
            [0.8, 0.8, 0.1, 0.2],  # tied with one wrong video: second
            [0.2, 0.6, 0.6, 0.9],  # two right videos, tied with each other, behind one wrong: second
            [0.2, 0.6, 0.6, 0.9],  # the better of two right videos counts
        ]
    )
    correct = np.zeros((7, 4), bool)
    for query, videos in enumerate([[0], [1], [2], [2], [0], [1, 2], [0, 3]]):
        correct[query, videos] = True
    assert ranks(scores, correct).tolist() == [1, 2, 4, 4, 2, 2, 1]


def test_figures_by_hand() -> None:
    # 120 videos; the right one stands at 1, 3, 6, 11 and 101.
    wanted = [1, 3, 6, 11, 101]
    scores = np.tile(-np.arange(120.0), (5, 1))
    correct = np.zeros((5, 120), bool)
    for query, rank in enumerate(wanted):
        correct[query, rank - 1] = True
    figures = retrieval(scores, correct)
    assert (figures.r1, figures.r5, figures.r10, figures.r100) == pytest.approx((20, 40, 60, 80))
    assert figures.sumr == pytest.approx(200)
    assert (figures.medr, figures.meanr) == pytest.approx((6, 122 / 5))
    assert figures.mrr == pytest.approx((1 + 1 / 3 + 1 / 6 + 1 / 11 + 1 / 101) / 5)
    assert (figures.queries, figures.videos) == (5, 120)
    assert str(figures) == "R@1/5/10/100 20.0/40.0/60.0/80.0  SumR 200.0  MedR 6  (5 queries, 120 videos)"
    assert figures.as_dict()["sumr"] == figures.sumr


def test_the_median_of_an_even_number() -> None:
    scores, correct = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[True, False], [True, False]])
    assert retrieval(scores, correct).medr == 1.5


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize(("queries", "videos"), [(1, 1), (1, 7), (9, 3), (40, 150)])
def test_figures_are_those_of_the_loop(queries: int, videos: int, levels: int) -> None:
    scores, correct = drawn(queries, videos, seed=levels, levels=levels)
    theirs = oracles.ranks(scores.tolist(), correct.tolist())
    assert ranks(scores, correct).tolist() == theirs
    figures = retrieval(scores, correct)
    for k, ours in ((1, figures.r1), (5, figures.r5), (10, figures.r10), (100, figures.r100)):
        assert ours == pytest.approx(oracles.recall_at(k, theirs))
    assert figures.medr == oracles.median(theirs)
    assert figures.meanr == pytest.approx(oracles.mean(theirs))
    assert figures.mrr == pytest.approx(oracles.mean_reciprocal_rank(theirs))


def test_every_rank_is_within_the_gallery() -> None:
    scores, correct = drawn(60, 12, seed=1, levels=3)
    found = ranks(scores, correct)
    assert recall_at(12, found) == 100
    assert found.min() >= 1
    # A query with k right videos has a rank of at most V - k + 1.
    assert (found <= 12 - correct.sum(1) + 1).all()


def test_ties_are_never_better_than_any_way_to_break_them() -> None:
    scores, correct = drawn(50, 20, seed=4, levels=3)
    random = np.random.default_rng(0)
    broken = [ranks(scores + random.uniform(0, 1e-6, scores.shape), correct) for _ in range(20)]
    assert (ranks(scores, correct) >= np.max(broken, 0)).all()


def test_the_order_of_the_gallery_does_not_matter() -> None:
    scores, correct = drawn(30, 20, seed=2, levels=4)
    order = np.random.default_rng(0).permutation(20)
    assert ranks(scores[:, order], correct[:, order]).tolist() == ranks(scores, correct).tolist()


def test_infinite_scores_have_a_place() -> None:
    scores = np.array([[np.inf, 0.0, -np.inf], [-np.inf, -np.inf, -np.inf]])
    assert ranks(scores, np.array([[False, True, False], [True, False, False]])).tolist() == [2, 3]


def test_scores_that_are_not_numbers_are_refused() -> None:
    scores, correct = drawn(6, 4, seed=0)
    scores[1, 2] = scores[4, 0] = scores[4, 1] = np.nan
    with pytest.raises(DataError, match="2 of 6 queries have scores that are not numbers"):
        retrieval(scores, correct)


def test_a_query_without_a_right_video_is_refused() -> None:
    scores, correct = drawn(6, 4, seed=0)
    correct[3] = False
    with pytest.raises(DataError, match="query 3 has no correct video in the gallery"):
        retrieval(scores, correct)


def test_no_query_is_refused() -> None:
    with pytest.raises(DataError, match="there is no query to evaluate"):
        retrieval(np.zeros((0, 4)), np.zeros((0, 4), bool))


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [
        ((0, 10), (0, 10), 1),
        ((0, 10), (5, 15), 5 / 15),
        ((2, 4), (0, 10), 2 / 10),
        ((0, 5), (5, 10), 0),
        ((0, 1), (8, 9), 0),
        ((3, 3), (0, 10), 0),
        ((3, 3), (3, 3), 0),
    ],
    ids=["same", "half", "inside", "touching", "apart", "an instant", "two instants"],
)
def test_overlap_by_hand(found: tuple[float, float], true: tuple[float, float], expected: float) -> None:
    found, true = (float(found[0]), float(found[1])), (float(true[0]), float(true[1]))
    assert overlap(found, true) == pytest.approx(expected)
    assert overlap(true, found) == pytest.approx(expected)
