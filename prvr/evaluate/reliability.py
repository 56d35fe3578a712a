"""Figures of how reliable probabilities are: of ten hits with probability 0.7, seven should be right."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from prvr.errors import SettingError
from prvr.evaluate.saved_scores import load_scores
from prvr.methods.calibration import Calibration, fit_or_raise, top_hits_with_and_without

BINS = 10
SHOWN = 0.5


@dataclass(frozen=True)
class Judged:
    """The first hits of queries, each searched with its correct videos in the gallery and again without them.

    probability: of each first hit, as the calibration gives it. right: whether the hit is correct.
    present: whether a correct video was in the gallery.
    """

    probability: Float[np.ndarray, "N"]
    right: Bool[np.ndarray, "N"]
    present: Bool[np.ndarray, "N"]


@dataclass(frozen=True)
class Reliability:
    """The figures of first hits, from 0 to 1.

    ece: expected calibration error, Σ over bins (n_b / N) |mean probability - share right|, in ten bins of equal count.
    brier: mean of (probability - right)²; wrong: share of hits that are wrong.
    aurc: area under the risk-coverage curve: the share of wrong hits among the n most probable, mean over n. aurc_best is
    that of a perfect order; of a random order it is `wrong`.
    shown: share of hits with a probability of at least 0.5; shown_wrong: share of these that are wrong, None if there are none.
    present, absent: mean probability with and without a correct video in the gallery; None if there is no such query.
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


def calibration_from_scores(path: str | Path, *, other_than: Collection[str] = ()) -> Calibration:
    """Fits probabilities to the saved scores of a held-out split.

    Args:
        other_than: ids of the queries that will get probabilities; the held-out split must not contain them.

    Raises:
        DataError: there are no scores at the path, or they are broken.
        SettingError: the held-out split contains one of those queries, or is too small.
    """
    held_out = load_scores(path)
    same = sorted(set(held_out.queries) & set(other_than))
    if same:
        raise SettingError(f"{path} has the same queries ({same[0]!r} first); fit probabilities on another split, dev")
    return fit_or_raise(held_out.scores, held_out.correct, split=held_out.split, name=str(path))


def judge(calibration: Calibration, scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"]) -> Judged:
    """The first hits of a split, with the probabilities that a calibration gives them."""
    hits = top_hits_with_and_without(scores, correct)
    return Judged(calibration.of_hits(hits)[:, 0], hits.right[:, 0], hits.present)


def reliability(judged: Judged) -> Reliability:
    """The figures of first hits."""
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
    """The expected calibration error: distance of a bin's mean probability from its share of right hits, mean over hits."""
    bin_of = _bins(probability, bins)
    off = np.bincount(bin_of, probability, bins) - np.bincount(bin_of, right, bins)
    return float(np.abs(off).sum() / len(right))


def curve(judged: Judged, *, bins: int = BINS) -> list[tuple[float, float, int]]:
    """Of each bin that is not empty: mean probability, share of right hits, number of hits."""
    bin_of = _bins(judged.probability, bins)
    counts = np.bincount(bin_of, minlength=bins)
    probability, right = (np.bincount(bin_of, values, bins) for values in (judged.probability, judged.right))
    return [(float(probability[b] / n), float(right[b] / n), int(n)) for b, n in enumerate(counts) if n]


def risks(confidence: Float[np.ndarray, "N"], right: Bool[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """The share of wrong hits among the 1, 2, ... N most confident; equal ones count as if they were shuffled."""
    order = np.argsort(-confidence, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(confidence[order]) != 0, True]) + 1
    wrong = np.cumsum(~right[order])
    counts = np.arange(1, len(right) + 1)
    return np.interp(counts, np.r_[0, ends], np.r_[0, wrong[ends - 1]]) / counts


def _bins(probability: Float[np.ndarray, "N"], bins: int) -> Int[np.ndarray, "N"]:
    """The bin of each probability; bins have about equal counts, and equal probabilities share a bin."""
    return np.searchsorted(np.sort(probability), probability) * bins // len(probability)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
