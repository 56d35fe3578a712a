"""A table of benchmarks, as Markdown and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measure import Line, Size
from prvr.files import write_json, write_whole
from prvr.papers.write import machine

Measured = tuple[str, Line]


def write_table(out: Path, name: str, measured: Sequence[Measured], *, size: Size, threads: int, command: str) -> None:
    """Writes OUT/NAME.md and .json; each line comes with the setting of memory that it was measured under."""
    about: dict[str, Any] = {"command": command, "machine": machine(), "threads": threads, "size": asdict(size)}
    rows = [{"memory": memory, **asdict(line), "ratio": line.ratio} for memory, line in measured]
    write_json(out / f"{name}.json", {**about, "lines": rows})
    lines = [
        f"# {name}",
        "",
        f"    {command}",
        "",
        f"{about['machine']}; threads: {threads}, device: {size.device}. Medians, with the least and the most of the runs.",
        "",
        *table(measured),
    ]
    write_whole(out / f"{name}.md", ("\n".join(lines) + "\n").encode())


def table(measured: Sequence[Measured]) -> list[str]:
    """The rows of a Markdown table."""
    lines = ["| part | memory | ours | beside | ratio | wanted | |", "|---|---|---|---|---|---|---|"]
    for memory, line in measured:
        ratio = f"{line.ratio:.3g}×" if line.ratio is not None else ""
        wanted = f"{line.wanted:g}×" if line.wanted is not None else ""
        cells = (line.part, memory, spread(line.ours, line.unit), spread(line.beside, line.unit), ratio, wanted, line.note)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def spread(values: Sequence[float], unit: str) -> str:
    """The median with the least and the most: `3.1 s (2.9 to 3.4)`."""
    if not values:
        return ""
    numbers = sorted(values)
    shown = [
        f"{number:.3g}" if unit == "s" or abs(number) < 100 else f"{number:.0f}"
        for number in (statistics.median(numbers), numbers[0], numbers[-1])
    ]
    text = f"{shown[0]} {unit}".strip()
    return text if len(numbers) == 1 else f"{text} ({shown[1]} to {shown[2]})"
