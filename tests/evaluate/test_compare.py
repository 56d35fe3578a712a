"""Comparisons: by hand, beside exact enumeration, on simulated systems that are alike, and what is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from prvr.errors import DataError, SettingError
from prvr.evaluate.compare import QueryRanks, bootstrap, compare, holm, randomisation, rank_queries
from prvr.evaluate.metrics import retrieval
from prvr.evaluate.saved_scores import SavedScores


def a_run(seed: int, *, queries: int = 40, videos: int = 12, gain: float = 1.0) -> SavedScores:
    random = np.random.default_rng(seed)
    target = np.arange(queries) % videos
    scores = random.normal(size=(queries, videos))
    scores[np.arange(queries), target] += gain
    return SavedScores(scores, tuple(f"q{n:02d}" for n in range(queries)), tuple(f"v{n:02d}" for n in range(videos)), target)


def exact(differences: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """The share of all assignments of sides to clusters that differ at least as much as the true one."""
    names = sorted(set(cluster.tolist()))
    sums = [differences[cluster == name].sum(0) for name in names]
    found = [
        abs(sum(sign * of for sign, of in zip(signs, sums, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(names))
    ]
    return np.mean([of >= abs(sum(sums)) - 1e-9 for of in found], axis=0)


# The parts


@pytest.mark.parametrize("seed", range(4))
def test_randomisation_is_near_exact_enumeration(seed: int) -> None:
    random = np.random.default_rng(seed)
    cluster = random.integers(0, 9, 30)
    differences = random.integers(-2, 4, (30, 2)).astype(float)
    found = randomisation(differences, cluster, resamples=20_000, seed=1)
    # Four standard deviations of a share of 20,000 draws.
    assert found == pytest.approx(exact(differences, cluster), abs=4 * 0.5 / 20_000**0.5)


def test_randomisation_by_hand() -> None:
    # Three clusters that all favour one side: of eight assignments two are as extreme, p = 1/4.
    cluster = np.array([0, 0, 1, 2])
    differences = np.array([[1.0], [2.0], [3.0], [3.0]])
    assert exact(differences, cluster) == pytest.approx([1 / 4])
    assert randomisation(differences, cluster, resamples=40_000) == pytest.approx([1 / 4], abs=0.01)
    # Equal systems: every assignment is as extreme. And p is never 0.
    assert randomisation(np.zeros((4, 1)), cluster, resamples=99).tolist() == [1]
    certain = np.ones((60, 1))
    assert randomisation(certain, np.arange(60), resamples=99).tolist() == [1 / 100]


def test_systems_that_are_alike_differ_at_the_level_and_no_oftener() -> None:
    """300 pairs without a difference, whose queries are alike within a video."""
    random = np.random.default_rng(5)
    cluster = np.repeat(np.arange(30), 4)
    differences = random.normal(size=(30, 300))[cluster] + random.normal(size=(120, 300))
    p = randomisation(differences, cluster, resamples=999)
    # At most 5 % on paper; binomial with 300 draws, three standard deviations around it.
    assert 0.05 - 0.038 <= (p <= 0.05).mean() <= 0.05 + 0.038
    assert p.mean() == pytest.approx(0.5, abs=0.05)
    # As if the queries were independent, far too many seem to differ.
    unclustered = randomisation(differences, np.arange(120), resamples=999)
    assert (unclustered <= 0.05).mean() > 0.15


def test_intervals_cover_the_true_difference() -> None:
    random = np.random.default_rng(6)
    cluster = np.repeat(np.arange(40), 3)
    differences = 0.7 + random.normal(size=(40, 300))[cluster] + random.normal(size=(120, 300))
    low, high = bootstrap(differences, cluster, resamples=1000)
    covered = ((low <= 0.7) & (high >= 0.7)).mean()
    # A percentile interval of 40 clusters is a little narrow; 95 % on paper.
    assert 0.90 <= covered <= 0.98


def test_clustered_intervals_are_wider_where_queries_of_a_video_are_alike() -> None:
    random = np.random.default_rng(7)
    cluster = np.repeat(np.arange(50), 5)
    differences = random.normal(size=(50, 1))[cluster]
    together, apart = (bootstrap(differences, of, resamples=4000) for of in (cluster, np.arange(250)))
    width, narrow = (float((high - low)[0]) for low, high in (together, apart))
    # Five copies of 50 values: the deviation of a mean of 50, and of 250.
    assert width == pytest.approx(narrow * 5**0.5, rel=0.1)
    assert width == pytest.approx(2 * 1.96 * float(differences.std()) / 50**0.5, rel=0.1)


def test_the_bootstrap_takes_videos_with_all_their_queries() -> None:
    # Two clusters: of four draws one holds only the first, one only the second, and two both.
    differences, cluster = np.array([[1.0], [1.0], [1.0], [5.0]]), np.array([0, 0, 0, 1])
    low, high = bootstrap(differences, cluster, resamples=2000)
    assert (low.tolist(), high.tolist()) == ([1], [5])


def test_parts_of_the_resamples_are_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from prvr.evaluate import compare as module

    differences, cluster = np.ones((6, 1)), np.arange(6)
    monkeypatch.setattr(module, "VIDEOS_AT_ONCE", 40)
    assert randomisation(differences, cluster, resamples=1000) == pytest.approx([2 / 64], abs=0.02)
    low, high = bootstrap(differences, cluster, resamples=1000)
    assert (low.tolist(), high.tolist()) == ([1], [1])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.2]) == [0.2]
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    # 3 * 0.01; 2 * 0.011 is less, and is raised to what came before.
    assert holm([0.011, 0.01, 0.5]) == pytest.approx([0.03, 0.03, 0.5])


# Systems


def test_a_comparison_says_what_the_figures_say() -> None:
    first, second = a_run(0), a_run(1, gain=3.0)
    result = compare({"a": [rank_queries(first, name="a")], "b": [rank_queries(second, name="b")]}, resamples=500)
    figures = [retrieval(run.scores, run.correct) for run in (first, second)]
    for system, of in zip(result.systems, figures, strict=True):
        assert (system.mean["sumr"], system.mean["r1"], system.mean["mrr"]) == pytest.approx((of.sumr, of.r1, of.mrr))
        assert system.deviation is None
    effects = result.effects["b"]
    assert effects["sumr"].difference == pytest.approx(figures[1].sumr - figures[0].sumr)
    assert effects["mrr"].low < effects["mrr"].difference < effects["mrr"].high
    assert effects["mrr"].low > 0
    assert effects["mrr"].p < 0.05
    assert effects["mrr"].p_holm == effects["mrr"].p
    assert (result.queries, result.videos) == (40, 12)


def test_the_order_of_queries_and_videos_does_not_matter() -> None:
    first, second = a_run(0), a_run(1)
    random = np.random.default_rng(3)
    rows, columns = random.permutation(40), random.permutation(12)
    moved = replace(
        second,
        scores=second.scores[rows][:, columns],
        queries=tuple(second.queries[row] for row in rows),
        videos=tuple(second.videos[column] for column in columns),
        target=np.argsort(columns)[second.target[rows]],
    )
    plain, other = (
        compare({"a": [rank_queries(first, name="a")], "b": [rank_queries(run, name="b")]}, resamples=200)
        for run in (second, moved)
    )
    assert plain == other


def test_seeds_count_by_their_mean() -> None:
    runs = [rank_queries(a_run(seed), name=str(seed)) for seed in range(3)]
    result = compare({"a": [rank_queries(a_run(9), name="9")], "b": runs}, resamples=200)
    system = result.systems[1]
    sumr = [run.values[:, 0].mean() for run in runs]
    assert system.seeds == 3
    assert system.mean["sumr"] == pytest.approx(np.mean(sumr))
    assert system.deviation["sumr"] == pytest.approx(np.std(sumr, ddof=1))
    assert result.effects["b"]["sumr"].difference == pytest.approx(np.mean(sumr) - result.systems[0].mean["sumr"])


def test_several_comparisons_are_corrected_together() -> None:
    systems = {name: [rank_queries(a_run(seed, gain=1 + seed / 2), name=name)] for seed, name in enumerate("abcd")}
    result = compare(systems, resamples=300)
    for measure in ("sumr", "r1", "mrr"):
        effects = [result.effects[name][measure] for name in "bcd"]
        assert [e.p_holm for e in effects] == pytest.approx(holm([e.p for e in effects]))
    assert compare(systems, resamples=300) == result
    assert compare(systems, resamples=300, seed=1) != result


def test_a_system_against_itself() -> None:
    one = rank_queries(a_run(0), name="one")
    effect = compare({"a": [one], "b": [one]}, resamples=100).effects["b"]["sumr"]
    assert (effect.difference, effect.low, effect.high, effect.p) == (0, 0, 0, 1)


def of(run: SavedScores) -> QueryRanks:
    return rank_queries(run, name="other.npz")


def test_runs_that_cannot_be_compared() -> None:
    first = a_run(0)
    mine = rank_queries(first, name="first.npz")
    fewer = SavedScores(first.scores[:-1], first.queries[:-1], first.videos, first.target[:-1])
    renamed = replace(first, videos=(*first.videos[:-1], "w"))
    further = replace(first, also=np.array([[3, 7]]))
    elsewhere = replace(first, target=np.r_[first.target[:5], 11, first.target[6:]])
    for run, expected in (
        (fewer, "first.npz has query 'q39', which other.npz lacks"),
        (renamed, "first.npz has video 'v11', which other.npz lacks"),
        (further, "for query 'q03' video 'v07' is correct in other.npz and not in first.npz"),
        (elsewhere, "for query 'q05' video 'v05' is correct in first.npz and not in other.npz"),
    ):
        with pytest.raises(DataError, match=expected):
            compare({"a": [mine], "b": [of(run)]}, resamples=10)
    pair = np.array([[0, 1]])
    swapped = replace(first, target=np.r_[1, first.target[1:]], also=np.array([[0, 0]]))
    with pytest.raises(DataError, match=r"query 'q00' belongs to video 'v00' in first.npz and to 'v01' in other.npz"):
        compare({"a": [rank_queries(replace(first, also=pair), name="first.npz")], "b": [of(swapped)]}, resamples=10)


def test_too_little_to_compare() -> None:
    mine = rank_queries(a_run(0), name="a")
    with pytest.raises(SettingError, match="got 1 systems; compare at least two"):
        compare({"a": [mine]})
    with pytest.raises(SettingError, match="at least one seed"):
        compare({"a": [mine], "b": []})
    with pytest.raises(SettingError, match="resamples is 0"):
        compare({"a": [mine], "b": [mine]}, resamples=0)


def test_a_system_that_has_not_learned_is_shown_and_not_compared() -> None:
    ranks = {name: [rank_queries(a_run(seed), name=name)] for seed, name in enumerate(("first", "second", "third", "fourth"))}
    plain = compare({name: ranks[name] for name in ("second", "fourth")}, resamples=200)
    # One seed of two is enough for a mark.
    marked = {
        "first": [ranks["first"][0], replace(ranks["first"][0], untrained=("exploration",))],
        "second": ranks["second"],
        "third": [replace(ranks["third"][0], untrained=("",))],
        "fourth": ranks["fourth"],
    }
    found = compare(marked, resamples=200)
    assert found.baseline == "second"
    assert found.effects == plain.effects
    text = str(found)
    assert "first (did not learn: exploration): SumR" in text
    assert "third (did not learn: the model): SumR" in text
    assert "not compared, because a branch has not learned: first, third" in text
    assert "fourth - second: SumR" in text
    none = compare({name: [replace(seeds[0], untrained=("a",))] for name, seeds in ranks.items()}, resamples=200)
    assert (none.baseline, none.effects) == ("", {})
    assert "protocol: " in str(none)
