"""The papers' tables that `prvr reproduce` left in a folder, read back with care and shown."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from prvr.errors import DataError
from prvr.report.page import Section, note, spread, table

COLUMNS = ("R@1", "R@5", "R@10", "R@100", "SumR")


@dataclass(frozen=True)
class Row:
    """A system of a table: mean and deviation of each of `COLUMNS`, what it was published with, how it differs from the
    first row in SumR (difference, low, high, p by Holm), or why it was left out."""

    name: str
    mean: dict[str, float] | None
    deviation: dict[str, float] | None
    published: tuple[float, ...]
    effect: tuple[float, float, float, float] | None
    left_out: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table as it was written, with what it was made on and by which command."""

    title: str
    source: str
    claim: str
    protocol: str
    collection: str
    command: str
    machine: str
    rows: tuple[Row, ...]


def read_tables(folder: Path) -> list[PaperTable]:
    """Every table of a folder of results; a JSON file that is no such table is not one of them.

    Raises:
        DataError: a table is broken.
    """
    tables = []
    for path in sorted(folder.glob("*.json")):
        try:
            value = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as problem:
            raise DataError(f"{path} is no JSON ({problem}); write it again: prvr reproduce {path.stem} {folder}") from None
        if not isinstance(value, dict) or "compared with the first row" not in value:
            continue
        try:
            tables.append(_table(value))
        except (ValueError, TypeError, KeyError, AttributeError) as problem:
            raise DataError(
                f"{path} is no whole table ({type(problem).__name__}: {problem}); "
                f"write it again: prvr reproduce {path.stem} {folder}"
            ) from None
    return tables


def papers(tables: Sequence[PaperTable]) -> Section:
    """The tables as they were written, beside what was published."""
    return Section("papers", "The papers' tables, as prvr reproduce wrote them", "".join(_shown(one) for one in tables))


def _table(value: dict[str, Any]) -> PaperTable:
    effects = value["compared with the first row"]
    rows = tuple(_row(row, effects) for row in value["rows"])
    names = ("title", "source", "claim", "protocol", "collection", "command", "machine")
    return PaperTable(**{name: str(value[name]) for name in names}, rows=rows)


def _row(row: dict[str, Any], effects: dict[str, Any]) -> Row:
    name = str(row["name"])
    published = tuple(_number(value) for value in row.get("published", {}).values())
    if "left out" in row:
        return Row(name, None, None, published, None, str(row["left out"]))
    mean = {column: _number(row["mean"][column]) for column in COLUMNS}
    deviation = {column: _number(row["std"][column]) for column in COLUMNS} if row["std"] else None
    effect = effects[name]["sumr"] if name in effects else None
    told = tuple(_number(effect[part]) for part in ("difference", "low", "high", "p_holm")) if effect else None
    return Row(name, mean, deviation, published, told)  # type: ignore[arg-type]


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r:.40} is not a number")
    return float(value)


def _shown(one: PaperTable) -> str:
    about = (
        f"{one.source}. The paper's reading: {one.claim}. Protocol {one.protocol}, collection {one.collection}; {one.machine}."
    )
    head = ["", *COLUMNS, "against the first row (SumR, 95 %)", "p (Holm)", "published"]
    rows = [[row.name, *_cells(row), "/".join(f"{value:g}" for value in row.published)] for row in one.rows]
    left_out = "".join(note(f"{row.name} was left out: {row.left_out}.") for row in one.rows if row.left_out)
    return f"<h3>{escape(one.title)}</h3>{note(about)}<p><code>{escape(one.command)}</code></p>{table(head, rows)}{left_out}"


def _cells(row: Row) -> list[str]:
    if row.mean is None:
        return ["–"] * (len(COLUMNS) + 2)
    cells = [spread(row.mean[column], row.deviation[column] if row.deviation else None) for column in COLUMNS]
    if row.effect is None:
        return [*cells, "", ""]
    difference, low, high, p = row.effect
    return [*cells, f"{difference:+.1f} ({low:+.1f} to {high:+.1f})", f"{p:.4f}"]
