"""The columns of sketches (`prvr.index.sketches`): the direction that queries have in common, and principal components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from prvr.index.scan import Codes, Gallery, join, rotate

# One step of int8, in standard deviations of a column: int8 holds four deviations.
STEP = 1 / 32
SAMPLE = 50_000
LEAST = 1e-12


class Columns(NamedTuple):
    """The columns of a field's sketches: a row is approximately `mean + sketch @ axes.T`."""

    mean: Float32[np.ndarray, "D"]
    axes: Float32[np.ndarray, "D K"]

    def first(self, count: int) -> Columns:
        """The columns that `principal` finds for this count."""
        return Columns(self.mean, self.axes[:, :count])


def principal(codes: Codes, count: int, *, along: Float[np.ndarray, "D"] | None = None) -> Columns:
    """The principal columns of rows, scaled so that int8 holds nearly all values.

    Args:
        along: the first column, whatever the rows are. Sentences have a direction in common, far from all frames: a quarter
            of the variance of the frames' scores may lie along it and in no principal column.
    """
    rows = decode(codes, slice(None, None, max(1, len(codes.values) // SAMPLE)))
    mean = rows.mean(0)
    rows -= mean
    first = np.zeros((len(mean), 0), np.float32)
    if along is not None:
        first = rotate(along[None]).T
        on_it = rows @ first
        rows -= on_it @ first.T
        # A zero vector has no direction and is left out.
        first = first[:, first.any(0)] * max(float(on_it.std()), LEAST)
    variances, axes = np.linalg.eigh(np.cov(rows, rowvar=False, bias=True).reshape(len(mean), len(mean)))
    left = count - first.shape[1]
    deviations = np.sqrt(np.maximum(variances[::-1][:left], LEAST))
    return Columns(mean, (np.concatenate([first, axes[:, ::-1][:, :left] * deviations], axis=1) * STEP).astype(np.float32))


def find_columns(gallery: Gallery, count: int, *, along: Sequence[Float[np.ndarray, "_"]] | None = None) -> list[Columns]:
    """The `principal` columns of each field of a gallery.

    Args:
        along: of each field, the mean direction of queries.
    """
    of_fields = [_sample(codes) for codes in zip(*(fields for fields, _ in gallery.parts()), strict=True)]
    return [principal(codes, count, along=along[number] if along else None) for number, codes in enumerate(of_fields)]


def _sample(parts: Sequence[Codes]) -> Codes:
    """About `SAMPLE` rows of all parts."""
    step = max(1, sum(len(part.values) for part in parts) // SAMPLE)
    return join([Codes(*(values[::step] for values in part)) for part in parts])


def decode(codes: Codes, rows: slice) -> Float32[np.ndarray, "R D"]:
    """The rotated directions of some rows, approximately."""
    return codes.values[rows] * codes.scales[rows, None]
