"""The hyperboloid by hand and by identities."""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from method_checks import noise
from torch import Tensor

from prvr.nn import hyperboloid

every_curvature = pytest.mark.parametrize("c", [0.1, 1.0, 10.0])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return noise(*shape, seed=seed).double()


def test_points_lie_on_the_hyperboloid_as_far_as_their_vectors_are_long() -> None:
    vectors = drawn(5, 3)
    points = hyperboloid.lift(vectors)
    products = hyperboloid.inners(points, points)
    torch.testing.assert_close(products.diagonal(), torch.full((5,), -1.0).double())
    for i, x in enumerate(points.tolist()):
        for j, y in enumerate(points.tolist()):
            assert products[i, j].item() == pytest.approx(oracles.dot(x[1:], y[1:]) - x[0] * y[0])
    torch.testing.assert_close(points[:, 0].acosh(), vectors.norm(dim=-1))
    torch.testing.assert_close(torch.cosine_similarity(points[:, 1:], vectors), torch.ones(5).double())


def test_the_logarithm_takes_a_point_back_to_its_vector() -> None:
    vectors = drawn(5, 3)
    torch.testing.assert_close(hyperboloid.logarithm(hyperboloid.lift(vectors)), vectors)
    # A vector is shortened before it becomes a point that no float could hold.
    torch.testing.assert_close(hyperboloid.logarithm(hyperboloid.lift(torch.tensor([[30.0, 0.0]]).double()))[0, 0].item(), 10.0)


def test_a_centroid_lies_among_its_points() -> None:
    points = hyperboloid.lift(drawn(3, 4, 2))
    torch.testing.assert_close(hyperboloid.centroid(torch.eye(4).double().expand(3, -1, -1), points), points)
    middle = hyperboloid.centroid(torch.full((3, 1, 4), 0.25).double(), points)
    torch.testing.assert_close(hyperboloid.inners(middle, middle)[:, 0, 0], torch.full((3,), -1.0).double())
    torch.testing.assert_close(middle[:, 0, 1:] / middle[:, 0, :1], points[..., 1:].sum(1) / points[..., 0].sum(1, keepdim=True))
    # The middle of two points that mirror one another is the origin.
    mirrored = hyperboloid.lift(torch.stack([drawn(3, 2), -drawn(3, 2)], 1))
    assert hyperboloid.centroid(torch.full((3, 1, 2), 0.5).double(), mirrored)[..., 1:].abs().max() < 1e-12


@every_curvature
def test_a_vector_leads_as_far_as_it_is_long(c: float) -> None:
    v = drawn(4, 3)
    point = hyperboloid.exponential(v, torch.tensor(c).double())
    away = (1 + c * point.square().sum(-1)).sqrt().acosh() / math.sqrt(c)
    torch.testing.assert_close(away, v.norm(dim=-1))
    torch.testing.assert_close(torch.cosine_similarity(point, v), torch.ones(4).double())


@every_curvature
def test_cones_open_away_from_the_origin(c: float) -> None:
    curvature = torch.tensor(c).double()
    apex = hyperboloid.exponential(torch.tensor([[0.5, 0.0]] * 4).double() / math.sqrt(c), curvature)
    ahead, behind, origin, aside = ([2.0, 0.0], [-2.0, 0.0], [1e-4, 0.0], [0.6, 2.0])
    points = hyperboloid.exponential(torch.tensor([ahead, behind, origin, aside]).double() / math.sqrt(c), curvature)
    angle, aperture = hyperboloid.cone(apex, points, curvature)
    assert aperture.tolist() == pytest.approx([math.asin(2 * 0.1 / math.sinh(0.5))] * 4, abs=1e-6)
    assert angle[:3].tolist() == pytest.approx([0, math.pi, math.pi], abs=1e-3)
    assert angle[3].item() == pytest.approx(exterior([0.5, 0.0], aside), abs=1e-4)


def exterior(a: list[float], b: list[float]) -> float:
    """The exterior angle at a of the triangle of origin, a and b, by the hyperbolic law of cosines, for curvature -1."""
    to_a, to_b = math.hypot(*a), math.hypot(*b)
    between = math.acos(oracles.dot(a, b) / to_a / to_b)
    across = math.acosh(math.cosh(to_a) * math.cosh(to_b) - math.sinh(to_a) * math.sinh(to_b) * math.cos(between))
    at_a = (math.cosh(to_a) * math.cosh(across) - math.cosh(to_b)) / (math.sinh(to_a) * math.sinh(across))
    return math.pi - math.acos(at_a)


def test_gradients_are_finite_where_points_coincide() -> None:
    points = torch.zeros(3, 4).index_fill_(0, torch.tensor([1]), 1.0).requires_grad_()
    c = torch.tensor(1.0, requires_grad=True)
    angle, aperture = hyperboloid.cone(hyperboloid.exponential(points, c), hyperboloid.exponential(points, c), c)
    (angle - aperture).relu().sum().backward()
    lifted = hyperboloid.lift(points)
    hyperboloid.logarithm(lifted).sum().backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()
