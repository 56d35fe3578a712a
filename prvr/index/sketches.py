"""Sketches of videos: a few segments of each, in 48 bytes a segment, which an approximate search scans instead of rows.

A segment is a part of a video within which its rows change little. Its vector holds the mean direction of each field, times
the field's weight, one after the other, so that its inner product with a query's fields is nearly the video's score there.
Of that vector few columns are kept: the direction that all queries have in common, since sentences lie far from all frames
and a principal column does not follow that, and the principal columns of what is left. Pairs of columns become codes of four
bits (product quantisation, Jegou et al. 2011), in units by which queries differ along a column, so that the columns that
decide a score get the finer codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, UInt8
from safetensors import SafetensorError
from safetensors.numpy import load, save

from prvr.errors import ModelError, require
from prvr.nn.ranks import unit

Value = TypeVar("Value")
IntOrArray = int | Int[np.ndarray, "S"]

# Segments of a video, as a share of its rows. docs/index-speed.md has recall and time of other numbers.
SHARE = 0.35
COLUMNS = 192
# What four bits tell apart.
LEVELS = 16
LEAST = 1e-6


class Segments(NamedTuple):
    """The parts of a video. firsts: the first row of each, in the field with the largest weight."""

    vectors: Float32[np.ndarray, "S D"]
    firsts: Int32[np.ndarray, "S"]


class Sketch(NamedTuple):
    """What is stored of `Segments`."""

    codes: UInt8[np.ndarray, "S B"]
    firsts: Int32[np.ndarray, "S"]


class Codebook(NamedTuple):
    """How the vectors of segments become codes: `(vector - mean) @ axes`, each pair of columns as the nearest centroid.

    A query is multiplied by `query_axes`: what a column of segments is multiplied by, its column of queries is divided by.
    """

    mean: Float32[np.ndarray, "D"]
    axes: Float32[np.ndarray, "D K"]
    query_axes: Float32[np.ndarray, "D K"]
    centroids: Float32[np.ndarray, "G 16 2"]

    @property
    def bytes_a_segment(self) -> int:
        """The size of a code."""
        return len(self.centroids) // 2

    def encode(self, vectors: Float32[np.ndarray, "S D"]) -> UInt8[np.ndarray, "S B"]:
        """The codes of segments, two in a byte.

        Raises:
            ModelError: the vectors have other columns.
        """
        self._require_columns(vectors)
        pairs = ((vectors - self.mean) @ self.axes).reshape(len(vectors), -1, 1, 2)
        codes = ((pairs - self.centroids) ** 2).sum(-1).argmin(-1).astype(np.uint8)
        return codes[:, ::2] | codes[:, 1::2] << 4

    def sketch(self, segments: Segments) -> Sketch:
        """The codes of a video's segments. Raises: ModelError, as `encode`."""
        return Sketch(self.encode(segments.vectors), segments.firsts)

    def project(self, queries: Float[np.ndarray, "Q D"]) -> Float32[np.ndarray, "Q K"]:
        """Queries in the columns that FAISS compares with codes.

        Raises:
            ModelError: they have other columns than the segments.
        """
        self._require_columns(queries)
        return queries.astype(np.float32) @ self.query_axes

    def _require_columns(self, vectors: Float[np.ndarray, "N D"]) -> None:
        if vectors.shape[1] != len(self.mean):
            raise ModelError(f"the codebook of the first stage has {len(self.mean)} columns, the embeddings {vectors.shape[1]}")

    def to_bytes(self) -> bytes:
        """All arrays as safetensors."""
        return save({name: np.ascontiguousarray(values) for name, values in self._asdict().items()})

    @staticmethod
    def from_bytes(data: bytes) -> Codebook:
        """The codebook that `to_bytes` wrote.

        Raises:
            ValueError: the bytes are something else.
        """
        try:
            book = Codebook(**load(data))
        except (SafetensorError, TypeError, KeyError) as problem:
            raise ValueError(f"{type(problem).__name__} {problem}") from problem
        if [values.ndim for values in book] != [1, 2, 2, 3]:
            raise ValueError("its arrays do not fit together")
        columns, (groups, odd) = book.axes.shape[-1:], divmod(book.axes.shape[-1], 4)
        shapes = [(len(book.mean),), (len(book.mean), *columns), (len(book.mean), *columns), (2 * groups, LEVELS, 2)]
        fit = [values.shape for values in book] == shapes and not odd and groups > 0
        if not fit or not all(values.dtype == np.float32 and np.isfinite(values).all() for values in book):
            raise ValueError("its arrays do not fit together")
        return book


def learn_codebook(vectors: Float32[np.ndarray, "S D"], queries: Float32[np.ndarray, "Q D"]) -> Codebook:
    """The codebook of a gallery.

    Args:
        vectors: of a sample of its segments. queries: of the kind that will be searched for.

    Raises:
        SettingError: FAISS is not installed.
    """
    faiss = require("faiss", extra="index")
    mean = vectors.mean(0)
    along = unit(queries.mean(0))[:, None]
    rest = vectors - mean
    rest = rest - rest @ along @ along.T
    _, principal = np.linalg.eigh(rest.T @ rest)
    count = min(COLUMNS, len(mean))
    axes = np.concatenate([along, principal[:, ::-1][:, : count - 1]], axis=1)
    axes = np.pad(axes, ((0, 0), (0, -count % 4)))
    # The widest column shares its bits with the narrowest one.
    axes = axes[:, np.stack([np.arange(axes.shape[1]), np.arange(axes.shape[1])[::-1]], 1)[: axes.shape[1] // 2].ravel()]
    spread = np.sqrt(((queries @ axes) ** 2).mean(0))
    spread = np.maximum(spread, max(spread.max() / 100, LEAST))
    quantizer = faiss.ProductQuantizer(axes.shape[1], axes.shape[1] // 2, 4)
    # Otherwise FAISS prints a warning where a gallery is small.
    quantizer.cp.min_points_per_centroid = 1
    projected = (vectors - mean) @ (axes * spread)
    quantizer.train(np.resize(projected, (max(len(projected), LEVELS), axes.shape[1])).astype(np.float32))
    centroids = faiss.vector_to_array(quantizer.centroids).reshape(-1, LEVELS, 2)
    arrays = mean, axes * spread, axes / spread, centroids
    return Codebook(*(np.ascontiguousarray(values, np.float32) for values in arrays))


def weighted_fields(fields: Sequence[Value], weights: Sequence[float]) -> list[Value]:
    """The fields with a weight; those that follow the weights are left out, too."""
    return [field for field, weight in zip(fields, weights, strict=False) if weight]


def divide(fields: Sequence[Float[np.ndarray, "_ _"]], weights: Sequence[float], *, share: float = SHARE) -> Segments:
    """Divides a video into segments.

    A segment ends where the rows of the field with the largest weight have changed by an equal part of all their changes.
    Other fields are divided at the same shares of their rows (`rows_of`).

    Args:
        weights: of the fields; a field of weight 0 is left out.
    """
    used = [(_directions(rows), weight) for rows, weight in zip(fields, weights, strict=True) if weight]
    heaviest = max(used, key=lambda field: abs(field[1]))[0]
    length, count = len(heaviest), int(np.ceil(share * len(heaviest)))
    distances = 1 - (heaviest[1:] * heaviest[:-1]).sum(1)
    changes = np.sqrt(np.where(distances > LEAST, distances, 0))
    changed = np.append(0.0, np.cumsum(changes))
    segment = np.minimum(changed / max(changed[-1], LEAST) * count, count - 1).astype(int)
    first = np.flatnonzero(np.diff(segment, prepend=-1))
    end = np.append(first[1:], length)
    parts = []
    for rows, weight in used:
        sums = np.concatenate([np.zeros_like(rows[:1]), np.cumsum(rows, axis=0, dtype=np.float32)])
        begin, stop = rows_of(first, end, len(rows), length)
        parts.append(weight * unit(sums[stop] - sums[begin]))
    return Segments(np.concatenate(parts, axis=1).astype(np.float32), first.astype(np.int32))


def rows_of(
    firsts: Int[np.ndarray, "S"], ends: Int[np.ndarray, "S"], rows: IntOrArray, length: IntOrArray
) -> tuple[Int[np.ndarray, "S"], Int[np.ndarray, "S"]]:
    """The first row and the end of segments in a field of `rows` rows, where the heaviest field has `length`."""
    # Rounded outwards, so that no segment is empty.
    return firsts * rows // length, -(-ends * rows // length)


def _directions(rows: Float[np.ndarray, "R D"]) -> Float32[np.ndarray, "R D"]:
    """Rows of unit length; zero for a row that is not finite, as in `scan.rotate`."""
    return unit(np.where(np.isfinite(rows).all(1, keepdims=True), rows, 0).astype(np.float32))
