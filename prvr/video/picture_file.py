"""Reads picture files that are searched for, from any source."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from prvr.errors import DataError, require
from prvr.files import read_bytes

# Their decoders alone are tried, whatever the file is called.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MOST_BYTES = 32 << 20
# Of a picture as it is in the file: 8,192 x 8,192.
MOST_PIXELS = 1 << 26
# Encoders read a few hundred pixels.
SIDE = 1024
# The longer side, in shorter ones: an encoder that scales the shorter side would make a huge picture of a line.
MOST_SLENDER = 20
REMEDY = "give a JPEG, PNG, WebP, GIF or BMP file"


def read_picture(path: Path) -> np.ndarray:
    """The picture in a file, as `decode_picture` returns it.

    Raises:
        DataError: as `decode_picture`, or the file does not exist.
        MissingExtra: Pillow is not installed.
    """
    try:
        return decode_picture(read_bytes(path, most=MOST_BYTES), str(path))
    except OSError as problem:
        raise DataError(f"cannot read the picture {path}: {problem.strerror or problem}; check the path") from None


def decode_picture(data: bytes, name: str) -> np.ndarray:
    """A picture as (height, width, 3) uint8 RGB, turned as it is shown, at most `SIDE` pixels wide and high; white shows through.

    Raises:
        DataError: it is no picture of a known format, damaged, too large, or a line.
        MissingExtra: Pillow is not installed.
    """
    images, operations = require("PIL.Image", extra="video"), require("PIL.ImageOps", extra="video")
    if len(data) > MOST_BYTES:
        raise DataError(f"{name} has {len(data)} bytes, more than the {MOST_BYTES} that are read of a picture; make it smaller")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = images.open(io.BytesIO(data), formats=FORMATS)
    except images.DecompressionBombError:
        raise DataError(f"{name} has more than {MOST_PIXELS} pixels; make it smaller") from None
    except Exception:  # a damaged head makes a decoder raise many types
        raise DataError(f"{name} is not a picture that can be read; {REMEDY}") from None
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise DataError(f"{name} has {width} x {height} pixels, more than {MOST_PIXELS}; make it smaller")
    if max(width, height) > MOST_SLENDER * min(width, height):
        raise DataError(f"{name} has {width} x {height} pixels, which is a line; cut out what it shows")
    try:
        image.draft("RGB", (SIDE, SIDE))
        return _as_shown(images, operations, image)
    except Exception as problem:  # as above
        raise DataError(f"{name} is damaged: {type(problem).__name__}; {REMEDY}, saved again") from None


def _as_shown(images: Any, operations: Any, image: Any) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits of grey
        image = images.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    is_transparent = "A" in image.getbands() or "transparency" in image.info
    image = image.convert("RGBA" if is_transparent else "RGB")
    image.thumbnail((SIDE, SIDE))
    image = operations.exif_transpose(image)
    if is_transparent:
        image = images.alpha_composite(images.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))
