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


def as_rows(id: str, path: Path, value: np.ndarray) -> np.ndarray:
    """Returns an array as (rows, columns); (1, rows, columns) and a single row are accepted.

    Raises:
        DataError: the array has another rank, or no floating-point numbers.
    """
    rows = value
    if rows.ndim == 3 and len(rows) == 1:
        rows = rows[0]
    if rows.ndim == 1:
        rows = rows[None]
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.floating):
        raise DataError(
            f"features of {id!r} in {path} are {value.dtype} of shape {value.shape}, not rows of numbers (rows, columns)"
        )
    return rows
