"""The background of a video: scenery, drifting objects and the faults of the camera, unrelated to the video's events."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from prvr.demo.drawing import FINE, PALETTE, Colour

LEVELS = 12
GRAINS = 4


@dataclass(frozen=True)
class Drifter:
    """An object that no caption mentions and that moves round the picture; lengths in pixels, rates in radians per second."""

    picture: Image.Image
    middle: tuple[float, float]
    reach: tuple[float, float]
    rates: tuple[float, float]

    def paste(self, picture: Image.Image, time: float) -> None:
        """Pastes the object at its position at a time in seconds."""
        x = self.middle[0] + self.reach[0] * math.sin(self.rates[0] * time)
        y = self.middle[1] + self.reach[1] * math.cos(self.rates[1] * time)
        picture.paste(self.picture, (round(x), round(y)), self.picture)


class Background:
    """A video's scenery, the objects that drift through it, and its camera's faults, all random from `chance`."""

    def __init__(self, width: int, height: int, *, chance: random.Random) -> None:
        self.width, self.height = width, height
        self._scenery = _scenery(round(1.5 * width), round(1.25 * height), chance)
        self._drifters = [_drifter(width, height, chance) for _ in range(chance.randint(2, 4))]
        self._front = [_drifter(width, height, chance) for _ in range(chance.randint(0, 1))]
        self._pan = chance.uniform(0.1, 0.4), chance.uniform(0, math.tau)
        self._shake = chance.uniform(0, 3)
        self._sway = chance.uniform(0, 20)
        self._flicker = chance.uniform(0, 1), chance.uniform(1, 9)
        light = chance.uniform(0.55, 1.0)
        cast = [light * chance.uniform(0.8, 1.1) for _ in range(3)]
        haze = chance.uniform(0, 60)
        self._levels = [_curve(cast, haze, 1 + 0.16 * (level / (LEVELS - 1) * 2 - 1)) for level in range(LEVELS)]
        strength = chance.randint(6, 34)
        self._grain_offset = -(strength // 2)
        noise = _noise(chance)
        self._grains = [Image.fromarray(noise.integers(0, strength, (height, width, 3), np.uint8)) for _ in range(GRAINS)]

    def behind(self, time: float) -> Image.Image:
        """The scenery at a time in seconds, with the panning of the camera."""
        rate, start = self._pan
        spare = self._scenery.width - self.width, self._scenery.height - self.height
        left = round(spare[0] * (0.5 + 0.5 * math.sin(rate * time + start)))
        top = round(spare[1] * (0.5 + 0.5 * math.cos(0.7 * rate * time + start)))
        picture = self._scenery.crop((left, top, left + self.width, top + self.height))
        for drifter in self._drifters:
            drifter.paste(picture, time)
        return picture

    def shift(self, time: float) -> tuple[int, int]:
        """The shift of the foreground by the shaking camera, in pixels."""
        return round(self._shake * math.sin(5.3 * time)), round(self._shake * math.cos(4.1 * time))

    def tilt(self, time: float) -> float:
        """The rotation of the things in the foreground, in degrees."""
        return self._sway * math.sin(3.1 * time)

    def over(self, picture: Image.Image, time: float, number: int) -> Image.Image:
        """The picture with a drifting object in front, flicker, a colour cast and grain."""
        for drifter in self._front:
            drifter.paste(picture, time)
        depth, rate = self._flicker
        level = round((LEVELS - 1) * (0.5 + 0.5 * depth * math.sin(rate * time)))
        return ImageChops.add(picture.point(self._levels[level]), self._grains[number % GRAINS], 1, self._grain_offset)


def _curve(cast: list[float], haze: float, gain: float) -> list[int]:
    return [min(255, round((haze + (1 - haze / 255) * value * part) * gain)) for part in cast for value in range(256)]


def _scenery(width: int, height: int, chance: random.Random) -> Image.Image:
    kinds = (_clouds, _stripes, _mosaic, _hills, _city)
    return chance.choice(kinds)(width, height, chance)


def _noise(chance: random.Random) -> np.random.Generator:
    return np.random.default_rng(chance.getrandbits(32))


def _pale(chance: random.Random) -> Colour:
    return chance.randint(90, 235), chance.randint(90, 235), chance.randint(90, 235)


def _gradient(width: int, height: int, top: Colour, bottom: Colour) -> Image.Image:
    ends = np.array([[top], [bottom]], np.uint8)
    return Image.fromarray(ends).resize((width, height), Image.Resampling.BILINEAR)


def _clouds(width: int, height: int, chance: random.Random) -> Image.Image:
    cells = chance.randint(4, 10)
    patches = _noise(chance).integers(0, 120, (cells, cells, 3)) + np.array(_pale(chance)) - 60
    return Image.fromarray(patches.clip(0, 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)


def _stripes(width: int, height: int, chance: random.Random) -> Image.Image:
    picture, colours = Image.new("RGB", (width, height), _pale(chance)), [_pale(chance) for _ in range(2)]
    pen, step, lean = ImageDraw.Draw(picture), chance.randint(10, 28), chance.randint(-60, 60)
    for k, x in enumerate(range(-60, width + 60, step)):
        pen.line([(x, 0), (x + lean, height)], fill=colours[k % 2], width=step // 2)
    return picture


def _mosaic(width: int, height: int, chance: random.Random) -> Image.Image:
    tiles = _noise(chance).integers(-45, 45, (chance.randint(5, 9), chance.randint(7, 12), 1)) + np.array(_pale(chance))
    return Image.fromarray(tiles.clip(0, 255).astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)


def _hills(width: int, height: int, chance: random.Random) -> Image.Image:
    picture = _gradient(width, height, _pale(chance), _pale(chance))
    pen = ImageDraw.Draw(picture)
    for level in (0.45, 0.6, 0.75):
        wave, start = chance.uniform(0.02, 0.06), chance.uniform(0, math.tau)
        ridge = [(x, height * (level + 0.08 * math.sin(wave * x + start))) for x in range(0, width + 4, 4)]
        pen.polygon([(0, height), *ridge, (width, height)], fill=_pale(chance))
    return picture


def _city(width: int, height: int, chance: random.Random) -> Image.Image:
    picture, wall, lit = _gradient(width, height, _pale(chance), _pale(chance)), _pale(chance), _pale(chance)
    pen, x = ImageDraw.Draw(picture), 0
    while x < width:
        across, top = chance.randint(16, 34), round(height * chance.uniform(0.3, 0.65))
        pen.rectangle([x, top, x + across, height], fill=wall, outline=(70, 70, 80))
        for wx in range(x + 4, x + across - 4, 7):
            for wy in range(top + 5, height, 10):
                pen.rectangle([wx, wy, wx + 3, wy + 4], fill=lit)
        x += across
    return picture


def _drifter(width: int, height: int, chance: random.Random) -> Drifter:
    size = round(height * chance.uniform(0.1, 0.26))
    canvas = Image.new("RGBA", (size * FINE, size * FINE))
    pen, side = ImageDraw.Draw(canvas), size * FINE - 1
    colour = (*PALETTE[chance.choice(sorted(PALETTE))], chance.randint(130, 255))
    kind = chance.choice(("triangle", "cross", "ring", "diamond"))
    if kind == "triangle":
        pen.polygon([(0, side), (side / 2, 0), (side, side)], fill=colour)
    elif kind == "cross":
        pen.rectangle([side * 0.36, 0, side * 0.64, side], fill=colour)
        pen.rectangle([0, side * 0.36, side, side * 0.64], fill=colour)
    elif kind == "ring":
        pen.ellipse([0, 0, side, side], outline=colour, width=max(2, side // 5))
    else:
        pen.polygon([(side / 2, 0), (side, side / 2), (side / 2, side), (0, side / 2)], fill=colour)
    return Drifter(
        canvas.resize((size, size), Image.Resampling.LANCZOS),
        middle=(chance.uniform(0, width - size), chance.uniform(0, height * 0.7)),
        reach=(chance.uniform(0.1, 0.5) * width, chance.uniform(0.05, 0.3) * height),
        rates=(chance.uniform(0.2, 1.2), chance.uniform(0.2, 1.2)),
    )
