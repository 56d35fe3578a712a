"""Scores of a query with every video of a gallery, from int8 codes, with bounds on their error.

A video's score is the weighted sum over fields of the best row's cosine with the query's vector of that field. Codes take
a quarter of the memory of float32, and a scan waits for memory. The error of coding is known for each row, so
`Gallery.candidates` never leaves out a video of the exact best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int8

from prvr.device import map_in_threads
from prvr.errors import DataError
from prvr.index.codes import ROWS_AT_ONCE, Codes, code_query, join
from prvr.index.sketches import rows_of
from prvr.nn.ranks import tolerance

# Rows that lie together in memory, and are scanned by one thread.
ROWS_IN_BLOCK = 1 << 17
# Videos whose rows are gathered together.
VIDEOS_TOGETHER = 64
Kernel = Callable[[Int8[np.ndarray, "R D"], Int8[np.ndarray, "N D"]], Float32[np.ndarray, "R N"]]


class Gallery:
    """Videos as codes in memory; the place of a video is its position in the order of addition.

    Videos are not removed: the caller leaves the places of deleted ones out of `allowed`. Several threads may read at the
    same time, but not while one adds.
    """

    def __init__(
        self,
        fields: Sequence[Codes],
        starts: Sequence[Int[np.ndarray, "N"]],
        weights: tuple[float, ...],
    ) -> None:
        """Holds the first videos. Arrays are not copied.

        Args:
            starts: of each field, the first row of each video, and last the number of rows.
            weights: of the fields.

        Raises:
            DataError: the fields hold different numbers of videos, or a video has no rows in one of them.
        """
        self.weights = weights
        self._blocks: list[list[_Block]] = [[] for _ in weights]
        self._errors = np.zeros((len(weights), 0), np.float32)
        # Of the field with the largest weight, the number of rows of each video.
        self._lengths = np.zeros(0, np.int64)
        self.add(fields, starts)

    def __len__(self) -> int:
        return self._errors.shape[1]

    @property
    def nbytes(self) -> int:
        """The bytes of the rows that a scan reads."""
        return sum(block.codes.values.nbytes for blocks in self._blocks for block in blocks)

    def add(self, fields: Sequence[Codes], starts: Sequence[Int[np.ndarray, "N"]]) -> None:
        """Appends videos.

        Raises:
            DataError: the fields hold different numbers of videos, or a video has no rows in one of them.
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
            self._lengths = np.append(self._lengths, np.diff(starts[int(np.abs(self.weights).argmax())]))
        for blocks, codes, of_field in zip(self._blocks, fields, starts, strict=True):
            block = _Block(codes, of_field, first)
            # The last block is seldom full: videos that come one by one share a block, too.
            block = _append(blocks.pop(), block) if blocks else block
            blocks += [
                _between(block, block.first + begin, block.first + end) for begin, end in ranges(block.starts, ROWS_IN_BLOCK)
            ]

    def scores(self, queries: Sequence[Float32[np.ndarray, "_"]]) -> tuple[Float32[np.ndarray, "V"], Float32[np.ndarray, "V"]]:
        """The score of every video, and the largest error that it can have."""
        return self.scores_of_each([queries])[0]

    def scores_of_each(
        self, queries: Sequence[Sequence[Float32[np.ndarray, "_"]]]
    ) -> list[tuple[Float32[np.ndarray, "V"], Float32[np.ndarray, "V"]]]:
        """As `scores`, of several queries: the codes are read once for all of them."""
        codes = [[Codes(*(part[:1] for part in code_query(field))) for field in query] for query in queries]
        values = [np.concatenate([field.values for field in of]) for of in zip(*codes, strict=True)]
        best = np.empty((len(self.weights), len(queries), len(self)), np.float32)

        def scan(job: tuple[int, _Block]) -> None:
            number, block = job
            videos = slice(block.first, block.first + len(block.starts) - 1)
            best[number, :, videos] = _best(block.codes, block.starts, values[number]).T

        map_in_threads(scan, [(number, block) for number, blocks in enumerate(self._blocks) for block in blocks])
        scales = np.array([[field.scales[0] for field in query] for query in codes], np.float32)
        return [
            _weighted_sum(self.weights, best[:, number] * scales[number][:, None], query, self._errors)
            for number, query in enumerate(codes)
        ]

    def rescore(
        self, queries: Sequence[Float32[np.ndarray, "_"]], places: Int[np.ndarray, "C"]
    ) -> tuple[Float32[np.ndarray, "C"], Float32[np.ndarray, "C"]]:
        """The scores of some videos, and the largest errors that they can have: half those of `scores`."""
        order = np.argsort(places)
        found = _score(queries, self.weights, [_gather_videos(blocks, places[order]) for blocks in self._blocks])
        back = np.argsort(order)
        return found[0][back], found[1][back]

    def score_segments(
        self,
        queries: Sequence[Float32[np.ndarray, "_"]],
        places: Int[np.ndarray, "S"],
        firsts: Int[np.ndarray, "S"],
        ends: Int[np.ndarray, "S"],
    ) -> Float32[np.ndarray, "B S"]:
        """Of each field its weight times the best cosine in segments of the videos at some places (`sketches.rows_of`)."""
        order = np.argsort(places, kind="stable")
        places, lengths = places[order], self._lengths[places[order]]
        # Segments are as a file has them: none is beyond its video.
        firsts, ends = np.minimum(firsts[order], lengths - 1), np.minimum(ends[order], lengths)
        codes = [Codes(*(part[:1] for part in code_query(query))) for query in queries]
        best = np.empty((len(self.weights), len(places)), np.float32)

        def score(job: tuple[int, _Block]) -> None:
            number, block = job
            some = slice(*np.searchsorted(places, (block.first, block.first + len(block.starts) - 1)))
            at = places[some] - block.first
            rows = np.diff(block.starts)[at]
            begin, end = rows_of(firsts[some], ends[some], rows, lengths[some])
            if len(at):
                best[number, order[some]] = _best_in(block.codes, block.starts[at] + begin, end - begin, codes[number])

        map_in_threads(score, [(number, block) for number, blocks in enumerate(self._blocks) for block in blocks])
        return best * np.array(self.weights, np.float32)[:, None]

    def candidates(
        self, queries: Sequence[Float32[np.ndarray, "_"]], k: int, allowed: Bool[np.ndarray, "V"] | None = None
    ) -> Int[np.ndarray, "C"]:
        """Places that contain the exact k best of those allowed, the most promising first."""
        places = candidate_places(*self.scores(queries), k, allowed)
        return places[candidate_places(*self.rescore(queries, places), k)]

    def parts(self) -> Iterator[tuple[list[Codes], list[Int[np.ndarray, "N"]]]]:
        """All videos in parts, in the form that `add` takes; nothing is copied."""
        firsts = {block.first for blocks in self._blocks for block in blocks}
        for begin, end in pairwise([*sorted(firsts), len(self)]):
            blocks = [next(block for block in reversed(of_field) if block.first <= begin) for of_field in self._blocks]
            parts = [_between(block, begin, end) for block in blocks]
            yield [part.codes for part in parts], [part.starts for part in parts]


def candidate_places(
    scores: Float32[np.ndarray, "V"], errors: Float32[np.ndarray, "V"], k: int, allowed: Bool[np.ndarray, "V"] | None = None
) -> Int[np.ndarray, "C"]:
    """The allowed places that may be among the k best by exact score, or tie with one of these; best first."""
    places = np.arange(len(scores)) if allowed is None else np.flatnonzero(allowed)
    if 0 < k < len(places):
        lower, upper = scores[places] - errors[places], scores[places] + errors[places]
        places = places[upper >= np.partition(lower, -k)[-k] - tolerance(lower)]
    return places[np.argsort(-scores[places], kind="stable")] if k > 0 else places[:0]


def ranges(starts: Int[np.ndarray, "N"], size: int) -> Iterator[tuple[int, int]]:
    """All videos in ranges of places, with at most `size` rows or one video in each."""
    begin = 0
    while begin < len(starts) - 1:
        end = max(begin + 1, int(np.searchsorted(starts, starts[begin] + size, "right")) - 1)
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
    """The products by the processor's int8 instructions, at the speed of the memory."""
    import numkong

    if len(vectors) > 1:
        # The rows are read once for all vectors, which takes a fifth of the time of `cdist` for twenty.
        return np.asarray(numkong.dots_packed(rows, numkong.dots_pack(vectors))).astype(np.float32)
    products = np.empty((len(rows), 1), np.float32)
    numkong.cdist(rows, vectors, "dot", out=products)
    return products


def products_by_numpy(rows: Int8[np.ndarray, "R D"], vectors: Int8[np.ndarray, "N D"]) -> Float32[np.ndarray, "R N"]:
    """The products in float32, which is exact up to 1,040 columns."""
    return rows.astype(np.float32) @ vectors.astype(np.float32).T


class _Block(NamedTuple):
    """Rows of the video at place `first` and of those after it; `starts` has each one's first row, and the number of rows."""

    codes: Codes
    starts: Int[np.ndarray, "N"]
    first: int


def _append(block: _Block, other: _Block) -> _Block:
    return _Block(join([block.codes, other.codes]), np.append(block.starts[:-1], block.starts[-1] + other.starts), block.first)


def _between(block: _Block, begin: int, end: int) -> _Block:
    """A block's videos from one place to another."""
    starts = block.starts[begin - block.first : end - block.first + 1]
    rows = slice(int(starts[0]), int(starts[-1]))
    return _Block(Codes(*(field[rows] for field in block.codes)), starts - starts[0], begin)


def _best(codes: Codes, starts: Int[np.ndarray, "N"], vectors: Int8[np.ndarray, "Q D"]) -> Float32[np.ndarray, "V Q"]:
    """The best row's product of each video with each vector, in units of the vector's scale."""
    if len(vectors) == 1 and kernel() is not products_by_numpy:
        # One column: a tenth of the time of the general way.
        return np.maximum.reduceat(_products(codes, vectors)[:, 0], starts[:-1])[:, None]
    best = np.empty((len(starts) - 1, len(vectors)), np.float32)
    for begin, end in ranges(starts, ROWS_AT_ONCE):
        rows = slice(starts[begin], starts[end])
        products = _products(Codes(*(field[rows] for field in codes)), vectors)
        best[begin:end] = np.maximum.reduceat(products, starts[begin:end] - starts[begin], axis=0)
    return best


def _products(codes: Codes, vectors: Int8[np.ndarray, "Q D"]) -> Float32[np.ndarray, "R Q"]:
    """The product of each row with each vector, in units of the vector's scale."""
    products = kernel()(codes.values, vectors)
    products *= codes.scales[:, None]
    return products


def _gather(codes: Codes, begin: Int[np.ndarray, "S"], counts: Int[np.ndarray, "S"]) -> tuple[Codes, Int[np.ndarray, "S"]]:
    """The rows of several ranges after one another, and the first of each range."""
    starts = np.cumsum(counts) - counts
    rows = np.repeat(begin - starts, counts) + np.arange(counts.sum())
    return Codes(*(np.take(field, rows, axis=0) for field in codes)), starts


def _gather_videos(blocks: Sequence[_Block], places: Int[np.ndarray, "C"]) -> Iterator[tuple[Codes, Int[np.ndarray, "N"]]]:
    """The rows of the videos at increasing places, some videos together, and the first of each."""
    for block in blocks:
        at = places[slice(*np.searchsorted(places, (block.first, block.first + len(block.starts) - 1)))] - block.first
        for start in range(0, len(at), VIDEOS_TOGETHER):
            some = at[start : start + VIDEOS_TOGETHER]
            yield _gather(block.codes, block.starts[some], block.starts[some + 1] - block.starts[some])


def _best_in(codes: Codes, begin: Int[np.ndarray, "S"], counts: Int[np.ndarray, "S"], query: Codes) -> Float32[np.ndarray, "S"]:
    """The best row's cosine in each of several ranges of rows."""
    rows, starts = _gather(codes, begin, counts)
    return np.maximum.reduceat(_products(rows, query.values)[:, 0], starts) * query.scales


def score_videos(
    queries: Sequence[Float32[np.ndarray, "_"]], weights: Sequence[float], fields: Sequence[Sequence[Codes]]
) -> tuple[Float32[np.ndarray, "V"], Float32[np.ndarray, "V"]]:
    """The scores of videos, and the largest errors that they can have: half those of `Gallery.scores`.

    Args:
        fields: of each field, the codes of all videos.
    """
    return _score(queries, weights, [_join_some(of_field) for of_field in fields])


def _join_some(videos: Sequence[Codes]) -> Iterator[tuple[Codes, Int[np.ndarray, "N"]]]:
    """The rows of videos, some videos together, and the first of each."""
    for start in range(0, len(videos), VIDEOS_TOGETHER):
        some = videos[start : start + VIDEOS_TOGETHER]
        yield join(some), np.cumsum([0, *(len(codes.scales) for codes in some[:-1])])


def _score(
    queries: Sequence[Float32[np.ndarray, "_"]],
    weights: Sequence[float],
    fields: Sequence[Iterable[tuple[Codes, Int[np.ndarray, "N"]]]],
) -> tuple[Float32[np.ndarray, "V"], Float32[np.ndarray, "V"]]:
    """As `score_videos`, of videos that come in parts: rows, and the first row of each video."""
    codes = [code_query(query) for query in queries]
    scored = [_best_of(parts, query) for parts, query in zip(fields, codes, strict=True)]
    best, errors = (np.stack(values) for values in zip(*scored, strict=True))
    return _weighted_sum(weights, best, codes, errors)


def _weighted_sum(
    weights: Sequence[float], best: Float32[np.ndarray, "B V"], queries: Sequence[Codes], errors: Float32[np.ndarray, "B V"]
) -> tuple[Float32[np.ndarray, "V"], Float32[np.ndarray, "V"]]:
    """The scores and the largest errors that they can have."""
    along = np.array(weights, np.float32)
    query_errors = np.array([query.errors[-1] for query in queries], np.float32)
    # |<q, r> - <q', r'>| <= |<q, r - r'>| + |<q - q', r'>|, with |q| = 1 and |r'| <= 1 + |r - r'|.
    return along @ best, np.abs(along) @ (errors + query_errors[:, None] * (1 + errors))


def _best_of(
    parts: Iterable[tuple[Codes, Int[np.ndarray, "N"]]], query: Codes
) -> tuple[Float32[np.ndarray, "C"], Float32[np.ndarray, "C"]]:
    """The best row's cosine of some videos, and the largest error of their rows."""
    best, errors = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    for codes, starts in parts:
        cosines = kernel()(codes.values, query.values) @ query.scales * codes.scales
        best.append(np.maximum.reduceat(cosines, starts))
        errors.append(np.maximum.reduceat(codes.errors, starts))
    return np.concatenate(best), np.concatenate(errors)
