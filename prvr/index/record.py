"""A video as the bytes and texts that stand in the file of an index."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from prvr.index.contract import Entry
from prvr.index.scan import Codes, quantise


class Video(NamedTuple):
    """A row of the table `videos`, as it stands there."""

    number: int
    id: bytes
    shapes: str
    windows: str
    about: str
    edges: str


def key_of(id: str) -> bytes:
    """A video's id as it stands in the file; a file name need not be UTF-8."""
    return id.encode("utf-8", "surrogatepass")


def name_of(key: bytes) -> str:
    """A video's id."""
    return key.decode("utf-8", "surrogatepass")


def coded(entry: Entry) -> list[Codes]:
    """The codes of a video's embeddings."""
    return [quantise(rows) for rows in entry.fields]


def checksum(video: Video, rows: bytes) -> int:
    """What tells damage to a video and its embeddings."""
    return zlib.crc32(rows, zlib.crc32(b"\0".join([video.id, *(text.encode() for text in video[2:])])))


def fields_of(data: bytearray | np.ndarray, shapes: list[list[int]], dtype: str) -> tuple[np.ndarray, ...]:
    """The embeddings in some bytes, field by field."""
    fields, values = [], np.frombuffer(data, dtype)
    for rows, columns in shapes:
        fields.append(values[: rows * columns].reshape(rows, columns))
        values = values[rows * columns :]
    return tuple(fields)


def codes_of(data: bytes, shapes: list[list[int]]) -> list[Codes]:
    """The codes in some bytes, field by field."""
    fields, at = [], 0
    for rows, columns in shapes:
        parts = []
        for dtype, shape in ((np.int8, (rows, columns)), (np.float32, (rows,)), (np.float32, (rows,))):
            parts.append(np.frombuffer(data, dtype, int(np.prod(shape)), at).reshape(shape))
            at += parts[-1].nbytes
        fields.append(Codes(*parts))
    return fields
