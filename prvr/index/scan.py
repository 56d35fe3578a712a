"""Scores of a query with every video of a gallery, from int8 codes, and how far they may be from the exact ones.

A video's score is the weighted sum over fields of the best row's cosine with the query's vector of that field. Codes take
a quarter of the memory of float32, and memory is what a scan waits for. What the coding changed is known for each row, so
that `Gallery.candidates` never leaves out a video of the exact best.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int8

from prvr.errors import DataError

LEVELS = 127
# So many rows are coded or scanned at once: their cosines stay in the processor's cache.
ROWS_AT_ONCE = 1 << 15
# So many videos' rows are gathered at once.
VIDEOS_TOGETHER = 64
# Of float32: each step of a sum of D products may be off by this much of it.
ROUNDING = 2.0**-23

Kernel = Callable[[Int8[np.ndarray, "R D"], Int8[np.ndarray, "N D"]], Float32[np.ndarray, "R N"]]


class Codes(NamedTuple):
    """Directions of rows, turned by `rotation`: about `scales * values`, and no farther from that than `errors`."""

    values: Int8[np.ndarray, "R D"]
    scales: Float32[np.ndarray, "R"]
    errors: Float32[np.ndarray, "R"]


def quantise(rows: Float[np.ndarray, "R D"]) -> Codes:
    """The codes of rows; one without a direction (zero, or not finite) has the cosine 0 with everything."""
    parts = [code(turned(rows[start : start + ROWS_AT_ONCE])) for start in range(0, max(len(rows), 1), ROWS_AT_ONCE)]
    return parts[0] if len(parts) == 1 else join(parts)


def join(parts: Sequence[Codes]) -> Codes:
    """The codes of all parts, one after the other."""
    return Codes(*(np.concatenate(field) for field in zip(*parts, strict=True)))


@cache
def rotation(columns: int) -> Float32[np.ndarray, "D D"]:
    """The rotation that codes are made in, which depends on nothing but the number of columns.

    Embeddings have a few columns far larger than the others, which would waste the levels of a row. Two rounds of signs
    and Hadamard blocks, with a shuffle between, spread each column over all. The index on disk relies on it: it is exact
    in every place, and of RandomState, whose numbers never change.
    """
    draw = np.random.RandomState(0)
    block = columns & -columns
    turns = np.ones((1, 1))
    while len(turns) < block:
        turns = np.block([[turns, turns], [turns, -turns]]) / np.sqrt(2)
    blocks = np.kron(np.eye(columns // block), turns)
    signs = draw.randint(0, 2, (2, columns)) * 2 - 1
    return ((signs[0][:, None] * blocks)[:, draw.permutation(columns)] * signs[1] @ blocks).astype(np.float32)


class Gallery:
    """Videos as codes in memory, ready to be asked; places are those of the order that they were added in.

    A video that has gone stays out of the candidates by the `allowed` of its place. Several threads may ask at once, but
    none while another adds.
    """

    def __init__(
        self,
        fields: Sequence[Codes],
        starts: Sequence[Int[np.ndarray, "N"]],
        weights: tuple[float, ...],
        *,
        threads: int | None = None,
    ) -> None:
        """Holds the first videos; arrays are not copied.

        Args:
            starts: of each field, where each video's rows begin, and at last where the last one's end.
            weights: of the fields.
            threads: of a scan; as many as there are processors if None.

        Raises:
            DataError: the fields hold different numbers of videos, or a video has no rows in one.
        """
        self.weights = weights
        self.threads = threads or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
        self._blocks: list[list[_Block]] = [[] for _ in weights]
        self._errors = np.zeros((len(weights), 0), np.float32)
        self.add(fields, starts)

    def __len__(self) -> int:
        return self._errors.shape[1]

    @property
    def nbytes(self) -> int:
        """What a scan reads of the rows."""
        return sum(block.codes.values.nbytes for blocks in self._blocks for block in blocks)

    def add(self, fields: Sequence[Codes], starts: Sequence[Int[np.ndarray, "N"]]) -> None:
        """Adds videos behind those that are there, without touching these.

        Raises:
            DataError: the fields hold different numbers of videos, or a video has no rows in one.
        """
        if len({len(of_field) for of_field in starts}) > 1 or not len(fields) == len(starts) == len(self.weights):
            raise DataError(
                f"{len(self.weights)} weights, but fields with {[len(of_field) - 1 for of_field in starts]} videos; "
                "add the same videos in each field"
            )
        for codes, of_field in zip(fields, starts, strict=True):
            empty = np.flatnonzero(np.diff(of_field) <= 0)
            if len(empty) or of_field[-1] != len(codes.values):
                raise DataError(
                    f"{len(empty)} of {len(of_field) - 1} videos have no rows, or the {len(codes.values)} rows are not all of a "
                    "video; a video has one row or more in each field"
                )
        first = len(self)
        if len(starts[0]) > 1:
            errors = [np.maximum.reduceat(codes.errors, of[:-1]) for codes, of in zip(fields, starts, strict=True)]
            self._errors = np.concatenate([self._errors, errors], axis=1)
        for blocks, codes, of_field in zip(self._blocks, fields, starts, strict=True):
            block = _Block(codes, of_field, first)
            # The last block is seldom full: videos that come one by one share a block, too.
            block = _follow(blocks.pop(), block) if blocks else block
            blocks += [_between(block, block.first + begin, block.first + end) for begin, end in runs(block.starts)]

    def scores(self, queries: Sequence[Float32[np.ndarray, "_"]]) -> tuple[Float32[np.ndarray, "V"], Float32[np.ndarray, "V"]]:
        """The score of every video, and how far it may be from the exact one."""
        asked = [Codes(*(field[:1] for field in ask(query))) for query in queries]
        best = np.empty((len(asked), len(self)), np.float32)
        jobs = [(query, row, b) for query, row, blocks in zip(asked, best, self._blocks, strict=True) for b in blocks]

        def scan(job: tuple[Codes, Float32[np.ndarray, "V"], _Block]) -> None:
            query, row, block = job
            row[block.first : block.first + len(block.starts) - 1] = _best(block.codes, block.starts, query)

        if self.threads == 1 or len(jobs) < 2:
            for job in jobs:
                scan(job)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(scan, jobs))
        return self._weighed(best, asked, self._errors)

    def rescored(
        self, queries: Sequence[Float32[np.ndarray, "_"]], places: Int[np.ndarray, "C"]
    ) -> tuple[Float32[np.ndarray, "C"], Float32[np.ndarray, "C"]]:
        """The scores of some videos, and how far they may be from the exact ones: half as far as those of `scores`."""
        asked = [ask(query) for query in queries]
        # By one thread: more get no faster here, and wait for those that torch still holds after the sketches.
        best = np.stack([_best_of(blocks, places, query) for query, blocks in zip(asked, self._blocks, strict=True)])
        return self._weighed(best, asked, self._errors[:, places])

    def candidates(
        self, queries: Sequence[Float32[np.ndarray, "_"]], k: int, allowed: Bool[np.ndarray, "V"] | None = None
    ) -> Int[np.ndarray, "C"]:
        """Places that hold all of the exact k best of those allowed, the most promising first."""
        places = best_places(*self.scores(queries), k, allowed)
        return places[best_places(*self.rescored(queries, places), k)]

    def parts(self) -> Iterator[tuple[list[Codes], list[Int[np.ndarray, "N"]]]]:
        """All videos, part after part, as `add` took them; nothing is copied."""
        firsts = {block.first for blocks in self._blocks for block in blocks}
        for begin, end in pairwise([*sorted(firsts), len(self)]):
            holding = [next(block for block in reversed(blocks) if block.first <= begin) for blocks in self._blocks]
            parts = [_between(block, begin, end) for block in holding]
            yield [part.codes for part in parts], [part.starts for part in parts]

    def _weighed(
        self, best: Float32[np.ndarray, "B V"], asked: Sequence[Codes], errors: Float32[np.ndarray, "B V"]
    ) -> tuple[Float32[np.ndarray, "V"], Float32[np.ndarray, "V"]]:
        weights = np.array(self.weights, np.float32)
        query_errors = np.array([query.errors[-1] for query in asked], np.float32)
        # |<q, r> - <q', r'>| <= |<q, r - r'>| + |<q - q', r'>|, with |q| = 1 and |r'| <= 1 + |r - r'|.
        return weights @ best, np.abs(weights) @ (errors + query_errors[:, None] * (1 + errors))


def best_places(
    scores: Float32[np.ndarray, "V"], bounds: Float32[np.ndarray, "V"], k: int, allowed: Bool[np.ndarray, "V"] | None = None
) -> Int[np.ndarray, "C"]:
    """Places whose score may be among the k best of those allowed, whatever it is within its bounds; best first."""
    places = np.arange(len(scores)) if allowed is None else np.flatnonzero(allowed)
    if 0 < k < len(places):
        lower, upper = scores[places] - bounds[places], scores[places] + bounds[places]
        places = places[upper >= np.partition(lower, -k)[-k]]
    return places[np.argsort(-scores[places], kind="stable")] if k > 0 else places[:0]


def runs(starts: Int[np.ndarray, "N"]) -> Iterator[tuple[int, int]]:
    """All videos in runs from one place to another, with `ROWS_AT_ONCE` rows or one video in each."""
    begin = 0
    while begin < len(starts) - 1:
        end = max(begin + 1, int(np.searchsorted(starts, starts[begin] + ROWS_AT_ONCE, "right")) - 1)
        yield begin, end
        begin = end


@cache
def kernel() -> Kernel:
    """The inner products of int8 rows with int8 vectors: numkong's where it is installed, NumPy's elsewhere."""
    try:
        import numkong  # noqa: F401
    except ImportError:
        return products_by_numpy
    return products_by_numkong


def products_by_numkong(rows: Int8[np.ndarray, "R D"], vectors: Int8[np.ndarray, "N D"]) -> Float32[np.ndarray, "R N"]:
    """The products by the processor's instructions for int8, at the speed of the memory."""
    import numkong

    products = np.empty((len(rows), len(vectors)), np.float32)
    numkong.cdist(rows, vectors, "dot", out=products)
    return products


def products_by_numpy(rows: Int8[np.ndarray, "R D"], vectors: Int8[np.ndarray, "N D"]) -> Float32[np.ndarray, "R N"]:
    """The products in float32, which holds them exactly up to 1,040 columns."""
    return rows.astype(np.float32) @ vectors.astype(np.float32).T


def ask(query: Float32[np.ndarray, "D"]) -> Codes:
    """A query as the sum of two codes, with the errors of the first alone and of both."""
    unit = turned(query[None])
    first = code(unit)
    rest = code(unit - first.values * first.scales[:, None])
    return join([first, rest])


class _Block(NamedTuple):
    """Rows of whole videos, `first` and those after it; `starts` says where each begins and where the last ends."""

    codes: Codes
    starts: Int[np.ndarray, "N"]
    first: int


def _follow(block: _Block, other: _Block) -> _Block:
    return _Block(join([block.codes, other.codes]), np.append(block.starts[:-1], block.starts[-1] + other.starts), block.first)


def _between(block: _Block, begin: int, end: int) -> _Block:
    """A block's videos from one place to another."""
    starts = block.starts[begin - block.first : end - block.first + 1]
    rows = slice(int(starts[0]), int(starts[-1]))
    return _Block(Codes(*(field[rows] for field in block.codes)), starts - starts[0], begin)


def _best(codes: Codes, starts: Int[np.ndarray, "N"], query: Codes) -> Float32[np.ndarray, "V"]:
    """The best row's cosine of each video."""
    cosines = kernel()(codes.values, query.values) @ query.scales * codes.scales
    return np.maximum.reduceat(cosines, starts[:-1])


def _best_of(blocks: Sequence[_Block], places: Int[np.ndarray, "C"], query: Codes) -> Float32[np.ndarray, "C"]:
    """The best row's cosine of some videos."""
    if not len(places):
        return np.zeros(0, np.float32)
    values, scales = [], []
    numbers = np.searchsorted([block.first for block in blocks], places, "right") - 1
    for place, number in zip(places.tolist(), numbers.tolist(), strict=True):
        codes, starts, first = blocks[number]
        rows = slice(starts[place - first], starts[place - first + 1])
        values.append(codes.values[rows])
        scales.append(codes.scales[rows])
    # Copied together: a call for each video would take as long as its rows.
    parts = [np.concatenate(values[start : start + VIDEOS_TOGETHER]) for start in range(0, len(values), VIDEOS_TOGETHER)]
    products = [kernel()(part, query.values) for part in parts]
    cosines = np.concatenate(products) @ query.scales * np.concatenate(scales)
    return np.maximum.reduceat(cosines, np.cumsum([0, *map(len, scales[:-1])]))


def turned(rows: Float[np.ndarray, "R D"]) -> Float32[np.ndarray, "R D"]:
    """The directions of rows in the rotation of the codes; zero for a row without one."""
    known = np.isfinite(rows).all(1, keepdims=True)
    rows = np.where(known, rows, 0).astype(np.float32)
    # By the largest value first: squares of float32 end at 1e38.
    rows /= np.maximum(np.abs(rows).max(1, keepdims=True, initial=0), np.finfo(np.float32).tiny)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1) @ rotation(rows.shape[1])


def code(rows: Float32[np.ndarray, "R D"]) -> Codes:
    """The codes of rows of length 1 or less, as they are."""
    scales = np.abs(rows).max(1, initial=0) / np.float32(LEVELS)
    values = np.rint(rows / np.where(scales > 0, scales, 1)[:, None]).astype(np.int8)
    errors = np.linalg.norm(rows - values * scales[:, None], axis=1)
    return Codes(values, scales, errors + np.float32(rows.shape[1] * ROUNDING) * (scales > 0))
