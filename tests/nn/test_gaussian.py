"""Windows, the blocks that look through them, and their consolidation, by hand and beside slow loops."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from method_checks import noise
from torch import Tensor, nn

from prvr.errors import SettingError
from prvr.nn.gaussian import (
    AttentionBlock,
    Consolidation,
    FeedForward,
    GaussianAttention,
    GaussianBlock,
    WindowedHeads,
    attention_views,
    check_widths,
    window,
)
from prvr.nn.layers import Rows, SelfAttention


def rows_of(*lengths: int, longest: int) -> Rows:
    return Rows.of(torch.arange(longest) < torch.tensor(lengths)[:, None])


def slow_window(places: int, width: float) -> list[list[float]]:
    """The formula, number by number."""
    deviation = max(width, 0.01) / 9
    rows = []
    for i in range(places):
        powers = [-(((j / max(places - 1, 1) - i / places) / deviation) ** 2) / 2 for j in range(places)]
        rows.append([math.exp(power - max(powers)) for power in powers])
    return rows


def test_a_window_by_hand() -> None:
    # Five times 0, 1/4 .. 1; the centre of row 2 is 2/5, nearest to 1/2. A width of 4.5 is a deviation of a half.
    got = window(5, 4.5, like=torch.empty(0, dtype=torch.float64))
    powers = [math.exp(-(((t - 0.4) / 0.5) ** 2) / 2) for t in (0, 0.25, 0.5, 0.75, 1)]
    assert got[2].tolist() == pytest.approx([power / powers[2] for power in powers])
    assert got[0].tolist() == pytest.approx([1, math.exp(-1 / 8), math.exp(-1 / 2), math.exp(-9 / 8), math.exp(-2)])
    assert window(1, 0.5, like=torch.empty(0)).tolist() == [[1]]


@pytest.mark.parametrize("width", [0.01, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("places", [1, 2, 7, 33])
def test_windows_beside_the_formula(places: int, width: float) -> None:
    got = window(places, width, like=torch.empty(0, dtype=torch.float64))
    assert got.numpy() == pytest.approx(np.array(slow_window(places, width)), abs=1e-12)


def slow_heads(layer: GaussianAttention | WindowedHeads, hidden: np.ndarray, places: int) -> np.ndarray:
    """The heads of one video side by side, place by place."""

    def through(linear: nn.Linear) -> np.ndarray:
        return hidden @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()

    query, key, value = through(layer.query), through(layer.key), through(layer.value)
    size, weights = hidden.shape[1] // layer.heads, slow_window(places, layer.width)
    mixed = np.zeros_like(hidden)
    for head in range(layer.heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(hidden)):
            logits = [
                oracles.dot(query[i, part], key[j, part]) / math.sqrt(size) * (weights[i][j] if layer.width else 1)
                for j in range(len(hidden))
            ]
            for j, share in enumerate(oracles.softmax(logits)):
                mixed[i, part] += share * value[j, part]
    return mixed


def normed(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(1, keepdims=True)) / np.sqrt(values.var(1, keepdims=True) + 1e-5)


def map_of(linear: nn.Linear, values: np.ndarray) -> np.ndarray:
    return values @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()


@pytest.mark.parametrize("places", [7, None])
@pytest.mark.parametrize("width", [0.0, 0.1, 1.0, 5.0])
def test_gaussian_attention_beside_a_slow_loop(width: float, places: int | None) -> None:
    torch.manual_seed(0)
    layer = GaussianAttention(8, 2, 0.0, width=width, places=places).double()
    rows, hidden = rows_of(5, 1, 3, longest=5), noise(9, 8).double()
    got = layer(hidden, rows).detach().numpy()
    for start, end in ((0, 5), (5, 6), (6, 9)):
        # Without a number of places, time runs over the longest sequence of the batch.
        video = hidden[start:end].numpy()
        wanted = normed(map_of(layer.output, slow_heads(layer, video, places or 5)) + video)
        assert got[start:end] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("width", [0.0, 1.0])
def test_an_attention_block_beside_a_slow_loop(width: float) -> None:
    torch.manual_seed(0)
    heads = WindowedHeads(8, 2, 0.0, width=width, places=7)
    block = AttentionBlock(heads, 8, 0.0).double()
    rows, hidden = rows_of(5, 3, longest=5), noise(8, 8).double()
    got = block(hidden, rows).detach().numpy()
    feed = block.feed_forward
    for start, end in ((0, 5), (5, 8)):
        video = hidden[start:end].numpy()
        first = normed(slow_heads(heads, video, 7) + video)  # no output map
        second = map_of(feed.narrow, np.maximum(map_of(feed.widen, first), 0))
        assert feed.widen.out_features == 32
        assert got[start:end] == pytest.approx(normed(second + first), abs=1e-9)


def test_a_very_wide_window_is_plain_attention() -> None:
    torch.manual_seed(0)
    plain = SelfAttention(8, 2, 0.0)
    wide = GaussianAttention(8, 2, 0.0, width=1e5, places=6)
    wide.load_state_dict(plain.state_dict())
    rows, hidden = rows_of(6, 4, longest=6), noise(10, 8)
    torch.testing.assert_close(wide(hidden, rows), plain(hidden, rows))


def test_a_gaussian_block_is_the_mean_of_its_widths() -> None:
    torch.manual_seed(0)
    block = GaussianBlock(8, 2, 0.0, widths=(0.0, 1.0, 5.0), places=6)
    rows, hidden = rows_of(6, 4, longest=6), noise(10, 8)
    torch.testing.assert_close(block(hidden, rows), sum(part(hidden, rows) for part in block.blocks) / 3)
    assert [view.attention.width for view in attention_views(8, 2, 0.0, 6, widths=(0.0, 1.0, 5.0))] == [0.0, 1.0, 5.0]


def test_all_parts_have_gradients_under_dropout() -> None:
    torch.manual_seed(0)
    rows, hidden = rows_of(6, 4, longest=6), noise(10, 8).requires_grad_()
    views = nn.ModuleList([GaussianAttention(8, 2, 0.5, width=1.0, places=6), *attention_views(8, 2, 0.5, 6, widths=(0.0, 1.0))])
    consolidation = Consolidation(8, 2, 0.5, places=6, temperature=0.5)
    seen = torch.stack([view(hidden, rows) for view in views.train()], 1)
    consolidation.train()(seen, rows, noise(1, 8)).sum().backward()
    parameters = [*views.parameters(), *consolidation.parameters()]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)


@pytest.mark.parametrize("temperature", [0.09, 0.6])
def test_consolidation_beside_a_slow_loop(temperature: float) -> None:
    torch.manual_seed(0)
    layer = Consolidation(8, 2, 0.0, places=5, temperature=temperature)
    views, token = noise(7, 3, 8), noise(2, 8, seed=1)
    got = layer(views, rows_of(4, 3, longest=4), token)
    for video, (start, end) in enumerate(((0, 4), (4, 7))):
        numbers = [slow_numbers(layer, views[start:end, view], token[video]) for view in range(3)]
        for place in range(end - start):
            share = oracles.softmax([numbers[view][place] / temperature for view in range(3)])
            wanted = sum(share[view] * views[start + place, view] for view in range(3))
            torch.testing.assert_close(got[start + place], wanted, atol=1e-5, rtol=1e-4)


def slow_numbers(layer: Consolidation, view: Tensor, token: Tensor) -> list[float]:
    """The numbers of one view of one video, one for each place."""
    query, mixed = layer.query(token), []
    for head in (slice(0, 4), slice(4, 8)):
        logits = [oracles.dot(query[head].tolist(), layer.key(row)[head].tolist()) / 2 for row in view]
        share = oracles.softmax(logits)
        mixed.append(sum(share[i] * layer.value(row)[head] for i, row in enumerate(view)))
    first = layer.norm(torch.cat(mixed) + token)
    feed = layer.feed_forward
    assert feed.widen.out_features == 8
    summary = feed.norm(feed.narrow(feed.widen(first).relu()) + first)
    numbers: list[float] = layer.second(layer.first(summary).relu()).tolist()
    return numbers


def test_a_feed_forward_layer_keeps_what_it_adds_to() -> None:
    layer = FeedForward(8, 0.0)
    nn.init.zeros_(layer.narrow.weight)
    nn.init.zeros_(layer.narrow.bias)
    hidden = noise(3, 8)
    torch.testing.assert_close(layer(hidden), layer.norm(hidden))


@pytest.mark.parametrize("widths", [(), (1.0, -2.0)])
def test_widths_that_cannot_be(widths: tuple[float, ...]) -> None:
    with pytest.raises(SettingError, match="widths is"):
        check_widths(widths)
