"""The camera of a video and its faults: it pans and shakes, its light flickers, and its pictures have a cast and grain."""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image

LEVELS, GRAINS = 12, 4
# The most that a camera shakes, of the picture's height; scenery is taller than the picture by more than twice of it.
SHAKE = 0.012


class Camera:
    """Takes pictures of a size from scenery that is larger; everything is random from `chance`."""

    def __init__(self, width: int, height: int, *, chance: random.Random) -> None:
        self.width, self.height = width, height
        self._pan = chance.uniform(0.1, 0.5), chance.uniform(0, math.tau)
        self._shake = chance.uniform(0, SHAKE) * height
        self._sway = chance.uniform(0, 8)
        self._flicker = chance.uniform(0, 0.8), chance.uniform(1, 9)
        bright = chance.uniform(0.85, 1.0)
        cast = np.array([bright * chance.uniform(0.95, 1.05) for _ in range(3)])
        # Of each number of a row of pixels, in 128ths.
        self._gains = [
            np.tile(np.round(128 * cast * (1 + 0.08 * (2 * level / (LEVELS - 1) - 1))).astype(np.uint16), width)
            for level in range(LEVELS)
        ]
        grain = chance.randint(3, 12)
        self._white = np.uint16(256 - grain)
        noise = np.random.default_rng(chance.getrandbits(32))
        self._grains = [noise.integers(0, grain, (height, 3 * width), np.uint8) for _ in range(GRAINS)]

    def view(self, scenery: Image.Image, time: float) -> Image.Image:
        """The part of the scenery that is seen at a time in seconds."""
        rate, start = self._pan
        left = (scenery.width - self.width) * (0.5 + 0.4 * math.sin(rate * time + start)) + self._shake * math.sin(9 * time)
        top = (scenery.height - self.height) / 2 + self._shake * math.cos(7 * time)
        left, top = round(left), round(top)
        return scenery.crop((left, top, left + self.width, top + self.height))

    def tilt(self, time: float) -> float:
        """The rotation of the things, in degrees."""
        return self._sway * math.sin(3.1 * time)

    def develop(self, picture: Image.Image, time: float, number: int) -> np.ndarray:
        """The picture with flicker, a colour cast and grain: (height, width, 3), from 0 to 255."""
        depth, rate = self._flicker
        level = round((LEVELS - 1) * (0.5 + 0.5 * depth * math.sin(rate * time)))
        rows = np.asarray(picture).reshape(self.height, 3 * self.width)
        lit = np.minimum(rows * self._gains[level] >> 7, self._white).astype(np.uint8)
        return (lit + self._grains[number % GRAINS]).reshape(self.height, self.width, 3)
