"""A self-contained HTML page: Jinja2 templates that escape every value; it loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from prvr.evaluate.charts import COLOURS, DASHES, LINE, LINE_WIDTH, SOFT
from prvr.evaluate.metrics import format_mean as format_mean

TEXT_LENGTH = 400
# What to do where something is missing.
SAVE = "prvr evaluate DATA FEATURES --model RUN --save RUN/test.npz"
GIVE_DATA = "give prvr report --data DATA --features FEATURES"
ANNOTATE = f"annotate the data and save the scores again: {SAVE} --annotations DIR"


@dataclass(frozen=True)
class Section:
    """A part of the page. missing: one line for each thing that the files lack, with the way to get it."""

    id: str
    title: str
    body: Markup
    missing: tuple[str, ...] = ()


def write_page(title: str, sections: Sequence[Section], *, command: str = "") -> str:
    """The sections as an HTML page; `command` is shown below the title."""
    return render("page.html", title=title, sections=sections, command=command)


def render(template: str, *, package: str = "prvr.report", **values: Any) -> Markup:
    """Fills a template of a package. A value is escaped unless it is markup; a name without a value is an error."""
    return Markup(_environment(package).get_template(template).render(values))


def quote_names(names: Sequence[str]) -> str:
    """Names in a row, each in quotation marks: a name may contain a comma."""
    return ", ".join(f"“{name}”" for name in names)


def shorten(text: str) -> str:
    """A text of bounded length."""
    return text if len(text) <= TEXT_LENGTH else f"{text[:TEXT_LENGTH]} … ({len(text)} characters)"


@cache
def _environment(package: str) -> Environment:
    loader = ChoiceLoader([PackageLoader(package), PackageLoader("prvr.report")])
    environment = Environment(
        autoescape=True, loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
    environment.globals |= {"colours": COLOURS, "soft": SOFT, "line": LINE, "line_width": LINE_WIDTH}
    # Dash lengths are in line widths, as in matplotlib.
    environment.globals["dash_patterns"] = [
        " ".join(f"{LINE_WIDTH * part:.1f}" for part in dashes) or "none" for dashes in DASHES
    ]
    return environment
