"""Retrieval metrics of a score matrix (Q, V). Ranks start at 1; percentages run from 0 to 100.

Videos with equal scores are not ordered by sorting, which would order them at random. A rule gives their places: pessimistic
(the wrong ones first), optimistic (the right ones first), or mean (the expected place if tied videos were shuffled).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from prvr.errors import DataError, SettingError, nearest

RECALLS = (1, 5, 10, 100)
TIES = ("pessimistic", "optimistic", "mean")
OVERLAPS = (0.3, 0.5, 0.7)
# The names of figures in tables for people.
LABELS = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "r100": "R@100", "sumr": "SumR", "medr": "MedR", "mrr": "MRR"}
# The columns of the papers\' tables.
COLUMNS = tuple(LABELS[name] for name in ("r1", "r5", "r10", "r100", "sumr"))
SCORES_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Retrieval:
    """How well queries find their videos.

    r1, r5, r10, r100: share of queries, in percent, whose best correct video is among the first k.
    sumr: their sum. medr, meanr: median and mean rank of the best correct video.
    mrr: mean of 1 / rank, from 0 to 1; the published code of this field calls it mAP.
    map: mean average precision over all correct videos, from 0 to 1; with one correct video a query it is `mrr`.
    covered1 ... covered100: share of a query's correct videos that are among the first k, in percent; mean over queries.
    """

    r1: float
    r5: float
    r10: float
    r100: float
    sumr: float
    medr: float
    meanr: float
    mrr: float
    map: float
    covered1: float
    covered5: float
    covered10: float
    covered100: float
    queries: int
    videos: int

    def __str__(self) -> str:
        recalls = "/".join(f"{value:.1f}" for value in (self.r1, self.r5, self.r10, self.r100))
        return f"R@1/5/10/100 {recalls}  SumR {self.sumr:.1f}  MedR {self.medr:g}  ({self.queries} queries, {self.videos} videos)"

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


@dataclass(frozen=True)
class MomentRetrieval:
    """How well queries find their moment; an annotated and a found span agree if they overlap by an IoU.

    recall: by IoU and k, share of queries, in percent, whose video is among the first k with a span that agrees.
    localised: by IoU, share of queries whose span in their own video agrees, at any rank of that video. miou: the mean IoU.
    any_localised: as `localised`, if any of the several spans found in the video agrees; empty where that is unknown.
    queries: the number of queries with an annotated span; only these are counted.
    """

    recall: dict[float, dict[int, float]]
    localised: dict[float, float]
    miou: float
    queries: int
    any_localised: dict[float, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values; `moments` is R@1 by IoU."""
        return {
            "moments": {str(least): shares[1] for least, shares in self.recall.items()},
            "moment_recall": {str(least): {f"r{k}": share for k, share in its.items()} for least, its in self.recall.items()},
            "localised": {str(least): share for least, share in self.localised.items()},
            "any_localised": {str(least): share for least, share in self.any_localised.items()},
            "miou": self.miou,
            "moment_queries": self.queries,
        }


def retrieval(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"], *, ties: str = "pessimistic") -> Retrieval:
    """The figures of a score matrix.

    Raises:
        DataError: there is no query, a query has no correct video, or a score is not a number.
    """
    if not len(scores):
        raise DataError("there is no query to evaluate; the split has no captions")
    return figures(places(scores, correct, ties=ties), videos=scores.shape[1])


def video_to_text(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"], *, ties: str = "pessimistic") -> Retrieval:
    """The figures of the other direction: each video that has captions ranks all captions.

    `queries` is the number of videos then, `videos` the number of captions.
    """
    described = correct.any(0)
    return retrieval(np.ascontiguousarray(scores.T[described]), np.ascontiguousarray(correct.T[described]), ties=ties)


def ranks(
    scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"], *, ties: str = "pessimistic"
) -> Float[np.ndarray, "Q"]:
    """The rank of each query's best correct video; an integer, except for ties under the rule `mean`.

    Raises:
        DataError: a query without a correct video, or a score that is not a number.
    """
    return places(scores, correct, ties=ties)[:, 0]


def figures(place: Float[np.ndarray, "Q M"], *, videos: int) -> Retrieval:
    """The figures of at least one query, from the places of its correct videos."""
    rank, count = place[:, 0], np.isfinite(place).sum(1)
    precision = np.arange(1, place.shape[1] + 1) / place
    r1, r5, r10, r100 = (recall_at(k, rank) for k in RECALLS)
    covered1, covered5, covered10, covered100 = (float(((place <= k).sum(1) / count).mean() * 100) for k in RECALLS)
    return Retrieval(
        r1=r1,
        r5=r5,
        r10=r10,
        r100=r100,
        sumr=r1 + r5 + r10 + r100,
        medr=float(np.median(rank)),
        meanr=float(rank.mean()),
        mrr=float((1 / rank).mean()),
        map=float((precision.sum(1) / count).mean()),
        covered1=covered1,
        covered5=covered5,
        covered10=covered10,
        covered100=covered100,
        queries=len(place),
        videos=videos,
    )


def over_seeds(seeds: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float] | None]:
    """Mean and standard deviation of each figure over seeds, the deviation of a sample (n - 1); None for a single seed."""
    matrix = np.array([list(figures.values()) for figures in seeds], np.float64)
    mean = dict(zip(seeds[0], matrix.mean(0).tolist(), strict=True))
    return mean, dict(zip(seeds[0], matrix.std(0, ddof=1).tolist(), strict=True)) if len(seeds) > 1 else None


def format_mean(mean: float, deviation: float | None, *, digits: int = 1) -> str:
    """A mean, with its standard deviation if there are several seeds."""
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if deviation is not None else "")


def recall_at(k: int, rank: Float[np.ndarray, "Q"]) -> float:
    """The share of queries with rank <= k, in percent."""
    return float((rank <= k).mean() * 100)


def places(
    scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"], *, ties: str = "pessimistic"
) -> Float[np.ndarray, "Q M"]:
    """The places of each query's correct videos, best first; infinity after a query's last one.

    M is the largest number of correct videos of a query. Of c correct and w wrong videos that are tied, w (pessimistic),
    0 (optimistic) or w i / (c + 1) (mean) wrong ones precede the i-th correct one.

    Raises:
        SettingError: unknown rule.
        DataError: a query without a correct video, or a score that is not a number.
    """
    if ties not in TIES:
        raise SettingError(f"unknown rule for ties {ties!r}; {nearest(ties, TIES)}")
    _check(scores, correct)
    row, value = _correct_scores(scores, correct)
    first = np.searchsorted(row, np.arange(len(scores) + 1))
    order = np.arange(len(row)) - first[row]
    # Correct videos of one query with equal scores are adjacent: `tied` of them, from `group` on.
    starts = np.flatnonzero(np.r_[True, (row[1:] != row[:-1]) | (value[1:] != value[:-1])])
    tied = np.diff(np.r_[starts, len(row)])
    group, tied = np.repeat(starts, tied), np.repeat(tied, tied)
    above, at_least = _better(scores, row, value)
    wrong_above = above - order[group]
    wrong_tied = at_least - above - tied
    before = {"pessimistic": wrong_tied, "optimistic": 0, "mean": wrong_tied * (np.arange(len(row)) - group + 1) / (tied + 1)}[
        ties
    ]
    found = np.full((len(scores), int(np.diff(first).max(initial=1))), np.inf)
    found[row, order] = wrong_above + before + order + 1
    return found


def moment_retrieval(
    rank: Float[np.ndarray, "Q"], overlaps: Float[np.ndarray, "Q"], any_overlaps: Float[np.ndarray, "Q"] | None = None
) -> MomentRetrieval | None:
    """The figures of moments; None if no query has an annotated span.

    Args:
        rank: of each query's own video.
        overlaps: IoU of the best span found in that video; NaN for a query without an annotated span.
        any_overlaps: IoU of the span that agrees best, of all spans found there.
    """
    known = ~np.isnan(overlaps)
    if not known.any():
        return None
    rank, overlaps = rank[known], overlaps[known]
    agree = {least: overlaps >= least for least in OVERLAPS}
    recall = {least: {k: float((agree[least] & (rank <= k)).mean() * 100) for k in RECALLS} for least in OVERLAPS}
    localised = {least: float(agree[least].mean() * 100) for least in OVERLAPS}
    several = {} if any_overlaps is None else {least: float((any_overlaps[known] >= least).mean() * 100) for least in OVERLAPS}
    return MomentRetrieval(recall, localised, float(overlaps.mean()), int(known.sum()), several)


def overlap(found: tuple[float, float], true: tuple[float, float]) -> float:
    """The temporal intersection over union of two spans in seconds, from 0 to 1."""
    shared = max(0.0, min(found[1], true[1]) - max(found[0], true[0]))
    union = (found[1] - found[0]) + (true[1] - true[0]) - shared
    return shared / union if union > 0 else 0.0


def ceilings(texts: Sequence[str], correct: Bool[np.ndarray, "Q V"]) -> dict[int, float]:
    """The upper bound of R@k in percent, for k = 1, 5, 10, 100, because equal texts get equal rankings.

    Texts are equal if they differ in case and white space only. The best k videos for n equal texts are those that are
    correct for most of them. If queries have several correct videos, the bound may not be attainable.
    """
    alike = np.unique([" ".join(text.casefold().split()) for text in texts], return_inverse=True)[1]
    query, video = _pairs(correct)
    pair, fits = np.unique(np.stack([alike[query], video]), axis=1, return_counts=True)
    order = np.lexsort((-fits, pair[0]))
    text, fits = pair[0][order], fits[order]
    place = np.arange(len(text)) - np.searchsorted(text, text)
    queries = np.bincount(alike)
    best = {k: np.bincount(text, fits * (place < k), len(queries)) for k in RECALLS}
    return {k: float(np.minimum(hits, queries).sum() / len(texts) * 100) for k, hits in best.items()}


def _check(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"]) -> None:
    if scores.size and np.isnan(scores.min()):
        broken = int(np.isnan(scores).any(1).sum())
        raise DataError(f"{broken} of {len(scores)} queries have scores that are not numbers; train the model again")
    has = correct.any(1)
    if not has.all():
        raise DataError(f"query {int(has.argmin())} has no correct video in the gallery; leave it out")


def _correct_scores(
    scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"]
) -> tuple[Int[np.ndarray, "P"], Float[np.ndarray, "P"]]:
    """The query and the score of every correct pair, by query and then by descending score."""
    row, column = _pairs(correct)
    value = scores[row, column]
    order = np.lexsort((-value, row))
    return row[order], value[order]


def _pairs(correct: Bool[np.ndarray, "Q V"]) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
    """The rows and columns of correct pairs; several times as fast as `nonzero` over two axes."""
    row, column = np.divmod(np.flatnonzero(correct), max(correct.shape[1], 1))
    return row, column


def _better(
    scores: Float[np.ndarray, "Q V"], row: Int[np.ndarray, "P"], value: Float[np.ndarray, "P"]
) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
    """The number of a query's videos that score above a value, and the number that score at least as high."""
    above, at_least = np.empty(len(row), np.int64), np.empty(len(row), np.int64)
    step = max(1, SCORES_AT_ONCE // max(scores.shape[1], 1))
    for start in range(0, len(row), step):
        part = slice(start, start + step)
        block, bound = scores[row[part]], value[part, None]
        above[part] = np.count_nonzero(block > bound, axis=1)
        at_least[part] = np.count_nonzero(block >= bound, axis=1)
    return above, at_least
