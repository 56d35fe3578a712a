"""Float32 matrix products on the CPU, by the faster of the two libraries that torch brings.

torch multiplies with Intel's MKL, which leaves AVX-512 unused on AMD's processors; oneDNN, which it has for convolutions and
compiled models, uses it there and is twice as fast (docs/decisions/0026). The arithmetic is the same: float32, summed in
another order. oneDNN prepares itself for each shape and keeps what it prepared, some 0.5 MB: rows are given to it in tiles of
few sizes, and what is left over goes to MKL.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

TILE = 256
# Rows of a sum over rows: one of the sizes 8192, 4096, ..., TILE, largest first.
LONGEST = 8192
# Fewer multiplications than these are done before oneDNN is under way.
LEAST = 1 << 24


def linear(rows: Float[Tensor, "*N K"], weight: Float[Tensor, "M K"], bias: Float[Tensor, "M"] | None = None) -> Tensor:
    """rows @ weight.T + bias, of shape (*N, M), with gradients: torch's `linear`, made where it is made fastest."""
    if not gains(rows, weight):
        return functional.linear(rows, weight, bias)
    product: Tensor = _Linear.apply(rows.flatten(0, -2), weight, bias)
    return product.view(*rows.shape[:-1], len(weight))


def transposed_product(left: Float[Tensor, "N K"], right: Float[Tensor, "N M"]) -> Float[Tensor, "K M"]:
    """left.T @ right, a sum over rows; gradients do not pass."""
    return _sum_of_products(left, right) if gains(left, right) else left.T @ right


class Linear(nn.Linear):
    """`torch.nn.Linear` by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def gains(rows: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is to be asked for a product of these."""
    float32 = rows.dtype == weight.dtype == torch.float32
    return (
        float32
        and rows.device.type == "cpu" == weight.device.type
        and rows.numel() // max(rows.shape[-1], 1) >= TILE
        and rows.numel() * weight.shape[0] >= LEAST
        and is_faster()
    )


@functools.cache
def is_faster() -> bool:
    """Whether this machine is one on which oneDNN is faster than torch's own choice: AMD's with AVX-512, and MKL."""
    known = Path("/proc/cpuinfo")
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.mkl.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and known.exists()
        and "AuthenticAMD" in known.read_text()
    )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _product(rows, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_rows = _product(gradient, weight.T, None) if ctx.needs_input_grad[0] else None
        of_weight = _sum_of_products(gradient, rows) if ctx.needs_input_grad[1] else None
        return of_rows, of_weight, gradient.sum(0) if ctx.needs_input_grad[2] else None


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows, whole = rows.contiguous(), len(rows) - len(rows) % TILE
    made = rows.new_empty(len(rows), len(weight))
    for start in range(0, whole, TILE):
        tile = slice(start, start + TILE)
        made[tile] = torch.ops.mkldnn._linear_pointwise(rows[tile], weight, bias, "none", [], "")
    if whole < len(rows):
        made[whole:] = functional.linear(rows[whole:], weight, bias)
    return made


def _sum_of_products(left: Tensor, right: Tensor) -> Tensor:
    """left.T @ right, tile by tile: oneDNN's gradient of a weight."""
    total, start = left.new_zeros(left.shape[1], right.shape[1]), 0
    for size in _sizes(len(left)):
        part, other = left[start : start + size], right[start : start + size]
        start += size
        if size < TILE:
            total.addmm_(part.T, other)
        else:
            total += torch.ops.aten.mkldnn_linear_backward_weights(part.to_mkldnn(), other.to_mkldnn(), total, False)[0]
    return total


def _sizes(count: int) -> list[int]:
    sizes, size = [], LONGEST
    while size >= TILE:
        sizes += [size] * (count // size)
        count, size = count % size, size // 2
    return [*sizes, count] if count else sizes
