"""k-medoids: of many points those that the others are nearest to, by Euclidean distance."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROUNDS = 60
STANDING_STILL = 1e-5


@torch.no_grad()
def medoids(points: Float[Tensor, "V K D"], count: int) -> Int[Tensor, "V M"]:
    """The places of `count` medoids among the points of each video, in order.

    The first is the point farthest from the origin, each further one the point farthest from all before it. Then, in up to 60
    rounds, each point joins its nearest medoid, and the member with the least sum of distances to its group becomes the medoid.
    Of equals the first is taken.
    """
    distance = torch.cdist(points, points)
    # A product of matrices is not symmetric to the last bit, and both members of a group of two are to cost the same.
    distance = (distance + distance.mT) / 2
    # A point is nearest to itself, even where another equals it; so no group is empty.
    distance = distance.masked_fill(torch.eye(points.shape[1], dtype=torch.bool, device=points.device), -1.0)
    chosen = _farthest_points(points, distance, count)
    for _ in range(ROUNDS):
        before, member = chosen, torch.zeros_like(distance[..., :count])
        member.scatter_(2, _columns(distance, chosen).argmin(2, keepdim=True), 1)
        chosen = (distance @ member).masked_fill(member == 0, float("inf")).argmin(1)
        moved = _rows(points, chosen) - _rows(points, before)
        if float(moved.square().sum((1, 2)).sqrt().mean()) < STANDING_STILL:
            break
    return chosen.sort(1).values


def number_codes(numbers: Int[Tensor, "K"], columns: int, *, like: Tensor) -> Float[Tensor, "K C"]:
    """Sinusoids of numbers: sin(n 10000^(-2i / C)) and cos of the same, in turn, for an even number of columns C."""
    steps = torch.arange(0, columns, 2, dtype=like.dtype, device=like.device) / columns
    turns = numbers[:, None] * torch.exp(-math.log(10_000) * steps)
    return torch.stack([turns.sin(), turns.cos()], -1).flatten(1)


def _farthest_points(points: Float[Tensor, "V K D"], distance: Float[Tensor, "V K K"], count: int) -> Int[Tensor, "V M"]:
    chosen = points.norm(dim=-1).argmax(1, keepdim=True)
    for _ in range(count - 1):
        chosen = torch.cat([chosen, _columns(distance, chosen).amin(2).argmax(1, keepdim=True)], 1)
    return chosen


def _columns(distance: Float[Tensor, "V K K"], chosen: Int[Tensor, "V M"]) -> Float[Tensor, "V K M"]:
    return distance.gather(2, chosen[:, None].expand(-1, distance.shape[1], -1))


def _rows(points: Float[Tensor, "V K D"], chosen: Int[Tensor, "V M"]) -> Float[Tensor, "V M D"]:
    return points.gather(1, chosen[..., None].expand(-1, -1, points.shape[-1]))
