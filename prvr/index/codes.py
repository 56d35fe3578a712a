"""Rows as int8 codes with the error of each: what a scan reads instead of float32."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int8

LEVELS = 127
# Rows that are coded together, or scanned for several queries: their cosines stay in the processor's cache.
ROWS_AT_ONCE = 1 << 15
# Queries whose codes are kept: a search needs them several times.
QUERIES_KEPT = 64
# Of float32: the relative error of each step of a sum of D products.
ROUNDING = 2.0**-23


class Codes(NamedTuple):
    """Directions of rows, rotated by `rotation`: `scales * values` up to a distance of `errors`."""

    values: Int8[np.ndarray, "R D"]
    scales: Float32[np.ndarray, "R"]
    errors: Float32[np.ndarray, "R"]

    def are_possible(self) -> bool:
        """Whether `quantise` may have made these. A single NaN would hide all videos of a gallery."""
        # Scales are below 0.01, and errors are about 1 at most, of directions in any number of columns.
        return all(bool(((part >= 0) & (part <= 2)).all()) for part in (self.scales, self.errors))


def codes_bytes(rows: int, columns: int) -> int:
    """The size of stored codes: a byte for each number, and for each row a scale and an error of float32."""
    return rows * (columns + 8)


def parse_codes(data: bytes, shapes: Sequence[tuple[int, int]]) -> list[Codes]:
    """The codes of a video's fields, as views of the bytes of all their arrays."""
    fields, start = [], 0
    for rows, columns in shapes:
        values = np.frombuffer(data, np.int8, rows * columns, start).reshape(rows, columns)
        scales, errors = np.frombuffer(data, np.float32, 2 * rows, start + values.nbytes).reshape(2, rows)
        fields.append(Codes(values, scales, errors))
        start += codes_bytes(rows, columns)
    return fields


def quantise(rows: Float[np.ndarray, "R D"]) -> Codes:
    """The codes of rows. A row without a direction (zero, or not finite) has the cosine 0 with everything."""
    parts = [code(rotate(rows[start : start + ROWS_AT_ONCE])) for start in range(0, max(len(rows), 1), ROWS_AT_ONCE)]
    return parts[0] if len(parts) == 1 else join(parts)


def join(parts: Sequence[Codes]) -> Codes:
    """The codes of all parts, in their order."""
    return Codes(*(np.concatenate(field) for field in zip(*parts, strict=True)))


@cache
def rotation(columns: int) -> Float32[np.ndarray, "D D"]:
    """The rotation before coding. It depends on the number of columns alone.

    Embeddings have a few columns far larger than the others, which would waste the levels of a row. Two rounds of signs
    and Hadamard blocks, with a shuffle between, spread each column over all. Codes on disk rely on it: each number is exact,
    and the draws are those of RandomState, which never change.
    """
    draw = np.random.RandomState(0)
    block = columns & -columns
    turns = np.ones((1, 1))
    while len(turns) < block:
        turns = np.block([[turns, turns], [turns, -turns]]) / np.sqrt(2)
    blocks = np.kron(np.eye(columns // block), turns)
    signs = draw.randint(0, 2, (2, columns)) * 2 - 1
    return ((signs[0][:, None] * blocks)[:, draw.permutation(columns)] * signs[1] @ blocks).astype(np.float32)


def code_query(query: Float32[np.ndarray, "D"]) -> Codes:
    """A query as the sum of two codes, with the errors of the first alone and of both."""
    return _coded(np.asarray(query, np.float32).tobytes())


@lru_cache(maxsize=QUERIES_KEPT)
def _coded(query: bytes) -> Codes:
    unit = rotate(np.frombuffer(query, np.float32)[None])
    first = code(unit)
    rest = code(unit - first.values * first.scales[:, None])
    return join([first, rest])


def rotate(rows: Float[np.ndarray, "R D"]) -> Float32[np.ndarray, "R D"]:
    """The directions of rows, rotated; zero for a row without one."""
    finite = np.isfinite(rows).all(1, keepdims=True)
    rows = np.where(finite, rows, 0).astype(np.float32)
    # Divided by the largest value first: squares of float32 end at 1e38.
    rows /= np.maximum(np.abs(rows).max(1, keepdims=True, initial=0), np.finfo(np.float32).tiny)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1) @ rotation(rows.shape[1])


def code(rows: Float32[np.ndarray, "R D"]) -> Codes:
    """The codes of rows of length 1 or less, without normalisation or rotation."""
    scales = np.abs(rows).max(1, initial=0) / np.float32(LEVELS)
    values = np.rint(rows / np.where(scales > 0, scales, 1)[:, None]).astype(np.int8)
    errors = np.linalg.norm(rows - values * scales[:, None], axis=1)
    return Codes(values, scales, errors + np.float32(rows.shape[1] * ROUNDING) * (scales > 0))
