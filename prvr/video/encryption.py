"""Whether the pictures of a file are encrypted, as the file itself says."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from prvr.video.structures import (
    ASF_HEADER,
    FIRST_BOXES,
    SEGMENT,
    TRACK,
    TRACKS,
    asf_objects,
    boxes_of,
    elements_within,
    number_at,
)

# Elements of a Matroska track: its kind, of which 1 is pictures; how it is encoded, of which kind 1 is encryption.
TRACK_KIND, ENCODINGS, ENCODING, ENCODING_KIND = 0x83, 0x6D80, 0x6240, 0x5033
# Objects of an ASF header that say how its content is encrypted: plain, extended, advanced.
ASF_ENCRYPTIONS = frozenset(
    bytes.fromhex(name)
    for name in (
        "fbb31122 23bd d211 b4b7 00a0c955fc6e",
        "14e68a29 2226 174c b935 dae07ee9289c",
        "33850543 8169 e649 9b74 ad12cb86d58c",
    )
)
# Sample entries of MP4 for encrypted pictures: Common Encryption, and that of a shop.
SAMPLE_ENTRIES = (b"encv", b"drmi")
# Bytes of an MP4's tables, and of a stream, that are looked through.
MOST_TABLES, MOST_STREAM = 1 << 24, 188 * 2000


def is_encrypted(path: Path) -> bool:
    """Returns whether a file says that its pictures are encrypted.

    These are MP4 (by its sample entries), Matroska (by an encryption among the encodings of its pictures), ASF (by its header),
    and transport and program streams of which many packets are marked as scrambled.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(MOST_STREAM)
        if head[4:8] in FIRST_BOXES:
            return any(kind == b"moov" and _has_encrypted_entry(file, end) for kind, end in boxes_of(file))
        if head.startswith(b"\x1aE\xdf\xa3"):
            return _has_encrypted_track(file)
        if head.startswith(ASF_HEADER):
            return any(kind in ASF_ENCRYPTIONS for kind, _ in asf_objects(file))
    return _is_scrambled_ps(head) if head.startswith(b"\0\0\1\xba") else _is_scrambled_ts(head)


def _has_encrypted_entry(file: BinaryIO, end: int) -> bool:
    """Whether the box that ends there names an encrypted sample entry; tables of long films are larger than what is read."""
    start = max(0, end - MOST_TABLES)
    file.seek(start)
    data = file.read(end - start)
    return any(entry in data for entry in SAMPLE_ENTRIES)


def _has_encrypted_track(file: BinaryIO) -> bool:
    segments = elements_within(file, [(0, file.seek(0, 2))], SEGMENT)
    for track in elements_within(file, elements_within(file, segments, TRACKS), TRACK):
        encodings = elements_within(file, elements_within(file, [track], ENCODINGS), ENCODING)
        kinds = {number_at(file, kind) for kind in elements_within(file, encodings, ENCODING_KIND)}
        if 1 in kinds and 1 in {number_at(file, kind) for kind in elements_within(file, [track], TRACK_KIND)}:
            return True
    return False


def _is_scrambled_ts(head: bytes) -> bool:
    # Cameras write the time before each packet.
    start, length = (0, 188) if head[:1] == b"G" else (4, 192)
    packets = [head[at : at + 4] for at in range(start, len(head) - 3, length)]
    if len(packets) < 5 or any(packet[0] != 0x47 for packet in packets):
        return False
    # Tables are never scrambled: PIDs from 0x20 to 0x1ffe are streams.
    streams = [packet for packet in packets if 0x20 <= int.from_bytes(packet[1:3]) & 0x1FFF < 0x1FFF]
    return sum(packet[3] >> 6 > 1 for packet in streams) > len(streams) / 2


def _is_scrambled_ps(head: bytes) -> bool:
    """Whether a tenth of the packets of pictures are scrambled: on a DVD, the others are left as they are."""
    scrambled = pictures = at = 0
    while 0 <= (at := head.find(b"\0\0\1\xe0", at)) < len(head) - 6:
        flags, at = head[at + 6], at + 6 + int.from_bytes(head[at + 4 : at + 6])
        pictures += 1
        scrambled += flags >> 6 == 2 and flags >> 4 & 3 != 0
    return scrambled > pictures / 10
