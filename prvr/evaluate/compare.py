"""Is one system better than another? Paired statistics over the same queries, video by video.

The queries of a video are not independent: whoever finds the video for one of them tends to find it for the others. So the
videos, each with all its queries, are what is drawn anew (bootstrap) and what changes sides (randomisation). Several seeds
of a system count by their mean for each query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from prvr.errors import DataError, SettingError
from prvr.evaluate.metrics import RECALLS, ranks
from prvr.evaluate.runs import Run

MEASURES = ("sumr", "r1", "mrr")
RESAMPLES = 10_000
CONFIDENCE = 0.95
VIDEOS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Ranked:
    """What is left of a run for a comparison, queries and videos in the order of their ids.

    values: SumR and R@1 in percent, and 1 / rank, of each query. video: the place of each query's own video.
    correct: the pairs of query and video that are correct, in order.
    """

    name: str
    protocol: str
    queries: tuple[str, ...]
    videos: tuple[str, ...]
    correct: Int[np.ndarray, "P 2"]
    video: Int[np.ndarray, "Q"]
    values: Float[np.ndarray, "Q 3"]


@dataclass(frozen=True)
class System:
    """A system over its seeds: mean and standard deviation (None for one seed) of each measure."""

    name: str
    seeds: int
    protocols: tuple[str, ...]
    mean: dict[str, float]
    deviation: dict[str, float] | None


@dataclass(frozen=True)
class Effect:
    """A difference, second minus first, with its confidence interval and p-value; p_holm is corrected for all comparisons."""

    difference: float
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """Systems, and the effects of each against the first, by measure."""

    systems: tuple[System, ...]
    effects: dict[str, dict[str, Effect]]
    queries: int
    videos: int


def ranked(run: Run, *, name: str, ties: str = "pessimistic") -> Ranked:
    """Ranks the videos of a run; its scores are not needed after that."""
    rank = ranks(run.scores, run.correct, ties=ties)
    sumr = sum((rank <= k) * 100.0 for k in RECALLS)
    values = np.stack([sumr, (rank <= 1) * 100.0, 1 / rank], axis=1)
    query_order, video_order = (np.array(sorted(range(len(ids)), key=ids.__getitem__)) for ids in (run.queries, run.videos))
    query_place, video_place = np.argsort(query_order), np.argsort(video_order)
    pairs = np.concatenate([np.stack([np.arange(len(run.queries)), run.target], axis=1), run.also])
    correct = np.unique(np.stack([query_place[pairs[:, 0]], video_place[pairs[:, 1]]], axis=1), axis=0)
    return Ranked(
        name=name,
        protocol=run.protocol,
        queries=tuple(run.queries[row] for row in query_order),
        videos=tuple(run.videos[column] for column in video_order),
        correct=correct,
        video=video_place[run.target][query_order],
        values=values[query_order],
    )


def compare(systems: Mapping[str, Sequence[Ranked]], *, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compares the first system with each other one; each is given by the runs of its seeds.

    Raises:
        SettingError: fewer than two systems, or no resamples.
        DataError: the runs have other queries, galleries or correct videos than the first.
    """
    if len(systems) < 2 or not all(systems.values()):
        raise SettingError(f"there are {len(systems)} systems to compare; give at least two, each with at least one run")
    if resamples < 1:
        raise SettingError(f"resamples is {resamples}; take 1000 or more")
    every = [run for runs in systems.values() for run in runs]
    for run in every[1:]:
        _check_same(every[0], run)
    (_, first), *others = ((name, np.mean([run.values for run in runs], axis=0)) for name, runs in systems.items())
    found = {name: _effects(values - first, every[0].video, resamples=resamples, seed=seed) for name, values in others}
    corrected = [holm([effects[place].p for effects in found.values()]) for place in range(len(MEASURES))]
    effects = {
        name: {
            measure: Effect(e.difference, e.low, e.high, e.p, corrected[place][number])
            for place, (measure, e) in enumerate(zip(MEASURES, of_name, strict=True))
        }
        for number, (name, of_name) in enumerate(found.items())
    }
    summaries = tuple(_system(name, runs) for name, runs in systems.items())
    return Comparison(summaries, effects, len(every[0].queries), len(np.unique(every[0].video)))


def bootstrap(
    differences: Float[np.ndarray, "Q M"], cluster: Int[np.ndarray, "Q"], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Float[np.ndarray, "M"], Float[np.ndarray, "M"]]:
    """Percentile interval of the mean difference, clusters drawn with replacement and taken with all their queries."""
    sums, sizes = _clusters(differences, cluster)
    columns = np.column_stack([sums, sizes])
    draw = np.random.default_rng(seed)
    totals = []
    for count in _parts(resamples, len(sizes)):
        drawn = draw.integers(0, len(sizes), (count, len(sizes))) + len(sizes) * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * len(sizes)).reshape(count, len(sizes))
        totals.append(times @ columns)
    total = np.concatenate(totals)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(total[:, :-1] / total[:, -1:], [tail, 1 - tail], axis=0)
    return low, high


def randomisation(
    differences: Float[np.ndarray, "Q M"], cluster: Int[np.ndarray, "Q"], *, resamples: int = RESAMPLES, seed: int = 0
) -> Float[np.ndarray, "M"]:
    """Two-sided p-values of the mean difference: systems change sides at random, for all queries of a cluster at once.

    p = (1 + b) / (1 + n), b being how many of n random assignments differ at least as much as the true one
    (Phipson and Smyth 2010): never 0, and at most alpha with probability alpha where the systems are alike.
    """
    sums, sizes = _clusters(differences, cluster)
    # Sums that are equal on paper differ in their last digits by the order of addition.
    least = np.abs(sums.sum(0)) - 1e-9 * np.abs(sums).sum(0)
    draw = np.random.default_rng(seed)
    as_large = np.zeros(differences.shape[1])
    for count in _parts(resamples, len(sizes)):
        signs = 2.0 * draw.integers(0, 2, (count, len(sizes)), np.int8) - 1
        as_large += (np.abs(signs @ sums) >= least).sum(0)
    return (1 + as_large) / (1 + resamples)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down procedure: the k-th smallest of m times m - k + 1.

    The chance of any false rejection among them is then at most the level, however they depend on each other.
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.array(p)[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return [float(value) for value in corrected]


def _effects(differences: Float[np.ndarray, "Q M"], cluster: Int[np.ndarray, "Q"], *, resamples: int, seed: int) -> list[Effect]:
    low, high = bootstrap(differences, cluster, resamples=resamples, seed=seed)
    p = randomisation(differences, cluster, resamples=resamples, seed=seed)
    rows = zip(differences.mean(0).tolist(), low.tolist(), high.tolist(), p.tolist(), strict=True)
    return [Effect(difference, lower, upper, value, value) for difference, lower, upper, value in rows]


def _clusters(
    differences: Float[np.ndarray, "Q M"], cluster: Int[np.ndarray, "Q"]
) -> tuple[Float[np.ndarray, "C M"], Float[np.ndarray, "C"]]:
    """Sums of the differences of each cluster, and how many queries it has."""
    number = np.unique(cluster, return_inverse=True)[1]
    sums = np.stack([np.bincount(number, column) for column in differences.T], axis=1)
    return sums, np.bincount(number).astype(np.float64)


def _parts(resamples: int, clusters: int) -> list[int]:
    """The resamples in parts that keep memory bounded."""
    most = max(1, VIDEOS_AT_ONCE // clusters)
    return [min(most, resamples - start) for start in range(0, resamples, most)]


def _system(name: str, runs: Sequence[Ranked]) -> System:
    figures = np.stack([run.values.mean(0) for run in runs])
    mean = dict(zip(MEASURES, figures.mean(0).tolist(), strict=True))
    deviation = dict(zip(MEASURES, figures.std(0, ddof=1).tolist(), strict=True)) if len(runs) > 1 else None
    return System(name, len(runs), tuple(dict.fromkeys(run.protocol for run in runs)), mean, deviation)


def _check_same(first: Ranked, other: Ranked) -> None:
    for what, mine, its in (("query", first.queries, other.queries), ("video", first.videos, other.videos)):
        if mine != its:
            id = min(set(mine) ^ set(its))
            has, lacks = (first, other) if id in set(mine) else (other, first)
            raise DataError(
                f"{has.name} has {what} {id!r}, which {lacks.name} has not; compare runs over the same queries and gallery"
            )
    if np.array_equal(first.correct, other.correct) and np.array_equal(first.video, other.video):
        return
    pairs, others = ({(int(query), int(video)) for query, video in run.correct} for run in (first, other))
    if pairs != others:
        query, video = min(pairs ^ others)
        has, lacks = (first, other) if (query, video) in pairs else (other, first)
        pair = f"for query {first.queries[query]!r} video {first.videos[video]!r}"
        raise DataError(f"{pair} is correct in {has.name} and not in {lacks.name}; give both the same --truth")
    row = int((first.video != other.video).argmax())
    raise DataError(
        f"query {first.queries[row]!r} belongs to video {first.videos[first.video[row]]!r} in {first.name} and to "
        f"{first.videos[other.video[row]]!r} in {other.name}; give both the same --truth"
    )
