"""Approximate search in large galleries: sketches of each video, each finer than the one before, scanned instead of its rows.

A video of the best is missed where its sketches say too little; docs/index-speed.md has measurements. The exact scan
(`Gallery.candidates`) needs no measurement; sketches are used only in a setting that was measured with the user's own
queries (`prvr.index.measure`).

A sketch has fewer rows than its video, because the most similar neighbours are joined, and fewer columns: the direction
that all queries have in common, and the principal columns of what is left. The first sketch is scanned for all videos, each
later one only for the videos that the one before keeps. New videos are sketched in the same columns, so that nothing is
computed again; where they are of another kind, recall falls and a new measurement is due.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import final

import numpy as np
from jaxtyping import Bool, Float32, Int, Int8, Int32

from prvr.errors import SettingError
from prvr.index import scan
from prvr.index.columns import LEAST, Columns, decode
from prvr.index.scan import LEVELS, Codes, Gallery, code_query, ranges

# The number of rows of a sketch is a multiple of this, so that videos of similar length are scanned together.
ROWS_TOGETHER = 4
# Rows that are scanned together: their products stay in the processor's cache.
SKETCH_ROWS_AT_ONCE = 1 << 19
# Codes have errors of a few thousandths: the best SURE * k by codes contain the exact k best.
SURE = 3

Kernel = Callable[[Int8[np.ndarray, "R D"], Int8[np.ndarray, "D"]], Int32[np.ndarray, "R"]]


@final
class Sketch:
    """A sketch of each video of a gallery, at the gallery's places."""

    def __init__(self, columns: Sequence[Columns], weights: Sequence[float], share: float, *, heaviest: bool = False) -> None:
        """An empty sketch.

        Args:
            columns: of each field, from `principal`.
            weights: of the fields; a field of smaller weight has fewer rows.
            share: of a video's rows that its sketch has, in the field with the largest weight.
            heaviest: sketches that field alone. The frames of the others are the same, and for the same bytes more rows of
                one field find more than a few of each.

        Raises:
            SettingError: the share is not above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise SettingError(f"share {share}; a share of the rows is above 0 and at most 1")
        sizes = [abs(weight) for weight in weights]
        most = sizes.index(max(sizes))
        self._fields = {
            number: _Field(columns[number], weights[number], share * size / sizes[most])
            for number, size in enumerate(sizes)
            if number == most or not heaviest
        }

    def __len__(self) -> int:
        return len(next(iter(self._fields.values())).rows)

    @property
    def nbytes(self) -> int:
        """The bytes that a scan of all videos reads."""
        return sum(block.values.nbytes for field in self._fields.values() for block in field.blocks.values())

    def add(self, fields: Sequence[Codes], starts: Sequence[Int[np.ndarray, "N"]]) -> None:
        """Appends videos."""
        for number, field in self._fields.items():
            codes, of_field = fields[number], starts[number]
            for begin, end in ranges(of_field):
                field.add(decode(codes, slice(of_field[begin], of_field[end])), of_field[begin : end + 1] - of_field[begin])

    def scores(
        self, queries: Sequence[Float32[np.ndarray, "_"]], places: Int[np.ndarray, "C"] | None = None
    ) -> Float32[np.ndarray, "C"]:
        """The approximate scores of the videos at some places, or of all."""
        return np.sum([field.scores(queries[number], places) for number, field in self._fields.items()], axis=0)


class FirstStage:
    """Sketches of a gallery's videos, each finer than the one before."""

    def __init__(self, gallery: Gallery, sketches: Sequence[Sketch]) -> None:
        self.gallery, self.sketches = gallery, list(sketches)

    def add(self, fields: Sequence[Codes], starts: Sequence[Int[np.ndarray, "N"]]) -> None:
        """Appends the sketches of videos: those that are appended to the gallery, in the same order."""
        for sketch in self.sketches:
            sketch.add(fields, starts)

    def promising(
        self, queries: Sequence[Float32[np.ndarray, "_"]], keep: Sequence[int], allowed: Bool[np.ndarray, "V"] | None = None
    ) -> Int[np.ndarray, "C"]:
        """The allowed places with the best scores of their sketches, in ascending order.

        Args:
            keep: how many each sketch keeps.
        """
        count = len(self.gallery)
        places = np.arange(count) if allowed is None else np.flatnonzero(allowed)
        for sketch, most in zip(self.sketches, keep, strict=True):
            if most < len(places):
                # If they are many, a scan of all is faster than gathering them.
                scores = sketch.scores(queries)[places] if 4 * len(places) > count else sketch.scores(queries, places)
                places = places[np.argpartition(-scores, most - 1)[:most]]
        # In ascending order the processor fetches rows ahead.
        return np.sort(places)

    def candidates(
        self,
        queries: Sequence[Float32[np.ndarray, "_"]],
        k: int,
        keep: Sequence[int],
        allowed: Bool[np.ndarray, "V"] | None = None,
    ) -> Int[np.ndarray, "C"]:
        """`SURE` * k places that contain most of the exact k best of those allowed, the most promising first."""
        places = self.promising(queries, keep, allowed)
        scores, _ = self.gallery.rescore(queries, places)
        return places[np.argsort(-scores, kind="stable")[: SURE * k]]


def sketch_gallery(gallery: Gallery, columns: Sequence[Columns], *, share: float, heaviest: bool = False) -> Sketch:
    """A sketch of all videos of a gallery; arguments as for `Sketch`."""
    sketch = Sketch(columns, gallery.weights, share, heaviest=heaviest)
    for fields, starts in gallery.parts():
        sketch.add(fields, starts)
    return sketch


@cache
def kernel() -> Kernel:
    """The product of int8 matrices: torch's where it is exact, otherwise that of a scan (`prvr.index.scan.kernel`).

    torch's runs at the speed of the memory where columns are a multiple of 64, at half of that with 96, and at a quarter or
    less with fewer than 64. On processors without instructions for int8 (VNNI) oneDNN adds pairs of products in 16 bits,
    which is too few for large values.
    """
    rows = np.full((256, 96), LEVELS, np.int8)
    try:
        exact = bool((products_by_torch(rows, rows[0]) == rows.shape[1] * LEVELS**2).all())
    except (AttributeError, RuntimeError):
        exact = False
    return products_by_torch if exact else _products_by_scan


def products_by_torch(rows: Int8[np.ndarray, "R K"], vector: Int8[np.ndarray, "K"]) -> Int32[np.ndarray, "R"]:
    """The products of int8 rows with a vector, exact if the processor has instructions for int8."""
    import torch

    return torch._int_mm(torch.from_numpy(rows), torch.from_numpy(vector)[:, None])[:, 0].numpy()


def _products_by_scan(rows: Int8[np.ndarray, "R K"], vector: Int8[np.ndarray, "K"]) -> Int32[np.ndarray, "R"]:
    return scan.kernel()(rows, vector[None])[:, 0].astype(np.int32)


class _Field:
    """The sketches of one field."""

    def __init__(self, columns: Columns, weight: float, share: float) -> None:
        self.columns, self.weight, self.share = columns, weight, share
        # Videos whose sketches have the same number of rows are scanned together; by that number.
        self.blocks: dict[int, _Block] = {}
        # Of each video: the number of its rows, and its position in that block.
        self.rows = np.zeros(0, np.int64)
        self.nth = np.zeros(0, np.int64)

    def add(self, rows: Float32[np.ndarray, "R D"], starts: Int[np.ndarray, "N"]) -> None:
        lengths, sketches = _sketches(rows, starts, self.columns, self.share)
        nth = np.zeros(len(lengths), np.int64)
        for count in np.unique(lengths).tolist():
            places = np.flatnonzero(lengths == count)
            block = self.blocks.setdefault(count, _Block(count, self.columns.axes.shape[1]))
            nth[places] = len(block.values) + np.arange(len(places))
            block.add(sketches[count], places + len(self.rows))
        self.rows, self.nth = np.append(self.rows, lengths), np.append(self.nth, nth)

    def scores(self, query: Float32[np.ndarray, "D"], places: Int[np.ndarray, "C"] | None) -> Float32[np.ndarray, "C"]:
        """The field's term of the scores."""
        unit = decode(code_query(query), slice(None)).sum(0)
        on_axes = unit @ self.columns.axes
        scale = max(float(np.abs(on_axes).max()), LEAST) / LEVELS
        vector = np.rint(on_axes / scale).astype(np.int8)
        if places is None:
            best = np.empty(len(self.rows), np.int32)
            for block in self.blocks.values():
                best[block.places] = _best(block.values, vector)
        else:
            best, rows, nth = np.empty(len(places), np.int32), self.rows[places], self.nth[places]
            for count in np.unique(rows).tolist():
                some = np.flatnonzero(rows == count)
                best[some] = _best(self.blocks[count].values, vector, nth[some])
        return np.float32(self.weight) * (best.astype(np.float32) * np.float32(scale) + unit @ self.columns.mean)


class _Block:
    """Sketches with the same number of rows, with room for more."""

    def __init__(self, rows: int, columns: int) -> None:
        self._values = np.empty((0, rows, columns), np.int8)
        self.places = np.zeros(0, np.int64)

    @property
    def values(self) -> Int8[np.ndarray, "B N K"]:
        return self._values[: len(self.places)]

    def add(self, values: Int8[np.ndarray, "B N K"], places: Int[np.ndarray, "B"]) -> None:
        there, wanted = len(self.places), len(self.places) + len(places)
        if wanted > len(self._values):
            # Room for half as many again, so that the values are seldom copied.
            larger = np.empty((max(wanted, 3 * there // 2), *values.shape[1:]), np.int8)
            larger[:there] = self.values
            self._values = larger
        self._values[there:wanted] = values
        self.places = np.append(self.places, places)


def _best(
    values: Int8[np.ndarray, "B N K"], vector: Int8[np.ndarray, "K"], some: Int[np.ndarray, "C"] | None = None
) -> Int32[np.ndarray, "C"]:
    """The largest product of each video's rows with a vector, for some videos or for all."""
    import torch

    count, (_, rows, columns) = len(values) if some is None else len(some), values.shape
    at_once = max(1, SKETCH_ROWS_AT_ONCE // rows)
    # Gathered as words of four bytes, which is faster; the number of rows is a multiple of four.
    words = torch.from_numpy(values.reshape(len(values), rows * columns).view(np.int32))
    best = np.empty(count, np.int32)
    for start in range(0, count, at_once):
        part = slice(start, min(start + at_once, count))
        taken = words[part] if some is None else words.index_select(0, torch.from_numpy(some[part]))
        products = kernel()(taken.numpy().view(np.int8).reshape(-1, columns), vector)
        best[part] = torch.from_numpy(products).view(-1, rows).amax(1).numpy()
    return best


def _sketches(
    rows: Float32[np.ndarray, "R D"], starts: Int[np.ndarray, "N"], columns: Columns, share: float
) -> tuple[Int[np.ndarray, "V"], dict[int, Int8[np.ndarray, "_ _ _"]]]:
    """The number of rows of each video's sketch, and by that number the sketches, in the videos' order."""
    lengths = np.diff(starts)
    wanted = ROWS_TOGETHER * np.maximum(1, np.ceil(share * lengths / ROWS_TOGETHER)).astype(np.int64)
    alike = np.append(-np.inf, np.einsum("rd,rd->r", rows[1:], rows[:-1]))
    alike[starts[:-1]] = -np.inf
    # Each video's rows by their similarity to the row before; the most similar ones are joined to it.
    order = np.lexsort((alike, np.repeat(np.arange(len(lengths)), lengths)))
    cuts = np.sort(order[np.arange(len(rows)) - np.repeat(starts[:-1], lengths) < np.repeat(wanted, lengths)])
    joined = _sums(rows, cuts)
    joined /= np.maximum(np.linalg.norm(joined, axis=1, keepdims=True), LEAST)
    # In units of the axes' lengths, which are short.
    sketch = (joined - columns.mean) @ (columns.axes / (columns.axes**2).sum(0))
    values = np.clip(np.rint(sketch), -LEVELS, LEVELS).astype(np.int8)
    there = np.minimum(wanted, lengths)
    firsts = np.cumsum(there) - there
    found = {}
    for count in np.unique(wanted).tolist():
        places = np.flatnonzero(wanted == count)
        # Where there are too few, the first one is repeated, which changes no maximum.
        nth = np.arange(count)
        found[count] = values[firsts[places][:, None] + np.where(nth < there[places][:, None], nth, 0)]
    return wanted, found


def _sums(rows: Float32[np.ndarray, "R D"], cuts: Int[np.ndarray, "N"]) -> Float32[np.ndarray, "N D"]:
    """The sums of rows from each cut to the next, in a tenth of the time of `np.add.reduceat`."""
    lengths = np.diff(np.append(cuts, len(rows)))
    sums = rows[cuts]
    for nth in range(1, int(lengths.max())):
        longer = np.flatnonzero(lengths > nth)
        sums[longer] += rows[cuts[longer] + nth]
    return sums
