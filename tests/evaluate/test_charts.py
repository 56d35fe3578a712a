"""Charts: every point inside the drawing and where it should be, colours and texts of the page, hostile names as text."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from prvr.evaluate.charts import (
    WIDTH,
    Bars,
    Curve,
    Interval,
    Lane,
    bar_chart,
    draw_bars,
    draw_lines,
    house_style,
    interval_chart,
    line_chart,
    profile_chart,
)
from prvr.files import write_picture

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)> $\\frac{1}{0}$ \x00\udcff 日本 &amp;"


def curve(y: list[float], **more: object) -> Curve:
    return Curve("c", [float(n) for n in range(len(y))], y, 0, **more)  # type: ignore[arg-type]


def marks(svg: str, kind: str = "path") -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg.encode(errors="replace")).iter(kind))


def numbers(path: ElementTree.Element) -> list[float]:
    return [float(number) for number in re.findall(r"-?[\d.]+", path.get("d", ""))]


def box(svg: str) -> tuple[float, float]:
    left, top, width, height = map(float, ElementTree.fromstring(svg).get("viewBox", "").split())
    assert (left, top) == (0, 0)
    return width, height


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in marks(svg, "text")]


def all_charts(name: str) -> list[str]:
    return [
        line_chart([Curve(name, [1.0, 2.0], [3.0, 5.0], 9, spread=[1.0, 0.5], marked=1)], title=name, x=name, y=name),
        line_chart([Curve(name, [1.0, 2.0], [3.0, 5.0], 1)], title=name, x=name, y=name, log=True),
        bar_chart([name, "b"], [Bars(name, [1.0, math.nan], 0, [0.5, 0.0])], title=name, x=name, y=name),
        interval_chart([Interval(name, 1.0, 0.5, 1.5)], title=name, x=name),
        profile_chart([0.1, 0.5], [0.0, 1.0, 2.0], title=name, x=name, y=name, lanes=[Lane("found", 1, [(0.0, 1.0)])]),
    ]


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=20), log=st.booleans())
def test_every_point_lies_in_the_drawing(values: list[float], log: bool) -> None:
    chart = line_chart([curve(values)], title="t", x="x", y="y", log=log)
    (drawn,) = [mark for mark in marks(chart) if "stroke: var(--c0)" in mark.get("style", "")] or [ElementTree.Element("path")]
    places = numbers(drawn)
    assert len(places) == 2 * sum(math.isfinite(value) and (value > 0 or not log) for value in values)
    width, height = box(chart)
    assert all(0 <= x <= width for x in places[::2])
    assert all(0 <= y <= height for y in places[1::2])


def test_points_are_where_their_values_are() -> None:
    chart = line_chart([curve([0.0, 1.0, 3.0])], title="t", x="x", y="y")
    drawn = next(numbers(mark) for mark in marks(chart) if "stroke: var(--c0)" in mark.get("style", ""))
    x, y = drawn[::2], drawn[1::2]
    assert x[2] - x[1] == pytest.approx(x[1] - x[0], abs=0.2)
    # Upwards, and twice as far for twice the difference.
    assert y[1] - y[2] == pytest.approx(2 * (y[0] - y[1]), abs=0.3)
    assert y[0] > y[1]
    decades = line_chart([curve([1.0, 10.0, 1000.0])], title="t", x="x", y="y", log=True)
    y = next(numbers(mark) for mark in marks(decades) if "stroke: var(--c0)" in mark.get("style", ""))[1::2]
    assert y[1] - y[2] == pytest.approx(2 * (y[0] - y[1]), abs=0.3)
    assert y[0] > y[1]


def test_an_interval_reaches_from_its_low_to_its_high_end() -> None:
    chart = line_chart([curve([1.0, 2.0], spread=[0.5, 0.25])], title="t", x="x", y="y")
    line, *bars = [numbers(mark) for mark in marks(chart) if "stroke: var(--c0)" in mark.get("style", "")]
    unit = line[1] - line[3]
    assert [abs(bar[1] - bar[3]) / unit for bar in bars] == pytest.approx([1.0, 0.5], abs=0.01)
    assert [bar[0] for bar in bars] == [line[0], line[2]]
    value, low, high = 2.0, 1.0, 4.0
    chart = interval_chart([Interval("a", value, low, high)], title="t", x="x")
    coloured = [mark for mark in marks(chart) if "var(--c1)" in mark.get("style", "")]
    (bar,), (dot,) = ([m for m in coloured if ("transform" in m.attrib) == is_dot] for is_dot in (False, True))
    left, _, right, _ = numbers(bar)
    at = float(re.findall(r"[\d.]+", dot.get("transform", ""))[0])
    assert (at - left) / (right - left) == pytest.approx((value - low) / (high - low), abs=0.01)


def test_bars_stand_on_zero_and_none_is_drawn_for_nothing() -> None:
    chart = bar_chart(
        ["a", "b"],
        [Bars("s", [100.0, math.nan], 0, [10.0, 0.0]), Bars("r", [50.0, 25.0], 1, [0.0, 0.0])],
        title="t",
        x="x",
        y="y",
    )
    first, second = ([numbers(m) for m in marks(chart) if f"fill: var(--c{style})" in m.get("style", "")] for style in (0, 1))
    heights = [max(bar[1::2]) - min(bar[1::2]) for bar in (*first, *second)]
    assert len(first) == 1
    assert [height / heights[0] for height in heights] == pytest.approx([1, 0.5, 0.25], abs=0.01)
    assert len({max(bar[1::2]) for bar in (*first, *second)}) == 1
    assert {"a", "b", "0", "x", "y"} <= set(texts(chart))


def test_spans_are_drawn_where_they_are() -> None:
    lanes = [Lane("annotated", 2, [(10.0, 20.0)]), Lane("found", 1, [(10.0, 30.0)])]
    chart = profile_chart([0.1, 0.9, 0.2, 0.3], [0.0, 10.0, 20.0, 30.0, 40.0], title="t", x="seconds", y="relevance", lanes=lanes)
    stairs = next(numbers(mark) for mark in marks(chart) if "stroke: var(--c0)" in mark.get("style", ""))
    left, right = min(stairs[::2]), max(stairs[::2])

    def seconds(place: float) -> float:
        return 40 * (place - left) / (right - left)

    for style, start, end in ((2, 10, 20), (1, 10, 30)):
        drawn = [numbers(mark) for mark in marks(chart) if f"fill: var(--c{style})" in mark.get("style", "")]
        # The bar in its lane, and a band down to the axis.
        assert len(drawn) == 2
        for mark in drawn:
            assert [seconds(min(mark[::2])), seconds(max(mark[::2]))] == pytest.approx([start, end], abs=0.1)
    # The stairs stay below the lanes.
    lanes_end = max(
        max(numbers(m)[1::2])
        for m in marks(chart)
        if "opacity" not in m.get("style", "") and "fill: var(--c" in m.get("style", "")
    )
    assert min(stairs[1::2]) > lanes_end
    assert {"annotated", "found", "seconds", "relevance"} <= set(texts(chart))


def test_a_span_of_no_length_is_visible() -> None:
    chart = profile_chart([0.1], [0.0, 100.0], title="t", x="x", y="y", lanes=[Lane("found", 1, [(50.0, 50.0)])])
    drawn = [numbers(mark) for mark in marks(chart) if "fill: var(--c1)" in mark.get("style", "")]
    assert all(max(mark[::2]) - min(mark[::2]) >= 1 for mark in drawn)


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [math.nan], [-1.0], [1e-30, 1e30], [3.4e38, -3.4e38]])
@pytest.mark.parametrize("log", [False, True])
def test_an_axis_of_any_values_has_labels(values: list[float], log: bool) -> None:
    labels = texts(line_chart([curve(values)], title="t", x="x", y="y", log=log))
    assert len(labels) > 2
    assert not any("$" in label or "math" in label for label in labels)


def test_the_colours_are_the_pages() -> None:
    for chart in all_charts("a"):
        assert not re.search(r"#[0-9a-f]{3}", chart)
        assert "var(--c" in chart
        assert "font-family" not in chart


def test_a_chart_loads_nothing_and_has_no_ids() -> None:
    for chart in all_charts("a"):
        assert {element.tag for element in ElementTree.fromstring(chart).iter()} == {"svg", "path", "text"}
        attributes = {name for element in ElementTree.fromstring(chart).iter() for name in element.attrib}
        assert attributes <= {"class", "role", "aria-label", "viewBox", "d", "style", "transform", "x", "y"}
        assert "url(" not in chart
        assert box(chart)[0] == WIDTH


def test_names_are_texts() -> None:
    for chart in all_charts(EVIL):
        root = ElementTree.fromstring(chart.encode(errors="replace").replace(b"\x00", b""))
        assert root.get("role") == "img"
        assert (root.get("aria-label") or "").startswith("<script>alert('x')</script>\"><img")
        assert {element.tag for element in root.iter()} == {"svg", "path", "text"}
    shown = " ".join(texts(interval_chart([Interval("a $x_1$ b", 1.0, 0.0, 2.0)], title="t", x="x" * 1000)))
    assert "a $x_1$ b" in shown
    assert len(shown) < 200


def test_the_same_values_give_the_same_chart() -> None:
    assert all_charts("a") == all_charts("a")


def test_the_users_own_settings_change_nothing() -> None:
    expected = all_charts("a")
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": True, "lines.linewidth": 9}):
        assert all_charts("a") == expected
        assert matplotlib.rcParams["font.size"] == 30


def test_nothing_is_imported_before_it_is_drawn() -> None:
    modules = "prvr, prvr.cli, prvr.report.build, prvr.papers.write"
    code = f"import sys, {modules}; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_picture_for_a_file(tmp_path: Path) -> None:
    with house_style():
        figure = Figure(figsize=(4, 3))
        left, right = figure.subplots(1, 2)
        draw_lines(left, [curve([1.0, 2.0], spread=[0.1, 0.2])], x="x", y="y")
        draw_bars(right, ["a"], [Bars(EVIL, [1.0], 0, [0.5])], x="x", y="y")
        right.legend()
        write_picture(tmp_path / "p.png", figure)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
