"""The camera of a video and its faults: it pans and shakes, its light flickers, and its pictures have a cast and grain."""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageChops

LEVELS, GRAINS = 12, 4


class Camera:
    """Takes pictures of a size from scenery that is wider; everything is random from `chance`."""

    def __init__(self, width: int, height: int, *, chance: random.Random) -> None:
        self.width, self.height = width, height
        self._pan = chance.uniform(0.1, 0.5), chance.uniform(0, math.tau)
        self._shake = chance.uniform(0, 0.012) * height
        self._sway = chance.uniform(0, 8)
        self._flicker = chance.uniform(0, 0.8), chance.uniform(1, 9)
        bright = chance.uniform(0.85, 1.0)
        cast = [bright * chance.uniform(0.95, 1.05) for _ in range(3)]
        self._levels = [
            [min(255, round(value * part * (1 + 0.08 * (2 * level / (LEVELS - 1) - 1)))) for part in cast for value in range(256)]
            for level in range(LEVELS)
        ]
        strength = chance.randint(3, 12)
        self._grain_offset = -(strength // 2)
        noise = np.random.default_rng(chance.getrandbits(32))
        self._grains = [Image.fromarray(noise.integers(0, strength, (height, width, 3), np.uint8)) for _ in range(GRAINS)]

    def view(self, scenery: Image.Image, time: float) -> Image.Image:
        """The part of the scenery that is seen at a time in seconds."""
        rate, start = self._pan
        left = (scenery.width - self.width) * (0.5 + 0.4 * math.sin(rate * time + start)) + self._shake * math.sin(9 * time)
        left, top = round(left), round(self._shake * math.cos(7 * time))
        return scenery.crop((left, top, left + self.width, top + self.height))

    def tilt(self, time: float) -> float:
        """The rotation of the things, in degrees."""
        return self._sway * math.sin(3.1 * time)

    def develop(self, picture: Image.Image, time: float, number: int) -> Image.Image:
        """The picture with flicker, a colour cast and grain."""
        depth, rate = self._flicker
        level = round((LEVELS - 1) * (0.5 + 0.5 * depth * math.sin(rate * time)))
        return ImageChops.add(picture.point(self._levels[level]), self._grains[number % GRAINS], 1, self._grain_offset)
