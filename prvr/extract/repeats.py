"""Frames that repeat the one before them: they are not encoded, and take its row (docs/decisions/0093)."""

from __future__ import annotations

import numpy as np

from prvr.errors import require

# The look of a frame: the mean colours of 16 x 16 areas. The largest difference, of 255 levels, between two that are one.
AREAS, LEVELS = 16, 3


def look_of(picture: np.ndarray) -> bytes:
    """Returns the mean colours of the areas of a picture (height, width, 3) uint8."""
    images = require("PIL.Image", extra="video")
    return bytes(images.fromarray(picture).resize((AREAS, AREAS), images.Resampling.BOX).tobytes())


def is_repeat(look: bytes, last: bytes | None) -> bool:
    """Returns whether no area of a picture looks different from that of the last one that was encoded."""
    if last is None:
        return False
    colours, before = (np.frombuffer(one, np.uint8).astype(np.int16) for one in (look, last))
    return len(colours) == len(before) and bool(np.abs(colours - before).max() <= LEVELS)
