"""HLFormer: Lorentz attention beside a slow loop, the partial order, what padding changes, and that it learns.

Its numbers beside the published code's: test_peers_gmmformer_family.py; the hyperboloid: tests/nn/test_hyperboloid.py.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import oracles
import pytest
import torch
from method_checks import build, check_invariants, check_learning, check_learns, noise, toy_batch
from torch import Tensor

from prvr.errors import SettingError
from prvr.methods.contract import embed
from prvr.methods.hlformer import HlFormer, HlFormerConfig, LorentzAttention, PartialOrder, objective
from prvr.nn.layers import Rows
from prvr.nn.losses import info_nce
from prvr.nn.views import view_terms

SMALL = HlFormerConfig(hidden=8, heads=2, max_frames=20, max_words=6, clips=4, lorentz_columns=5, dropout=0.0, input_dropout=0.0)


def model(**changes: object) -> HlFormer:
    return build("hlformer", replace(SMALL, **changes))


@pytest.mark.parametrize("width", [0.0, 2.0])
def test_lorentz_attention_beside_a_slow_loop(width: float) -> None:
    torch.manual_seed(0)
    layer = LorentzAttention(SMALL, width=width, places=6).double()
    rows, hidden = Rows.of(torch.arange(5) < torch.tensor([5, 2])[:, None]), noise(7, 8).double()
    got = layer(hidden, rows)
    for start, end in ((0, 5), (5, 7)):
        video = [lifted(row.tolist()) for row in layer.inward(hidden[start:end]) * layer.log_scale.exp()]
        for place in range(end - start):
            heads = [slow_head(layer, video, place, head, width) for head in range(2)]
            # The heads side by side are one point, whose time is the first head's.
            time, space = heads[0][0], [*heads[0][1:], *heads[1]]
            scale = math.acosh(time) / math.sqrt(time**2 - 1) / math.exp(layer.log_scale.item())
            wanted = layer.outward(torch.tensor([[scale * x for x in space]], dtype=torch.float64))[0]
            torch.testing.assert_close(got[start + place], wanted, atol=1e-8, rtol=1e-8)


def lifted(vector: list[float]) -> list[float]:
    """The point of the unit hyperboloid as far from the origin as the vector is long."""
    length = math.sqrt(max(oracles.dot(vector, vector), 1e-9))
    space = [math.sinh(length) * x / length for x in vector]
    return [math.sqrt(1 + oracles.dot(space, space)), *space]


def slow_head(layer: LorentzAttention, video: list[list[float]], place: int, head: int, width: float) -> list[float]:
    """The mean point that one head of one place attends to."""

    def points(linear: torch.nn.Module) -> list[list[float]]:
        made = []
        for point in video:
            columns = linear.linear(torch.tensor(point, dtype=torch.float64)).tolist()[head * 3 : head * 3 + 3]
            time = math.exp(linear.log_time.item()) / (1 + math.exp(-columns[0])) + 1.1
            stretch = math.sqrt((time**2 - 1) / oracles.dot(columns[1:], columns[1:]))
            made.append([time, *(stretch * x for x in columns[1:])])
        return made

    query, key, value = (points(each) for each in (layer.query, layer.key, layer.value))
    logits = []
    for j, k in enumerate(key):
        product = oracles.dot(query[place][1:], k[1:]) - query[place][0] * k[0]
        logit = (2 + 2 * product) / layer.temperature.item() + layer.bias.item()
        logits.append(logit * (window_at(place, j, width) if width else 1))
    share = oracles.softmax(logits)
    mean = [sum(a * v[i] for a, v in zip(share, value, strict=True)) for i in range(3)]
    length = math.sqrt(mean[0] ** 2 - oracles.dot(mean[1:], mean[1:]))
    return [x / length for x in mean]


def window_at(i: int, j: int, width: float) -> float:
    """Of six places."""
    powers = [-(((t / 5 - i / 6) * 9 / width) ** 2) / 2 for t in range(6)]
    return math.exp(powers[j] - max(powers))


@pytest.mark.parametrize("counts", [True, False])
def test_padding_and_order_change_nothing(counts: bool) -> None:
    made = model(padding_counts=counts)
    assert made.score_weights == (None if counts else (0.7, 0.3))
    check_invariants(made)


@torch.no_grad()
def test_rows_of_padding_weigh_the_views_where_they_count() -> None:
    both = [model(padding_counts=counts) for counts in (True, False)]
    frames = noise(1, 6, both[0].reading.frame_columns)
    mask = torch.ones(1, 6, dtype=torch.bool)
    counted, left_out = (each.encode_videos(frames, mask) for each in both)
    assert torch.equal(counted[0], left_out[0])  # clips have no padding
    assert not torch.allclose(counted[1], left_out[1])
    whole, mask = noise(1, 20, both[0].reading.frame_columns), torch.ones(1, 20, dtype=torch.bool)
    torch.testing.assert_close(*(each.encode_videos(whole, mask)[1] for each in both))


def test_the_objective_adds_the_order_of_text_and_video() -> None:
    made = model()
    queries, videos, batch = embed(made, toy_batch(made))
    torch.manual_seed(0)
    terms = objective(made, queries, videos, batch, 0)
    torch.manual_seed(0)
    shared = view_terms(made, queries, videos, batch, 0, contrast=info_nce)
    assert set(terms) == {*shared, "order"}
    for name, term in shared.items():
        torch.testing.assert_close(terms[name], term)
    assert terms["order"].item() > 0


def test_every_parameter_learns_under_dropout() -> None:
    made = model(dropout=0.3, input_dropout=0.3)
    check_learning("hlformer", made, toy_batch(made), toy_batch(made, most=1))


def order_and_inputs(padded_to: int) -> tuple[PartialOrder, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    queries, clips, frames = (noise(*shape) for shape in ((3, 8), (2, 4, 8), (2, 6, 8)))
    mask = torch.arange(6) < torch.tensor([6, 2])[:, None]
    return PartialOrder(8, padded_to=padded_to), (queries, clips, frames * mask[..., None], mask, torch.tensor([0, 0, 1]))


@torch.no_grad()
def test_the_order_of_videos_and_padding_are_nothing_to_the_partial_order() -> None:
    order, (queries, clips, frames, mask, target) = order_and_inputs(0)
    before = order(queries, clips, frames, mask, target)
    frames[1, 2:] = 9
    torch.testing.assert_close(order(queries, clips, frames, mask, target), before)
    torch.testing.assert_close(order(queries, clips.flip(0), frames.flip(0), mask.flip(0), 1 - target), before)


@torch.no_grad()
def test_zeros_are_pooled_where_padding_counts() -> None:
    order, (queries, clips, frames, mask, _) = order_and_inputs(10)
    longer = torch.cat([frames, torch.zeros(2, 4, 8)], 1)
    share = order.frames.weight(longer)[..., 0].softmax(1)  # no mask: a zero has the logit 0
    pooled = torch.einsum("vl,vld->vd", share, longer)
    plain, _ = order_and_inputs(0)
    wanted = plain.points(queries, clips, pooled[:, None], torch.ones(2, 1, dtype=torch.bool))[0]
    torch.testing.assert_close(order.points(queries, clips, frames, mask)[0], wanted)


@torch.no_grad()
def test_curvature_and_scales_are_cut_to_their_bounds() -> None:
    order, given = order_and_inputs(0)
    for name, bound in (("log_curvature", math.log(10)), ("log_video_scale", 0.0), ("log_query_scale", 0.0)):
        getattr(order, name).fill_(bound)
        at_bound = order(*given)
        getattr(order, name).fill_(bound + 3)
        torch.testing.assert_close(order(*given), at_bound)
        assert getattr(order, name).item() == pytest.approx(bound)


def test_points_that_no_number_of_heads_divides_are_refused() -> None:
    with pytest.raises(SettingError, match=r"lorentz_columns 126 and 1 more are not a multiple of heads; take 127"):
        HlFormerConfig(lorentz_columns=126)


@pytest.mark.slow
@pytest.mark.thorough
def test_learns_the_toy_world(tmp_path: Path) -> None:
    sizes = {"hidden": 32, "max_frames": 32, "clips": 8, "lorentz_columns": 31}
    student = HlFormerConfig(**sizes, dropout=0.0, input_dropout=0.0, hard_from_epoch=100)
    check_learns("hlformer", student, tmp_path, lr=3e-3, epochs=12)
