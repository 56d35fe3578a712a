"""Draws an event into a picture of its place: its thing or things, and what falls from the sky."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw

from prvr.demo.background import LIGHTS, paint
from prvr.demo.drawing import FINE, draw_thing
from prvr.demo.wordings import Event

SIZES = {"far": 0.19, "near": 0.58, "two": 0.3}
PLAIN_SIZE = 0.36
# The lower edge of things on the ground, and the middle of things in the air; fractions of the height.
FEET = {"far": 0.82, "near": 0.98}
PLAIN_FEET = 0.93
IN_AIR = {"far": 0.2, "near": 0.4}
PLAIN_IN_AIR = 0.3


class Stage:
    """Draws pictures of one size, with a cache of the drawings.

    Lengths are fractions of the picture's height. `phase` runs from 0 to 1 over an event and moves it; 0.5 is the middle.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._things: dict[tuple[str, str, int, str, bool], Image.Image] = {}
        self._unlit: dict[tuple[str, str, int], Image.Image] = {}
        self._falling = {"rain": self._drops(), "snow": self._flakes()}

    def scenery(self, place: str, light: str, kind: str, chance: random.Random) -> Image.Image:
        """A place in a light, larger than a picture; `kind` is that of the things that will move there."""
        return paint(place, light, kind, (self.width, self.height), chance)

    def put(self, picture: Image.Image, event: Event, phase: float, *, left: bool, tilt: float = 0.0) -> None:
        """Draws the things of an event into a picture of this stage's size.

        Args:
            left: they look and move to the left.
            tilt: rotates them, in degrees.
        """
        for x, y, size in self._places(event, phase):
            thing = self._thing(event, size, left)
            if tilt:
                thing = thing.rotate(tilt, Image.Resampling.BILINEAR)
            x = self.width - x if left else x
            picture.paste(thing, (round(x - thing.width / 2), round(y - thing.height / 2)), thing)

    def fall(self, picture: Image.Image, light: str, time: float) -> None:
        """Draws rain or snow, if there is any in this light, at a time in seconds."""
        if light in self._falling:
            rate = 1.7 if light == "rain" else 0.35
            veil = self._falling[light]
            picture.paste(veil, (0, round(self.height * ((rate * time) % 1 - 1))), veil)

    def _places(self, event: Event, phase: float) -> list[tuple[float, float, float]]:
        """The positions of the things: (x, y, size) in pixels, with (x, y) the centre."""
        manner = event.manner
        size = SIZES.get(manner, PLAIN_SIZE) * self.height
        x = self.width * (0.5 if manner in ("stop", "rise") else 0.16 + 0.68 * phase)
        if event.kind == "air":
            y = IN_AIR.get(manner, PLAIN_IN_AIR) * self.height + 0.02 * self.height * math.sin(9 * phase)
            if manner == "rise":
                y = self.height * (0.78 - 0.62 * phase)
        else:
            y = FEET.get(manner, PLAIN_FEET) * self.height - size / 2
            if manner == "jump":
                x = self.width * (0.4 + 0.2 * phase)
                y -= 0.3 * self.height * abs(math.sin(3.5 * math.pi * phase))
            elif manner != "stop":
                y -= 0.012 * self.height * abs(math.sin(30 * phase))
        if manner == "two":
            return [(x - 0.55 * size, y, size), (x + 0.55 * size, y, size)]
        return [(x, y, size)]

    def _thing(self, event: Event, size: float, left: bool) -> Image.Image:
        """A thing in its light. Drawing and resizing take most of the time, so that all lights and both sides share them."""
        unlit = event.thing, event.colour, round(size)
        key = (*unlit, event.light, left)
        if unlit not in self._unlit:
            drawn = draw_thing(event.thing, event.colour)
            self._unlit[unlit] = drawn.resize((unlit[2], unlit[2]), Image.Resampling.LANCZOS)
        if key not in self._things:
            light = LIGHTS[event.light]
            lit = light.on(self._unlit[unlit], share=0.6 * light.share)
            self._things[key] = lit.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if left else lit
        return self._things[key]

    def _drops(self) -> Image.Image:
        veil, pen, unit = self._veil()
        for x, y in self._scatter(90):
            pen.line([(x, y), (x - 2 * unit, y + 8 * unit)], fill=(206, 224, 246, 220), width=round(1.1 * unit))
        return self._twice(veil)

    def _flakes(self) -> Image.Image:
        veil, pen, unit = self._veil()
        for k, (x, y) in enumerate(self._scatter(110)):
            radius = (0.7 + k * 0.57 % 1) * unit
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(255, 255, 255, 245))
        return self._twice(veil)

    def _veil(self) -> tuple[Image.Image, ImageDraw.ImageDraw, float]:
        veil = Image.new("RGBA", (self.width * FINE, self.height * FINE))
        return veil, ImageDraw.Draw(veil), self.height * FINE / 100

    def _scatter(self, count: int) -> list[tuple[float, float]]:
        """Points that are spread evenly over a fine picture."""
        return [((k * 0.618034 % 1) * self.width * FINE, (k * 0.754878 % 1) * self.height * FINE) for k in range(count)]

    def _twice(self, veil: Image.Image) -> Image.Image:
        """A veil at its size, twice one above the other, so that it can fall for ever."""
        small = veil.resize((self.width, self.height), Image.Resampling.LANCZOS)
        tall = Image.new("RGBA", (self.width, 2 * self.height))
        tall.paste(small, (0, 0))
        tall.paste(small, (0, self.height))
        return tall
