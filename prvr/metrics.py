"""Retrieval metrics of a score matrix (Q, V). Ranks start at 1; percentages run from 0 to 100."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from prvr.errors import DataError

RECALLS = (1, 5, 10, 100)


@dataclass(frozen=True)
class Retrieval:
    """How well queries find their videos.

    r1, r5, r10, r100: share of queries, in percent, whose best correct video is among the first k.
    sumr: their sum. medr, meanr: median and mean rank. mrr: mean of 1 / rank, from 0 to 1.
    """

    r1: float
    r5: float
    r10: float
    r100: float
    sumr: float
    medr: float
    meanr: float
    mrr: float
    queries: int
    videos: int

    def __str__(self) -> str:
        recalls = "/".join(f"{value:.1f}" for value in (self.r1, self.r5, self.r10, self.r100))
        return f"R@1/5/10/100 {recalls}  SumR {self.sumr:.1f}  MedR {self.medr:g}  ({self.queries} queries, {self.videos} videos)"

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


def ranks(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"]) -> Int[np.ndarray, "Q"]:
    """Rank of the best correct video of each query; of tied videos the wrong ones stand first (pessimistic).

    Raises:
        DataError: a query without a correct video, or a score that is not a number.
    """
    if np.isnan(scores).any():
        raise DataError(f"{int(np.isnan(scores).any(1).sum())} of {len(scores)} queries have scores that are not numbers")
    if not correct.any(1).all():
        raise DataError(f"query {int(correct.any(1).argmin())} has no correct video in the gallery")
    best = np.where(correct, scores, -np.inf).max(1, keepdims=True)
    return 1 + ((scores >= best) & ~correct).sum(1)


def retrieval(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"]) -> Retrieval:
    """All the figures of a score matrix.

    Raises:
        DataError: no query, a query without a correct video, or a score that is not a number.
    """
    if not len(scores):
        raise DataError("there is no query to evaluate; the split has no captions")
    rank = ranks(scores, correct)
    r1, r5, r10, r100 = (recall_at(k, rank) for k in RECALLS)
    return Retrieval(
        r1=r1,
        r5=r5,
        r10=r10,
        r100=r100,
        sumr=r1 + r5 + r10 + r100,
        medr=float(np.median(rank)),
        meanr=float(rank.mean()),
        mrr=float((1 / rank).mean()),
        queries=scores.shape[0],
        videos=scores.shape[1],
    )


def recall_at(k: int, rank: Int[np.ndarray, "Q"]) -> float:
    """Share of queries, in percent, with rank <= k."""
    return float((rank <= k).mean() * 100)


def overlap(found: tuple[float, float], true: tuple[float, float]) -> float:
    """Temporal intersection over union of two spans in seconds, from 0 to 1."""
    shared = max(0.0, min(found[1], true[1]) - max(found[0], true[0]))
    union = (found[1] - found[0]) + (true[1] - true[0]) - shared
    return shared / union if union > 0 else 0.0
