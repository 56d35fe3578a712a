"""Drawings of the things of the demo's world: one small picture with transparency for each thing and colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Length = int | float
Point = tuple[Length, Length]

PALETTE: dict[str, Colour] = {
    "red": (218, 38, 42),
    "orange": (246, 134, 28),
    "yellow": (252, 214, 50),
    "green": (48, 160, 72),
    "blue": (42, 98, 218),
    "purple": (136, 62, 180),
    "white": (248, 248, 248),
    "black": (38, 38, 44),
}
WOOD, GLASS, STEEL, CREAM = (130, 86, 52), (186, 226, 244), (150, 156, 166), (246, 232, 208)

FINE = 4


class Pen:
    """Draws on a square of 100 by 100, y downwards, with FINE pixels per unit; every figure has an outline."""

    def __init__(self, colour: Colour) -> None:
        self.colour = colour
        self.ink: Colour = (22, 22, 30) if sum(colour) > 200 else (205, 205, 215)
        self.canvas = Image.new("RGBA", (100 * FINE, 100 * FINE))
        self._draw = ImageDraw.Draw(self.canvas)

    def disc(self, x: Length, y: Length, radius: Length, *, fill: Colour | None = None) -> None:
        """Draws a disc with its centre at (x, y)."""
        box = [FINE * v for v in (x - radius, y - radius, x + radius, y + radius)]
        self._draw.ellipse(box, fill=fill or self.colour, outline=self.ink, width=2 * FINE)

    def box(self, left: Length, top: Length, right: Length, bottom: Length, *, fill: Colour | None = None) -> None:
        """Draws an upright rectangle."""
        self._draw.rectangle(
            [FINE * v for v in (left, top, right, bottom)], fill=fill or self.colour, outline=self.ink, width=2 * FINE
        )

    def polygon(self, points: Sequence[Point], *, fill: Colour | None = None) -> None:
        """Draws a closed figure through the points."""
        fine = [(FINE * x, FINE * y) for x, y in points]
        self._draw.polygon(fine, fill=fill or self.colour)
        self._draw.line([*fine, fine[0], fine[1]], fill=self.ink, width=2 * FINE, joint="curve")

    def line(self, *points: Point, width: Length = 4) -> None:
        """Draws a line in ink."""
        self._draw.line([(FINE * x, FINE * y) for x, y in points], fill=self.ink, width=round(width * FINE), joint="curve")


def _ball(pen: Pen) -> None:
    pen.disc(50, 52, 44)
    pen.disc(36, 36, 9, fill=CREAM)


def _star(pen: Pen) -> None:
    spokes = [(46 if k % 2 == 0 else 19, math.pi * (k / 5 - 0.5)) for k in range(10)]
    pen.polygon([(50 + radius * math.cos(angle), 54 + radius * math.sin(angle)) for radius, angle in spokes])


def _car(pen: Pen) -> None:
    pen.polygon([(22, 52), (34, 28), (66, 28), (80, 52)])
    pen.polygon([(30, 50), (38, 34), (48, 34), (48, 50)], fill=GLASS)
    pen.polygon([(53, 50), (53, 34), (62, 34), (71, 50)], fill=GLASS)
    pen.box(4, 50, 96, 78)
    for x in (26, 74):
        pen.disc(x, 79, 14, fill=(60, 60, 66))
        pen.disc(x, 79, 5, fill=STEEL)


def _house(pen: Pen) -> None:
    pen.box(16, 46, 84, 96)
    pen.polygon([(4, 48), (50, 6), (96, 48)], fill=WOOD)
    pen.box(42, 66, 60, 96, fill=CREAM)
    pen.box(22, 56, 36, 72, fill=GLASS)
    pen.box(66, 56, 79, 72, fill=GLASS)


def _tree(pen: Pen) -> None:
    pen.box(43, 76, 57, 98, fill=WOOD)
    for top, width in ((42, 40), (24, 32), (4, 24)):
        pen.polygon([(50, top), (50 - width, top + 38), (50 + width, top + 38)])


def _fish(pen: Pen) -> None:
    pen.polygon([(70, 50), (97, 26), (90, 50), (97, 76)])
    pen.polygon([(40, 32), (58, 12), (62, 34)])
    outline = [(42 + 38 * math.cos(k / 24 * math.tau), 52 + 25 * math.sin(k / 24 * math.tau)) for k in range(24)]
    pen.polygon(outline)
    pen.disc(22, 46, 6, fill=CREAM)
    pen.line((38, 36), (44, 52), (38, 68), width=3)


def _boat(pen: Pen) -> None:
    pen.line((48, 4), (48, 72), width=5)
    pen.polygon([(52, 8), (52, 64), (92, 64)])
    pen.polygon([(44, 18), (44, 64), (14, 64)])
    pen.polygon([(4, 70), (96, 70), (80, 94), (20, 94)], fill=WOOD)


def _rocket(pen: Pen) -> None:
    pen.polygon([(42, 80), (58, 80), (50, 99)], fill=(255, 160, 40))
    pen.polygon([(34, 52), (14, 84), (36, 80)], fill=STEEL)
    pen.polygon([(66, 52), (86, 84), (64, 80)], fill=STEEL)
    pen.polygon([(50, 3), (64, 22), (68, 46), (64, 82), (36, 82), (32, 46), (36, 22)])
    pen.disc(50, 40, 9, fill=GLASS)


def _umbrella(pen: Pen) -> None:
    pen.line((50, 8), (50, 88), (44, 95), (36, 88), width=5)
    dome = [(50 + 46 * math.cos(math.pi * (1 + k / 20)), 54 + 44 * math.sin(math.pi * (1 + k / 20))) for k in range(21)]
    hem = [(81, 46), (66, 54), (50, 46), (34, 54), (19, 46)]
    pen.polygon([*dome, *hem])
    pen.line((34, 54), (42, 14), width=2)
    pen.line((66, 54), (58, 14), width=2)


def _mushroom(pen: Pen) -> None:
    pen.polygon([(38, 50), (62, 50), (68, 96), (32, 96)], fill=CREAM)
    cap = [(50 + 46 * math.cos(math.pi * (1 + k / 20)), 56 + 50 * math.sin(math.pi * (1 + k / 20))) for k in range(21)]
    pen.polygon(cap)
    for x, y, radius in ((30, 38, 7), (54, 24, 8), (74, 42, 6)):
        pen.disc(x, y, radius, fill=CREAM)


def _flower(pen: Pen) -> None:
    pen.line((50, 50), (50, 98), width=6)
    for k in range(6):
        angle = k / 6 * math.tau
        pen.disc(50 + 23 * math.cos(angle), 36 + 23 * math.sin(angle), 13)
    pen.disc(50, 36, 12, fill=CREAM)


def _heart(pen: Pen) -> None:
    turns = [k / 40 * math.tau for k in range(40)]
    across = [16 * math.sin(t) ** 3 for t in turns]
    down = [-(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) for t in turns]
    pen.polygon([(50 + 2.8 * x, 46 + 2.8 * y) for x, y in zip(across, down, strict=True)])


THINGS: dict[str, Callable[[Pen], None]] = {
    "ball": _ball,
    "star": _star,
    "car": _car,
    "house": _house,
    "tree": _tree,
    "fish": _fish,
    "boat": _boat,
    "rocket": _rocket,
    "umbrella": _umbrella,
    "mushroom": _mushroom,
    "flower": _flower,
    "heart": _heart,
}


def draw_thing(thing: str, colour: str) -> Image.Image:
    """Draws a thing on a transparent square, FINE times 100 pixels wide."""
    pen = Pen(PALETTE[colour])
    THINGS[thing](pen)
    return pen.canvas
