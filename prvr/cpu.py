"""Float32 matrix products on the CPU, by the faster of the two libraries that torch brings.

torch multiplies with Intel's MKL, which leaves AVX-512 unused on AMD's processors; oneDNN, which it has for convolutions and
compiled models, uses it there and is twice as fast (docs/decisions/0026). The arithmetic is the same: float32, summed in
another order. oneDNN prepares itself for each shape and keeps what it prepared, 0.5 to 2 MB, so that products go to it in tiles
of few sizes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

# How many rows a product is given at once: few, so that what it makes is still in the cache when it is put in its place.
TILES = (256, 64, 16)
# How many columns of a result whose number of columns is not that of a layer.
COLUMNS = (2048, 1024, 512, 256, 128, 64)
# How many rows are summed over at once: many, because each sum is added to the whole.
SUMS = (8192, 4096, 2048, 1024, 512, 256, 64)
# Smaller matrices are multiplied before oneDNN is under way. The rows do not decide: a row is not to depend on its company.
LEAST = 1 << 16
_OWN: ContextVar[bool] = ContextVar("_OWN", default=False)


def linear(
    rows: Float[Tensor, "*N K"], weight: Float[Tensor, "M K"], bias: Float[Tensor, "M"] | None = None, *, ragged: bool = False
) -> Float[Tensor, "*N M"]:
    """rows @ weight.T + bias, with gradients: torch's `linear`, made where it is made fastest.

    Args:
        ragged: whether M is another one at each call, so that columns, too, go in tiles of few sizes.
    """
    if not gains(rows, weight.numel(), weight):
        return functional.linear(rows, weight, bias)
    product: Tensor = _Linear.apply(rows.flatten(0, -2), weight, bias, ragged)
    return product if rows.ndim == 2 else product.view(*rows.shape[:-1], len(weight))


def transposed_product(left: Float[Tensor, "N K"], right: Float[Tensor, "N M"]) -> Float[Tensor, "K M"]:
    """left.T @ right, a sum over rows, whatever N and K are each time; gradients do not pass."""
    if not gains(left, left.shape[1] * right.shape[1], right):
        return left.T @ right
    made = left.new_empty(left.shape[1], right.shape[1])
    for columns in _tiles(left.shape[1], COLUMNS, again=True):
        made[columns] = _sum_of_products(left[:, columns], right)
    return made


class Linear(nn.Linear):
    """`torch.nn.Linear` by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)

    @staticmethod
    def throughout(model: nn.Module) -> None:
        """Makes every `torch.nn.Linear` of somebody else's model one of these; its weights stay where they are."""
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = Linear


def gains(rows: Tensor, numbers: int, other: Tensor) -> bool:
    """Whether oneDNN is to be asked for a product of these, one side of which has so many numbers."""
    return (
        numbers >= LEAST
        and rows.ndim > 1
        and rows.dtype == other.dtype == torch.float32
        and rows.device.type == "cpu" == other.device.type
        and is_faster()
        and not all_by_torch()
    )


@contextmanager
def as_torch_does() -> Iterator[None]:
    """Nothing by a way of the CPU's own meanwhile: to compare with, and to count what any device would be given."""
    before = _OWN.set(True)
    try:
        yield
    finally:
        _OWN.reset(before)


def all_by_torch() -> bool:
    """Whether this is within `as_torch_does`."""
    return _OWN.get()


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
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, ragged: bool) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _product(rows, weight, bias, ragged=ragged)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        rows, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_rows = _product(gradient, weight.T, None) if ctx.needs_input_grad[0] else None
        of_weight = _sum_of_products(gradient, rows) if ctx.needs_input_grad[1] else None
        return of_rows, of_weight, gradient.sum(0) if ctx.needs_input_grad[2] else None, None


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None, *, ragged: bool = False) -> Tensor:
    if len(rows) < TILES[-1]:
        filled = functional.pad(rows, (0, 0, 0, TILES[-1] - len(rows)))
        return _product(filled, weight, bias, ragged=ragged)[: len(rows)].clone()
    rows, made = rows.contiguous(), rows.new_empty(len(rows), len(weight))
    # oneDNN would read on behind the numbers of a view.
    bias = None if bias is None else bias.contiguous()
    # Each thread is to have a tile.
    sizes = (TILES[0] * torch.get_num_threads(), *TILES)
    for columns in _tiles(len(weight), COLUMNS, again=True) if ragged else [slice(0, len(weight))]:
        part, added = weight[columns], None if bias is None else bias[columns]
        for tile in _tiles(len(rows), sizes, again=True):
            made[tile, columns] = torch.ops.mkldnn._linear_pointwise(rows[tile], part, added, "none", [], "")
    return made


def _sum_of_products(left: Tensor, right: Tensor) -> Tensor:
    total: Tensor | None = None
    for tile in _tiles(len(left), SUMS):
        if tile.stop - tile.start < SUMS[-1]:
            part = left[tile].T @ right[tile]
        else:
            shape = left.new_empty(left.shape[1], right.shape[1])
            part, _ = torch.ops.aten.mkldnn_linear_backward_weights(left[tile].to_mkldnn(), right[tile].to_mkldnn(), shape, False)
        total = part if total is None else total.add_(part)
    return left.T @ right if total is None else total


def _tiles(count: int, sizes: tuple[int, ...], *, again: bool = False) -> Iterator[slice]:
    """Places in parts of these sizes, the largest first, and at last what is left over.

    Args:
        again: whether what is left over may hold places of the part before, so that it has the smallest size.
    """
    start = 0
    for size in sizes:
        while start + size <= count:
            yield slice(start, start + size)
            start += size
    if start < count:
        yield slice(max(0, count - sizes[-1]) if again else start, count)
