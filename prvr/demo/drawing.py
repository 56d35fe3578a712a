"""Drawings of the things of the demo's world: one small picture with transparency for each thing and colour."""

from __future__ import annotations

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


def _car(pen: Pen) -> None:
    pen.polygon([(20, 54), (34, 30), (66, 30), (82, 54)])
    pen.polygon([(30, 52), (38, 36), (48, 36), (48, 52)], fill=GLASS)
    pen.polygon([(53, 52), (53, 36), (62, 36), (72, 52)], fill=GLASS)
    pen.polygon([(3, 54), (84, 54), (97, 60), (97, 80), (3, 80)])
    pen.disc(92, 65, 4, fill=CREAM)
    _wheels(pen, (25, 75), 82, 14)


def _bus(pen: Pen) -> None:
    pen.box(2, 24, 98, 84)
    for x in (7, 26, 45, 64):
        pen.box(x, 32, x + 15, 52, fill=GLASS)
    pen.box(84, 32, 97, 60, fill=GLASS)
    pen.box(2, 62, 80, 67, fill=CREAM)
    _wheels(pen, (22, 76), 86, 11)


def _tractor(pen: Pen) -> None:
    pen.line((78, 22), (78, 50), width=6)
    pen.box(20, 14, 54, 60, fill=GLASS)
    pen.box(16, 8, 58, 16)
    pen.polygon([(20, 48), (54, 48), (92, 52), (96, 78), (20, 78)])
    _wheels(pen, (27,), 72, 26)
    _wheels(pen, (82,), 84, 14)


def _wheels(pen: Pen, places: Sequence[Length], y: Length, radius: Length) -> None:
    for x in places:
        pen.disc(x, y, radius, fill=(60, 60, 66))
        pen.disc(x, y, radius / 2.6, fill=STEEL)


def _boat(pen: Pen) -> None:
    pen.line((48, 4), (48, 72), width=5)
    pen.polygon([(52, 8), (52, 64), (92, 64)])
    pen.polygon([(44, 18), (44, 64), (14, 64)])
    pen.polygon([(4, 70), (96, 70), (80, 94), (20, 94)], fill=WOOD)


def _plane(pen: Pen) -> None:
    pen.polygon([(48, 46), (62, 46), (44, 18), (34, 18)])
    pen.polygon([(4, 22), (16, 22), (28, 44), (84, 44), (97, 54), (84, 62), (22, 62), (8, 46)])
    pen.polygon([(44, 56), (64, 56), (38, 88), (26, 88)])
    for x in (40, 52, 64, 76):
        pen.disc(x, 50, 3, fill=GLASS)


def _balloon(pen: Pen) -> None:
    pen.line((36, 66), (42, 82), width=3)
    pen.line((64, 66), (58, 82), width=3)
    pen.disc(50, 37, 35)
    pen.polygon([(42, 3), (58, 3), (64, 37), (58, 71), (42, 71), (36, 37)], fill=CREAM)
    pen.box(40, 82, 60, 97, fill=WOOD)


def _kite(pen: Pen) -> None:
    pen.line((50, 62), (40, 72), (52, 82), (40, 98), width=4)
    pen.polygon([(50, 2), (82, 30), (50, 66), (18, 30)])
    pen.line((50, 2), (50, 66), width=3)
    pen.line((18, 30), (82, 30), width=3)


def _bird(pen: Pen) -> None:
    pen.polygon([(2, 44), (24, 50), (20, 66)])
    pen.polygon([(52, 50), (28, 6), (70, 40)])
    pen.polygon([(16, 54), (34, 46), (70, 44), (86, 50), (76, 64), (44, 72)])
    pen.disc(80, 46, 12)
    pen.polygon([(90, 42), (99, 47), (90, 51)], fill=(250, 170, 40))
    pen.disc(83, 43, 3, fill=CREAM)


def _dog(pen: Pen) -> None:
    pen.polygon([(14, 50), (2, 26), (10, 24), (22, 46)])
    _legs(pen, (16, 28, 58, 68), 62, 96, 8)
    pen.polygon([(12, 44), (74, 44), (76, 70), (12, 72)])
    pen.box(66, 24, 90, 52)
    pen.box(84, 36, 99, 50)
    pen.polygon([(64, 22), (74, 22), (72, 48), (60, 44)])
    pen.disc(84, 32, 3, fill=CREAM)


def _horse(pen: Pen) -> None:
    pen.polygon([(12, 42), (2, 50), (3, 78), (10, 72)], fill=WOOD)
    _legs(pen, (14, 24, 56, 66), 56, 98, 7)
    pen.polygon([(8, 40), (56, 38), (72, 6), (80, 2), (99, 24), (94, 32), (82, 28), (74, 62), (12, 62)])
    pen.polygon([(54, 38), (70, 4), (64, 4), (46, 36)], fill=WOOD)


def _cat(pen: Pen) -> None:
    pen.line((22, 88), (6, 76), (8, 50), (16, 42), width=9)
    pen.polygon([(22, 96), (26, 62), (44, 46), (66, 46), (76, 96)])
    pen.polygon([(38, 30), (36, 2), (54, 14)])
    pen.polygon([(84, 30), (86, 2), (68, 14)])
    pen.disc(61, 30, 24)
    for x in (53, 70):
        pen.disc(x, 27, 4, fill=(250, 240, 120))


def _legs(pen: Pen, places: Sequence[Length], top: Length, foot: Length, width: Length) -> None:
    for x in places:
        pen.box(x, top, x + width, foot)


def _ball(pen: Pen) -> None:
    pen.disc(50, 52, 44)
    pen.line((14, 30), (50, 52), (86, 30), width=4)
    pen.line((50, 52), (50, 95), width=4)
    pen.disc(50, 52, 13, fill=CREAM)


THINGS: dict[str, Callable[[Pen], None]] = {
    "car": _car,
    "bus": _bus,
    "tractor": _tractor,
    "boat": _boat,
    "plane": _plane,
    "balloon": _balloon,
    "kite": _kite,
    "bird": _bird,
    "dog": _dog,
    "horse": _horse,
    "cat": _cat,
    "ball": _ball,
}


def draw_thing(thing: str, colour: str) -> Image.Image:
    """Draws a thing that looks to the right on a transparent square, FINE times 100 pixels wide."""
    pen = Pen(PALETTE[colour])
    THINGS[thing](pen)
    return pen.canvas
