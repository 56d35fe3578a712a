"""Whether probabilities mean what they say: of ten answers that are called right with 0.7, seven are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from prvr.methods.calibration import Calibration, ask_twice

BINS = 10
SHOWN = 0.5


@dataclass(frozen=True)
class Judged:
    """The first hits of queries, each asked with its videos in the gallery and again without them.

    probability: that a first hit is right, as it was said. right: whether it is. present: whether a right one was there.
    """

    probability: Float[np.ndarray, "N"]
    right: Bool[np.ndarray, "N"]
    present: Bool[np.ndarray, "N"]


@dataclass(frozen=True)
class Reliability:
    """The figures of first hits, from 0 to 1.

    ece: expected calibration error, Σ over bins (n_b / N) |mean probability - share right|, in ten bins of equal count.
    brier: mean of (probability - right)²; wrong: share of hits that are wrong.
    aurc: area under the risk-coverage curve: the share that is wrong among the surest n hits, mean over n. aurc_best is
    that of an order which knew all right ones; without any order it is `wrong`.
    shown: share of hits with a probability of at least 0.5; shown_wrong: share of those that are wrong, None for none.
    present, absent: mean probability where a right video was in the gallery, and where none was; None for no such query.
    """

    ece: float
    brier: float
    aurc: float
    aurc_best: float
    wrong: float
    shown: float
    shown_wrong: float | None
    present: float | None
    absent: float | None
    hits: int


def judge(calibration: Calibration, scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"]) -> Judged:
    """What a calibration says of the first hits of a split."""
    asked = ask_twice(scores, correct)
    return Judged(calibration.of(asked)[:, 0], asked.right[:, 0], asked.present)


def reliability(judged: Judged) -> Reliability:
    """All the figures."""
    probability, right = judged.probability, judged.right
    shown = probability >= SHOWN
    return Reliability(
        ece=expected_error(probability, right),
        brier=float(((probability - right) ** 2).mean()),
        aurc=float(risks(probability, right).mean()),
        aurc_best=float(risks(right.astype(np.float64), right).mean()),
        wrong=float(1 - right.mean()),
        shown=float(shown.mean()),
        shown_wrong=_mean(~right[shown]),
        present=_mean(probability[judged.present]),
        absent=_mean(probability[~judged.present]),
        hits=len(right),
    )


def expected_error(probability: Float[np.ndarray, "N"], right: Bool[np.ndarray, "N"], *, bins: int = BINS) -> float:
    """Expected calibration error: how far the probabilities of a bin are from the share that is right, mean over hits."""
    bin_of = _bins(probability, bins)
    off = np.bincount(bin_of, probability, bins) - np.bincount(bin_of, right, bins)
    return float(np.abs(off).sum() / len(right))


def curve(judged: Judged, *, bins: int = BINS) -> list[tuple[float, float, int]]:
    """Of each bin that is not empty: mean probability, share right, and how many hits."""
    bin_of = _bins(judged.probability, bins)
    counts = np.bincount(bin_of, minlength=bins)
    said, was = (np.bincount(bin_of, values, bins) for values in (judged.probability, judged.right))
    return [(float(said[b] / n), float(was[b] / n), int(n)) for b, n in enumerate(counts) if n]


def risks(confidence: Float[np.ndarray, "N"], right: Bool[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """The share that is wrong among the surest 1, 2, ... N hits; equal ones count as if they were shuffled."""
    order = np.argsort(-confidence, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(confidence[order]) != 0, True]) + 1
    wrong = np.cumsum(~right[order])
    counts = np.arange(1, len(right) + 1)
    return np.interp(counts, np.r_[0, ends], np.r_[0, wrong[ends - 1]]) / counts


def _bins(probability: Float[np.ndarray, "N"], bins: int) -> Int[np.ndarray, "N"]:
    """The bin of each, of about equal count; equal probabilities are never parted."""
    return np.searchsorted(np.sort(probability), probability) * bins // len(probability)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
