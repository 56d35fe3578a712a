"""k-medoids beside a slow loop, and the sinusoids that stand for lengths."""

from __future__ import annotations

import math

import pytest
import torch
from method_checks import noise

from prvr.nn.medoids import medoids, number_codes


def slow_medoids(points: list[list[float]], count: int) -> list[int]:
    """Places of the medoids, by the description: farthest points first, then rounds until nothing changes."""
    every = range(len(points))
    distance = [[-1.0 if i == j else math.dist(points[i], points[j]) for j in every] for i in every]
    chosen = [max(every, key=lambda i: math.hypot(*points[i]))]
    while len(chosen) < count:
        chosen.append(max(every, key=lambda i: min(distance[i][c] for c in chosen)))
    for _ in range(60):
        groups: list[list[int]] = [[] for _ in chosen]
        for i in every:
            groups[min(range(count), key=lambda g: distance[i][chosen[g]])].append(i)
        moved = [min(group, key=lambda i: sum(distance[i][j] for j in group)) for group in groups]
        if moved == chosen:
            break
        chosen = moved
    return sorted(chosen)


@pytest.mark.parametrize(("points", "count"), [(1, 1), (5, 5), (9, 2), (30, 7), (40, 6)])
def test_medoids_beside_a_slow_loop(points: int, count: int) -> None:
    given = noise(3, points, 4, seed=points).double()
    got = medoids(given, count)
    for video in range(3):
        assert got[video].tolist() == slow_medoids(given[video].tolist(), count)


def test_medoids_are_in_the_middle_of_their_groups() -> None:
    angles = torch.tensor([[0.0, 0.1, 0.2, 3.0, 3.1, 3.2, 1.5]])
    assert medoids(torch.stack([angles.cos(), angles.sin()], -1), 3)[0].tolist() == [1, 4, 6]


def test_equal_points_are_each_their_own() -> None:
    given = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 0.5]]])
    assert medoids(given, 2)[0].tolist() == [0, 2]
    assert medoids(given, 3).shape == (1, 3)


def test_codes_of_numbers_by_hand() -> None:
    codes = number_codes(torch.tensor([0, 1]), 4, like=torch.empty(0, dtype=torch.float64))
    assert codes[0].tolist() == [0, 1, 0, 1]
    assert codes[1].tolist() == pytest.approx([math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)])
