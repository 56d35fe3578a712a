"""What generates the registers of a video: pooling of sorted columns, a denoiser, and its ten steps back (DreamPRVR)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from prvr.nn.layers import DecayedLayerNorm

LONGEST_WAVE = 10_000
POOLING_TEMPERATURE = 0.1
# Of the cosine schedule: its offset, and the largest share of noise in a step.
OFFSET, MOST_NOISE = 0.008, 0.999


def sinusoids(places: int, columns: int) -> Float[Tensor, "L D"]:
    """sin(k / 10000^(2i / columns)) in column 2i and the cosine in column 2i + 1, k the place; in float64."""
    place, pair = torch.arange(places, dtype=torch.float64)[:, None], torch.arange(0, columns, 2, dtype=torch.float64)
    angles = place * LONGEST_WAVE ** (-pair / columns)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :columns]


class SortedPooling(nn.Module):
    """Weights of the ranks, times each column's values from the largest to the smallest (generalised pooling).

    The weights are learned from the ranks alone, by a recurrent network over their sinusoids, and are the same for all videos.
    """

    def __init__(self, ranks: int) -> None:
        super().__init__()
        self.ranks, self.columns = ranks, 32
        self.gru = nn.GRU(self.columns, self.columns, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(self.columns, 1, bias=False)
        for name, parameter in self.gru.named_parameters():
            fill = nn.init.zeros_ if "bias" in name else nn.init.orthogonal_ if "_hh_" in name else nn.init.xavier_uniform_
            fill(parameter)

    def weights(self) -> Float[Tensor, "L"]:
        """What each rank weighs; they sum to 1."""
        codes = sinusoids(self.ranks, self.columns).to(self.linear.weight)
        both = self.gru(codes[None])[0][0].unflatten(-1, (2, self.columns)).mean(1)
        return (self.linear(both)[:, 0] / POOLING_TEMPERATURE).softmax(0)

    def forward(self, rows: Float[Tensor, "V L D"]) -> Float[Tensor, "V D"]:
        return torch.einsum("l,vld->vd", self.weights(), rows.sort(dim=1, descending=True).values)


class DenoisingLayer(nn.Module):
    """W_4 swish(LN(W_1 swish(LN h) + W_2 swish(time) + W_3 swish(condition))) + W_5 h."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm, self.second_norm = DecayedLayerNorm(hidden), DecayedLayerNorm(hidden)
        self.inward, self.time, self.condition = (nn.Linear(hidden, hidden) for _ in range(3))
        self.outward, self.shortcut = (nn.Linear(hidden, hidden) for _ in range(2))
        self.swish = nn.SiLU()

    def forward(
        self, hidden: Float[Tensor, "*N V R D"], time: Float[Tensor, "*M 1 1 D"], condition: Float[Tensor, "V R D"]
    ) -> Float[Tensor, "*N V R D"]:
        mixed = self.inward(self.swish(self.norm(hidden))) + self.time(self.swish(time)) + self.condition(self.swish(condition))
        return self.outward(self.swish(self.second_norm(mixed))) + self.shortcut(hidden)


class Denoiser(nn.Module):
    """Estimates what was noise in registers of time t, given a condition for each register."""

    def __init__(self, hidden: int, *, steps: int, layers: int) -> None:
        super().__init__()
        self.times = nn.Embedding(steps, hidden)
        self.times.weight.requires_grad_(False)
        self.time = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.condition = nn.Sequential(DecayedLayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.layers = nn.ModuleList(DenoisingLayer(hidden) for _ in range(layers))
        self.outward = nn.Linear(hidden, hidden)

    def forward(
        self, noisy: Float[Tensor, "*N V R D"], times: Int[Tensor, "*N"], condition: Float[Tensor, "V R D"]
    ) -> Float[Tensor, "*N V R D"]:
        """Args:
        times: the number of the step, from 0; for several at once the first axis of `noisy`.
        """
        time, given, hidden = self.time(self.times(times))[..., None, None, :], self.condition(condition), noisy
        for layer in self.layers:
            hidden = layer(hidden, time, given)
        return self.outward(hidden + noisy)


class Diffusion:
    """The cosine schedule of noise, and the way back along it.

    beta_t = 1 - f(t + 1) / f(t), .999 at most, f(k) = cos^2((k / steps + .008) / 1.008 pi / 2); A_t = prod_(s <= t) (1 - beta_s)
    """

    def __init__(self, steps: int) -> None:
        kept = [math.cos((k / steps + OFFSET) / (1 + OFFSET) * math.pi / 2) ** 2 for k in range(steps + 1)]
        self.betas = [min(1 - after / before, MOST_NOISE) for before, after in pairwise(kept)]
        self.cumulative = [math.prod(1 - beta for beta in self.betas[: t + 1]) for t in range(steps)]

    def reverse(
        self, denoiser: Denoiser, mean: Float[Tensor, "V D"], condition: Float[Tensor, "V R D"]
    ) -> Float[Tensor, "V R D"]:
        """Registers from a start that is the mean, and with the mean for all noise on the way: nothing is drawn."""
        noise = mean[:, None].expand_as(condition)
        registers = noise
        for t in reversed(range(len(self.betas))):
            beta, now, before = self.betas[t], self.cumulative[t], self.cumulative[t - 1] if t else 1.0
            estimate = denoiser(registers, torch.tensor(t, device=mean.device), condition)
            clean = ((registers - math.sqrt(1 - now) * estimate) / math.sqrt(now)).clamp(-1, 1)
            kept = (1 - before) * math.sqrt(1 - beta) / (1 - now)
            registers = beta * math.sqrt(before) / (1 - now) * clean + kept * registers
            if t:
                registers = registers + math.sqrt(beta * (1 - before) / (1 - now)) * noise
        return registers

    def noisy(self, clean: Float[Tensor, "V R D"], noise: Float[Tensor, "V 1 D"]) -> Float[Tensor, "T V R D"]:
        """sqrt(A_t) clean + sqrt(1 - A_t) noise, for every step."""
        kept = clean.new_tensor(self.cumulative)[:, None, None, None]
        return kept.sqrt() * clean + (1 - kept).sqrt() * noise
