"""Containers: which files FFmpeg may open, and what other files are."""

from __future__ import annotations

from pathlib import Path

from prvr.video.structures import EMPTY_BOXES, FIRST_BOXES, boxes_of

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
# Brands of MP4's boxes that hold a single picture.
PICTURE_BRANDS = frozenset({"avif", "heic", "heix", "mif1", "crx "})
LISTS = {b"ffconcat": "a list of other files", b"#EXTM3U": "a playlist", b"<?xml": "an XML file", b"v=0": "a session description"}

START_CODES = (b"\x00\x00\x01", b"\x00\x00\x00\x01")
# How other containers begin, and their usual suffixes.
BEGINNINGS = {
    b"\x00\x00\x01\xba": ("an MPEG program stream", ".mpg"),
    b"\x00\x00\x01\xb3": ("MPEG video", ".mpg"),
    b"\x00\x00\x01\xb0": ("MPEG-4 video", ".m4v"),
    # Delimiters and sets of parameters, after a start code of three or four bytes.
    **{code + unit: ("H.264", ".mp4") for code in START_CODES for unit in (b"\x09", b"\x27", b"\x47", b"\x67")},
    **{code + unit: ("H.265", ".mp4") for code in START_CODES for unit in (b"\x40\x01", b"\x42\x01", b"\x46\x01")},
    b"DKIF": ("IVF", ".webm"),
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
            head, size = file.read(4096), file.seek(0, 2)
    except OSError:
        return None
    while head[4:8] in EMPTY_BOXES and 8 <= (length := int.from_bytes(head[:4])) <= len(head) - 12:
        head = head[length:]
    kind, brand = head[4:8], head[8:12]
    if kind == b"ftyp" and brand in SOUND_AND_PICTURES:
        return None
    # A text may have the name of a box there, but no length before it.
    if kind in FIRST_BOXES and (min(head[:4]) < 9 or int.from_bytes(head[:4]) <= size):
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
        boxes = {kind for kind, _ in boxes_of(file)}
    return bool(boxes & {b"ftyp", b"mdat"}) and not boxes & {b"moov", b"moof"}
