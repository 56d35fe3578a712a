"""Relations between queries, against loops written from the definitions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from prvr.nn import relations
from prvr.nn.relations import angle_loss, distance_loss, relation_loss


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def huber(x: float) -> float:
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def distances(vectors: Tensor) -> list[list[float]]:
    rows = vectors.tolist()
    found = [[math.dist(a, b) for b in rows] for a in rows]
    known = [d for i, row in enumerate(found) for j, d in enumerate(row) if i != j]
    mean = sum(known) / len(known)
    return [[d / mean for d in row] for row in found]


def angle(vectors: Tensor, i: int, j: int, k: int) -> float:
    if i in (j, k):
        return 0.0
    a, b = vectors[j] - vectors[i], vectors[k] - vectors[i]
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize("queries", [2, 3, 7])
def test_both_losses_against_loops(queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(relations.NUMBERS_AT_ONCE, "cpu", 100)
    student, teacher = noise(queries, 5) + 3, noise(queries, 9, seed=1)
    ours, theirs = distances(student), distances(teacher)
    expected = sum(huber(ours[i][j] - theirs[i][j]) for i in range(queries) for j in range(queries)) / queries**2
    assert distance_loss(student, teacher).item() == pytest.approx(expected, abs=1e-12)
    triples = itertools.product(range(queries), repeat=3)
    expected = sum(huber(angle(student, *of) - angle(teacher, *of)) for of in triples) / queries**3
    assert angle_loss(student, teacher).item() == pytest.approx(expected, abs=1e-12)


def test_by_hand() -> None:
    # A right angle at the first query against a straight line: distances 1, 1, sqrt 2 and 1, 1, 2.
    student, teacher = torch.tensor([[0.0, 0.0], [1, 0], [0, 1]]).double(), torch.tensor([[0.0], [1], [-1]]).double()
    mean = (2 + math.sqrt(2)) / 3
    apart = 2 * (1 / mean - 3 / 4) ** 2 + (math.sqrt(2) / mean - 3 / 2) ** 2
    assert distance_loss(student, teacher).item() == pytest.approx(2 * apart / 2 / 9)
    # Cosines at the first: 0 and -1; at each of the others 1 / sqrt 2 and 1. Each stands twice among 27.
    assert angle_loss(student, teacher).item() == pytest.approx(2 * (0.5 + 2 * huber(1 / math.sqrt(2) - 1)) / 27)


def test_what_changes_nothing() -> None:
    student = noise(6, 4)
    turn = torch.linalg.qr(noise(4, 4, seed=2)).Q
    moved = 5 * student @ turn + 7
    assert relation_loss(moved, [student], distance_weight=15.0, angle_weight=30.0).item() == pytest.approx(0, abs=1e-12)


def test_the_gradient_is_that_of_the_value() -> None:
    student, teacher = noise(4, 3).requires_grad_(), noise(4, 5, seed=1).requires_grad_()
    frozen = teacher.detach()
    for loss in (distance_loss, angle_loss):
        assert torch.autograd.gradcheck(lambda x, one=loss: one(x, frozen), student)
    relation_loss(student, [teacher], distance_weight=1.0, angle_weight=1.0).backward()
    assert teacher.grad is None


def test_the_same_numbers_whatever_is_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for at_once in (1, 1 << 23):
        monkeypatch.setitem(relations.NUMBERS_AT_ONCE, "cpu", at_once)
        student = noise(9, 4).requires_grad_()
        loss = angle_loss(student, noise(9, 6, seed=3))
        loss.backward()
        found.append((loss.detach(), student.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("apart", [0.0, 1e-6])
def test_equal_queries_have_finite_gradients(apart: float) -> None:
    student = noise(5, 4).float()
    student[1] = student[0] + apart
    student.requires_grad_()
    relation_loss(student, [noise(5, 6, seed=1).float()], distance_weight=1.0, angle_weight=1.0).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 10


def test_one_query_and_equal_queries_lose_nothing() -> None:
    assert relation_loss(noise(1, 4), [noise(1, 6)], distance_weight=1.0, angle_weight=1.0).item() == 0
    same = noise(1, 4).expand(3, 4)
    assert relation_loss(same, [noise(1, 6).expand(3, 6)], distance_weight=1.0, angle_weight=1.0).item() == 0


def test_several_teachers_are_a_mean() -> None:
    student, teachers = noise(5, 4), [noise(5, 6, seed=1), noise(5, 3, seed=2)]
    alone = [relation_loss(student, [teacher], distance_weight=2.0, angle_weight=3.0) for teacher in teachers]
    both = relation_loss(student, teachers, distance_weight=2.0, angle_weight=3.0)
    assert both.item() == pytest.approx(sum(one.item() for one in alone) / 2)
