"""Attention within Gaussian windows: blocks of several widths side by side, and their consolidation.

GMMFormer takes the mean of its blocks (`GaussianBlock`); GMMFormer v2 and what builds on it weigh the views of theirs at each
place (`Consolidation`). All blocks take and return packed rows, as in `layers`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import dropout as dropped
from torch.nn.functional import pad, scaled_dot_product_attention

from prvr.errors import SettingError
from prvr.nn.layers import DecayedLayerNorm, Dropout, Heads, MultiHead, Rows

WIDTHS_PER_DEVIATION = 9
LEAST_WIDTH = 0.01


def window(places: int, width: float, *, like: Tensor) -> Float[Tensor, "L L"]:
    """exp(-(t_j - c_i)^2 / (2 s^2)), s = max(width, 0.01) / 9, each row i divided by its largest value.

    The released code takes two grids, c_i = i / L and t_j = j / (L - 1). So the largest value of a row stands at its own place
    or at the one before.

    Args:
        like: a tensor of the type and on the device of the result.
    """
    place = torch.arange(places, dtype=like.dtype, device=like.device)
    deviation = max(width, LEAST_WIDTH) / WIDTHS_PER_DEVIATION
    exponents = -((place / max(places - 1, 1) - place[:, None] / places) / deviation).square() / 2
    return (exponents - exponents.amax(1, keepdim=True)).exp()


def attend(
    query: Float[Tensor, "N H L _"],
    key: Float[Tensor, "N H K _"],
    value: Float[Tensor, "N H K _"],
    mask: Bool[Tensor, "N K"],
    *,
    width: float,
    places: int | None,
    dropout: float,
    bias: Float[Tensor, "N L"] | None = None,
) -> Float[Tensor, "N H L _"]:
    """softmax(G * Q K^T / sqrt(d) + bias) V over the real places; a width of 0 is plain attention, without the window G.

    Far logits become 0 and not -inf: a far frame counts as one that is neither like nor unlike.

    Args:
        key: the first L are those of the places; further ones have no place, and no window is over them.
        places: over how many places time runs from 0 to 1; None for as many as the batch is padded to.
        dropout: the share of the attention weights that is dropped.
        bias: of each key; none by default.
    """
    if width == 0:
        seen = mask if bias is None else bias.masked_fill(~mask, -float("inf"))
        return scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None], dropout_p=dropout)
    length, beside = query.shape[2], key.shape[2] - query.shape[2]
    logits = query @ key.mT / math.sqrt(query.shape[-1])
    logits = logits * pad(window(places or length, width, like=logits)[:length, :length], (0, beside), value=1.0)
    if bias is not None:
        logits = logits + bias[:, None, None]
    # torch's own dropout: ours writes over its input, which the softmax still needs.
    return dropped(logits.masked_fill(~mask[:, None, None], -float("inf")).softmax(-1), dropout) @ value


@final
class GaussianAttention(MultiHead):
    """`SelfAttention` within a window: attention, output Linear, residual and LayerNorm (GMMFormer)."""

    def __init__(self, hidden: int, heads: int, dropout: float, *, width: float, places: int | None) -> None:
        super().__init__(hidden, heads, dropout)
        self.width, self.places = width, places

    def forward(self, hidden: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        share = self.dropout.share if self.training else 0.0
        query, key, value = self.split(hidden, rows).unbind()
        return self.join(attend(query, key, value, rows.mask, width=self.width, places=self.places, dropout=share), hidden, rows)


class GaussianBlock(nn.Module):
    """Attention blocks of several widths side by side; their mean (GMMFormer)."""

    def __init__(self, hidden: int, heads: int, dropout: float, *, widths: Sequence[float], places: int | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(GaussianAttention(hidden, heads, dropout, width=w, places=places) for w in widths)

    def forward(self, hidden: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        return torch.stack([block(hidden, rows) for block in self.blocks]).mean(0)


@final
class WindowedHeads(Heads):
    """Self-attention within a window, the heads side by side and no output map (GMMFormer v2)."""

    def __init__(self, hidden: int, heads: int, dropout: float, *, width: float = 0.0, places: int | None = None) -> None:
        super().__init__(hidden, heads, dropout)
        self.width, self.places = width, places

    def forward(self, hidden: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        share = self.dropout.share if self.training else 0.0
        query, key, value = self.split(hidden, rows).unbind()
        mixed = attend(query, key, value, rows.mask, width=self.width, places=self.places, dropout=share, bias=rows.bias)
        return rows.packed(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """LayerNorm(y + dropout(W_2 dropout(ReLU(W_1 y)))), the inner layer `widen` times as wide."""

    def __init__(self, hidden: int, dropout: float, *, widen: int = 4) -> None:
        super().__init__()
        self.widen = nn.Linear(hidden, widen * hidden)
        self.narrow = nn.Linear(widen * hidden, hidden)
        self.norm = DecayedLayerNorm(hidden)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        return self.norm(self.dropout(self.narrow(drop_and_rectify(self.widen(hidden), self.dropout))) + hidden)


class AttentionBlock(nn.Module):
    """y = LayerNorm(x + dropout(attention(x))), then `FeedForward` (GMMFormer v2).

    Args:
        attention: a module that takes and returns packed rows.
        widen: how many times as wide the inner layer of the `FeedForward` is.
    """

    def __init__(self, attention: nn.Module, hidden: int, dropout: float, *, widen: int = 4) -> None:
        super().__init__()
        self.attention = attention
        self.norm = DecayedLayerNorm(hidden)
        self.dropout = Dropout(dropout)
        self.feed_forward = FeedForward(hidden, dropout, widen=widen)

    def forward(self, hidden: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        return self.join(self.attention(hidden, rows), hidden)

    def join(self, attended: Float[Tensor, "*N D"], hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """What follows the attention; `hidden` is what attended."""
        return self.feed_forward(self.norm(self.dropout(attended) + hidden))


def attention_views(hidden: int, heads: int, dropout: float, places: int, *, widths: Sequence[float]) -> list[AttentionBlock]:
    """An `AttentionBlock` within a window of each width."""
    return [
        AttentionBlock(WindowedHeads(hidden, heads, dropout, width=width, places=places), hidden, dropout) for width in widths
    ]


@final
class Consolidation(Heads):
    """Several views of a video as one: at each place a weighted sum, the weights computed from each view as a whole.

    A token attends to each view, which gives a vector t_k for view k; a two-layer network makes a number a_k,l of it for each
    place l. The weights are softmax_k(a_k,l / temperature) (temporal consolidation, GMMFormer v2).
    """

    def __init__(self, hidden: int, heads: int, dropout: float, *, places: int, temperature: float) -> None:
        super().__init__(hidden, heads, dropout)
        self.temperature = temperature
        self.norm = DecayedLayerNorm(hidden)
        self.feed_forward = FeedForward(hidden, dropout, widen=1)
        self.first = nn.Linear(hidden, hidden)
        self.second = nn.Linear(hidden, places)

    def forward(
        self, views: Float[Tensor, "R N D"], rows: Rows, token: Float[Tensor, "V D"] | Float[Tensor, "1 D"]
    ) -> Float[Tensor, "R D"]:
        attended = self.dropout(self._attend(views, rows, token)) + token[:, None]
        numbers = self.second(drop_and_rectify(self.first(self.feed_forward(self.norm(attended))), self.dropout))
        share = (numbers[..., : rows.mask.shape[1]] / self.temperature).softmax(1).transpose(1, 2)
        return torch.einsum("rn,rnd->rd", rows.packed(share), views)

    def _attend(self, views: Float[Tensor, "R N D"], rows: Rows, token: Tensor) -> Float[Tensor, "V N D"]:
        split = (views.shape[1], self.heads, -1)
        key, value = (rows.padded(layer(views).flatten(1)).unflatten(-1, split) for layer in (self.key, self.value))
        query = self.query(token).unflatten(-1, (self.heads, -1)).expand(len(rows.mask), -1, -1)
        logits = torch.einsum("vhd,vlnhd->vnhl", query, key) / math.sqrt(query.shape[-1])
        share = logits.masked_fill(~rows.mask[:, None, None], -float("inf")).softmax(-1)
        mixed = torch.einsum("vnhl,vlnhd->vnhd", dropped(share, self.dropout.share, self.training), value)
        return mixed.flatten(2)


def drop_and_rectify(values: Float[Tensor, "*N"], dropout: Dropout) -> Float[Tensor, "*N"]:
    """dropout(ReLU(values)), in the other order: it is the same, and ReLU still needs its result when dropout writes over it."""
    return dropout(values).relu()


def check_widths(widths: Sequence[float]) -> None:
    """Checks that there is a width, and that none is below 0.

    Raises:
        SettingError: there is none, or one is below 0.
    """
    if not widths or min(widths) < 0:
        raise SettingError(f"widths is {tuple(widths)}; name one or more, each above 0, or 0 for no window")
