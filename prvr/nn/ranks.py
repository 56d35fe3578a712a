"""Scores of stored rows, and the order of scores, by NumPy alone: a search of an index needs no torch.

Ties. Two orders of summation give the same number with other last digits: one query or many at once, one thread or two,
one processor or another. No choice may depend on these digits. So two scores tie where they differ by at most `tolerance`,
64 steps of float32, and something else decides between them: the earlier part of a video, the shorter stretch, the
smaller id (`best_places`); a threshold is reached by a score that ties with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

LEAST_NORM = 1e-12
# 64 steps of float32, relative to the largest score; attention over ill-conditioned inputs was seen to lose 45.
TIED = 64 * 2.0**-23


def score_parts(
    rows: Sequence[Float[np.ndarray, "_ _"]], query: Sequence[Float[np.ndarray, "_"]], weights: Sequence[float]
) -> list[float]:
    """The terms of `fused` for one video and one query: of each field its weight times the best row's cosine.

    NumPy, because a stored video is scored alone: torch takes several times as long for so few rows.

    Args:
        query: a vector of unit length for each field (`unit_queries`).
    """
    return [
        # By einsum, in a third of the time of `np.linalg.norm`.
        weight * float(((field @ vector) / np.maximum(np.sqrt(np.einsum("rd,rd->r", field, field)), LEAST_NORM)).max())
        for field, vector, weight in zip(rows, query, weights, strict=True)
    ]


def as_arrays(queries: Sequence[Any]) -> list[np.ndarray]:
    """The fields of query embeddings, tensors or arrays, as arrays."""
    return [field if isinstance(field, np.ndarray) else field.detach().float().cpu().numpy() for field in queries]


def unit_queries(queries: Sequence[Any]) -> list[list[Float[np.ndarray, "_"]]]:
    """Each query as a list of vectors of unit length, one for each field."""
    return [list(vectors) for vectors in zip(*map(unit, as_arrays(queries)), strict=True)]


def unit(rows: Float[np.ndarray, "*N D"]) -> Float[np.ndarray, "*N D"]:
    """Rows of unit length; zero stays zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), LEAST_NORM)


def tolerance(scores: Float[np.ndarray, "..."]) -> float:
    """How far two of these scores may be apart and still tie: `TIED` times the largest magnitude."""
    return TIED * float(np.abs(scores).max(initial=0.0))


def first_best(scores: Float[np.ndarray, "N"], *, apart: float) -> int:
    """The first place with a score that ties with the best one: it is at most `apart` below it."""
    return int((scores >= scores.max() - apart).argmax())


def best_places(scores: Float[np.ndarray, "N"], k: int) -> list[int]:
    """Places of the k best scores, best first. Of scores that tie with the best one left, the first place comes first."""
    apart = tolerance(scores)
    least = np.partition(scores, -k)[-k] - apart if 0 < k < len(scores) else -np.inf
    candidates = np.flatnonzero(scores >= least)
    order = candidates[np.argsort(-scores[candidates], kind="stable")]
    ranked: list[int] = []
    while len(ranked) < min(k, len(order)):
        left = order[len(ranked) :]
        ranked += sorted(left[scores[left] >= scores[left[0]] - apart].tolist())
    return ranked[:k]
