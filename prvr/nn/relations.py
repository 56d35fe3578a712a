"""Relations between the queries of a batch: how far apart they are, and at which angles (MSC-PRVR).

A student takes over the relations between a teacher's sentence vectors. No video of the teacher is needed, and the two spaces may
have different widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from prvr.nn import losses
from prvr.nn.scores import TIED

LEAST_DISTANCE = 1e-6
# Numbers of each step of `angle_loss`: on the CPU few enough to stay in its cache.
NUMBERS_AT_ONCE = {"cpu": 1 << 19, "elsewhere": 1 << 24}


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

    The gradient is computed with the value, some apexes at a time (`NUMBERS_AT_ONCE`), so that none of the Q^3 triples stays in
    memory: 640 queries have 262 million. No gradient reaches the teacher. Two vectors that differ by rounding alone
    (`scores.TIED` of the largest) have no direction, and all its cosines are 0: the released code divides by their difference.
    """
    loss: Tensor = _AnglesApart.apply(student, teacher.detach())
    return loss


def relative_distances(vectors: Float[Tensor, "Q D"]) -> Float[Tensor, "Q Q"]:
    """Euclidean distances over the mean distance of two; at least 1e-6 before the division, and 0 of a vector to itself."""
    count = len(vectors)
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist").clamp(min=LEAST_DISTANCE)
    distances = distances.masked_fill(torch.eye(count, dtype=torch.bool, device=vectors.device), 0)
    return distances * (count * (count - 1)) / distances.sum() if count > 1 else distances


def directions(vectors: Float[Tensor, "Q D"], apexes: Int[Tensor, "A"]) -> tuple[Float[Tensor, "A Q D"], Float[Tensor, "A Q 1"]]:
    """The unit vectors from each apex to all vectors, and their distances; 0 and infinite where two are the same."""
    found = vectors - vectors[apexes][:, None]
    lengths = found.norm(dim=-1, keepdim=True)
    lengths = lengths.masked_fill(lengths <= TIED * vectors.norm(dim=-1).max(), float("inf"))
    return found / lengths, lengths


class _AnglesApart(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        queries, widest = len(student), max(len(student), student.shape[1], teacher.shape[1])
        at_once = NUMBERS_AT_ONCE["cpu" if student.device.type == "cpu" else "elsewhere"] // (queries * widest)
        gradient, total = torch.zeros_like(student), student.new_zeros(())
        for apexes in torch.arange(queries, device=student.device).split(max(at_once, 1)):
            ours, lengths = directions(student, apexes)
            theirs, _ = directions(teacher, apexes)
            apart = ours @ ours.mT - theirs @ theirs.mT
            total += losses.huber(apart).sum()
            # Each direction stands on both sides of the product, and only what is across it turns it.
            turned = 2 * apart.clamp(-1, 1) @ ours
            turned = (turned - ours * (ours * turned).sum(-1, keepdim=True)) / lengths
            gradient += turned.sum(0)
            gradient.index_add_(0, apexes, turned.sum(1), alpha=-1)
        ctx.save_for_backward(gradient / queries**3)
        return total / queries**3

    @staticmethod
    def backward(ctx: Any, of_loss: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return of_loss * gradient, None
