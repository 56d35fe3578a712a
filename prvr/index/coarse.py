"""A first stage for large galleries: a sketch of each video, scanned in place of its rows, and the best of them scored.

It is approximate: a video of the best is missed where its sketch says too little. `FirstStage.keep` is how many videos are
scored from their codes after the sketches were scanned; docs/index-speed.md has what was measured. The exact scan
(`Gallery.candidates`) is what holds without conditions; a search asks a stage only in a setting that was measured with its
user's queries (`prvr.index.trial`).

A sketch has fewer rows than its video, neighbours that resemble each other most being joined, and fewer columns: the
principal ones of the rows that the stage was made from. Videos that come later are sketched in the same columns, so that
nothing is made again; where they are of another kind, recall falls and a new stage is worth its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int8, Int32

from prvr.errors import SettingError
from prvr.index.scan import LEVELS, Codes, Gallery, ask, best_places, join, products_by_numpy, runs

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
            for begin, end in runs(of_field):
                rows = _decoded(codes, slice(of_field[begin], of_field[end]))
                for block in _sketches(rows, of_field[begin : end + 1] - of_field[begin], columns, self.share):
                    _put(blocks, _Block(block.values, block.places + begin + self._count))
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

    def promising(
        self, queries: Sequence[Float32[np.ndarray, "_"]], keep: int, allowed: Bool[np.ndarray, "V"] | None = None
    ) -> Int[np.ndarray, "C"]:
        """Places of so many of those allowed whose sketches score best, in the order of their rows."""
        scores = self.scores(queries)
        places = np.arange(len(scores)) if allowed is None else np.flatnonzero(allowed)
        if keep < len(places):
            places = places[np.argpartition(-scores[places], keep - 1)[:keep]]
        # The processor fetches rows ahead that are asked for in their order.
        return np.sort(places)

    def candidates(
        self, queries: Sequence[Float32[np.ndarray, "_"]], k: int, allowed: Bool[np.ndarray, "V"] | None = None
    ) -> Int[np.ndarray, "C"]:
        """Places that hold most of the exact k best of those allowed, the most promising first."""
        places = self.promising(queries, max(self.keep, k), allowed)
        return places[best_places(*self.gallery.rescored(queries, places), k)]


def sketched(gallery: Gallery, *, share: float, columns: int) -> FirstStage:
    """A stage of all videos of a gallery, in the principal columns of their rows."""
    parts = list(gallery.parts())
    stage = FirstStage(
        gallery, [principal(_some(codes), columns) for codes in zip(*(f for f, _ in parts), strict=True)], share=share
    )
    for fields, starts in parts:
        stage.add(fields, starts)
    return stage


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


def _some(parts: Sequence[Codes]) -> Codes:
    """About as many rows of all parts as principal columns are found from."""
    step = max(1, sum(len(part.values) for part in parts) // SAMPLE)
    return join([Codes(*(values[::step] for values in part)) for part in parts])


class _Block(NamedTuple):
    """Sketches with equally many rows, scanned at once: the first rows of all videos, then the second rows ..."""

    values: Int8[np.ndarray, "N B K"]
    places: Int[np.ndarray, "B"]


def _sketches(rows: Float32[np.ndarray, "R D"], starts: Int[np.ndarray, "N"], columns: Columns, share: float) -> Iterator[_Block]:
    lengths = np.diff(starts)
    wanted = ROWS_TOGETHER * np.ceil(share * lengths / ROWS_TOGETHER).astype(np.int64)
    alike = np.append(-np.inf, np.einsum("rd,rd->r", rows[1:], rows[:-1]))
    alike[starts[:-1]] = -np.inf
    # Each video's rows by how little they resemble the one before; those that do most are joined to it.
    order = np.lexsort((alike, np.repeat(np.arange(len(lengths)), lengths)))
    cuts = np.sort(order[np.arange(len(rows)) - np.repeat(starts[:-1], lengths) < np.repeat(wanted, lengths)])
    joined = _sums(rows, cuts)
    joined /= np.maximum(np.linalg.norm(joined, axis=1, keepdims=True), LEAST)
    # In units of the axes' lengths, which are short.
    sketch = (joined - columns.mean) @ (columns.axes / (columns.axes**2).sum(0))
    values = np.clip(np.rint(sketch), -LEVELS, LEVELS).astype(np.int8)
    there = np.minimum(wanted, lengths)
    firsts = np.cumsum(there) - there
    for count in np.unique(wanted).tolist():
        places = np.flatnonzero(wanted == count)
        # Where there are too few, the first is there again, which changes no maximum.
        nth = np.arange(count)[:, None]
        yield _Block(values[firsts[places] + np.where(nth < there[places], nth, 0)], places)


def _sums(rows: Float32[np.ndarray, "R D"], cuts: Int[np.ndarray, "N"]) -> Float32[np.ndarray, "N D"]:
    """The sums of rows from each cut to the next; `np.add.reduceat`, which takes ten times as long here."""
    lengths = np.diff(np.append(cuts, len(rows)))
    sums = rows[cuts]
    for nth in range(1, int(lengths.max())):
        longer = np.flatnonzero(lengths > nth)
        sums[longer] += rows[cuts[longer] + nth]
    return sums


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
