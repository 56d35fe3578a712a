"""The few blocks that the methods share (the XML lineage; spec/methods 2.0)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class InputProjection(nn.Module):
    """LayerNorm, dropout, Linear, ReLU: features of any width to the hidden size."""

    def __init__(self, columns: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(columns)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(columns, hidden)

    def forward(self, features: Float[Tensor, "N L E"]) -> Float[Tensor, "N L D"]:
        return self.linear(self.dropout(self.norm(features))).relu()


class Positions(nn.Module):
    """Adds a learned vector per place, then LayerNorm and dropout."""

    def __init__(self, places: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(places, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Float[Tensor, "N L D"]) -> Float[Tensor, "N L D"]:
        return self.dropout(self.norm(hidden + self.table.weight[: hidden.shape[1]]))


class SelfAttention(nn.Module):
    """Multi-head self-attention, output Linear, dropout, residual, LayerNorm; there is no feed-forward layer.

    Query, key and value keep a Linear each: fused into one tensor they would be clipped as one, and training would
    take another path (spec/dl-dkd 2.7).
    """

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Float[Tensor, "N L D"], mask: Bool[Tensor, "N L"]) -> Float[Tensor, "N L D"]:
        query, key, value = (
            layer(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        dropout = self.dropout.p if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None], dropout_p=dropout)
        joined = mixed.transpose(1, 2).flatten(2)
        return self.norm(self.dropout(self.output(joined)) + hidden)


class SequenceEncoder(nn.Module):
    """Positions and one self-attention block over projected features."""

    def __init__(self, places: int, hidden: int, *, heads: int, input_dropout: float, dropout: float) -> None:
        super().__init__()
        self.positions = Positions(places, hidden, input_dropout)
        self.attention = SelfAttention(hidden, heads, dropout)

    def forward(self, projected: Float[Tensor, "N L D"], mask: Bool[Tensor, "N L"]) -> Float[Tensor, "N L D"]:
        return self.attention(self.positions(projected), mask)


class AttentivePooling(nn.Module):
    """One vector of a sequence: sum_l softmax_l(u . h_l) h_l."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Linear(hidden, 1, bias=False)

    def forward(self, hidden: Float[Tensor, "N L D"], mask: Bool[Tensor, "N L"]) -> Float[Tensor, "N D"]:
        share = self.weight(hidden)[..., 0].masked_fill(~mask, -float("inf")).softmax(-1)
        return torch.einsum("nl,nld->nd", share, hidden)


def initialise(module: nn.Module) -> None:
    """Linear and Embedding weights from N(0, 0.02), biases 0, LayerNorm 1 and 0; use with `model.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
