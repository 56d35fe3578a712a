"""The probability that each of a query's best videos is correct, from their scores.

    logit P = intercept + per_score s + per_margin (s - s') - per_size log V

s is the score of a video, s' the best score of another video, V the number of videos searched: in a large gallery the best
score is weaker evidence. It is fitted on a held-out split. Each query is searched twice, with its correct videos in the
gallery and without them, so that half of the searches have no answer; and in galleries of several sizes, drawn from the split.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from prvr.errors import DataError, SettingError

# With fewer held-out queries or videos nothing is fitted; hits then have scores alone.
LEAST_QUERIES, LEAST_VIDEOS = 50, 10
HITS = 10
PARTS = (1, 2, 4, 8, 16)
LEAST_PART = 5
QUERIES_AT_ONCE = 1024
COEFFICIENTS = ("intercept", "per_score", "per_margin", "per_size")


@dataclass(frozen=True)
class Calibration:
    """The coefficients of the probability, which never falls as the score rises.

    split: the split that it was fitted on. queries, videos: the size of that split.

    Raises:
        DataError: a coefficient is not finite, or a slope is below 0.
    """

    intercept: float
    per_score: float
    per_margin: float
    per_size: float
    split: str = ""
    queries: int = 0
    videos: int = 0

    def __post_init__(self) -> None:
        for name in COEFFICIENTS:
            value = getattr(self, name)
            if not math.isfinite(value) or (name != "intercept" and value < 0):
                expected = "a finite number" if name == "intercept" else "a finite number of 0 or more"
                raise DataError(f"{name} of the calibration is {value!r}, expected {expected}; train or calibrate again")

    def probabilities(self, scores: Float[np.ndarray, "K"], *, videos: int) -> Float[np.ndarray, "K"]:
        """The probability, from 0 to 1, that each of a query's best videos is correct.

        Args:
            scores: of the best videos, best first; at least two of them if two videos were searched.
            videos: the number of videos searched, without those that a filter excluded.

        Raises:
            SettingError: there is one score, and more than one video was searched.
        """
        if len(scores) < min(2, videos):
            raise SettingError(
                f"got {len(scores)} of {videos} scores; the probability of the best video needs the second score, too"
            )
        return self._sigmoid(scores[None].astype(np.float64), np.array([videos]))[0]

    def of_hits(self, hits: TopHits) -> Float[np.ndarray, "Q K"]:
        """The probabilities of many queries' best videos; 0 where a query has fewer than K."""
        return np.where(np.isfinite(hits.scores), self._sigmoid(hits.scores, hits.videos), 0.0)

    def _sigmoid(self, scores: Float[np.ndarray, "Q K"], videos: Int[np.ndarray, "Q"]) -> Float[np.ndarray, "Q K"]:
        slopes = np.array([self.per_score, self.per_margin, self.per_size])
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-(self.intercept + _features(scores, videos) @ slopes)))

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, as a checkpoint stores them."""
        return asdict(self)


def from_dict(values: Any) -> Calibration:
    """The calibration that `as_dict` wrote.

    Raises:
        DataError: the values are not those of a calibration.
    """
    names = {field.name for field in fields(Calibration)}
    if not isinstance(values, Mapping) or set(values) != names:
        raise DataError(f"expected a calibration with {', '.join(sorted(names))}, got {values!r:.60}; train or calibrate again")
    for name, value in values.items():
        # JSON writes some floats as integers.
        kinds = (str,) if name == "split" else (int, float) if name in COEFFICIENTS else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise DataError(
                f"{name} of the calibration is {value!r:.60}, expected {kinds[-1].__name__}; train or calibrate again"
            )
    known: dict[str, Any] = {name: float(value) if name in COEFFICIENTS else value for name, value in values.items()}
    return Calibration(**known)


@dataclass(frozen=True)
class TopHits:
    """The K best videos of queries.

    scores: best first, -inf where there are fewer. right: whether a video is correct.
    present: whether the gallery held a correct video. videos: the number of videos searched.
    """

    scores: Float[np.ndarray, "Q K"]
    right: Bool[np.ndarray, "Q K"]
    present: Bool[np.ndarray, "Q"]
    videos: Int[np.ndarray, "Q"]


def fit(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"], *, split: str = "") -> Calibration | None:
    """The calibration that maximises the likelihood of a held-out split.

    None if the split is too small, or if all of its hits are right or all are wrong.

    Args:
        split: its name, which the calibration keeps.
    """
    queries, videos = scores.shape
    if queries < LEAST_QUERIES or videos < LEAST_VIDEOS:
        return None
    hits = [_top_hits_in(parts, scores, correct) for parts in _galleries(videos)]
    real = [np.isfinite(one.scores) for one in hits]
    features = np.concatenate([_features(one.scores, one.videos)[mask] for one, mask in zip(hits, real, strict=True)])
    right = np.concatenate([one.right[mask] for one, mask in zip(hits, real, strict=True)])
    if right.all() or not right.any():
        return None
    intercept, score, margin, size = logistic(features, right)
    return Calibration(intercept, score, margin, size, split, queries, videos)


def fit_or_raise(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"], *, split: str, name: str) -> Calibration:
    """As `fit`, with an error where `fit` returns None.

    Args:
        name: of the scores, for the error message and as the split if that has no name.

    Raises:
        SettingError: there are too few queries or videos, or all hits are right or all are wrong.
    """
    found = fit(scores, correct, split=split or name)
    if found is None:
        queries, videos = scores.shape
        raise SettingError(
            f"{name} has {queries} queries and {videos} videos; probabilities need {LEAST_QUERIES} and {LEAST_VIDEOS} at least, "
            "and both right and wrong hits"
        )
    return found


def top_hits_with_and_without(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"]) -> TopHits:
    """The best videos of every query in the gallery, and again in the gallery without the query's correct videos."""
    parts = []
    for start in range(0, len(scores), QUERIES_AT_ONCE):
        block, right = scores[start : start + QUERIES_AT_ONCE], correct[start : start + QUERIES_AT_ONCE]
        whole = np.full(len(block), scores.shape[1])
        parts.append(_top_hits(block, right, whole))
        less = whole - right.sum(1)
        # If every video is correct, the gallery without them is empty.
        some = less > 0
        parts.append(_top_hits(np.where(right, -np.inf, block)[some], np.zeros_like(right)[some], less[some]))
    return _concatenate(parts)


def _top_hits(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"], videos: Int[np.ndarray, "Q"]) -> TopHits:
    """The best videos of queries; a score of -inf marks a video that is not in the gallery."""
    most = min(HITS, scores.shape[1])
    # Equal scores in the order of the gallery, as an index returns them.
    some = np.sort(np.argpartition(-scores, most - 1, axis=1)[:, :most], axis=1)
    order = np.take_along_axis(some, np.argsort(-np.take_along_axis(scores, some, 1), axis=1, kind="stable"), 1)
    best = np.take_along_axis(scores, order, 1).astype(np.float64)
    right: np.ndarray = np.take_along_axis(correct, order, 1) & np.isfinite(best)
    padding = [(0, 0), (0, HITS - most)]
    return TopHits(np.pad(best, padding, constant_values=-np.inf), np.pad(right, padding), np.asarray(correct.any(1)), videos)


def _concatenate(parts: list[TopHits]) -> TopHits:
    return TopHits(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(TopHits)))


def _features(scores: Float[np.ndarray, "Q K"], videos: Int[np.ndarray, "Q"]) -> Float[np.ndarray, "Q K 3"]:
    """Score, margin over the best other video (0 if there is no other), and -log of the number of videos."""
    other = np.repeat(scores[:, :1], scores.shape[1], 1)
    other[:, 0] = scores[:, 1] if scores.shape[1] > 1 else -np.inf
    known = np.isfinite(scores) & np.isfinite(other)
    margin = np.subtract(scores, other, out=np.zeros_like(scores), where=known)
    size = np.repeat(-np.log(np.maximum(videos, 1))[:, None], scores.shape[1], 1)
    return np.stack([np.where(np.isfinite(scores), scores, 0), margin, size], -1)


def _galleries(videos: int) -> Iterator[list[Int[np.ndarray, "_"]]]:
    """The whole gallery, then random halves, quarters and so on, while the parts are large enough."""
    draw = np.random.default_rng(0)
    for parts in PARTS:
        if videos // parts >= LEAST_PART:
            yield np.array_split(draw.permutation(videos) if parts > 1 else np.arange(videos), parts)


def _top_hits_in(
    parts: list[Int[np.ndarray, "_"]], scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"]
) -> TopHits:
    """The hits of each query in each part of the gallery with a correct video, and again without its correct videos."""
    blocks = [np.ix_(np.flatnonzero(correct[:, part].any(1)), part) for part in parts]
    return _concatenate([top_hits_with_and_without(scores[at], correct[at]) for at in blocks if len(at[0])])


def logistic(features: Float[np.ndarray, "N C"], right: Bool[np.ndarray, "N"]) -> list[float]:
    """The intercept and the slopes of a logistic regression, no slope below 0.

    On features of unit deviation, the slopes have a Gaussian prior of deviation 1. It is negligible beside a thousand hits,
    and keeps the slopes finite where a few hits can be separated perfectly.
    """
    from scipy.optimize import minimize

    mean, deviation = features.mean(0), features.std(0)
    # A constant feature, such as the size of a single gallery, has no slope.
    deviation = np.where(deviation > 1e-12 * np.maximum(1, np.abs(mean)), deviation, np.inf)
    unit = (features - mean) / deviation

    def loss(weights: Float[np.ndarray, "W"]) -> tuple[float, Float[np.ndarray, "W"]]:
        logit = weights[0] + unit @ weights[1:]
        value = np.logaddexp(0, logit).sum() - logit[right].sum() + (weights[1:] ** 2).sum() / 2
        off = np.exp(-np.logaddexp(0, -logit)) - right
        return value / len(right), np.r_[off.sum(), unit.T @ off + weights[1:]] / len(right)

    bounds = [(None, None)] + [(0, None)] * unit.shape[1]
    found = minimize(loss, np.zeros(1 + unit.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds).x
    slopes = found[1:] / deviation
    return [float(found[0] - slopes @ mean), *map(float, slopes)]
