"""The section with the papers' tables: reads the JSON files that `prvr reproduce` wrote, and checks them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prvr.errors import DataError
from prvr.evaluate.compare import mark_untrained
from prvr.evaluate.metrics import COLUMNS
from prvr.files import parse_json, read_bytes
from prvr.report.page import Section, format_mean, render


@dataclass(frozen=True)
class SystemLine:
    """A system of a table: mean and deviation of each of `COLUMNS`, and the published figures.

    effect: the difference in SumR to the first row, as (difference, low, high, p by Holm). left_out: why it was not run.
    """

    name: str
    mean: dict[str, float] | None
    deviation: dict[str, float] | None
    published: tuple[float, ...]
    effect: tuple[float, float, float, float] | None
    left_out: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table as it was written, with its data set and its command."""

    title: str
    source: str
    claim: str
    protocol: str
    collection: str
    command: str
    machine: str
    lines: tuple[SystemLine, ...]


def read_tables(folder: Path) -> list[PaperTable]:
    """Reads every table in a folder of results; other JSON files are skipped.

    Raises:
        DataError: a table is broken.
    """
    tables = []
    for path in sorted(folder.glob("*.json")):
        again = f"write it again: prvr reproduce {path.stem} {folder}"
        try:
            value = parse_json(read_bytes(path))
        except ValueError as problem:
            raise DataError(f"{path} is not JSON ({problem}); {again}") from None
        if not isinstance(value, dict) or "table" not in value:
            continue
        try:
            tables.append(_read_table(value))
        except (ValueError, TypeError, KeyError, AttributeError) as problem:
            raise DataError(f"{path} is not a complete table ({type(problem).__name__}: {problem}); {again}") from None
    return tables


def papers_section(tables: Sequence[PaperTable]) -> Section:
    """The tables as they were written, beside the published figures."""
    head = ["system", *COLUMNS, "against the first row that learned (SumR, 95 %)", "p (Holm)", "published"]
    shown = [
        (table, [[line.name, *_cells(line), "/".join(f"{value:g}" for value in line.published)] for line in table.lines])
        for table in tables
    ]
    return Section("papers", "The papers' tables, as prvr reproduce wrote them", render("papers.html", tables=shown, head=head))


def _read_table(value: dict[str, Any]) -> PaperTable:
    effects = value["compared_with_first"]
    lines = tuple(_read_line(row, effects) for row in value["rows"])
    names = ("title", "source", "claim", "protocol", "collection", "command", "machine")
    return PaperTable(**{name: str(value[name]) for name in names}, lines=lines)


def _read_line(row: dict[str, Any], effects: dict[str, Any]) -> SystemLine:
    name = str(row["name"])
    published = tuple(_number(value) for value in row.get("published", {}).values())
    if "left_out" in row:
        return SystemLine(name, None, None, published, None, str(row["left_out"]))
    shown = mark_untrained(name, [str(branch) for branch in row.get("untrained", [])])
    mean = {column: _number(row["mean"][column]) for column in COLUMNS}
    deviation = {column: _number(row["std"][column]) for column in COLUMNS} if row["std"] else None
    if name not in effects:
        return SystemLine(shown, mean, deviation, published, None)
    effect = effects[name]["sumr"]
    difference, low, high, p_holm = (_number(effect[part]) for part in ("difference", "low", "high", "p_holm"))
    return SystemLine(shown, mean, deviation, published, (difference, low, high, p_holm))


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r:.40} is not a number")
    return float(value)


def _cells(line: SystemLine) -> list[str]:
    if line.mean is None:
        return ["–"] * (len(COLUMNS) + 2)
    cells = [format_mean(line.mean[column], line.deviation[column] if line.deviation else None) for column in COLUMNS]
    if line.effect is None:
        return [*cells, "", ""]
    difference, low, high, p = line.effect
    return [*cells, f"{difference:+.1f} ({low:+.1f} to {high:+.1f})", f"{p:.4f}"]
