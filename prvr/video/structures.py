"""The parts that containers are made of, as their specifications have them.

ISO/IEC 14496-12 (boxes of MP4), RFC 8794 and 9559 (EBML, Matroska), Microsoft's ASF 1.20, RIFF (AVI).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

# Elements of Matroska that hold others.
SEGMENT, TRACKS, TRACK, CLUSTER, BLOCK_GROUP = 0x18538067, 0x1654AE6B, 0xAE, 0x1F43B675, 0xA0
# Boxes at the beginning of an MP4 or QuickTime file; of those without content one may come first.
EMPTY_BOXES = frozenset({b"wide", b"free", b"skip", b"pnot"})
FIRST_BOXES = EMPTY_BOXES | {b"ftyp", b"moov", b"mdat"}
# How an ASF file begins.
ASF_HEADER = b"\x30\x26\xb2\x75"
# Parts at one level that are looked at: no file has as many before its pictures.
MOST_PARTS = 1_000_000

Stretch = tuple[int, int]


def boxes_of(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yields the kind and the end of each box at the top of an MP4."""
    at, size = 0, file.seek(0, 2)
    for _ in range(MOST_PARTS):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind = int.from_bytes(head[:4]), head[4:8]
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:])
        # 0: to the end of the file.
        if length < 8:
            if not length:
                yield kind, size
            return
        at += length
        yield kind, at
        if at > size:
            return


def elements_of(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields the name, the start and the end of each EBML element between two places.

    The end is as stated, and may lie after `end`; that of an element of unknown size is `end`.
    """
    for _ in range(MOST_PARTS):
        if start >= end:
            return
        file.seek(start)
        head = file.read(16)
        name_length = _number_length(head)
        size_length = _number_length(head[name_length:]) if name_length else 0
        if not size_length or name_length > 4:
            return
        start += name_length + size_length
        size = int.from_bytes(head[name_length : name_length + size_length]) & ((1 << 7 * size_length) - 1)
        until = end if size == (1 << 7 * size_length) - 1 else start + size
        yield int.from_bytes(head[:name_length]), start, until
        start = until


def elements_within(file: BinaryIO, places: Iterable[Stretch], name: int) -> Iterator[Stretch]:
    """Yields the start and the end of the elements of a name within others, up to the first pictures."""
    for start, end in places:
        for element, inner, until in elements_of(file, start, end):
            if element == CLUSTER:
                break
            if element == name:
                yield inner, min(until, end)


def number_at(file: BinaryIO, place: Stretch) -> int:
    """Returns the number that an EBML element holds."""
    start, end = place
    file.seek(start)
    return int.from_bytes(file.read(max(0, min(end - start, 8))))


def asf_objects(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yields the kind and the first bytes of the content of each object in the header of an ASF file."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(30)
    at, end = 30, int.from_bytes(head[16:24], "little")
    for _ in range(MOST_PARTS):
        if at > size:
            return
        file.seek(at)
        start = file.read(24 + 80)
        if at + 24 > end or len(start) < 24:
            return
        yield start[:16], start[24:]
        # An object has at least its kind and its size.
        at += max(24, int.from_bytes(start[16:24], "little"))


def chunks_of(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, bytes, int, int]]:
    """Yields the kind of each chunk of RIFF between two places, the kind of what it lists, and where its content is."""
    for _ in range(MOST_PARTS):
        file.seek(start)
        head = file.read(12)
        if start >= end or len(head) < 8:
            return
        until = start + 8 + int.from_bytes(head[4:8], "little")
        yield head[:4], head[8:], start + 8, until
        start = until + until % 2


def _number_length(data: bytes) -> int:
    """The length of a number of EBML: one more than the zeros that its first byte begins with; 0 for anything else."""
    return 9 - data[0].bit_length() if data and data[0] else 0
