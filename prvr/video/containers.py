"""Containers: which files FFmpeg may open, what other files are, and whether a file was cut off.

Structures are read as their specifications have them: ISO/IEC 14496-12 (boxes of MP4), RFC 8794 and 9559 (EBML, Matroska), RIFF
(AVI), Adobe's FLV 10.1, RFC 3533 (Ogg pages).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# FFmpeg's names of the containers that may be opened. Each holds its own pictures: none lists other files, is a sequence of
# images, or draws text.
MOVIES = ("mov", "mp4", "m4a", "3gp", "3g2", "mj2")
MATROSKA = ("matroska", "webm")
# Their stamps may begin anywhere, and parts that are put together begin again.
STREAMS = ("mpegts", "mpeg")
# Pictures alone: no stamps.
ELEMENTARY = ("h264", "hevc", "vvc", "m4v", "mpegvideo", "h263", "h261", "obu", "cavsvideo", "dirac", "vc1")
OTHERS = ("avi", "flv", "live_flv", "kux", "asf", "ogg", "mxf", "dv", "rm", "ivf", "nut", "wtv", "gxf", "nsv", "amv", "vc1test")
WHITELIST = (*MOVIES, *MATROSKA, *STREAMS, *ELEMENTARY, *OTHERS)

# How files begin that are no videos.
PICTURES = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"\x00\x00\x01\x00": "icon",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"P5\n": "PGM",
    b"P6\n": "PPM",
    b"v/1\x01": "OpenEXR",
}
# Bytes of an MP4's tables that are looked through.
MOST_TABLES = 1 << 24
# Brands of MP4's boxes that hold a single picture.
PICTURE_BRANDS = frozenset({"avif", "heic", "heix", "mif1", "crx "})
LISTS = {b"ffconcat": "a list of other files", b"#EXTM3U": "a playlist", b"<?xml": "an XML file", b"v=0": "a session description"}


# How other containers begin, and their usual suffixes.
BEGINNINGS = {
    b"\x00\x00\x01\xba": ("an MPEG program stream", ".mpg"),
    b"\x00\x00\x01\xb3": ("MPEG video", ".mpg"),
    b"\x00\x00\x00\x01\x67": ("H.264", ".mp4"),
    b"\x00\x00\x00\x01\x40\x01": ("H.265", ".mp4"),
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02": ("MXF", ".mxf"),
    b"FLV\x01": ("Flash video", ".flv"),
    b".RMF": ("RealMedia", ".rm"),
    b"\x1f\x07\x00": ("DV", ".dv"),
}
# Brands of MP4 files that hold sound or pictures (HEIF, raw photographs).
SOUND_AND_PICTURES = frozenset(
    {b"M4A ", b"M4B ", b"M4P ", b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1", b"avif", b"avis", b"crx "}
)
# The identifier of a stream of pictures in ASF.
ASF_PICTURES = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")


def contents(path: Path) -> str | None:
    """Returns what a file is that no video container begins like, in words; None if that is not known.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for signs, word in ((LISTS, "{}"), (PICTURES, "a picture ({})")):
        for sign, name in signs.items():
            if start.startswith(sign):
                return word.format(name)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a picture (WebP)"
    if head[4:8] == b"ftyp" and head[8:12].decode("latin-1") in PICTURE_BRANDS:
        return "a picture (HEIF)"
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    return "a text file" if head and printable == len(head) else None


def container_of(path: Path) -> tuple[str, str] | None:
    """Returns the video container that a file begins like, and its usual suffix; None for other files, and for sound alone."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return None
    kind, brand = head[4:8], head[8:12]
    if kind == b"ftyp" and brand in SOUND_AND_PICTURES:
        return None
    if kind in (b"ftyp", b"moov", b"mdat", b"wide"):
        return ("QuickTime", ".mov") if kind != b"ftyp" or brand == b"qt  " else ("MP4", ".mp4")
    if head[:4] == b"RIFF":
        return ("AVI", ".avi") if brand == b"AVI " else None
    if head[:4] == b"\x1aE\xdf\xa3":
        return ("WebM", ".webm") if b"webm" in head[:64] else ("Matroska", ".mkv")
    # Ogg and ASF begin alike with sound alone: their headers name the pictures.
    if head[:4] == b"OggS":
        return ("Ogg", ".ogv") if any(sign in head for sign in (b"\x80theora", b"BBCD\0", b"OVP80")) else None
    if head[:4] == b"\x30\x26\xb2\x75":
        return ("ASF", ".wmv") if ASF_PICTURES in head else None
    if len(head) > 1000 and all(head[at : at + 1] == b"G" for at in range(0, 940, 188)):
        return "a transport stream", ".ts"
    if len(head) > 1000 and all(head[at : at + 1] == b"G" for at in range(4, 900, 192)):
        return "a transport stream", ".m2ts"
    return next((found for sign, found in BEGINNINGS.items() if head.startswith(sign)), None)


def lacks_movie_box(path: Path) -> bool:
    """Whether a file is an MP4 without its `moov` box, as a recorder leaves it that lost its power."""
    with path.open("rb") as file:
        boxes = {kind for kind, _ in _boxes(file)}
    return b"ftyp" in boxes and not boxes & {b"moov", b"moof"}


def is_encrypted(path: Path) -> bool:
    """Whether an MP4 says that its pictures are encrypted (sample entry `encv`), or most packets of a transport stream do."""
    with path.open("rb") as file:
        if any(kind == b"moov" and _has_encrypted_pictures(file, end) for kind, end in list(_boxes(file))):
            return True
        file.seek(0)
        head = file.read(188 * 2000)
    packets = [head[at : at + 4] for at in range(0, len(head) - 3, 188)]
    if len(packets) < 5 or any(packet[0] != 0x47 for packet in packets):
        return False
    # Tables are never scrambled: PIDs from 0x20 to 0x1ffe are streams.
    streams = [packet for packet in packets if 0x20 <= int.from_bytes(packet[1:3]) & 0x1FFF < 0x1FFF]
    return sum(packet[3] >> 6 > 1 for packet in streams) > len(streams) / 2


def _has_encrypted_pictures(file: BinaryIO, end: int) -> bool:
    """Whether the box that ends there names an encrypted sample entry; tables of long films are larger than what is read."""
    start = max(0, end - MOST_TABLES)
    file.seek(start)
    return b"encv" in file.read(end - start)


def is_cut_off(path: Path, names: set[str]) -> bool | None:
    """Returns whether the file ends before its container does; None where the container does not say.

    Args:
        names: FFmpeg's names of the container.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if names & set(MOVIES):
            return any(end > size for _, end in _boxes(file))
        if names & set(MATROSKA):
            return _segment_end(file, size) > size
        if "avi" in names:
            return _riff_end(file) > size
        if "flv" in names:
            return not _ends_with_tag(file, size)
        if "ogg" in names:
            return not _ends_with_page(file, size)
    return None


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The kind and the end of each box at the top of an MP4."""
    at = 0
    while True:
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
                yield kind, at
            return
        at += length
        yield kind, at


def _segment_end(file: BinaryIO, size: int) -> int:
    """Where a Matroska's segments end, or `size` where that is not said, as in a live recording."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        id_length = _vint_length(head)
        value_length = _vint_length(head[id_length:]) if id_length else 0
        if not value_length:
            return size
        value = int.from_bytes(head[id_length : id_length + value_length]) & ((1 << 7 * value_length) - 1)
        if value == (1 << 7 * value_length) - 1:
            return size
        at += id_length + value_length + value
    return at


def _vint_length(data: bytes) -> int:
    """The length of a number of EBML: one more than the zeros that its first byte begins with; 0 for anything else."""
    return 9 - data[0].bit_length() if data and data[0] else 0


def _riff_end(file: BinaryIO) -> int:
    head = file.read(8)
    return 8 + int.from_bytes(head[4:], "little") if head[:4] == b"RIFF" else 0


def _ends_with_tag(file: BinaryIO, size: int) -> bool:
    """Whether an FLV ends with the length of its last tag, which stands there."""
    file.seek(max(0, size - 4))
    length = int.from_bytes(file.read(4))
    if not 11 <= length <= size - 4:
        return False
    file.seek(size - 4 - length)
    head = file.read(4)
    return head[0] & 31 in (8, 9, 18) and int.from_bytes(head[1:]) == length - 11


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
