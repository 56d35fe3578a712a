"""Pooling of sorted columns, the denoiser and the way back along its schedule, beside slow loops.

Their numbers beside the published code's: tests/methods/test_peers_leaders.py.
"""

from __future__ import annotations

import math

import pytest
import torch
from method_checks import lively, noise

from prvr.nn.registers import Denoiser, Diffusion, SortedPooling, sinusoids


@pytest.mark.parametrize("columns", [6, 5])
def test_sinusoids_by_hand(columns: int) -> None:
    table = sinusoids(4, columns)
    for k in range(4):
        for place in range(columns):
            angle = k / 10_000 ** (2 * (place // 2) / columns)
            assert table[k, place].item() == pytest.approx(math.cos(angle) if place % 2 else math.sin(angle))


@torch.no_grad()
def test_pooling_weighs_ranks_and_not_rows() -> None:
    pooling = lively(SortedPooling(7))
    rows, weights = noise(3, 7, 5), pooling.weights()
    assert weights.sum().item() == pytest.approx(1)
    assert weights.std() > 1e-3
    found = pooling(rows)
    for v in range(3):
        for d in range(5):
            ranked = sorted(rows[v, :, d].tolist(), reverse=True)
            assert found[v, d].item() == pytest.approx(
                sum(w * x for w, x in zip(weights.tolist(), ranked, strict=True)), abs=1e-5
            )
    torch.testing.assert_close(pooling(rows[:, torch.randperm(7)]), found)


def test_initial_values_of_the_recurrent_network() -> None:
    gru = SortedPooling(7).gru
    assert all(not value.any() for name, value in gru.named_parameters() if "bias" in name)
    recurrent = gru.weight_hh_l0.detach()
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(32), atol=1e-5, rtol=0)
    assert gru.weight_ih_l0.abs().max() <= math.sqrt(6 / (96 + 32))


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_noise_grows_to_nearly_all(steps: int) -> None:
    diffusion = Diffusion(steps)
    assert len(diffusion.betas) == len(diffusion.cumulative) == steps
    assert diffusion.betas == sorted(diffusion.betas)
    assert diffusion.betas[-1] == 0.999
    assert diffusion.cumulative == sorted(diffusion.cumulative, reverse=True)
    assert 0 < diffusion.cumulative[-1] < 2e-3


class Truth(Denoiser):
    """The estimate of one that knows what the registers were."""

    def __init__(self, clean: torch.Tensor, kept: list[float]) -> None:
        super().__init__(4, steps=1, layers=0)
        self.clean, self.kept = clean, kept

    def forward(self, noisy: torch.Tensor, times: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        kept = self.kept[int(times)]
        return (noisy - math.sqrt(kept) * self.clean) / math.sqrt(1 - kept)


def test_who_knows_what_was_noise_finds_the_registers() -> None:
    diffusion, clean = Diffusion(10), noise(2, 3, 4).double().clamp(-1, 1)
    mean = noise(2, 4, seed=1).double()
    found = diffusion.reverse(Truth(clean, diffusion.cumulative), mean, torch.zeros(2, 3, 4).double())
    torch.testing.assert_close(found, clean)
    # What is estimated is kept between -1 and 1.
    beyond = diffusion.reverse(Truth(3 * clean, diffusion.cumulative), mean, torch.zeros(2, 3, 4).double())
    torch.testing.assert_close(beyond, (3 * clean).clamp(-1, 1))


def test_mixtures_of_all_steps() -> None:
    diffusion, clean, mean = Diffusion(5), noise(2, 3, 4).double(), noise(2, 1, 4, seed=1).double()
    noisy = diffusion.noisy(clean, mean)
    for t, kept in enumerate(diffusion.cumulative):
        torch.testing.assert_close(noisy[t], math.sqrt(kept) * clean + math.sqrt(1 - kept) * mean)


@torch.no_grad()
def test_steps_together_are_steps_one_by_one() -> None:
    denoiser = lively(Denoiser(6, steps=4, layers=2))
    noisy, condition = noise(4, 2, 3, 6), noise(2, 3, 6, seed=1)
    together = denoiser(noisy, torch.arange(4), condition)
    for t in range(4):
        torch.testing.assert_close(together[t], denoiser(noisy[t], torch.tensor(t), condition), atol=1e-5, rtol=1e-5)
    # The time matters, and the condition.
    assert (denoiser(noisy[0], torch.tensor(1), condition) - together[0]).abs().max() > 1e-3
    assert (denoiser(noisy[0], torch.tensor(0), condition.flip(0)) - together[0]).abs().max() > 1e-3
    assert not denoiser.times.weight.requires_grad
