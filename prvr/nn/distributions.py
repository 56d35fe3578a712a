"""A normal distribution for each video, from its rows and their plain mean: RAL and DreamPRVR."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from prvr.nn.layers import DecayedLayerNorm, pool_with_zeros
from prvr.nn.losses import LOWEST


class Distributed(NamedTuple):
    """A normal distribution for each video, its columns independent."""

    mean: Float[Tensor, "V D"]
    log_deviation: Float[Tensor, "V D"]


class RowPooling(nn.Module):
    """sum_i softmax_i(w_2 tanh(W_1 x_i)) x_i, over given rows and over further rows of zeros."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(hidden, hidden // 2, bias=False)
        self.second = nn.Linear(hidden // 2, 1, bias=False)

    def forward(
        self, rows: Float[Tensor, "V N D"], counted: Bool[Tensor, "V N"], zeros: Int[Tensor, "V"]
    ) -> Float[Tensor, "V D"]:
        logits = self.second(self.first(rows).tanh())[..., 0]
        return pool_with_zeros(rows, logits.masked_fill(~counted, LOWEST), zeros)


class Distribution(nn.Module):
    """The distribution of one side: its mean unit(LayerNorm(x + sigmoid(W att(X) + b))), and the logarithm of its deviation,
    W' att'(X) + b' + W'' x + b''; x is the side's plain mean, X its rows. (DreamPRVR: the logarithm of its variance.)"""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mean_pooling, self.mean_map = RowPooling(hidden), nn.Linear(hidden, hidden)
        self.norm = DecayedLayerNorm(hidden)
        self.deviation_pooling, self.deviation_map = RowPooling(hidden), nn.Linear(hidden, hidden)
        self.deviation_of_mean = nn.Linear(hidden, hidden)

    def forward(
        self,
        plain: Float[Tensor, "V D"],
        rows: Float[Tensor, "V N D"],
        counted: Bool[Tensor, "V N"],
        zeros: Int[Tensor, "V"],
    ) -> Distributed:
        mean = self.norm(plain + self.mean_map(self.mean_pooling(rows, counted, zeros)).sigmoid())
        deviation = self.deviation_map(self.deviation_pooling(rows, counted, zeros)) + self.deviation_of_mean(plain)
        return Distributed(normalize(mean, dim=-1), deviation)
