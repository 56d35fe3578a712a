"""Paired comparison of systems over the same queries, clustered by video.

The queries of a video are not independent: a system that finds the video for one of them tends to find it for the others. So
videos, each with all its queries, are resampled (bootstrap) and exchanged between systems (randomisation). Several seeds of a
system count by their mean for each query.

A system with a branch that had learned nothing is shown and marked, and compared with nothing: what it lacks is not what its name
says. The first of the others is the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from prvr.errors import DataError, SettingError
from prvr.evaluate.metrics import LABELS, RECALLS, format_mean, over_seeds, ranks
from prvr.evaluate.saved_scores import SavedScores

# The measures that are compared, and their decimal places.
DIGITS = {"sumr": 1, "r1": 1, "mrr": 4}
MEASURES = tuple(DIGITS)
RESAMPLES = 10_000
CONFIDENCE = 0.95
VIDEOS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class QueryRanks:
    """The part of saved scores that a comparison needs; queries and videos in the order of their ids.

    values: SumR and R@1 in percent, and 1 / rank, of each query. video: the place of each query's own video.
    correct: the correct pairs of query and video, in order. ties: the rule for equal scores.
    untrained: as in `SavedScores`.
    """

    name: str
    protocol: str
    ties: str
    queries: tuple[str, ...]
    videos: tuple[str, ...]
    correct: Int[np.ndarray, "P 2"]
    video: Int[np.ndarray, "Q"]
    values: Float[np.ndarray, "Q 3"]
    untrained: tuple[str, ...] = ()


@dataclass(frozen=True)
class System:
    """A system over its seeds: mean and standard deviation of each measure; no deviation for one seed.

    untrained: the branches that had learned nothing with any of the seeds.
    """

    name: str
    seeds: int
    protocols: tuple[str, ...]
    mean: dict[str, float]
    deviation: dict[str, float] | None
    untrained: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = []
        for measure, digits in DIGITS.items():
            deviation = self.deviation[measure] if self.deviation else None
            shown.append(f"{LABELS[measure]} {format_mean(self.mean[measure], deviation, digits=digits)}")
        return (
            f"{mark_untrained(self.name, self.untrained)}: {'  '.join(shown)}  ({self.seeds} seed{'s' if self.seeds > 1 else ''})"
        )


@dataclass(frozen=True)
class Effect:
    """A difference to the baseline, with its confidence interval and p-value; p_holm is corrected for all systems."""

    difference: float
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class PairwiseComparison:
    """Systems, and the effects of each one against the baseline, by name and measure.

    baseline: the first system whose branches have all learned; "" if there is none. Only such systems have effects.
    """

    systems: tuple[System, ...]
    effects: dict[str, dict[str, Effect]]
    queries: int
    videos: int
    ties: str
    resamples: int
    baseline: str

    def as_dict(self) -> dict[str, Any]:
        """The comparison as plain values, as `--json` prints it."""
        return asdict(self)

    def __str__(self) -> str:
        """The comparison as `prvr compare` prints it; the protocol is the last line."""
        lines = [*map(str, self.systems)]
        for name, measures in self.effects.items():
            for measure, of in measures.items():
                difference, low, high = (f"{value:+.{DIGITS[measure]}f}" for value in (of.difference, of.low, of.high))
                what = f"{name} - {self.baseline}: {LABELS[measure]} {difference} [{low}, {high}]"
                lines.append(f"{what}  p {of.p:.2g}  Holm {of.p_holm:.2g}")
        left_out = [system.name for system in self.systems if system.untrained]
        if left_out:
            lines.append(f"not compared, because a branch has not learned: {', '.join(left_out)}")
        lines.append(
            f"{self.queries} queries of {self.videos} videos, drawn by video; 95 % intervals by bootstrap, p by randomisation, "
            f"{self.resamples} resamples; ties {self.ties}"
        )
        protocols = {system.name: " and ".join(system.protocols) for system in self.systems}
        same = len(set(protocols.values())) == 1
        differ = f"protocols differ: {', '.join(f'{name} {protocol}' for name, protocol in protocols.items())}"
        return "\n".join([*lines, f"protocol: {next(iter(protocols.values()))}" if same else differ])


def rank_queries(saved: SavedScores, *, name: str, ties: str = "pessimistic") -> QueryRanks:
    """Ranks the videos of saved scores; the scores themselves are not needed afterwards."""
    rank = ranks(saved.scores, saved.correct, ties=ties)
    sumr = sum((rank <= k) * 100.0 for k in RECALLS)
    values = np.stack([sumr, (rank <= 1) * 100.0, 1 / rank], axis=1)
    query_order, video_order = (np.array(sorted(range(len(ids)), key=ids.__getitem__)) for ids in (saved.queries, saved.videos))
    query_place, video_place = np.argsort(query_order), np.argsort(video_order)
    pairs = np.concatenate([np.stack([np.arange(len(saved.queries)), saved.target], axis=1), saved.also])
    correct = np.unique(np.stack([query_place[pairs[:, 0]], video_place[pairs[:, 1]]], axis=1), axis=0)
    return QueryRanks(
        name=name,
        protocol=saved.protocol,
        ties=ties,
        queries=tuple(saved.queries[row] for row in query_order),
        videos=tuple(saved.videos[column] for column in video_order),
        correct=correct,
        video=video_place[saved.target][query_order],
        values=values[query_order],
        untrained=saved.untrained,
    )


def check_seeds_differ(name: str, files: Sequence[Path]) -> None:
    """Checks that no file is named twice as a seed of a system: the standard deviation would be too small.

    Raises:
        SettingError: one is.
    """
    known: set[Path] = set()
    for file in files:
        if file.resolve() in known:
            raise SettingError(f"{file} is named twice in {name!r}; each seed has a file of its own")
        known.add(file.resolve())


def mark_untrained(name: str, branches: Sequence[str]) -> str:
    """The name of a system, with the branches that had learned nothing; "" is the whole model."""
    if not branches:
        return name
    return f"{name} (did not learn: {', '.join(branch or 'the model' for branch in branches)})"


def compare(systems: Mapping[str, Sequence[QueryRanks]], *, resamples: int = RESAMPLES, seed: int = 0) -> PairwiseComparison:
    """Compares the first system in which all branches have learned with each other such system.

    Args:
        systems: for each, the ranks of its seeds.

    Raises:
        SettingError: there are fewer than two systems, or no resamples.
        DataError: the systems differ in queries, gallery or correct videos.
    """
    if len(systems) < 2 or not all(systems.values()):
        raise SettingError(f"got {len(systems)} systems; compare at least two, each with the scores of at least one seed")
    if resamples < 1:
        raise SettingError(f"resamples is {resamples}; take 1000 or more")
    every = [ranks for seeds in systems.values() for ranks in seeds]
    for other in every[1:]:
        _check_same(every[0], other)
    means = {
        name: np.mean([ranks.values for ranks in seeds], axis=0)
        for name, seeds in systems.items()
        if not any(ranks.untrained for ranks in seeds)
    }
    baseline = next(iter(means), "")
    found = {
        name: _effects(values - means[baseline], every[0].video, resamples=resamples, seed=seed)
        for name, values in means.items()
        if name != baseline
    }
    corrected = [holm([effects[place].p for effects in found.values()]) for place in range(len(MEASURES))]
    effects = {
        name: {
            measure: Effect(e.difference, e.low, e.high, e.p, corrected[place][number])
            for place, (measure, e) in enumerate(zip(MEASURES, of_name, strict=True))
        }
        for number, (name, of_name) in enumerate(found.items())
    }
    summaries = tuple(_system(name, seeds) for name, seeds in systems.items())
    videos = len(np.unique(every[0].video))
    return PairwiseComparison(summaries, effects, len(every[0].queries), videos, every[0].ties, resamples, baseline)


def bootstrap(
    differences: Float[np.ndarray, "Q M"], cluster: Int[np.ndarray, "Q"], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Float[np.ndarray, "M"], Float[np.ndarray, "M"]]:
    """The percentile interval of the mean difference; clusters are drawn with replacement, each with all its queries."""
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
    """Two-sided p-values of the mean difference: systems are exchanged at random, for all queries of a cluster at once.

    p = (1 + b) / (1 + n), where b of n random assignments differ at least as much as the true one (Phipson and Smyth 2010).
    It is never 0, and at most alpha with probability alpha if the systems are equal.
    """
    sums, sizes = _clusters(differences, cluster)
    # Sums that are equal mathematically differ in their last digits with the order of addition.
    least = np.abs(sums.sum(0)) - 1e-9 * np.abs(sums).sum(0)
    draw = np.random.default_rng(seed)
    as_large = np.zeros(differences.shape[1])
    for count in _parts(resamples, len(sizes)):
        signs = 2.0 * draw.integers(0, 2, (count, len(sizes)), np.int8) - 1
        as_large += (np.abs(signs @ sums) >= least).sum(0)
    return (1 + as_large) / (1 + resamples)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down procedure: the k-th smallest of m times m - k + 1.

    The probability of any false rejection is then at most the level, under any dependence between the p-values.
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
    """The sum of the differences of each cluster, and its number of queries."""
    number = np.unique(cluster, return_inverse=True)[1]
    sums = np.stack([np.bincount(number, column) for column in differences.T], axis=1)
    return sums, np.bincount(number).astype(np.float64)


def _parts(resamples: int, clusters: int) -> list[int]:
    """Sizes of parts of the resamples, which bound the memory used."""
    most = max(1, VIDEOS_AT_ONCE // clusters)
    return [min(most, resamples - start) for start in range(0, resamples, most)]


def _system(name: str, seeds: Sequence[QueryRanks]) -> System:
    mean, deviation = over_seeds([dict(zip(MEASURES, ranks.values.mean(0).tolist(), strict=True)) for ranks in seeds])
    protocols = tuple(dict.fromkeys(ranks.protocol for ranks in seeds))
    untrained = tuple(dict.fromkeys(branch for ranks in seeds for branch in ranks.untrained))
    return System(name, len(seeds), protocols, mean, deviation, untrained)


def _check_same(first: QueryRanks, other: QueryRanks) -> None:
    for what, mine, its in (("query", first.queries, other.queries), ("video", first.videos, other.videos)):
        if mine != its:
            id = min(set(mine) ^ set(its))
            has, lacks = (first, other) if id in set(mine) else (other, first)
            raise DataError(
                f"{has.name} has {what} {id!r}, which {lacks.name} lacks; compare scores of the same queries and gallery"
            )
    if np.array_equal(first.correct, other.correct) and np.array_equal(first.video, other.video):
        return
    pairs, others = ({(int(query), int(video)) for query, video in ranks.correct} for ranks in (first, other))
    if pairs != others:
        query, video = min(pairs ^ others)
        has, lacks = (first, other) if (query, video) in pairs else (other, first)
        pair = f"for query {first.queries[query]!r} video {first.videos[video]!r}"
        raise DataError(f"{pair} is correct in {has.name} and not in {lacks.name}; pass the same --truth for both")
    row = int((first.video != other.video).argmax())
    raise DataError(
        f"query {first.queries[row]!r} belongs to video {first.videos[first.video[row]]!r} in {first.name} and to "
        f"{first.videos[other.video[row]]!r} in {other.name}; pass the same --truth for both"
    )
