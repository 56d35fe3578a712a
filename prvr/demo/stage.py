"""Draws an event into a picture: its ground, its thing or things, and what surrounds them."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from prvr.demo.drawing import FINE, draw_thing
from prvr.demo.wordings import Event

GROUNDS = {
    "grass": (112, 176, 80),
    "sea": (58, 138, 190),
    "sand": (226, 200, 142),
    "snow": (228, 238, 246),
    "road": (98, 98, 104),
}
RAINBOW = ((226, 60, 60), (246, 150, 50), (250, 224, 80), (80, 184, 96), (70, 120, 226), (150, 80, 196))

GROUND_HEIGHT = 0.24
SIZES = {"huge": 0.86, "tiny": 0.17, "two": 0.34, "high": 0.34}
PLAIN_SIZE = 0.48


class Stage:
    """Draws events into pictures of one size, with a cache of the drawings.

    Lengths are fractions of the picture's height. `phase` runs from 0 to 1 over an event and moves it; 0.5 is the middle.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._things: dict[tuple[str, str, int], Image.Image] = {}
        self._grounds = {name: self._ground(name) for name in GROUNDS}
        self._veils = {"rain": self._rain(), "fence": self._fence(), "bubbles": self._bubbles(), "rainbow": self._rainbow()}

    def put(
        self, picture: Image.Image, event: Event, phase: float, *, shift: tuple[int, int] = (0, 0), tilt: float = 0.0
    ) -> None:
        """Draws an event into a picture of this stage's size.

        Args:
            shift: moves the event, in pixels, as a shaking camera does.
            tilt: rotates its things, in degrees.
        """
        left, top = shift
        ground_top = round(self.height * (1 - GROUND_HEIGHT)) + top
        picture.paste(self._grounds[event.ground], (left - 10, ground_top))
        if event.manner == "rainbow":
            self._veil(picture, "rainbow", left, top)
        for x, y, size in self._places(event.manner, phase):
            thing = self._thing(event, size)
            if tilt:
                thing = thing.rotate(tilt, Image.Resampling.BILINEAR)
            corner = round(x + left - thing.width / 2), round(y + top - thing.height / 2)
            picture.paste(thing, corner, thing)
        if event.manner == "rain":
            self._veil(picture, "rain", left, round(self.height * ((6 * phase) % 1 - 1)))
        elif event.manner == "bubbles":
            self._veil(picture, "bubbles", left, -round(self.height * (phase % 1)))
        elif event.manner == "fence":
            self._veil(picture, "fence", left, top)

    def _places(self, manner: str, phase: float) -> list[tuple[float, float, float]]:
        """The positions of the things: (x, y, size) in pixels, with (x, y) the centre."""
        size = SIZES.get(manner, PLAIN_SIZE) * self.height
        x = self.width / 2 + (phase - 0.5) * 0.36 * self.height
        y = self.height * (1 - GROUND_HEIGHT * 0.6) - size / 2 - abs(math.sin(phase * 12)) * 0.03 * self.height
        if manner == "high":
            y = 0.2 * self.height + math.sin(phase * 9) * 0.02 * self.height
        if manner == "two":
            return [(x - 0.55 * size, y, size), (x + 0.55 * size, y, size)]
        return [(x, y, size)]

    def _thing(self, event: Event, size: float) -> Image.Image:
        key = event.thing, event.colour, round(size)
        if key not in self._things:
            self._things[key] = draw_thing(event.thing, event.colour).resize((key[2], key[2]), Image.Resampling.LANCZOS)
        return self._things[key]

    def _veil(self, picture: Image.Image, name: str, left: int, top: int) -> None:
        veil = self._veils[name]
        picture.paste(veil, (left - 10, top), veil)

    def _ground(self, name: str) -> Image.Image:
        width, height = self.width + 20, round(self.height * GROUND_HEIGHT) + 10
        ground = Image.new("RGB", (width, height), GROUNDS[name])
        pen = ImageDraw.Draw(ground)
        dark, light = (tuple(round(v * by) for v in GROUNDS[name]) for by in (0.82, 1.06))
        step = max(4, self.height // 12)
        for k, x in enumerate(range(0, width, step)):
            y = (0.25 + 0.5 * (k * 0.618 % 1)) * height
            if name == "grass":
                pen.line([(x, 0.1 * height), (x + step / 3, 0.45 * height)], fill=dark, width=1)
                pen.line([(x + step / 2, 0.5 * height), (x + step, 0.8 * height)], fill=dark, width=1)
            elif name == "sea":
                pen.arc([x, y - step / 3, x + step, y + step / 3], 180, 360, fill=(220, 240, 250), width=1)
            elif name == "road":
                if k % 3:
                    pen.line([(x, 0.4 * height), (x + step, 0.4 * height)], fill=(240, 236, 200), width=max(1, step // 4))
            else:
                pen.ellipse([x, y, x + step / 3, y + step / 6], fill=dark if name == "sand" else light)
        pen.line([(0, 0), (width, 0)], fill=dark, width=1)
        return ground

    def _fine(self, tall: int = 1) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        veil = Image.new("RGBA", ((self.width + 20) * FINE, self.height * FINE * tall))
        return veil, ImageDraw.Draw(veil)

    def _scale_down(self, veil: Image.Image) -> Image.Image:
        return veil.resize((veil.width // FINE, veil.height // FINE), Image.Resampling.LANCZOS)

    def _rain(self) -> Image.Image:
        veil, pen = self._fine(2)
        unit = self.height * FINE / 100
        for k in range(int(veil.width / unit / 7) * 12):
            x, y = (k * 0.618034 % 1) * veil.width, (k * 0.754878 % 0.5) * veil.height
            for again in (0, veil.height // 2):
                pen.line(
                    [(x, y + again), (x - 3 * unit, y + again + 10 * unit)], fill=(196, 222, 255, 235), width=round(1.2 * unit)
                )
        return self._scale_down(veil)

    def _bubbles(self) -> Image.Image:
        veil, pen = self._fine(2)
        unit = self.height * FINE / 100
        for k in range(int(veil.width / unit / 5)):
            x, y = (k * 0.618034 % 1) * veil.width, (k * 0.754878 % 0.5) * veil.height
            radius = (3 + k * 0.569840 % 1 * 5) * unit
            for again in (0, veil.height // 2):
                box = [x - radius, y + again - radius, x + radius, y + again + radius]
                pen.ellipse(box, fill=(230, 246, 255, 110), outline=(255, 255, 255, 240), width=round(1.2 * unit))
        return self._scale_down(veil)

    def _fence(self) -> Image.Image:
        veil, pen = self._fine()
        unit = self.height * FINE / 100
        for y in (62, 80):
            pen.rectangle([0, y * unit, veil.width, (y + 4) * unit], fill=(176, 128, 80, 255), outline=(96, 64, 40, 255))
        for k in range(int(veil.width / unit / 13) + 1):
            x = k * 13 * unit
            slat = [
                (x, 100 * unit),
                (x, 54 * unit),
                (x + 2.5 * unit, 49 * unit),
                (x + 5 * unit, 54 * unit),
                (x + 5 * unit, 100 * unit),
            ]
            pen.polygon(slat, fill=(192, 142, 92, 255), outline=(96, 64, 40, 255))
        return self._scale_down(veil)

    def _rainbow(self) -> Image.Image:
        veil, pen = self._fine()
        unit = self.height * FINE / 100
        middle = veil.width / 2
        for k, colour in enumerate(RAINBOW):
            radius = (60 - 3.2 * k) * unit
            box = [middle - radius, 66 * unit - radius, middle + radius, 66 * unit + radius]
            pen.arc(box, 180, 360, fill=(*colour, 230), width=round(3.4 * unit))
        return self._scale_down(veil)
