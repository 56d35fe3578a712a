"""Checks arrays from other tools' files, and gives them the shape of an item: (rows, columns)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from prvr.errors import DataError

# Limit for one item. An hour of video at 30 frames a second and 2,048 columns takes less.
MOST_BYTES = 2**30


def check_size(id: str, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Checks, by the shape that its file declares, that an array is small enough to be read.

    Raises:
        DataError: it is larger than `MOST_BYTES`.
    """
    size = dtype.itemsize
    for length in shape:
        size *= length
    if size > MOST_BYTES:
        raise DataError(
            f"features of {id!r} in {path} declare {size} bytes, more than the {MOST_BYTES} that one item may have; "
            "write them again"
        )


def check_numbers(id: str, path: Path, shape: tuple[int, ...] | None, dtype: np.dtype[Any]) -> None:
    """Checks, by what its file declares, that an array is floating-point rows, one row, or (1, rows, columns).

    Args:
        shape: None for an array that has none.

    Raises:
        DataError: it has another rank, no columns, or other values.
    """
    rank = 0 if shape is None else len(shape)
    rows = rank in (1, 2) or (rank == 3 and shape is not None and shape[0] == 1)
    if not rows or not np.issubdtype(dtype, np.floating) or (shape is not None and shape[-1] == 0):
        raise DataError(f"features of {id!r} in {path} are {dtype} of shape {shape or ()}, not rows of numbers (rows, columns)")


def as_rows(id: str, path: Path, value: np.ndarray) -> np.ndarray:
    """Returns an array as (rows, columns); (1, rows, columns) and a single row are accepted.

    Raises:
        DataError: as `check_numbers`.
    """
    check_numbers(id, path, value.shape, value.dtype)
    rows = value[0] if value.ndim == 3 else value
    return rows[None] if rows.ndim == 1 else rows
