"""Charts as SVG that stands in a page: colours are the page's own, so that they hold in light, in dark and on paper."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

LEFT, RIGHT, TOP, BOTTOM = 56.0, 12.0, 10.0, 40.0
STYLES = 8


@dataclass(frozen=True)
class Curve:
    """A line of a chart; a y that is not finite, or not above 0 on a logarithmic axis, leaves a gap.

    style: a number, for colour and dashes; curves of one name share it. spread: half the height of the bar at each point.
    marked: the point that gets a dot.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: int
    spread: Sequence[float] | None = None
    marked: int | None = None


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval, in a row of its own."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scale:
    """Values to places in the drawing."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self, count: int = 6) -> list[float]:
        """Round values within the scale: steps of 1, 2 or 5; on a logarithmic one powers of ten where they are enough."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for digits in ((1,), (1, 2, 5)):
                ticks = [digit * 10.0**power for power in powers for digit in digits]
                inside = [tick for tick in ticks if self.low <= tick <= self.high]
                if len(inside) > 1:
                    break
            return inside[:: max(1, -(-len(inside) // count))]
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def scale(values: Sequence[float], start: float, end: float, *, log: bool = False) -> Scale:
    """A scale that holds all finite values, with some room where they are all the same."""
    known = [value for value in values if math.isfinite(value) and (value > 0 or not log)] or [1.0]
    low, high = min(known), max(known)
    if log:
        return Scale(low / 1.1, high * 1.1, start, end, log=True)
    room = 0.04 * (high - low) or max(abs(high), 1.0) * 0.1
    return Scale(low - room, high + room, start, end)


def line_chart(curves: Sequence[Curve], *, title: str, x: str, y: str, log: bool = False, width: float = 460.0) -> str:
    """Curves over one axis, y logarithmic if asked for; the legend stands below, see `legend`."""
    height = 260.0
    bars = [(value, half) for curve in curves for value, half in zip(curve.y, curve.spread or [0.0] * len(curve.y), strict=True)]
    across = scale([value for curve in curves for value in curve.x], LEFT, width - RIGHT)
    up = scale([value + sign * half for value, half in bars for sign in (-1, 1)], height - BOTTOM, TOP, log=log)
    marks = [mark for curve in curves for mark in _curve(curve, across, up)]
    return _svg(title, width, height, [*_axes(across, up, x, y, width, height), *marks])


def bar_chart(groups: Sequence[str], series: Sequence[Curve], *, title: str, x: str, y: str, width: float = 940.0) -> str:
    """Bars from 0, side by side in each group: of each series its y of that group, with its spread."""
    height = 280.0
    tops = [value + half for one in series for value, half in zip(one.y, one.spread or [0.0] * len(one.y), strict=True)]
    up = Scale(0.0, max([value for value in tops if math.isfinite(value)] + [1.0]) * 1.05, height - BOTTOM, TOP)
    across = Scale(0.0, float(len(groups)), LEFT, width - RIGHT)
    marks = _y_axis(up, y, width, height)
    step = (across(1.0) - across(0.0)) * 0.84 / max(len(series), 1)
    for place, group in enumerate(groups):
        marks.append(_text(across(place + 0.5), height - BOTTOM + 14, group, "middle"))
        for number, one in enumerate(series):
            left = across(place + 0.08) + number * step
            if math.isfinite(one.y[place]):
                marks.extend(_bar(left, step, one, place, up))
    marks.append(_text((LEFT + width - RIGHT) / 2, height - 6, x, "middle"))
    return _svg(title, width, height, marks)


def interval_chart(intervals: Sequence[Interval], *, title: str, x: str, width: float = 940.0) -> str:
    """Values with their intervals, a row each, and a line at 0."""
    names, row = 330.0, 22
    height = TOP + row * len(intervals) + BOTTOM
    across = scale([0.0, *(end for one in intervals for end in (one.low, one.high))], names, width - RIGHT)
    marks = [
        f'<line class="grid" x1="{across(tick):.1f}" y1="{TOP}" x2="{across(tick):.1f}" y2="{height - BOTTOM}"/>'
        + _text(across(tick), height - BOTTOM + 14, f"{tick:g}", "middle")
        for tick in across.ticks(8)
    ]
    marks.append(f'<line class="axis" x1="{across(0.0):.1f}" y1="{TOP}" x2="{across(0.0):.1f}" y2="{height - BOTTOM}"/>')
    for place, one in enumerate(intervals):
        middle = TOP + row * (place + 0.5)
        name = one.name if len(one.name) <= 52 else f"{one.name[:51]}…"
        marks.append(_text(names - 10, middle + 4, name, "end"))
        marks.append(f'<path class="s1 bar" d="M{across(one.low):.1f} {middle:.1f}H{across(one.high):.1f}"/>')
        marks.append(f'<circle class="f1" cx="{across(one.value):.1f}" cy="{middle:.1f}" r="4"/>')
    marks.append(_text((names + width - RIGHT) / 2, height - 6, x, "middle"))
    return _svg(title, width, height, marks)


def profile_chart(
    relevance: Sequence[float],
    edges: Sequence[float],
    *,
    title: str,
    x: str,
    lanes: Sequence[tuple[str, int, Sequence[tuple[float, float]]]],
    width: float = 940.0,
) -> str:
    """A value for each stretch between edges, as stairs, and above them a lane for each kind of span: name, style, spans."""
    left, lane, height = 80.0, 16, 116.0 + 16 * len(lanes)
    across = Scale(edges[0], max(edges[-1], edges[0] + 1e-6), left, width - RIGHT)
    up = scale(relevance, height - 34, TOP + lane * len(lanes))
    marks = [_text(left - 8, up(tick) + 4, f"{tick:.3g}", "end") for tick in up.ticks(3)]
    marks += [_text(across(tick), height - 20, f"{tick:g}", "middle") for tick in across.ticks(8)]
    marks.append(_text((left + width - RIGHT) / 2, height - 5, x, "middle"))
    for number, (name, style, spans) in enumerate(lanes):
        top = TOP + lane * number
        marks.append(_text(left - 8, top + 10, name, "end"))
        for start, end in spans:
            begin, size = across(start), max(across(end) - across(start), 1.5)
            marks.append(
                f'<rect class="f{style} band" x="{begin:.1f}" y="{top}" width="{size:.1f}" height="{height - 34 - top}"/>'
            )
            marks.append(f'<rect class="f{style}" x="{begin:.1f}" y="{top}" width="{size:.1f}" height="11"/>')
    steps = " ".join(f"V{up(value):.1f}H{across(end):.1f}" for value, end in zip(relevance, edges[1:], strict=True))
    marks.append(f'<path class="axis" d="M{left} {height - 34}H{width - RIGHT}"/>')
    marks.append(f'<path class="s0" d="M{left} {up(relevance[0]):.1f}{steps}"/>')
    return _svg(title, width, height, marks)


def legend(names: Sequence[tuple[str, int]]) -> str:
    """What the lines of a chart stand for."""
    return _legend(names, '<path class="s{}" d="M0 4H28"/>')


def bar_legend(names: Sequence[tuple[str, int]]) -> str:
    """What the bars of a chart stand for."""
    return _legend(names, '<rect class="f{}" x="10" width="18" height="8"/>')


def _legend(names: Sequence[tuple[str, int]], mark: str) -> str:
    swatch = '<svg class="swatch" viewBox="0 0 28 8" aria-hidden="true">{}</svg>'
    items = "".join(f"<li>{swatch.format(mark.format(style % STYLES))}{escape(name)}</li>" for name, style in names)
    return f'<ul class="legend">{items}</ul>'


def _curve(curve: Curve, across: Scale, up: Scale) -> Iterator[str]:
    style = curve.style % STYLES
    for part in _parts(curve, up):
        line = " ".join(f"{across(curve.x[place]):.1f},{up(curve.y[place]):.1f}" for place in part)
        yield f'<polyline class="s{style}" points="{line}"/>'
        for place in part if curve.spread else ():
            half, middle = (curve.spread or ())[place], across(curve.x[place])
            ends = up(curve.y[place] - half), up(curve.y[place] + half)
            yield f'<path class="s{style} spread" d="M{middle:.1f} {ends[0]:.1f}V{ends[1]:.1f}"/>'
    if curve.marked is not None:
        yield f'<circle class="f{style}" cx="{across(curve.x[curve.marked]):.1f}" cy="{up(curve.y[curve.marked]):.1f}" r="4"/>'


def _parts(curve: Curve, up: Scale) -> Iterator[list[int]]:
    """The points of a curve between its gaps."""
    part: list[int] = []
    for place, value in enumerate(curve.y):
        if math.isfinite(value) and (value > 0 or not up.log):
            part.append(place)
        elif part:
            yield part
            part = []
    if part:
        yield part


def _bar(left: float, width: float, one: Curve, place: int, up: Scale) -> Iterator[str]:
    style, top = one.style % STYLES, up(one.y[place])
    yield f'<rect class="f{style}" x="{left:.1f}" y="{top:.1f}" width="{width * 0.9:.1f}" height="{up(0.0) - top:.1f}"/>'
    if one.spread and one.spread[place]:
        middle, half = left + width * 0.45, one.spread[place]
        low, high = up(max(one.y[place] - half, 0)), up(one.y[place] + half)
        yield f'<path class="axis" d="M{middle:.1f} {low:.1f}V{high:.1f}"/>'


def _axes(across: Scale, up: Scale, x: str, y: str, width: float, height: float) -> list[str]:
    marks = _y_axis(up, y, width, height)
    marks += [_text(across(tick), height - BOTTOM + 14, f"{tick:g}", "middle") for tick in across.ticks()]
    return [*marks, _text((LEFT + width - RIGHT) / 2, height - 6, x, "middle")]


def _y_axis(up: Scale, y: str, width: float, height: float) -> list[str]:
    marks = []
    for tick in up.ticks():
        marks.append(f'<line class="grid" x1="{LEFT}" y1="{up(tick):.1f}" x2="{width - RIGHT}" y2="{up(tick):.1f}"/>')
        marks.append(_text(LEFT - 6, up(tick) + 4, f"{tick:g}", "end"))
    middle = (height - BOTTOM + TOP) / 2
    marks.append(f'<text transform="translate(12 {middle:.1f}) rotate(-90)" text-anchor="middle">{escape(y)}</text>')
    return marks


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, width: float, height: float, marks: Sequence[str]) -> str:
    box = f'viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px"'
    return f'<svg class="chart" role="img" aria-label="{escape(title)}" {box}>{"".join(marks)}</svg>'
