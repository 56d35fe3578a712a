"""Relations between the queries of a batch: how far apart they are, and at which angles (MSC-PRVR).

A student takes over the relations between a teacher's sentence vectors. No video of the teacher is needed, and the two spaces may
have different widths.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from prvr.nn import losses
from prvr.nn.scores import TIED

LEAST_DISTANCE = 1e-6
# Numbers that are in memory at once for each step of `angle_loss`: 32 MiB of float32.
NUMBERS_AT_ONCE = 1 << 23


def relation_loss(
    student: Float[Tensor, "Q D"], teachers: Sequence[Tensor], *, distance_weight: float, angle_weight: float
) -> Float[Tensor, ""]:
    """Weighted sum of `distance_loss` and `angle_loss`, the mean over teachers; each teacher is a tensor (Q, T)."""
    terms = [
        distance_weight * distance_loss(student, teacher) + angle_weight * angle_loss(student, teacher) for teacher in teachers
    ]
    return torch.stack(terms).mean()


def distance_loss(student: Float[Tensor, "Q D"], teacher: Float[Tensor, "Q T"]) -> Float[Tensor, ""]:
    """mean_ij huber(|s_i - s_j| / mu_s - |t_i - t_j| / mu_t) over all pairs, i = j too; mu is the mean of i != j.

    No gradient reaches the teacher. A single query has a loss of 0.
    """
    return losses.huber(relative_distances(student) - relative_distances(teacher.detach())).mean()


def angle_loss(student: Float[Tensor, "Q D"], teacher: Float[Tensor, "Q T"]) -> Float[Tensor, ""]:
    """mean_ijk huber(<e_ij, e_ik>_s - <e_ij, e_ik>_t) over all triples with apex i, e_ij = (x_j - x_i) / |x_j - x_i|.

    As many apexes as `NUMBERS_AT_ONCE` allows are computed together, and again in the backward pass: 640 queries have 262 million
    triples. No gradient reaches the teacher.
    """
    queries, widest = len(student), max(len(student), student.shape[1], teacher.shape[1])
    apexes = torch.arange(queries, device=student.device).split(max(NUMBERS_AT_ONCE // (queries * widest), 1))
    parts = [
        checkpoint(_angles_apart, student, teacher.detach(), some, use_reentrant=False, preserve_rng_state=False)
        for some in apexes
    ]
    return torch.stack(parts).sum() / queries**3


def relative_distances(vectors: Float[Tensor, "Q D"]) -> Float[Tensor, "Q Q"]:
    """Euclidean distances over the mean distance of two; at least 1e-6 before the division, and 0 of a vector to itself."""
    count = len(vectors)
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist").clamp(min=LEAST_DISTANCE)
    distances = distances.masked_fill(torch.eye(count, dtype=torch.bool, device=vectors.device), 0)
    return distances * (count * (count - 1)) / distances.sum() if count > 1 else distances


def angles(vectors: Float[Tensor, "Q D"], apexes: Int[Tensor, "A"]) -> Float[Tensor, "A Q Q"]:
    """The cosine of the angle between any two vectors as each apex sees them.

    Two vectors that differ by rounding alone (`scores.TIED` of the largest) have no direction, and all its cosines are 0. The
    released code divides by such a difference, and its gradient would drown all others.
    """
    directions = vectors - vectors[apexes][:, None]
    lengths = directions.norm(dim=-1, keepdim=True)
    same = lengths <= TIED * vectors.detach().norm(dim=-1).max()
    directions = (directions / lengths.masked_fill(same, 1)).masked_fill(same, 0)
    return directions @ directions.mT


def _angles_apart(student: Tensor, teacher: Tensor, apexes: Tensor) -> Tensor:
    return losses.huber(angles(student, apexes) - angles(teacher, apexes)).sum()
