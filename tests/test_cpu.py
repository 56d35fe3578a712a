"""Products through oneDNN give torch's numbers, in whatever tiles, and are left alone where they gain nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from prvr import cpu as products
from prvr.cpu import Linear, as_torch_does, linear, transposed_product

there = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture
def gaining(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any machine counts as one that gains."""
    monkeypatch.setattr(products, "is_faster", lambda: True)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def gains(rows: Tensor, weight: Tensor) -> bool:
    return products.gains(rows, weight.numel(), weight)


def both(rows: Tensor, weight: Tensor, bias: Tensor | None) -> list[list[Tensor | None]]:
    """What comes out and its three gradients: ours, and torch's in float64."""
    found: list[list[Tensor | None]] = []
    for dtype, multiply in ((torch.float32, linear), (torch.float64, functional.linear)):
        given = [None if x is None else x.detach().to(dtype).requires_grad_() for x in (rows, weight, bias)]
        made = multiply(*given)
        made.backward(drawn(*made.shape).to(dtype))
        found.append([made.detach(), *(None if x is None else x.grad for x in given)])
    return found


@there
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    ("shape", "columns"),
    [
        ((64, 768), 400),
        ((321, 300), 257),
        ((7, 211, 96), 700),
        ((8192 + 64 + 3, 128), 520),
        ((256, 1), 70_000),
        ((1031, 3072), 24),
        ((1, 768), 384),
        ((15, 768), 384),
        ((0, 768), 384),
    ],
)
def test_numbers_and_gradients_are_those_of_float64(shape: tuple[int, ...], columns: int, biased: bool, gaining: None) -> None:
    rows, weight, bias = drawn(*shape), drawn(columns, shape[-1]), drawn(columns) if biased else None
    assert gains(rows, weight)
    ours, exact = both(rows, weight, bias)
    for one, other in zip(ours, exact, strict=True):
        if one is None or other is None:
            assert one is other is None
            continue
        assert one.dtype == torch.float32
        largest = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=5e-6 * largest)


@there
def test_gradients_arrive_from_views_and_go_where_they_are_asked_for(gaining: None) -> None:
    rows, weight = drawn(300, 256).T.contiguous().T.requires_grad_(), drawn(256, 300).T
    assert not rows.is_contiguous()
    assert not weight.is_contiguous()
    linear(rows, weight).sum().backward()
    torch.testing.assert_close(rows.grad, weight.sum(0).expand(300, -1), rtol=1e-5, atol=1e-4)
    weight = weight.requires_grad_()
    linear(rows.detach(), weight).sum().backward()
    torch.testing.assert_close(weight.grad, rows.detach().sum(0).expand(300, -1), rtol=1e-5, atol=1e-4)


@there
def test_a_row_has_the_same_bits_wherever_it_stands(gaining: None) -> None:
    rows, weight, bias = drawn(1000, 512), drawn(384, 512), drawn(384)
    whole = linear(rows, weight, bias)
    for start, stop in ((0, 999), (1, 1000), (333, 800), (997 - 256, 997), (10, 107), (500, 501), (990, 1000)):
        assert torch.equal(linear(rows[start:stop], weight, bias), whole[start:stop])
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(linear(rows[order], weight, bias), whole[order])


@there
def test_a_bias_may_be_a_view(gaining: None) -> None:
    rows, weight = drawn(300, 256), drawn(400, 256)
    for bias in (drawn(800)[::2], torch.tensor([1.5]).expand(400), drawn(500)[50:450]):
        torch.testing.assert_close(linear(rows, weight, bias), functional.linear(rows, weight, bias), rtol=1e-5, atol=1e-4)


@there
@pytest.mark.parametrize("columns", [171, 1000, 2048 + 7, 5000])
def test_columns_in_tiles_are_the_same_numbers(columns: int, gaining: None) -> None:
    rows, weight, bias = drawn(300, 384).requires_grad_(), drawn(columns, 384).requires_grad_(), drawn(columns)
    sides = [linear(rows, weight, bias), linear(rows, weight, bias, ragged=True)]
    torch.testing.assert_close(*sides, rtol=1e-5, atol=1e-4)
    found = [torch.autograd.grad(side.square().sum(), (rows, weight)) for side in sides]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-1)


@there
def test_a_barred_column_stays_barred(gaining: None) -> None:
    bias = torch.zeros(400).masked_fill(torch.arange(400) % 3 == 0, -float("inf"))
    made = linear(drawn(128, 384), drawn(400, 384), bias)
    assert torch.equal(made.isinf(), (bias < 0).expand(128, -1))
    assert not made.isnan().any()


@there
def test_a_sum_over_rows(gaining: None) -> None:
    for count, columns in ((64, 384), (700, 5001), (8192 + 640 + 13, 171), (3, 384), (0, 384)):
        left, right = drawn(count, columns), drawn(count, 700)
        expected = left.double().T @ right.double()
        torch.testing.assert_close(transposed_product(left, right).double(), expected, rtol=1e-4, atol=1e-3)


def test_what_gains_nothing_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, weight = drawn(512, 384), drawn(384, 384)
    expected = functional.linear(rows, weight)
    monkeypatch.setattr(products, "is_faster", lambda: False)
    assert torch.equal(linear(rows, weight), expected)
    monkeypatch.setattr(products, "is_faster", lambda: True)
    with as_torch_does():
        assert torch.equal(linear(rows, weight), expected)
    assert gains(rows[:1], weight)
    assert not gains(rows, weight[:128])
    assert not gains(rows[0], weight)
    assert not gains(rows.double(), weight.double())
    assert not gains(rows, weight.double())
    assert not gains(rows.to("meta"), weight.to("meta"))
    assert linear(rows.to("meta"), weight.to("meta")).is_meta
    assert torch.equal(linear(rows[0], weight), functional.linear(rows[0], weight))


def test_another_programs_model_keeps_its_weights() -> None:
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.Linear(384, 384), nn.ReLU(), nn.Sequential(nn.Linear(384, 384, bias=False)))
    before, names, rows = theirs(drawn(512, 384)), list(theirs.state_dict()), drawn(512, 384)
    Linear.throughout(theirs)
    assert [type(module) for module in theirs.modules() if isinstance(module, nn.Linear)] == [Linear, Linear]
    assert list(theirs.state_dict()) == names
    torch.testing.assert_close(theirs(rows), before, rtol=1e-5, atol=1e-5)
