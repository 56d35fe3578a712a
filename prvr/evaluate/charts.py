"""Charts of results in one house style, drawn by matplotlib.

A chart for a page is SVG whose colours are CSS variables of the page, so it follows light mode, dark mode and print. All charts
for pages have the same width, at which the labels are readable on a telephone. A chart for a file is a figure of the same style.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH = 400.0
LABEL_LENGTH, LINE_WIDTH = 56, 1.8
COLOURS = ("#1f5fb4", "#c2410c", "#1a7f37", "#8250df", "#b4236a", "#0e7490", "#7a5c00", "#57606a")
# Dash lengths in line widths; () is a solid line.
DASHES = ((), (4, 1.7), (1.1, 1.4), (5, 1.7, 1.1, 1.7), (6.7, 2.2), (2.2, 1.1), (0.6, 1.7), (3.3, 1.1, 1.1, 1.1, 1.1, 1.1))
SOFT, LINE = "#5c6670", "#d8dde2"
CSS_NAMES = {**{colour: f"--c{number}" for number, colour in enumerate(COLOURS)}, SOFT: "--soft", LINE: "--line"}
STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), SOFT),
    **dict.fromkeys(("axes.spines.left", "axes.spines.top", "axes.spines.right", "xtick.bottom", "ytick.left"), False),
    **dict.fromkeys(("axes.axisbelow", "figure.constrained_layout.use"), True),
    # A name may contain $, which is no formula; a point that lies on a straight line is a point.
    **dict.fromkeys(("text.parse_math", "path.simplify"), False),
    **{"font.size": 10.5, "legend.fontsize": 8, "lines.linewidth": LINE_WIDTH, "grid.color": LINE, "svg.fonttype": "none"},
    **{"axes.prop_cycle": f"cycler(color={list(COLOURS)})", "figure.constrained_layout.wspace": 0.06},
}
SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Curve:
    """A line of a chart.

    A y that is not finite, or not above 0 on a logarithmic axis, leaves a gap. Curves with the same `style`, a number, share
    colour and dashes. spread: half the length of the interval at each point. marked: the position of the point that has a dot.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: int
    spread: Sequence[float] | None = None
    marked: int | None = None


@dataclass(frozen=True)
class Bars:
    """A bar of one system in each group; no bar where the height is NaN. spread: half the length of the interval of each bar."""

    name: str
    heights: Sequence[float]
    style: int
    spread: Sequence[float]


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Lane:
    """Time spans of one kind, drawn as bars above a profile."""

    name: str
    style: int
    spans: Sequence[tuple[float, float]]


@contextmanager
def house_style() -> Iterator[None]:
    """Sets matplotlib's parameters to the house style within the block; the user's own settings have no effect."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        # In a page the browser chooses the font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def line_chart(curves: Sequence[Curve], *, title: str, x: str, y: str, log: bool = False) -> Markup:
    """Curves over one axis, as SVG without a legend; `log` makes the y axis logarithmic."""
    with house_style():
        figure, axes = _new_figure(240.0)
        draw_lines(axes, curves, x=x, y=y, log=log)
        return as_svg(figure, title)


def bar_chart(groups: Sequence[str], bars: Sequence[Bars], *, title: str, x: str, y: str) -> Markup:
    """Bars from 0, side by side in each group, as SVG without a legend."""
    with house_style():
        figure, axes = _new_figure(240.0)
        draw_bars(axes, groups, bars, x=x, y=y)
        return as_svg(figure, title)


def interval_chart(intervals: Sequence[Interval], *, title: str, x: str) -> Markup:
    """Values with their intervals, one below the other, and a line at 0; as SVG."""
    with house_style():
        figure, axes = _new_figure(50.0 + 34.0 * len(intervals))
        for place, one in enumerate(intervals):
            axes.hlines(place, one.low, one.high, color=COLOURS[1], linewidth=3)
            axes.plot(one.value, place, "o", color=COLOURS[1])
            # Above its interval and not beside it: names are long and telephones narrow.
            axes.text(0, place - 0.2, label(one.name), transform=axes.get_yaxis_transform(), va="bottom", color=SOFT)
        axes.axvline(0, color=SOFT, linewidth=1)
        axes.set(ylim=(len(intervals) - 0.5, -0.9), yticks=[], xlabel=label(x))
        _number(axes.xaxis, 6)
        axes.grid(axis="x")
        return as_svg(figure, title)


def profile_chart(
    relevance: Sequence[float], edges: Sequence[float], *, title: str, x: str, y: str, lanes: Sequence[Lane]
) -> Markup:
    """A value for each stretch between two edges, as stairs, with a lane of spans above for each kind; as SVG."""
    with house_style():
        figure, axes = _new_figure(130.0 + 16.0 * len(lanes))
        axes.stairs(relevance, edges, baseline=None, color=COLOURS[0], linewidth=LINE_WIDTH)
        left, right = edges[0], max(edges[-1], edges[0] + 1e-6)
        axes.set(xlim=(left, right), xlabel=label(x), ylabel=label(y))
        low, high = axes.get_ylim()
        share = 0.14
        axes.set_ylim(low, low + (high - low) / (1 - share * len(lanes)))
        for number, lane in enumerate(lanes):
            top, colour = 1 - share * number, COLOURS[lane.style]
            axes.text(-0.02, top - share / 2, lane.name, transform=axes.transAxes, ha="right", va="center")
            for start, end in lane.spans:
                visible_end = max(end, start + (right - left) / 250)
                axes.axvspan(start, visible_end, ymax=top - share, color=colour, alpha=0.14, linewidth=0)
                axes.axvspan(start, visible_end, ymin=top - 0.8 * share, ymax=top - 0.1 * share, color=colour, linewidth=0)
        _number(axes.xaxis, 8)
        _number(axes.yaxis, 4, format="{x:.3g}")
        axes.set_yticks([tick for tick in axes.yaxis.get_major_locator().tick_values(low, high) if low <= tick <= high])
        return as_svg(figure, title)


def draw_lines(axes: Axes, curves: Sequence[Curve], *, x: str, y: str, log: bool = False) -> None:
    """Draws curves with their intervals into axes; call it within `house_style`."""
    known = np.array([value for curve in curves for value in curve.y if np.isfinite(value) and (value > 0 or not log)])
    for curve in curves:
        values, colour = _with_gaps(curve.y, log=log), COLOURS[curve.style % len(COLOURS)]
        dashes = DASHES[curve.style % len(DASHES)]
        axes.plot(curve.x, values, color=colour, linestyle=(0, dashes) if dashes else "-", label=label(curve.name))
        if curve.spread is not None:
            axes.vlines(curve.x, values - np.array(curve.spread), values + np.array(curve.spread), color=colour)
        if curve.marked is not None:
            axes.plot(curve.x[curve.marked], curve.y[curve.marked], "o", color=colour)
    axes.set(xlabel=label(x), ylabel=label(y))
    _number(axes.xaxis, 6, integer=all(float(value).is_integer() for curve in curves for value in curve.x))
    if log:
        known = known if len(known) else np.ones(1)
        axes.set(yscale="log", ylim=(known.min() / 1.1, known.max() * 1.1))
        number_logarithmic(axes.yaxis, known)
    else:
        _number(axes.yaxis, 6)
    axes.grid(axis="y")


def draw_bars(axes: Axes, groups: Sequence[str], bars: Sequence[Bars], *, x: str, y: str) -> None:
    """Draws bars from 0 with their intervals, side by side in each group; call it within `house_style`."""
    width = 0.84 / max(len(bars), 1)
    for number, one in enumerate(bars):
        values, half = np.array(one.heights), np.array(one.spread)
        left = np.arange(len(groups)) - 0.42 + number * width
        there = np.isfinite(values)
        axes.bar(
            left[there],
            values[there],
            0.9 * width,
            align="edge",
            color=COLOURS[one.style % len(COLOURS)],
            label=label(one.name),
        )
        ends = there & (half > 0)
        low, high = np.maximum(values - half, 0)[ends], (values + half)[ends]
        axes.vlines(left[ends] + 0.45 * width, low, high, color=SOFT, linewidth=1.2)
    axes.set_xticks(range(len(groups)), [label(group) for group in groups])
    axes.set(xlabel=label(x), ylabel=label(y), xlim=(-0.5, len(groups) - 0.5))
    axes.set_ylim(bottom=0)
    _number(axes.yaxis, 6)
    axes.grid(axis="y")


def number_logarithmic(axis: Axis, values: Sequence[float] | np.ndarray) -> None:
    """Labels a logarithmic axis over these values with powers of ten, and with 2 and 5 times these if there are few."""
    from matplotlib.ticker import LogLocator, NullFormatter

    few = max(values) < 100 * min(values)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=7))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def as_svg(figure: Figure, title: str) -> Markup:
    """A figure as an `<svg>` element for a page: no ids, no links, no fonts, and the colours as CSS variables."""
    for artist in figure.findobj():
        artist.set_clip_on(False)
    drawing = io.StringIO()
    figure.savefig(drawing, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(drawing.getvalue())
    box = root.get("viewBox", "")
    chart = ElementTree.Element("svg", {"class": "chart", "role": "img", "aria-label": title, "viewBox": box})
    shapes = {f"#{path.get('id')}": path.get("d", "") for path in root.iter(f"{SVG}path") if path.get("id")}
    for mark in root.iter():
        attributes = _attributes(mark, shapes)
        if attributes is not None:
            ElementTree.SubElement(chart, "text" if mark.text and mark.text.strip() else "path", attributes).text = mark.text
    return Markup(ElementTree.tostring(chart, encoding="unicode"))


def label(text: str) -> str:
    """A text as a chart can show it: printable and of bounded length."""
    shown = "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)
    return shown if len(shown) <= LABEL_LENGTH else f"{shown[: LABEL_LENGTH - 1]}…"


def _new_figure(height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    # The unit of SVG is a point, of which an inch has 72.
    figure = Figure(figsize=(WIDTH / 72, height / 72))
    return figure, figure.subplots()


def _with_gaps(values: Sequence[float], *, log: bool) -> Float[np.ndarray, "N"]:
    found = np.array(values, float)
    return np.where(np.isfinite(found) & ((found > 0) | (not log)), found, np.nan)


def _number(axis: Axis, count: int, *, integer: bool = False, format: str = "{x:g}") -> None:
    """Labels an axis with about `count` round numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(count, steps=[1, 2, 5, 10], integer=integer))
    axis.set_major_formatter(format)


def _attributes(mark: ElementTree.Element, shapes: dict[str, str]) -> dict[str, str] | None:
    """The attributes of a visible element of matplotlib's SVG, with a marker's shape in place of its link; else None."""
    kind, style = mark.tag.removeprefix(SVG), mark.get("style", "")
    for colour, name in CSS_NAMES.items():
        style = style.replace(colour, f"var({name})")
    if kind == "path" and not mark.get("id") and style != "fill: none":
        return {"d": _round_numbers(mark.get("d", "")), "style": style}
    if kind == "use":
        shape = shapes[mark.get("{http://www.w3.org/1999/xlink}href", "")]
        place = _round_numbers(f"translate({mark.get('x')} {mark.get('y')})")
        return {"d": _round_numbers(shape), "style": style, "transform": place}
    if kind == "text":
        kept = {name: mark.get(name, "") for name in ("x", "y", "transform") if mark.get(name)}
        if kept.get("transform", "").startswith("rotate(-0 "):
            del kept["transform"]
        anchor = re.search(r"text-anchor: \w+", style)
        # Size, family and colour of texts are the page's.
        return {**{name: _round_numbers(value) for name, value in kept.items()}, **({"style": anchor[0]} if anchor else {})}
    return None


def _round_numbers(numbers: str) -> str:
    """Coordinates with one decimal: a tenth of a point is finer than a screen."""
    short = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), numbers)
    return " ".join(short.split())
