"""What a file lacks: whether it was cut off, and where pictures are missing in its middle.

The specifications are those of `structures.py`, and Adobe's FLV 10.1, RFC 3533 (Ogg pages), SMPTE ST 377-1 (MXF), SMPTE ST 314
(DV), RealMedia's RMFF. A gap between stamps alone is none: where a container knows no constant rate, pictures may come as they
like.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, final

from prvr.video.structures import BLOCK_GROUP, CLUSTER, SEGMENT, asf_objects, boxes_of, chunks_of, elements_of

# In these every frame has its number, repeated ones too.
CONSTANT = frozenset({"mxf", "ogg"})
# How many frames later the next one may be. Matroska has no decoding stamps: there, frames that others refer to come first.
GAP, GAP_OF_SHOWN = Fraction(3, 2), Fraction(8)
# Elements, tags or packets between two packets of pictures.
MOST_BETWEEN = 10_000
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c 47a9 cf11 8ee4 00c00c205365")
MXF_PACK, MXF_PARTITIONS = bytes.fromhex("060e2b34 02050101 0d010201 01"), (2, 3, 4)
# A block of Matroska, alone and within a group.
BLOCKS = (0xA3, 0xA1)
TAGS = (8, 9, 18)
NUT_INDEX = b"NX\xdd\x67\x2f\x23\xe6\x4e"
# Bytes.
SLACK, NEAR = 64, 1 << 12


def is_cut_off(path: Path, names: set[str], last: int) -> bool | None:
    """Returns whether the file ends before its pictures do; None where the container does not say.

    Args:
        names: FFmpeg's names of the container.
        last: where the last packet that was read begins, in bytes.
    """
    checks = {
        "mov": _lacks_box,
        "matroska": _lacks_cluster,
        "avi": _lacks_list,
        "flv": lambda file, size: _lacks_tag(file, size, last),
        "ogg": lambda file, size: not _ends_with_page(file, size),
        "asf": _lacks_packets,
        "mxf": _lacks_footer,
        "dv": _lacks_blocks,
        "rm": _lacks_data,
        "mpegts": lambda file, size: _lacks_bytes(file, size, last),
    }
    check = next((checks[name] for name in names if name in checks), None)
    if check is None:
        return None
    with path.open("rb") as file:
        return check(file, path.stat().st_size)


def ends_with_index(path: Path, names: set[str], last: int) -> bool:
    """Returns whether the index that ends a NUT file comes right after the last packet: other bytes may then follow.

    Args:
        last: about where that packet ends, in bytes.
    """
    if "nut" not in names:
        return False
    with path.open("rb") as file:
        file.seek(last)
        return NUT_INDEX in file.read(NEAR)


@final
class Gaps:
    """The places where pictures are missing between two packets.

    `places`: the stamps before each of them, and how much is missing, in units of the stream's time base.

    Args:
        names: FFmpeg's names of the container.
        frame: the duration of a frame, in units of the stream's time base.
    """

    def __init__(self, path: Path, names: set[str], frame: Fraction) -> None:
        self._by_shown = "matroska" in names
        self._path, self._frame = path, frame
        self._longest = (GAP_OF_SHOWN if self._by_shown else GAP) * frame
        self._constant = bool(names & CONSTANT)
        self._check = {"matroska": _is_chain_of_elements, "asf": _is_chain_of_packets, "flv": _is_chain_of_tags}.get(
            next(iter(names & {"matroska", "asf", "flv"}), "")
        )
        self._last: Any = None
        self.places: list[tuple[int, int]] = []

    def see(self, packet: Any) -> None:
        """Takes note of the next packet of the stream."""
        if not self._constant and self._check is None:
            return
        stamp, at = packet.pts if self._by_shown else packet.dts, packet.pos
        if stamp is None or at is None:
            return
        if self._last is not None:
            stamp_before, at_before = self._last
            gap = stamp - stamp_before
            if gap > self._longest and at >= at_before and not self._is_whole(at_before, at):
                self.places.append((stamp_before, gap - int(self._frame)))
            stamp = max(stamp, stamp_before) if self._by_shown else stamp
        self._last = stamp, at

    def _is_whole(self, start: int, end: int) -> bool:
        if self._check is None:
            return False
        with self._path.open("rb") as file:
            return self._check(file, start, end)


def _lacks_box(file: BinaryIO, size: int) -> bool:
    return any(end > size and kind in (b"mdat", b"moof", b"moov") for kind, end in boxes_of(file))


def _lacks_cluster(file: BinaryIO, size: int) -> bool:
    """Whether a cluster ends after the file, or the file after something else than an element of a known length."""
    for segment, start, end in elements_of(file, 0, size):
        if segment == SEGMENT and end > size:
            reached = start
            for name, _, reached in elements_of(file, start, end):
                if reached >= size:
                    # The index and the tags come after the pictures.
                    return name == CLUSTER
            return reached < size
    return False


def _lacks_list(file: BinaryIO, size: int) -> bool:
    """Whether a list of frames of an AVI ends after the file."""
    return any(
        kind == b"RIFF" and any(listed == b"movi" and until > size for _, listed, _, until in chunks_of(file, start + 4, end))
        for kind, _, start, end in chunks_of(file, 0, size)
    )


def _lacks_tag(file: BinaryIO, size: int, at: int) -> bool:
    """Whether a tag of an FLV ends after the file."""
    for _ in range(MOST_BETWEEN):
        file.seek(at)
        head = file.read(11)
        if not head or head[0] & 31 not in TAGS:
            return False
        at += 11 + int.from_bytes(head[1:4])
        if len(head) < 11 or at > size:
            return True
        # The length of the tag follows it.
        at += 4
    return False


def _ends_with_page(file: BinaryIO, size: int) -> bool:
    """Whether the last page of an Ogg ends a stream, and is whole."""
    # A page has at most 255 segments of 255 bytes.
    file.seek(max(0, size - (1 << 16)))
    tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0 or at + 27 > len(tail):
        return False
    segments = tail[at + 27 : at + 27 + tail[at + 26]]
    return bool(tail[at + 5] & 4) and at + 27 + len(segments) + sum(segments) <= len(tail)


def _lacks_packets(file: BinaryIO, size: int) -> bool:
    """Whether an ASF states a larger size of itself; one that was sent live states none."""
    for kind, content in asf_objects(file):
        if kind == ASF_FILE_PROPERTIES and len(content) >= 68:
            live = content[64] & 1
            return not live and int.from_bytes(content[16:24], "little") > size
    return False


def _lacks_footer(file: BinaryIO, size: int) -> bool:
    """Whether an MXF has no partition where its first one says that the last one is."""
    file.seek(0)
    head = file.read(1 << 16)
    at = head.find(MXF_PACK)
    if at < 0 or at + 64 > len(head):
        return False
    # The key has 16 bytes; then come the length, versions, and where this, the partition before it and the last one are.
    length = head[at + 16]
    value = at + 17 + (length & 0x7F if length & 0x80 else 0)
    footer = int.from_bytes(head[value + 24 : value + 32])
    if not footer:
        return False
    if at + footer >= size:
        return True
    file.seek(at + footer)
    key = file.read(16)
    return not key.startswith(MXF_PACK) or len(key) < 14 or key[13] not in MXF_PARTITIONS


def _lacks_blocks(file: BinaryIO, size: int) -> bool:
    """Whether a DV ends within a frame: of 144,000 bytes in 625 lines, of 120,000 in 525, or a multiple of these."""
    file.seek(0)
    head = file.read(4)
    frame = 144_000 if len(head) == 4 and head[3] & 0x80 else 120_000
    file.seek(size - size % frame)
    return file.read(3) == head[:3]


def _lacks_data(file: BinaryIO, size: int) -> bool:
    """Whether the packets of a RealMedia file end after it."""
    at = 0
    for _ in range(MOST_BETWEEN):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return False
        length = int.from_bytes(head[4:])
        if head[:4] == b"DATA":
            # FFmpeg writes a length that is ten bytes too large.
            return at + length > size + SLACK
        if length < 8:
            return False
        at += length
    return False


def _lacks_bytes(file: BinaryIO, size: int, last: int) -> bool:
    """Whether a transport stream ends within a packet."""
    file.seek(last)
    data = file.read(1 << 16)
    for length in (188, 192, 204):
        if len(data) > 2 * length and all(data[at] == 0x47 for at in (0, length, 2 * length)):
            # Cameras write four bytes of time before each packet: `last` is then behind them.
            rest = (size - last) % length
            file.seek(size - rest)
            return rest > 0 and file.read(1) == b"G"
    return False


def _is_chain_of_elements(file: BinaryIO, start: int, end: int) -> bool:
    """Whether Matroska elements follow each other from the block with its content at `start` to the block with it at `end`."""
    at = _end_of_block(file, start)
    for _ in range(MOST_BETWEEN):
        found = next(islice(elements_of(file, at, end), 1), None)
        if found is None:
            return False
        name, inner, until = found
        if name in BLOCKS and inner == end:
            return True
        at = inner if name in (CLUSTER, BLOCK_GROUP) else until
    return True


def _end_of_block(file: BinaryIO, start: int) -> int:
    """The end of the block with its content at `start`, which its name and its length, in one to eight bytes, precede."""
    file.seek(max(0, start - 9))
    head = file.read(min(9, start))
    for length in range(1, min(9, len(head))):
        size = head[-length:]
        if head[-length - 1] in BLOCKS and 9 - size[0].bit_length() == length:
            return start + (int.from_bytes(size) & ((1 << 7 * length) - 1))
    return start


def _is_chain_of_packets(file: BinaryIO, start: int, end: int) -> bool:
    """Whether packets of ASF, all of one length, begin in all places between two of them."""
    length = 0
    for kind, content in asf_objects(file):
        if kind == ASF_FILE_PROPERTIES and len(content) >= 72:
            length = int.from_bytes(content[68:72], "little")
    if length < 16:
        return True
    if (end - start) % length:
        return False
    for at in islice(range(start, end, length), MOST_BETWEEN):
        file.seek(at)
        head = file.read(3)
        # Data for the correction of errors is optional, and its length 2.
        if len(head) == 3 and head[0] & 0x80 and head != b"\x82\0\0":
            return False
        if not any(head):
            return False
    return True


def _is_chain_of_tags(file: BinaryIO, start: int, end: int) -> bool:
    """Whether tags of FLV follow each other between two of them."""
    for _ in range(MOST_BETWEEN):
        if start >= end:
            return start == end
        file.seek(start)
        head = file.read(4)
        if len(head) < 4 or head[0] & 31 not in TAGS:
            return False
        start += 15 + int.from_bytes(head[1:])
    return True
