"""The blocks that several methods share (those of XML and its successors).

No block computes with padding: `Rows` selects the real rows R of padded sequences, and only attention pads them again.
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import dropout, embedding, linear, scaled_dot_product_attention


class Rows(NamedTuple):
    """The real rows of padded sequences: `mask`, and the indices of its True entries after flattening.

    bias: added to the logits of each row as a key, in attention within windows (`nn.gaussian`).
    """

    mask: Bool[Tensor, "N L"]
    places: Int[Tensor, "R"]
    bias: Float[Tensor, "N L"] | None = None

    @staticmethod
    def of(mask: Bool[Tensor, "N L"], places: Int[Tensor, "R"] | None = None) -> Rows:
        """The rows of a mask. Without `places` they are computed here, which synchronises a GPU."""
        return Rows(mask, mask.flatten().nonzero()[:, 0] if places is None else places)

    def packed(self, padded: Float[Tensor, "N L E"]) -> Float[Tensor, "R E"]:
        """Selects the real rows."""
        return padded.flatten(0, 1).index_select(0, self.places)

    def padded(self, packed: Float[Tensor, "R E"]) -> Float[Tensor, "N L E"]:
        """Puts rows at their places, with zeros elsewhere."""
        zeros = packed.new_zeros(self.mask.numel(), packed.shape[1])
        return zeros.index_copy_(0, self.places, packed).unflatten(0, self.mask.shape)


class Dropout(nn.Module):
    """Zeroes each value with a probability of `share` and scales the rest by 1 / (1 - share), in training.

    On the CPU each decision uses 16 random bits, and the share is rounded to 1 / 65,536. torch draws and keeps a float, which
    takes ten times as long and four times the memory (docs/decisions/0012).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, values: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        if not self.training or self.share == 0:
            return values
        if values.device.type != "cpu" or values.dtype != torch.float32:
            return dropout(values, self.share)
        return _Drop.apply(values, self.share)


class InputProjection(nn.Module):
    """LayerNorm, dropout, Linear, ReLU: maps features of any width to the hidden size."""

    def __init__(self, columns: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(columns)
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(columns, hidden)

    def forward(self, features: Float[Tensor, "*N E"]) -> Float[Tensor, "*N D"]:
        return self.linear(self.dropout(self.norm(features))).relu()


class Positions(nn.Module):
    """Adds a learned vector for each place, then applies LayerNorm and dropout."""

    def __init__(self, places: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(places, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        places = rows.places % rows.mask.shape[1]
        return self.dropout(self.norm(hidden + embedding(places, self.table.weight)))


class Decayed(nn.Parameter):
    """A vector or a number that weight decay applies to. By default only matrices decay (`train.optimiser.decay_groups`)."""


class DecayedLayerNorm(nn.LayerNorm):
    """A LayerNorm with weight decay. The released code of several methods selects tensors by name and misses these."""

    def __init__(self, columns: int) -> None:
        super().__init__(columns)
        self.weight = Decayed(self.weight.detach())


class Heads(nn.Module):
    """Query, key and value of attention with several heads.

    They keep a Linear each, though they are computed as one: fused into one tensor they would be clipped as one, and
    training would take another path (docs/decisions/0002).
    """

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.dropout = Dropout(dropout)

    def split(self, hidden: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "3 N H L _"]:
        """Query, key and value of each head, padded."""
        layers = (self.query, self.key, self.value)
        weight, bias = torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])
        return rows.padded(linear(hidden, weight, bias)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)


class MultiHead(Heads):
    """`Heads` with an output Linear, dropout, residual and LayerNorm."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__(hidden, heads, dropout)
        self.output = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)

    def join(self, mixed: Float[Tensor, "N H L _"], hidden: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        """The heads' output, added to their input."""
        return self.norm(self.dropout(self.output(rows.packed(mixed.transpose(1, 2).flatten(2)))) + hidden)


@final
class SelfAttention(MultiHead):
    """Multi-head self-attention; there is no feed-forward layer."""

    def forward(self, hidden: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        query, key, value = self.split(hidden, rows).contiguous().unbind()
        share = self.dropout.share if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=rows.mask[:, None, None], dropout_p=share)
        return self.join(mixed, hidden, rows)


class SequenceEncoder(nn.Module):
    """Positions and one self-attention block for projected features."""

    def __init__(self, places: int, hidden: int, *, heads: int, input_dropout: float, dropout: float) -> None:
        super().__init__()
        self.positions = Positions(places, hidden, input_dropout)
        self.attention = SelfAttention(hidden, heads, dropout)

    def forward(self, projected: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "R D"]:
        return self.attention(self.positions(projected, rows), rows)


class AttentivePooling(nn.Module):
    """Pools a sequence to one vector: sum_l softmax_l(u . h_l) h_l."""

    def __init__(self, hidden: int, *, bias: bool = False) -> None:
        super().__init__()
        # A bias changes nothing; HGR's released checkpoints have one.
        self.weight = nn.Linear(hidden, 1, bias=bias)

    def forward(self, hidden: Float[Tensor, "N L D"], mask: Bool[Tensor, "N L"]) -> Float[Tensor, "N D"]:
        share = self.weight(hidden)[..., 0].masked_fill(~mask, -float("inf")).softmax(-1)
        return torch.einsum("nl,nld->nd", share, hidden)


def pool_with_zeros(rows: Float[Tensor, "N L D"], logits: Float[Tensor, "N L"], zeros: Int[Tensor, "N"]) -> Float[Tensor, "N D"]:
    """sum_l softmax_l(logits) rows, over the rows and over `zeros` more rows of zeros with logits of 0."""
    share = torch.cat([logits, zeros.to(logits).log()[:, None]], 1).softmax(1)[:, :-1]
    return torch.einsum("nl,nld->nd", share, rows)


def initialise(module: nn.Module) -> None:
    """Linear and Embedding weights from N(0, 0.02), biases 0, LayerNorm 1 and 0; use with `model.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class _Drop(torch.autograd.Function):
    """Dropout that stores a byte for each value and overwrites its input, which no other operation may need."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, share: float) -> Tensor:
        steps = max(round(share * 65536), 1)
        bits = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = (bits[: values.numel()] > steps - 32769).view(values.shape)
        ctx.scale = 65536 / (65536 - steps) if steps < 65536 else 0.0
        ctx.save_for_backward(kept)
        ctx.mark_dirty(values)
        return _drop_in_place(values, kept, ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return _drop_in_place(gradient.clone(), kept, ctx.scale), None


def _drop_in_place(values: Tensor, kept: Bool[Tensor, "*N"], scale: float) -> Tensor:
    """Overwrites the values. On one core NumPy multiplies floats by booleans in a fifth of torch's time."""
    array = values.detach().numpy()
    np.multiply(array, kept.numpy(), out=array)
    return values.mul_(scale)


def split_subtitles(rows: Float[Tensor, "R E"], columns: int) -> tuple[Float[Tensor, "R _"], Float[Tensor, "R _"]]:
    """The columns of the pictures, and the last `columns`, which are the subtitles'."""
    pictures, subtitles = rows.split([rows.shape[1] - columns, columns], dim=1)
    return pictures, subtitles


def pool_at(config: Any, epoch: int) -> int | None:
    """The number of hardest videos from which a negative is drawn at an epoch; None for all wrong videos."""
    pool: int = config.negative_pool
    return pool if epoch >= config.hard_from_epoch else None


def sequence_encoder(places: int, config: Any) -> SequenceEncoder:
    """Positions and one attention block with the sizes of a method's settings."""
    return SequenceEncoder(places, config.hidden, heads=config.heads, input_dropout=config.input_dropout, dropout=config.dropout)
