"""From the scores of a query's best videos to the probability that each of them answers it.

    logit P = intercept + per_score s + per_margin (s - s') - per_size log V

s is the score of a video, s' the best score of another one, V the number of videos that were searched: the best score of
many says less than that of few. Fitted on a held-out split whose queries are each asked twice, with their videos and
without them, so that half of the time nothing answers; and in galleries of several sizes, drawn from that split.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from prvr.errors import DataError, SettingError

# From fewer held-out queries or videos nothing is fitted: the scores say as much.
LEAST_QUERIES, LEAST_VIDEOS = 50, 10
HITS = 10
PARTS = (1, 2, 4, 8, 16)
LEAST_PART = 5
QUERIES_AT_ONCE = 1024
COEFFICIENTS = ("intercept", "per_score", "per_margin", "per_size")


@dataclass(frozen=True)
class Calibration:
    """The coefficients of the probability, none of which lets a better score mean less.

    split: what it was fitted on. queries, videos: how many that had.

    Raises:
        DataError: a coefficient is not a number, or one of the slopes is below 0.
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
                wanted = "a finite number" if name == "intercept" else "a finite number from 0"
                raise DataError(f"{name} of the calibration is {value!r}; it takes {wanted}: train or calibrate again")

    def probabilities(self, scores: Float[np.ndarray, "K"], *, videos: int) -> Float[np.ndarray, "K"]:
        """The probability, from 0 to 1, that each of a query's best videos answers it.

        Args:
            scores: of the best videos, best first; at least two of them where as many were searched.
            videos: how many were searched; those that a filter left out are not counted.

        Raises:
            SettingError: there is one score, and more videos were searched.
        """
        if len(scores) < min(2, videos):
            raise SettingError(f"{len(scores)} of {videos} scores are known; the probability of the best takes the second, too")
        return self._of(scores[None].astype(np.float64), np.array([videos]))[0]

    def of(self, asked: Asked) -> Float[np.ndarray, "Q K"]:
        """The probabilities of many queries' best videos; 0 where there is none."""
        return np.where(np.isfinite(asked.scores), self._of(asked.scores, asked.videos), 0.0)

    def _of(self, scores: Float[np.ndarray, "Q K"], videos: Int[np.ndarray, "Q"]) -> Float[np.ndarray, "Q K"]:
        slopes = np.array([self.per_score, self.per_margin, self.per_size])
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-(self.intercept + _features(scores, videos) @ slopes)))

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name, as a checkpoint keeps them."""
        return asdict(self)


def from_dict(values: Any) -> Calibration:
    """A calibration from what `as_dict` gave.

    Raises:
        DataError: something else stands there.
    """
    names = {field.name for field in fields(Calibration)}
    if not isinstance(values, Mapping) or set(values) != names:
        raise DataError(f"{values!r:.60} is no calibration, which has {', '.join(sorted(names))}; train or calibrate again")
    for name, value in values.items():
        # JSON may write a whole number for any.
        kinds = (str,) if name == "split" else (int, float) if name in COEFFICIENTS else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise DataError(f"{name} of the calibration is {value!r:.60}, no {kinds[-1].__name__}; train or calibrate again")
    known: dict[str, Any] = {name: float(value) if name in COEFFICIENTS else value for name, value in values.items()}
    return Calibration(**known)


@dataclass(frozen=True)
class Asked:
    """Queries with their K best videos.

    scores: best first, -inf where there are fewer. right: whether a video is correct. present: whether any in the gallery
    was. videos: how many were searched.
    """

    scores: Float[np.ndarray, "Q K"]
    right: Bool[np.ndarray, "Q K"]
    present: Bool[np.ndarray, "Q"]
    videos: Int[np.ndarray, "Q"]


def fit(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"], *, split: str = "") -> Calibration | None:
    """The calibration that makes a held-out split likeliest; None where that is too small, or all right or all wrong.

    Args:
        split: its name, for the record.
    """
    queries, videos = scores.shape
    if queries < LEAST_QUERIES or videos < LEAST_VIDEOS:
        return None
    asked = [_asked_in(part, scores, correct) for part in _galleries(videos)]
    real = [np.isfinite(one.scores) for one in asked]
    seen = np.concatenate([_features(one.scores, one.videos)[there] for one, there in zip(asked, real, strict=True)])
    right = np.concatenate([one.right[there] for one, there in zip(asked, real, strict=True)])
    if right.all() or not right.any():
        return None
    intercept, score, margin, size = _logistic(seen, right)
    return Calibration(intercept, score, margin, size, split, queries, videos)


def fitted(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"], *, split: str, name: str) -> Calibration:
    """As `fit`, of what must be enough.

    Args:
        name: of the scores, for an error line and where there is no split.

    Raises:
        SettingError: there are too few, or the first hits are all right or all wrong.
    """
    found = fit(scores, correct, split=split or name)
    if found is None:
        queries, videos = scores.shape
        raise SettingError(
            f"{name} has {queries} queries and {videos} videos; probabilities take {LEAST_QUERIES} and {LEAST_VIDEOS} at least, "
            "and first hits of both kinds, right and wrong"
        )
    return found


def ask_twice(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"]) -> Asked:
    """Every query over the gallery, and every query again over the gallery without its correct videos."""
    parts = []
    for start in range(0, len(scores), QUERIES_AT_ONCE):
        block, right = scores[start : start + QUERIES_AT_ONCE], correct[start : start + QUERIES_AT_ONCE]
        whole = np.full(len(block), scores.shape[1])
        parts.append(_asked(block, right, whole))
        less = whole - right.sum(1)
        # Where every video was correct, nothing is left to be asked.
        some = less > 0
        parts.append(_asked(np.where(right, -np.inf, block)[some], np.zeros_like(right)[some], less[some]))
    return _together(parts)


def _asked(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"], videos: Int[np.ndarray, "Q"]) -> Asked:
    """Queries with their best videos among those of a score above -inf."""
    most = min(HITS, scores.shape[1])
    # Equal scores in the order of the gallery, as an index gives them.
    some = np.sort(np.argpartition(-scores, most - 1, axis=1)[:, :most], axis=1)
    order = np.take_along_axis(some, np.argsort(-np.take_along_axis(scores, some, 1), axis=1, kind="stable"), 1)
    best = np.take_along_axis(scores, order, 1).astype(np.float64)
    right: np.ndarray = np.take_along_axis(correct, order, 1) & np.isfinite(best)
    padding = [(0, 0), (0, HITS - most)]
    return Asked(np.pad(best, padding, constant_values=-np.inf), np.pad(right, padding), np.asarray(correct.any(1)), videos)


def _together(parts: list[Asked]) -> Asked:
    return Asked(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Asked)))


def _features(scores: Float[np.ndarray, "Q K"], videos: Int[np.ndarray, "Q"]) -> Float[np.ndarray, "Q K 3"]:
    """Score, margin over the best other video (0 where there is no other), and -log of the number of videos."""
    other = np.repeat(scores[:, :1], scores.shape[1], 1)
    other[:, 0] = scores[:, 1] if scores.shape[1] > 1 else -np.inf
    known = np.isfinite(scores) & np.isfinite(other)
    margin = np.subtract(scores, other, out=np.zeros_like(scores), where=known)
    size = np.repeat(-np.log(np.maximum(videos, 1))[:, None], scores.shape[1], 1)
    return np.stack([np.where(np.isfinite(scores), scores, 0), margin, size], -1)


def _galleries(videos: int) -> Iterator[list[Int[np.ndarray, "_"]]]:
    """The gallery whole, in random halves, quarters and so on, as far as the parts are large enough."""
    draw = np.random.default_rng(0)
    for parts in PARTS:
        if videos // parts >= LEAST_PART:
            yield np.array_split(draw.permutation(videos) if parts > 1 else np.arange(videos), parts)


def _asked_in(parts: list[Int[np.ndarray, "_"]], scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"]) -> Asked:
    """Each query in each part of the gallery that holds a correct video of it, and there again without."""
    asking = [(np.flatnonzero(correct[:, part].any(1)), part) for part in parts]
    return _together([ask_twice(scores[np.ix_(*of)], correct[np.ix_(*of)]) for of in asking if len(of[0])])


def _logistic(seen: Float[np.ndarray, "N C"], right: Bool[np.ndarray, "N"]) -> list[float]:
    """Intercept and slopes of a logistic regression, no slope below 0.

    On features of unit deviation, the slopes have a Gaussian prior of deviation 1: next to nothing beside a thousand
    hits, it keeps them finite where a few hits are parted without a fault.
    """
    from scipy.optimize import minimize

    mean, deviation = seen.mean(0), seen.std(0)
    # A feature that never changes, such as the size of the one gallery there is, tells nothing.
    deviation = np.where(deviation > 1e-12 * np.maximum(1, np.abs(mean)), deviation, np.inf)
    unit = (seen - mean) / deviation

    def loss(weights: Float[np.ndarray, "W"]) -> tuple[float, Float[np.ndarray, "W"]]:
        logit = weights[0] + unit @ weights[1:]
        value = np.logaddexp(0, logit).sum() - logit[right].sum() + (weights[1:] ** 2).sum() / 2
        off = np.exp(-np.logaddexp(0, -logit)) - right
        return value / len(right), np.r_[off.sum(), unit.T @ off + weights[1:]] / len(right)

    bounds = [(None, None)] + [(0, None)] * unit.shape[1]
    found = minimize(loss, np.zeros(1 + unit.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds).x
    slopes = found[1:] / deviation
    return [float(found[0] - slopes @ mean), *map(float, slopes)]
