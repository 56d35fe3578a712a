"""Gaussian attention: blocks that look at a neighbourhood each, of several widths, and what joins them.

Source: GMMFormer (spec/methods 2.10) and GMMFormer v2 (2.11). All blocks take and give packed rows, as in `layers`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import dropout as dropped

from prvr.nn.layers import Dropout, MultiHead, Rows, SelfAttention

WIDTHS_PER_DEVIATION = 9


def window(places: int, width: float) -> Float[Tensor, "L L"]:
    """exp(-(t_i - t_j)^2 / (2 s^2)), s = width / 9, t_i = i / (places - 1): a place's neighbourhood, 1 at the place itself.

    Time runs from 0 to 1 over the most places that a sequence may have, so a width spans as many frames in every video.
    """
    time = torch.arange(places) / max(places - 1, 1)
    deviation = width / WIDTHS_PER_DEVIATION
    return torch.exp(-((time[:, None] - time) / deviation).square() / 2)


def attention_block(hidden: int, heads: int, dropout: float, *, places: int, width: float) -> nn.Module:
    """Self-attention in a neighbourhood; a width of 0 stands for no window, which is plain self-attention."""
    if width == 0:
        return SelfAttention(hidden, heads, dropout)
    return GaussianAttention(hidden, heads, dropout, places=places, width=width)


@final
class GaussianAttention(MultiHead):
    """`SelfAttention` whose logits are multiplied by a window, softmax(G * Q K^T / sqrt(d)) V.

    Far logits go to 0 and not to -inf: a far frame counts as one that is neither like nor unlike.
    """

    window: Tensor

    def __init__(self, hidden: int, heads: int, dropout: float, *, places: int, width: float) -> None:
        super().__init__(hidden, heads, dropout)
        self.register_buffer("window", window(places, width), persistent=False)

    def forward(self, hidden: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        query, key, value = self.split(hidden, rows)
        length = rows.mask.shape[1]
        logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) * self.window[:length, :length]
        share = logits.masked_fill(~rows.mask[:, None, None], -float("inf")).softmax(-1)
        # torch's own: ours writes over its input, which the softmax still needs.
        mixed = dropped(share, self.dropout.share, self.training) @ value
        return self.joined(mixed, hidden, rows)


class GaussianBlock(nn.Module):
    """Attention blocks of several widths side by side; their mean (GMMFormer)."""

    def __init__(self, hidden: int, heads: int, dropout: float, *, places: int, widths: Sequence[float]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(attention_block(hidden, heads, dropout, places=places, width=width) for width in widths)

    def forward(self, hidden: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        return torch.stack([block(hidden, rows) for block in self.blocks]).mean(0)


class FeedForward(nn.Module):
    """Linear to four times the width, ReLU, Linear back, dropout, residual, LayerNorm."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.widen = nn.Linear(hidden, 4 * hidden)
        self.narrow = nn.Linear(4 * hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Float[Tensor, "R D"]) -> Float[Tensor, "R D"]:
        return self.norm(self.dropout(self.narrow(self.widen(hidden).relu())) + hidden)


@final
class Consolidation(MultiHead):
    """Several views of a video as one: at each place a weighted sum, the weights drawn from each view as a whole.

    A token attends to each view, which gives a vector a view; a two-layer network makes of it a number for each place;
    softmax over the views of these numbers over a temperature gives the weights (temporal consolidation, GMMFormer v2).
    """

    def __init__(self, hidden: int, heads: int, dropout: float, *, places: int, temperature: float) -> None:
        super().__init__(hidden, heads, dropout)
        self.temperature = temperature
        self.first = nn.Linear(hidden, hidden)
        self.second = nn.Linear(hidden, places)

    def forward(
        self, views: Float[Tensor, "R N D"], rows: Rows, token: Float[Tensor, "V D"] | Float[Tensor, "1 D"]
    ) -> Float[Tensor, "R D"]:
        summary = self._attended(views, rows, token)
        numbers = self.second(self.first(summary).relu())[..., : rows.mask.shape[1]]
        share = (numbers / self.temperature).softmax(1).transpose(1, 2)
        return torch.einsum("rn,rnd->rd", rows.packed(share), views)

    def _attended(self, views: Float[Tensor, "R N D"], rows: Rows, token: Tensor) -> Float[Tensor, "V N D"]:
        split = (views.shape[1], self.heads, -1)
        key, value = (rows.padded(layer(views).flatten(1)).unflatten(-1, split) for layer in (self.key, self.value))
        query = self.query(token).unflatten(-1, (self.heads, -1)).expand(len(rows.mask), -1, -1)
        logits = torch.einsum("vhd,vlnhd->vnhl", query, key) / math.sqrt(query.shape[-1])
        share = logits.masked_fill(~rows.mask[:, None, None], -float("inf")).softmax(-1)
        mixed = torch.einsum("vnhl,vlnhd->vnhd", dropped(share, self.dropout.share, self.training), value)
        return self.norm(self.dropout(self.output(mixed.flatten(2))) + token[:, None])
