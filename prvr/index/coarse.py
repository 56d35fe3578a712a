"""A first stage for large galleries: a sketch of each video, scanned in place of its rows, and the best of them scored.

It is approximate: a video of the best is missed where its sketch says too little. `FirstStage.keep` is how many videos are
scored from their codes after the sketches were scanned; docs/index-speed.md has what was measured. The exact scan
(`Gallery.candidates`) is what holds without conditions.

A sketch has fewer rows than its video, neighbours that resemble each other most being joined, and fewer columns: the
principal ones of the rows that the stage was made from. Videos that come later are sketched in the same columns, so that
nothing is made again; where they are of another kind, recall falls and a new stage is worth its time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int8, Int32

from prvr.errors import SettingError
from prvr.index.scan import LEVELS, Codes, Gallery, ask, best_places, products_by_numpy

# Of a column's standard deviation: four of them fit into int8.
STEP = 1 / 32
# A sketch's rows come in such numbers, so that videos of like length are scanned together.
ROWS_TOGETHER = 4
SKETCH_ROWS_AT_ONCE = 1 << 17
SAMPLE = 50_000
LEAST = 1e-12

Kernel = Callable[[Int8[np.ndarray, "R D"], Int8[np.ndarray, "D"]], Int32[np.ndarray, "R"]]


class Columns(NamedTuple):
    """What a field is sketched in: a row is about `mean + sketch @ axes.T`."""

    mean: Float32[np.ndarray, "D"]
    axes: Float32[np.ndarray, "D K"]


def principal(codes: Codes, count: int) -> Columns:
    """The columns that say most of rows, each so long that int8 holds nearly all values."""
    rows = _decoded(codes, slice(None, None, max(1, len(codes.values) // SAMPLE)))
    mean = rows.mean(0)
    variances, axes = np.linalg.eigh(np.cov(rows - mean, rowvar=False, bias=True).reshape(len(mean), len(mean)))
    deviations = np.sqrt(np.maximum(variances[::-1][:count], LEAST))
    return Columns(mean, (axes[:, ::-1][:, :count] * deviations * STEP).astype(np.float32))


class FirstStage:
    """Sketches of a gallery's videos, in the gallery's places."""

    def __init__(self, gallery: Gallery, columns: Sequence[Columns], *, share: float = 0.45, keep: int = 2000) -> None:
        """An empty stage; `add` takes the same videos as the gallery's, in the same order.

        Args:
            columns: of each field, as `principal` finds them.
            share: of a video's rows that its sketch has.
            keep: videos that are scored from their codes.

        Raises:
            SettingError: the share or the number to keep says nothing.
        """
        if not 0 < share <= 1 or keep < 1:
            raise SettingError(f"share {share} and keep {keep}; a share is above 0 and at most 1, and one video or more is kept")
        self.gallery, self.columns, self.share, self.keep = gallery, list(columns), share, keep
        self._blocks: list[list[_Block]] = [[] for _ in columns]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """What a query reads of the sketches."""
        return sum(block.values.nbytes for blocks in self._blocks for block in blocks)

    def add(self, fields: Sequence[Codes], starts: Sequence[Int[np.ndarray, "N"]]) -> None:
        """Adds the sketches of videos behind those that are there, without touching these."""
        for blocks, columns, codes, of_field in zip(self._blocks, self.columns, fields, starts, strict=True):
            places = np.arange(self._count, self._count + len(of_field) - 1)
            for block in _sketches(codes, of_field, places, columns, self.share):
                _put(blocks, block)
        self._count += len(starts[0]) - 1

    def scores(self, queries: Sequence[Float32[np.ndarray, "_"]]) -> Float32[np.ndarray, "V"]:
        """About the score of every video, from the sketches alone."""
        scores = np.zeros(self._count, np.float32)
        for query, weight, columns, blocks in zip(queries, self.gallery.weights, self.columns, self._blocks, strict=True):
            unit = _decoded(ask(query), slice(None)).sum(0)
            along = unit @ columns.axes
            scale = max(float(np.abs(along).max()), LEAST) / LEVELS
            vector = np.rint(along / scale).astype(np.int8)
            best = np.empty(self._count, np.float32)
            for block in blocks:
                rows, videos, _ = block.values.shape
                products = kernel()(block.values.reshape(rows * videos, -1), vector)
                best[block.places] = products.reshape(rows, videos).max(0)
            scores += np.float32(weight) * (best * np.float32(scale) + unit @ columns.mean)
        return scores

    def candidates(
        self, queries: Sequence[Float32[np.ndarray, "_"]], k: int, allowed: Bool[np.ndarray, "V"] | None = None
    ) -> Int[np.ndarray, "C"]:
        """Places that hold most of the exact k best of those allowed, the most promising first."""
        scores = self.scores(queries)
        places = np.arange(len(scores)) if allowed is None else np.flatnonzero(allowed)
        keep = max(self.keep, k)
        if keep < len(places):
            places = places[np.argpartition(-scores[places], keep - 1)[:keep]]
        # In the order of their rows, which the processor then fetches ahead.
        places = np.sort(places)
        return places[best_places(*self.gallery.rescored(queries, places), k)]


@cache
def kernel() -> Kernel:
    """torch's product of int8 matrices, at the speed of the memory where columns are few; NumPy's without it."""
    try:
        import torch

        rows = torch.ones(32, 8, dtype=torch.int8)
        torch._int_mm(rows, rows[:1].T)
    except (ImportError, AttributeError, RuntimeError):
        return lambda rows, vector: products_by_numpy(rows, vector[None])[:, 0].astype(np.int32)
    return products_by_torch


def products_by_torch(rows: Int8[np.ndarray, "R K"], vector: Int8[np.ndarray, "K"]) -> Int32[np.ndarray, "R"]:
    """The exact products of int8 rows with a vector."""
    import torch

    return torch._int_mm(torch.from_numpy(rows), torch.from_numpy(vector)[:, None])[:, 0].numpy()


class _Block(NamedTuple):
    """Sketches with equally many rows, scanned at once: the first rows of all videos, then the second rows ..."""

    values: Int8[np.ndarray, "N B K"]
    places: Int[np.ndarray, "B"]


def _sketches(
    codes: Codes, starts: Int[np.ndarray, "N"], places: Int[np.ndarray, "B"], columns: Columns, share: float
) -> Iterator[_Block]:
    by_rows: dict[int, list[tuple[int, Int8[np.ndarray, "N K"]]]] = {}
    for place, begin, end in zip(places.tolist(), starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        sketch = _sketch(_decoded(codes, slice(begin, end)), columns, share)
        by_rows.setdefault(len(sketch), []).append((place, sketch))
    for alike in by_rows.values():
        yield _Block(np.stack([sketch for _, sketch in alike], axis=1), np.array([place for place, _ in alike]))


def _sketch(rows: Float32[np.ndarray, "F D"], columns: Columns, share: float) -> Int8[np.ndarray, "N K"]:
    count = ROWS_TOGETHER * math.ceil(share * len(rows) / ROWS_TOGETHER)
    if count < len(rows):
        alike = (rows[1:] * rows[:-1]).sum(1)
        cuts = np.append(0, 1 + np.sort(np.argpartition(alike, count - 2)[: count - 1]))
        rows = np.add.reduceat(rows, cuts, axis=0)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), LEAST)
    # In units of the axes' lengths, which are short; a row that is there twice changes no maximum.
    sketch = (rows - columns.mean) @ (columns.axes / (columns.axes**2).sum(0))
    sketch = np.clip(np.rint(sketch), -LEVELS, LEVELS).astype(np.int8)
    return np.concatenate([sketch, np.repeat(sketch[:1], max(count - len(sketch), 0), axis=0)])


def _put(blocks: list[_Block], block: _Block) -> None:
    """Adds a block, to the last one with as many rows while that is small."""
    rows = len(block.values)
    for number in range(len(blocks) - 1, -1, -1):
        there = blocks[number]
        if len(there.values) == rows and rows * len(there.places) < SKETCH_ROWS_AT_ONCE:
            values = np.concatenate([there.values, block.values], axis=1)
            blocks[number] = _Block(values, np.append(there.places, block.places))
            return
    blocks.append(block)


def _decoded(codes: Codes, rows: slice) -> Float32[np.ndarray, "R D"]:
    return codes.values[rows] * codes.scales[rows, None]
