"""Ranks and figures: by hand, beside slow loops, and what is refused."""

from __future__ import annotations

import itertools
import json
from itertools import pairwise

import ir_measures
import numpy as np
import oracles
import pytest
from ir_measures import AP, RR, R, Success
from published import FIXTURES

from prvr.errors import DataError, SettingError
from prvr.evaluate import metrics
from prvr.evaluate.metrics import TIES, ceilings, moment_retrieval, overlap, places, ranks, recall_at, retrieval, video_to_text


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


# Ties, several correct videos, the other direction


def placed_by_loop(row: list[float], right: list[bool], ties: str) -> list[float]:
    """Expected places of the correct videos, best first, over every order of the tied ones that the rule allows."""
    videos = range(len(row))
    if ties == "mean":
        orders = [order for order in itertools.permutations(videos) if all(row[a] >= row[b] for a, b in pairwise(order))]
    else:
        late = 1 if ties == "pessimistic" else -1
        orders = [tuple(sorted(videos, key=lambda v: (-row[v], late * right[v])))]
    found = [[place for place, v in enumerate(order, start=1) if right[v]] for order in orders]
    return np.mean(found, axis=0).tolist()


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("levels", [1, 2, 4])
def test_places_are_those_of_every_order(ties: str, levels: int) -> None:
    scores, correct = drawn(25, 6, seed=levels, levels=levels)
    ours = places(scores, correct, ties=ties)
    for row, right, place in zip(scores.tolist(), correct.tolist(), ours, strict=True):
        expected = placed_by_loop(row, right, ties)
        assert place[: len(expected)] == pytest.approx(expected)
        assert np.isinf(place[len(expected) :]).all()


def test_ties_by_hand() -> None:
    # Two right and three wrong videos tied behind one wrong video: the first right one stands behind 3 / 3 of them on average.
    scores = np.array([[0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.1]])
    correct = np.array([[False, True, False, True, False, False, False]])
    expected = {"pessimistic": [5, 6], "optimistic": [2, 3], "mean": [3, 5]}
    for ties, wanted in expected.items():
        assert places(scores, correct, ties=ties).tolist() == [wanted]
        assert ranks(scores, correct, ties=ties).tolist() == wanted[:1]


def test_an_unknown_rule() -> None:
    scores, correct = drawn(2, 3, seed=0)
    with pytest.raises(SettingError, match="unknown rule for ties 'optimist'; did you mean 'optimistic'"):
        retrieval(scores, correct, ties="optimist")


def test_several_correct_videos_by_hand() -> None:
    # Right videos at 1, 3 and 4; and at 2 alone.
    scores = np.tile(-np.arange(12.0), (2, 1))
    correct = np.zeros((2, 12), bool)
    correct[0, [0, 2, 3]] = correct[1, 1] = True
    figures = retrieval(scores, correct)
    assert figures.map == pytest.approx(((1 + 2 / 3 + 3 / 4) / 3 + 1 / 2) / 2)
    assert figures.mrr == pytest.approx((1 + 1 / 2) / 2)
    assert (figures.covered1, figures.covered5) == pytest.approx((100 * (1 / 3 + 0) / 2, 100))
    assert (figures.r1, figures.r5) == (50, 100)


def test_one_correct_video_makes_the_means_one() -> None:
    scores, correct = drawn(40, 30, seed=3, levels=7)
    only = np.zeros_like(correct)
    only[np.arange(40), correct.argmax(1)] = True
    for ties in TIES:
        figures = retrieval(scores, only, ties=ties)
        assert figures.map == pytest.approx(figures.mrr)
        assert figures.covered5 == pytest.approx(figures.r5)


def test_few_scores_at_once_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, correct = drawn(50, 13, seed=5, levels=4)
    whole = [places(scores, correct, ties=ties) for ties in TIES]
    monkeypatch.setattr(metrics, "SCORES_AT_ONCE", 30)
    for ties, expected in zip(TIES, whole, strict=True):
        assert places(scores, correct, ties=ties).tolist() == expected.tolist()


def test_video_to_text_by_hand() -> None:
    # Video 0 has captions 0 and 2, video 1 has caption 1, video 2 has none and asks nothing.
    scores = np.array([[0.9, 0.4, 0.0], [0.8, 0.5, 0.0], [0.7, 0.6, 0.0]])
    correct = np.array([[True, False, False], [False, True, False], [True, False, False]])
    figures = video_to_text(scores, correct)
    # Video 0 finds its own at 1 and 3, video 1 its own at 2.
    assert (figures.queries, figures.videos) == (2, 3)
    assert figures.r1 == 50
    assert figures.map == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)


def test_the_published_ranks_with_ties_lie_within_our_bounds() -> None:
    fixture, expected = (
        np.load(FIXTURES / "metrics" / "metrics.npz"),
        json.loads((FIXTURES / "metrics" / "metrics.json").read_text()),
    )
    correct = np.eye(25, dtype=bool)[[videos[0] for videos in expected["t2v_gt"]]]
    found = {ties: ranks(fixture["scores_ties"], correct, ties=ties) for ties in TIES}
    assert found["optimistic"].tolist() == fixture["rank_optimistic_ties"].tolist()
    assert found["pessimistic"].tolist() == fixture["rank_pessimistic_ties"].tolist()
    assert (found["optimistic"] <= fixture["ranks_ties"]).all()
    assert (fixture["ranks_ties"] <= found["pessimistic"]).all()
    assert found["mean"] == pytest.approx((found["optimistic"] + found["pessimistic"]) / 2)


@pytest.mark.parametrize("several", [False, True])
def test_the_figures_are_those_of_ir_measures(several: bool) -> None:
    random = np.random.default_rng(8)
    scores = random.permuted(np.tile(np.arange(150.0), (60, 1)), axis=1)
    correct = np.zeros(scores.shape, bool)
    for row in correct:
        row[random.permutation(150)[: random.integers(1, 6) if several else 1]] = True
    run = {f"q{q}": {f"v{v:03d}": float(s) for v, s in enumerate(row)} for q, row in enumerate(scores)}
    qrels = {f"q{q}": {f"v{v:03d}": 1 for v in np.flatnonzero(row)} for q, row in enumerate(correct)}
    ours = retrieval(scores, correct)
    wanted = {RR: ours.mrr, AP: ours.map}
    wanted |= {Success @ k: getattr(ours, f"r{k}") / 100 for k in (1, 5, 10, 100)}
    wanted |= {R @ k: getattr(ours, f"covered{k}") / 100 for k in (5, 10, 100)}
    assert ir_measures.calc_aggregate(list(wanted), qrels, run) == pytest.approx(wanted)


# Moments and ceilings


def test_moments_by_hand() -> None:
    # Rank of the own video, and IoU of the span found in it; the last query has no annotated span.
    found = moment_retrieval(np.array([1.0, 1, 4, 20, 1]), np.array([0.8, 0.4, 0.5, 0.7, np.nan]))
    assert found is not None
    assert found.queries == 4
    assert found.recall[0.3] == {1: 50, 5: 75, 10: 75, 100: 100}
    assert found.recall[0.5] == {1: 25, 5: 50, 10: 50, 100: 75}
    assert found.recall[0.7] == {1: 25, 5: 25, 10: 25, 100: 50}
    assert found.localised == {0.3: 100, 0.5: 75, 0.7: 50}
    assert found.miou == pytest.approx(2.4 / 4)
    assert moment_retrieval(np.array([1.0]), np.array([np.nan])) is None
    assert found.any_localised == {}
    several = moment_retrieval(np.array([1.0, 1, 4]), np.array([0.8, 0.1, np.nan]), np.array([0.8, 0.6, np.nan]))
    assert several.localised == {0.3: 50, 0.5: 50, 0.7: 50}
    assert several.any_localised == {0.3: 100, 0.5: 100, 0.7: 50}


def test_ceilings_by_hand() -> None:
    # "a" is said of video 0 twice and of 1 and 2 once; "b" of video 3 alone.
    texts = ["A dog", "a  dog", "a dog ", "a DOG", "a cat"]
    correct = np.eye(4, dtype=bool)[[0, 0, 1, 2, 3]]
    most = ceilings(texts, correct)
    assert most == {1: 60, 5: 100, 10: 100, 100: 100}
    # Video 1 is now correct for all dogs.
    correct[:4, 1] = True
    assert ceilings(texts, correct)[1] == 100


def test_ceilings_are_reached_by_the_best_answer_and_by_no_better() -> None:
    random = np.random.default_rng(2)
    texts = [f"text {n}" for n in random.integers(0, 6, 40)]
    correct = np.eye(15, dtype=bool)[random.integers(0, 15, 40)]
    best = 0.0
    for text in set(texts):
        rows = [place for place, of in enumerate(texts) if of == text]
        best += max(sum(sum(correct[row, v] for row in rows) for v in five) for five in itertools.combinations(range(15), 5))
    assert ceilings(texts, correct)[5] == pytest.approx(100 * best / 40)
