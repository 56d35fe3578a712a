"""Frames as the input of an image model: resized, cropped and normalised as a configuration says.

size (a number, or [height, width])   mean, std (three numbers each, of values in 0..1)
interpolation (bicubic, bilinear, nearest)   resize_mode (`squash`: both sides at once; `shortest`: then a centre crop)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from prvr.errors import ModelError, nearest, require

RESIZE_MODES = ("shortest", "squash")
INTERPOLATIONS = ("bicubic", "bilinear", "nearest")
# The largest side in pixels that a model reads.
MOST_PIXELS = 4096


@final
class Pixels:
    """Makes the planes of a model from frames.

    Args:
        path: the file of the configuration, for error lines.
        extra: the extra of prvr that installs Pillow.

    Raises:
        ModelError: a setting is missing, or has a value that it cannot have.
    """

    def __init__(self, config: Mapping[str, Any], path: Path, *, extra: str) -> None:
        self._pillow = require("PIL.Image", extra=extra)
        try:
            size, mean, std, self._resize_mode, self._interpolation = (
                config[key] for key in ("size", "mean", "std", "resize_mode", "interpolation")
            )
        except (KeyError, TypeError) as problem:
            raise ModelError(f"{path} is missing or broken ({problem!r}); get the encoder again") from problem
        self.height, self.width = _size(path, size)
        self._mean, self._std = _numbers(path, "mean", mean, above=-math.inf), _numbers(path, "std", std, above=0)
        for value, known in ((self._resize_mode, RESIZE_MODES), (self._interpolation, INTERPOLATIONS)):
            if value not in known:
                raise ModelError(f"{path}: unknown {value!r:.60}; {nearest(str(value), known)}")

    def planes(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Returns frames (height, width, 3), uint8 RGB of any size, as (N, 3, height, width) float32."""
        planes = np.empty((len(frames), 3, self.height, self.width), np.float32)
        # Frame by frame: each step on a whole batch would take its memory once more.
        for plane, frame in zip(planes, frames, strict=True):
            pixels = self.fit(frame).astype(np.float32) / np.float32(255)
            plane[:] = ((pixels - self._mean) / self._std).transpose(2, 0, 1)
        return planes

    def fit(self, frame: np.ndarray) -> np.ndarray:
        """Returns a frame resized and cropped (height, width, 3); one that was fitted before comes back as it is."""
        height, width = self.height, self.width
        image = self._pillow.fromarray(frame)
        resampling = self._pillow.Resampling[self._interpolation.upper()]
        if self._resize_mode == "squash":
            return np.asarray(image.resize((width, height), resampling))
        # The smallest size that covers the crop, each side rounded down as torchvision does.
        scale = max(height / image.height, width / image.width)
        covering = max(width, int(image.width * scale)), max(height, int(image.height * scale))
        left, top = round((covering[0] - width) / 2), round((covering[1] - height) / 2)
        return np.asarray(image.resize(covering, resampling).crop((left, top, left + width, top + height)))


def _size(path: Path, value: Any) -> tuple[int, int]:
    sides = [value, value] if isinstance(value, int) else value
    whole = isinstance(sides, list) and len(sides) == 2 and all(type(side) is int and 1 <= side <= MOST_PIXELS for side in sides)
    if not whole:
        raise ModelError(
            f"{path}: 'size' is {value!r:.60}; it takes a whole number from 1 to {MOST_PIXELS}, or [height, width]; "
            "get the encoder again"
        )
    return sides[0], sides[1]


def _numbers(path: Path, name: str, value: Any, *, above: float) -> np.ndarray:
    numbers = value if isinstance(value, list) else []
    # Within float32, beyond which a pixel becomes infinite.
    fit = [n for n in numbers if type(n) in (int, float) and max(above, -1e6) < n < 1e6 and (above < 0 or n > 1e-6)]
    if len(numbers) != 3 or len(fit) != 3:
        what = "three numbers above 0" if above == 0 else "three numbers"
        raise ModelError(f"{path}: {name!r} is {value!r:.60}; it takes {what}, of values in 0..1; get the encoder again")
    return np.array(numbers, np.float32)
