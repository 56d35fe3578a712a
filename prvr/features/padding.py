"""Sequences of rows as one padded tensor, in memory that the next batch can reuse."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

# A new block is this many times as large as the tensor that it is made for.
ROOM = 2


class Memory:
    """Memory for the tensors of one batch that the next batch reuses; it overwrites them.

    The kernel must clear newly allocated memory first, which takes several times as long as filling it.
    """

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._taken = 0

    def begin(self) -> None:
        """Makes all blocks available for the next batch."""
        self._taken = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Shaped[np.ndarray, "..."]:
        """Returns an uninitialised array in the next block."""
        size, block = math.prod(shape) * dtype.itemsize, self._taken
        self._taken += 1
        if block == len(self._blocks):
            self._blocks.append(np.empty(0, np.uint8))
        if size > len(self._blocks[block]):
            # With room to grow: pages that are not written take no memory, and a longer batch needs no new block to be cleared.
            self._blocks[block] = np.empty(ROOM * size, np.uint8)
        return self._blocks[block][:size].view(dtype).reshape(shape)


def pad(
    sequences: Sequence[Float[np.ndarray, "_ E"]], memory: Memory | None = None
) -> tuple[Float[Tensor, "N L E"], Bool[Tensor, "N L"]]:
    """Returns sequences in one tensor, padded with zeros, and the mask of their rows; float16 becomes float32."""
    # NumPy allocates huge pages and torch does not: four times as fast with new memory.
    empty = np.empty if memory is None else memory.empty
    lengths = torch.tensor([len(s) for s in sequences])
    dtype = np.result_type(*{s.dtype for s in sequences})
    wide = np.dtype(np.float32) if dtype == np.float16 else dtype
    padded = empty((len(sequences), max(map(len, sequences)), sequences[0].shape[1]), wide)
    tensor = torch.from_numpy(padded)
    for number, sequence in enumerate(sequences):
        if dtype == np.float16:
            # torch converts several numbers at once, NumPy one.
            tensor[number, : len(sequence)] = _as_tensor(sequence)
        else:
            padded[number, : len(sequence)] = sequence
        padded[number, len(sequence) :] = 0
    return tensor, torch.arange(padded.shape[1]) < lengths[:, None]


def _as_tensor(rows: Float[np.ndarray, "_ E"]) -> Tensor:
    """Returns the same memory as a tensor, which must not be written to."""
    _use_up_warning()
    return torch.from_numpy(rows)


@functools.cache
def _use_up_warning() -> None:
    # torch warns once in a process that a memory-mapped file is not writable.
    read_only = np.zeros(1)
    read_only.flags.writeable = False
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        torch.from_numpy(read_only)
