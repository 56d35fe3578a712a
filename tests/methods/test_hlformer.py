"""HLFormer: the hyperboloid by hand and by identities, its attention beside a slow loop, and that it learns."""

from __future__ import annotations

import math
from pathlib import Path

import oracles
import pytest
import torch
from method_checks import build, check_invariants, check_learns, noise, toy_batch
from torch import Tensor

from prvr.methods.contract import embed
from prvr.methods.gmmformer_v2 import student_terms
from prvr.methods.hlformer import HlFormer, HlFormerConfig, LorentzAttention, PartialOrder, objective
from prvr.nn import hyperboloid
from prvr.nn.layers import Rows
from prvr.nn.losses import info_nce

SMALL = HlFormerConfig(hidden=8, heads=2, max_frames=20, max_words=6, clips=4)
every_curvature = pytest.mark.parametrize("c", [0.1, 1.0, 10.0])


@pytest.fixture
def model() -> HlFormer:
    return build("hlformer", SMALL)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return noise(*shape, seed=seed).double()


# The hyperboloid


@every_curvature
def test_points_lie_on_the_hyperboloid(c: float) -> None:
    x = drawn(5, 3)
    torch.testing.assert_close(hyperboloid.inner(x, x, c), torch.full((5,), -1 / c).double())
    every = hyperboloid.inners(x, x, c)
    for i in range(5):
        for j in range(5):
            wanted = oracles.dot(x[i].tolist(), x[j].tolist())
            wanted -= math.sqrt(1 / c + oracles.dot(x[i].tolist(), x[i].tolist())) * float(hyperboloid.time(x[j], c))
            assert every[i, j].item() == pytest.approx(wanted)


@every_curvature
def test_a_vector_leads_as_far_as_it_is_long(c: float) -> None:
    v, origin = drawn(4, 3), torch.zeros(4, 3).double()
    point = hyperboloid.exponential(v, torch.tensor(c).double())
    away = (-c * hyperboloid.inner(origin, point, c)).acosh() / math.sqrt(c)
    torch.testing.assert_close(away, v.norm(dim=-1))
    torch.testing.assert_close(torch.cosine_similarity(point, v), torch.ones(4).double())


@every_curvature
def test_a_centroid_lies_among_its_points(c: float) -> None:
    points = drawn(3, 4, 2)
    alone = hyperboloid.centroid(torch.eye(4).double().expand(3, -1, -1), points, c)
    torch.testing.assert_close(alone, points)
    middle = hyperboloid.centroid(torch.full((3, 1, 4), 0.25).double(), points, c)[:, 0]
    wanted = points.sum(1)
    length = (hyperboloid.time(points, c).sum(1).square() - wanted.square().sum(1, keepdim=True)).sqrt()
    torch.testing.assert_close(middle, wanted / length / math.sqrt(c))
    # The middle of two points that mirror one another is the origin.
    mirrored = torch.stack([points[:, 0], -points[:, 0]], 1)
    assert hyperboloid.centroid(torch.full((3, 1, 2), 0.5).double(), mirrored, c).abs().max() < 1e-12


@every_curvature
def test_cones_open_away_from_the_origin(c: float) -> None:
    curvature = torch.tensor(c).double()
    apex = hyperboloid.exponential(torch.tensor([[0.5, 0.0]] * 4).double() / math.sqrt(c), curvature)
    ahead, behind, origin, aside = ([2.0, 0.0], [-2.0, 0.0], [1e-4, 0.0], [0.6, 2.0])
    points = hyperboloid.exponential(torch.tensor([ahead, behind, origin, aside]).double() / math.sqrt(c), curvature)
    outside = hyperboloid.outside_cone(apex, points, curvature).tolist()
    aperture = math.asin(2 * 0.1 / math.sinh(0.5))
    assert outside[0] == 0
    assert outside[1] == pytest.approx(math.pi - aperture, abs=2e-3)
    assert outside[2] == pytest.approx(math.pi - aperture, abs=2e-3)
    assert outside[3] == pytest.approx(exterior([0.5, 0.0], aside) - aperture, abs=1e-4)


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
    hyperboloid.outside_cone(hyperboloid.exponential(points, c), hyperboloid.exponential(points, c), c).sum().backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()


# The model


def test_lorentz_attention_beside_a_slow_loop() -> None:
    torch.manual_seed(0)
    layer = LorentzAttention(8, 2, 0.0)
    rows, hidden = Rows.of(torch.arange(5) < torch.tensor([5, 2])[:, None]), drawn(7, 8).float()
    got = layer(hidden, rows)
    for start, end in ((0, 5), (5, 7)):
        for place in range(start, end):
            mixed = torch.cat([slow_head(layer, hidden[start:end], place - start, slice(h, h + 4)) for h in (0, 4)])
            wanted = layer.norm(layer.output(mixed) + hidden[place])
            torch.testing.assert_close(got[place], wanted, atol=1e-4, rtol=1e-4)


def slow_head(layer: LorentzAttention, video: Tensor, place: int, part: slice) -> Tensor:
    """What one place of a video hears from all others."""
    query, key, value = (each(video)[:, part].tolist() for each in (layer.query, layer.key, layer.value))

    def ahead(x: list[float]) -> float:
        return math.sqrt(1 + oracles.dot(x, x))

    squares = [-2 - 2 * (oracles.dot(query[place], k) - ahead(query[place]) * ahead(k)) for k in key]
    share = oracles.softmax([-square / 2 for square in squares])
    space = [sum(a * v[i] for a, v in zip(share, value, strict=True)) for i in range(4)]
    time = sum(a * ahead(v) for a, v in zip(share, value, strict=True))
    return torch.tensor(space) / math.sqrt(time**2 - oracles.dot(space, space))


def test_padding_and_order_change_nothing(model: HlFormer) -> None:
    assert model.score_weights == (0.7, 0.3)
    check_invariants(model)


def test_the_objective_adds_the_order_of_text_and_video(model: HlFormer) -> None:
    queries, videos, batch = embed(model, toy_batch(model))
    torch.manual_seed(0)
    terms = objective(model, queries, videos, batch, 0)
    torch.manual_seed(0)
    shared = student_terms(SMALL, queries, videos, batch, 0, contrast=info_nce)
    assert set(terms) == {*shared, "order"}
    for name, term in shared.items():
        torch.testing.assert_close(terms[name], term)
    assert terms["order"].item() > 0
    sum(terms.values()).backward()
    assert all(parameter.grad is not None for parameter in model.order.parameters())


@torch.no_grad()
def test_the_order_of_videos_and_padding_are_nothing_to_it() -> None:
    torch.manual_seed(0)
    order = PartialOrder(8)
    queries, clips, frames = (drawn(*shape).float() for shape in ((3, 8), (2, 4, 8), (2, 6, 8)))
    mask, target = torch.arange(6) < torch.tensor([6, 2])[:, None], torch.tensor([0, 0, 1])
    before = order(queries, clips, frames, mask, target)
    frames[1, 2:] = 9
    torch.testing.assert_close(order(queries, clips, frames, mask, target), before)
    torch.testing.assert_close(order(queries, clips.flip(0), frames.flip(0), mask.flip(0), 1 - target), before)


@torch.no_grad()
def test_curvature_and_scales_stay_within_their_bounds() -> None:
    torch.manual_seed(0)
    order = PartialOrder(8)
    given = (*(drawn(*shape).float() for shape in ((2, 8), (2, 4, 8), (2, 6, 8))), torch.ones(2, 6, dtype=torch.bool))
    for name, bound in (("log_curvature", math.log(10)), ("log_video_scale", 0.0), ("log_query_scale", 0.0)):
        getattr(order, name).fill_(bound)
        at_bound = order(*given, torch.tensor([0, 1]))
        getattr(order, name).fill_(bound + 3)
        torch.testing.assert_close(order(*given, torch.tensor([0, 1])), at_bound)


@pytest.mark.slow
def test_learns_the_toy_world(tmp_path: Path) -> None:
    student = HlFormerConfig(hidden=32, max_frames=32, clips=8, dropout=0.0, input_dropout=0.0, hard_from_epoch=100)
    check_learns("hlformer", student, tmp_path, lr=3e-3, epochs=12)
