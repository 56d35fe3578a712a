"""The places of the demo's world: scenery in a light, larger than the picture, so that a camera can pan over it and shake."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from prvr.demo.drawing import Colour

WIDER, TALLER = 1.25, 1.03
FINE = 2
HORIZON, STRIP = 0.66, 0.76
CLOUD, MOON, SUN, LIT = (250, 250, 252), (244, 240, 214), (255, 236, 150), (255, 226, 130)


@dataclass(frozen=True)
class Light:
    """The sky from top to bottom, what remains of each colour, and the haze over all with its share."""

    top: Colour
    bottom: Colour
    tint: tuple[float, float, float] = (1, 1, 1)
    haze: Colour = (0, 0, 0)
    share: float = 0

    def on(self, picture: Image.Image, share: float | None = None) -> Image.Image:
        """The picture in this light; its transparency stays.

        Args:
            share: of the haze; that of the light if not given.
        """
        part = self.share if share is None else share
        table = [
            round((1 - part) * value * tint + part * haze)
            for tint, haze in zip(self.tint, self.haze, strict=True)
            for value in range(256)
        ]
        return picture.point(table + list(range(256)) if picture.mode == "RGBA" else table)


LIGHTS = {
    "day": Light((92, 164, 236), (206, 232, 250)),
    "night": Light((8, 12, 36), (38, 46, 92), (0.5, 0.54, 0.76)),
    "sunset": Light((104, 70, 140), (252, 158, 84), (1.0, 0.78, 0.66)),
    "rain": Light((84, 94, 108), (146, 154, 164), (0.74, 0.78, 0.84)),
    "snow": Light((176, 188, 204), (222, 228, 236), (0.96, 0.98, 1.0), (236, 240, 246), 0.18),
    "fog": Light((196, 200, 204), (212, 214, 216), haze=(206, 208, 212), share=0.5),
}
STRIPS = {"road": (98, 98, 104), "water": (50, 120, 180)}


def paint(place: str, light: str, kind: str, size: tuple[int, int], chance: random.Random) -> Image.Image:
    """Draws a place in a light, for things that move in a way; `size` is the picture's, the result WIDER and TALLER."""
    width, height = round(WIDER * size[0]) * FINE, round(TALLER * size[1]) * FINE
    shown = LIGHTS[light]
    picture = _sky(shown, width, height)
    _draw_sky(ImageDraw.Draw(picture), light, width, height, chance)
    land = Image.new("RGBA", (width, height))
    pen = Brush(ImageDraw.Draw(land), width, height, chance, dark=light == "night")
    PLACES[place](pen)
    white = (238, 242, 248) if light == "snow" else None
    pen.ground(white or GROUNDS[place])
    pen.strip(kind, white or GROUNDS[place])
    seen = shown.on(land)
    picture.paste(seen, (0, 0), seen)
    for box in pen.windows:
        ImageDraw.Draw(picture).rectangle(box, fill=LIT)
    return picture.reduce(FINE)


def _sky(light: Light, width: int, height: int) -> Image.Image:
    ends = np.array([[light.top], [light.bottom]], np.uint8)
    return Image.fromarray(ends).resize((width, height), Image.Resampling.BILINEAR)


def _draw_sky(pen: ImageDraw.ImageDraw, light: str, width: int, height: int, chance: random.Random) -> None:
    unit = height / 100

    def disc(x: float, y: float, radius: float, fill: Colour) -> None:
        pen.ellipse([x - radius * unit, y - radius * unit, x + radius * unit, y + radius * unit], fill=fill)

    if light == "night":
        for _ in range(40):
            disc(chance.uniform(0, width), chance.uniform(0, 0.6 * height), chance.uniform(0.3, 0.8), MOON)
    if light in ("night", "day", "sunset"):
        low = light == "sunset"
        disc(chance.uniform(0.2, 0.8) * width, (58 if low else 14) * unit, 14 if low else 7, SUN if light != "night" else MOON)
    if light != "night":
        shade = LIGHTS[light]
        cloud = CLOUD if light == "day" else _mix(shade.bottom, shade.top, 0.4)
        for _ in range(chance.randint(2, 4)):
            x, y = chance.uniform(0, width), chance.uniform(8, 34) * unit
            for k in range(4):
                disc(x + (k - 1.5) * 5 * unit, y - (k % 2) * 2 * unit, chance.uniform(3, 5), cloud)


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    """A colour with a share of another."""
    red, green, blue = (round((1 - share) * a + share * b) for a, b in zip(one, other, strict=True))
    return red, green, blue


class Brush:
    """Draws scenery; x runs from 0 to 1 over the whole width, y and sizes are per cent of the height, y downwards."""

    def __init__(self, pen: ImageDraw.ImageDraw, width: int, height: int, chance: random.Random, *, dark: bool) -> None:
        self.chance, self.windows = chance, list[list[float]]()
        self._pen, self._width, self._unit, self._dark = pen, width, height / 100, dark

    def shape(self, x: float, points: list[tuple[float, float]], fill: Colour) -> None:
        """Draws a polygon of points to the right of x."""
        self._pen.polygon([(x * self._width + dx * self._unit, y * self._unit) for dx, y in points], fill=fill)

    def box(self, x: float, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        """Draws an upright rectangle."""
        self.shape(x, [(left, top), (right, top), (right, bottom), (left, bottom)], fill)

    def window(self, x: float, left: float, top: float, *, wide: float = 2.4, tall: float = 3) -> None:
        """Draws a window, which is lit at night."""
        self.box(x, left, top, left + wide, top + tall, (70, 82, 98))
        if self._dark and self.chance.random() < 0.6:
            at = x * self._width + left * self._unit, top * self._unit
            self.windows.append([*at, at[0] + wide * self._unit, at[1] + tall * self._unit])

    def ground(self, colour: Colour) -> None:
        """Draws the ground from the horizon to the strip in front."""
        top, bottom = 100 * HORIZON, 100 * STRIP
        across = self._width / self._unit
        self.box(0, 0, top + 4, across, bottom + 1, colour)

    def strip(self, kind: str, ground: Colour) -> None:
        """Draws the strip that things move on."""
        top, across = 100 * STRIP, self._width / self._unit
        colour = STRIPS.get(kind, _mix(ground, (0, 0, 0), 0.12))
        self.box(0, 0, top, across, 100, colour)
        for k in range(int(across / 12) + 1):
            if kind == "road":
                self.box(0, 12 * k, 87, 12 * k + 6, 88.6, (236, 232, 200))
            elif kind == "water":
                for x, y in ((12 * k, 81), (12 * k + 6, 89), (12 * k + 1, 96)):
                    self.box(0, x, y, x + 5, y + 0.9, (196, 224, 244))
            else:
                self.box(0, 12 * k + 3 * (k % 3), 80 + 7 * (k % 3), 12 * k + 4 + 3 * (k % 3), 81 + 7 * (k % 3), ground)

    def spots(self, count: int) -> list[float]:
        """Places over the whole width, evenly spread and shifted a little."""
        return [(k + 0.5 + self.chance.uniform(-0.3, 0.3)) / count for k in range(count)]

    def hills(self, colour: Colour, *, top: float = 56) -> None:
        """Draws a line of hills at the horizon."""
        across, start = self._width / self._unit, self.chance.uniform(0, math.tau)
        ridge = [(dx, top + 5 * math.sin(start + dx / 16)) for dx in range(0, int(across) + 5, 4)]
        self.shape(0, [(0, 100), *[(float(dx), y) for dx, y in ridge], (across, 100)], colour)


def _forest(brush: Brush) -> None:
    brush.hills((70, 110, 70), top=60)
    for x in brush.spots(13):
        tall, green = brush.chance.uniform(30, 44), brush.chance.choice(((38, 96, 54), (50, 112, 60), (30, 82, 52)))
        brush.box(x, -1.5, 66, 1.5, 74, (96, 66, 42))
        for part in (0.0, 0.3, 0.6):
            wide = 4 + 6 * (part + 0.4)
            brush.shape(
                x, [(0, 70 - tall * (1 - part)), (wide, 70 - tall * (0.6 - part)), (-wide, 70 - tall * (0.6 - part))], green
            )


def _mountains(brush: Brush) -> None:
    for x in brush.spots(5):
        tall, wide = brush.chance.uniform(38, 52), brush.chance.uniform(26, 36)
        brush.shape(x, [(-wide, 72), (0, 72 - tall), (wide, 72)], (112, 118, 132))
        brush.shape(x, [(0, 72 - tall), (wide, 72), (wide * 0.3, 72)], (90, 96, 112))
        cap = 0.36
        brush.shape(
            x,
            [(-wide * cap, 72 - tall * (1 - cap)), (0, 72 - tall), (wide * cap, 72 - tall * (1 - cap)), (0, 72 - tall * 0.74)],
            CLOUD,
        )


def _city(brush: Brush) -> None:
    for x in brush.spots(11):
        tall, wide = brush.chance.uniform(24, 54), brush.chance.uniform(12, 18)
        wall = brush.chance.choice(((148, 152, 164), (122, 128, 146), (170, 162, 156)))
        brush.box(x, -wide / 2, 72 - tall, wide / 2, 72, wall)
        for row in range(int(tall / 6)):
            for column in range(int(wide / 5)):
                brush.window(x, -wide / 2 + 2 + 5 * column, 75 - tall + 6 * row)


def _palms(brush: Brush) -> None:
    brush.box(0, 0, 58, 400, 70, (64, 140, 196))
    for x in brush.spots(5):
        lean, top = brush.chance.uniform(-8, 8), brush.chance.uniform(30, 40)
        brush.shape(x, [(-1.4, 74), (1.4, 74), (lean + 1, top), (lean - 1, top)], (134, 98, 62))
        for turn in range(7):
            angle = math.pi * (turn / 6)
            end = lean + 15 * math.cos(angle), top + 6 - 11 * math.sin(angle)
            brush.shape(x, [(lean, top - 2), end, (lean, top + 2)], (52, 128, 62))


def _barn(brush: Brush) -> None:
    brush.hills((140, 170, 90))
    for x in (brush.chance.uniform(0.3, 0.4), brush.chance.uniform(0.62, 0.72)):
        brush.box(x, -16, 46, 16, 74, (140, 70, 56))
        brush.shape(x, [(-19, 47), (-11, 34), (11, 34), (19, 47)], (84, 62, 56))
        brush.box(x, -6, 58, 6, 74, CLOUD)
        brush.box(x, -4.6, 60, 4.6, 74, (112, 54, 46))
        brush.window(x, -2, 50)
        brush.box(x, 20, 38, 28, 74, (172, 174, 178))
        brush.shape(x, [(20, 38), (24, 32), (28, 38)], (120, 122, 128))


def _lighthouse(brush: Brush) -> None:
    brush.box(0, 0, 60, 400, 72, (60, 128, 180))
    x = brush.chance.uniform(0.44, 0.56)
    brush.shape(x, [(-32, 75), (-16, 64), (16, 63), (34, 75)], (118, 108, 98))
    for row in range(5):
        low, high = 64 - 8 * row, 56 - 8 * row
        brush.shape(
            x,
            [(-7 + row * 0.7, low), (7 - row * 0.7, low), (6.3 - row * 0.7, high), (-6.3 + row * 0.7, high)],
            ((244, 244, 244), (200, 60, 52))[row % 2],
        )
    brush.window(x, -2.5, 17, wide=5, tall=6)
    brush.shape(x, [(-5, 17), (0, 10), (5, 17)], (70, 70, 78))


def _windmill(brush: Brush) -> None:
    brush.hills((164, 186, 96), top=60)
    for x in (brush.chance.uniform(0.3, 0.4), brush.chance.uniform(0.62, 0.72)):
        brush.shape(x, [(-8, 74), (-5, 40), (5, 40), (8, 74)], (222, 206, 176))
        brush.shape(x, [(-6, 41), (0, 32), (6, 41)], (120, 80, 60))
        brush.window(x, -1.5, 54)
        turn = brush.chance.uniform(0, math.pi / 2)
        for k in range(4):
            angle = turn + k * math.pi / 2
            tip, side = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
            corners = [(3, 0), (25, 0), (25, 5), (6, 5)]
            brush.shape(x, [(a * tip[0] + b * side[0], 40 + a * tip[1] + b * side[1]) for a, b in corners], (252, 250, 244))


def _castle(brush: Brush) -> None:
    brush.hills((108, 150, 84))
    x = brush.chance.uniform(0.46, 0.54)
    brush.box(x, -30, 50, 30, 74, (150, 146, 142))
    for k in range(8):
        brush.box(x, -30 + 8 * k, 46, -26 + 8 * k, 50, (150, 146, 142))
    for left, top in ((-38, 34), (-9, 26), (24, 34)):
        brush.box(x, left, top, left + 16, 74, (166, 162, 156))
        brush.shape(x, [(left - 2, top), (left + 8, top - 18), (left + 18, top)], (96, 76, 110))
        brush.window(x, left + 6.5, top + 8, tall=5)
    brush.box(x, -5, 62, 5, 74, (84, 62, 48))


PLACES: dict[str, Callable[[Brush], None]] = {
    "forest": _forest,
    "mountains": _mountains,
    "city": _city,
    "palms": _palms,
    "barn": _barn,
    "lighthouse": _lighthouse,
    "windmill": _windmill,
    "castle": _castle,
}
GROUNDS: dict[str, Colour] = {
    "forest": (92, 142, 70),
    "mountains": (122, 152, 92),
    "city": (136, 136, 134),
    "palms": (230, 206, 156),
    "barn": (154, 178, 88),
    "lighthouse": (112, 104, 96),
    "windmill": (176, 192, 98),
    "castle": (112, 156, 84),
}
