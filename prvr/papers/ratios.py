"""SumR by how much of its video a moment fills: in bins of equal width, and in sixths of the queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from prvr.errors import DataError
from prvr.evaluate.groups import Group, by_parts, by_ratio
from prvr.evaluate.metrics import places
from prvr.files import write_picture
from prvr.papers.run import Scored

SEXTILES = 6
LEGEND_COLUMNS = 4


@dataclass(frozen=True)
class Division:
    """The queries in parts, one beside the other.

    parts, queries: the name of each and how many are in it. mean, std: SumR by system, in each part, over seeds; NaN where
    no query is, and no std of a single seed. unknown: how many queries are in none, their ratio being unknown.
    """

    name: str
    parts: tuple[str, ...]
    queries: tuple[int, ...]
    mean: Mapping[str, Float[np.ndarray, "P"]]
    std: Mapping[str, Float[np.ndarray, "P"] | None]
    unknown: int


def divisions(scored: Sequence[Scored]) -> tuple[Division, Division]:
    """Every system's SumR in bins of equal width and in sextiles; all systems are divided alike.

    Raises:
        DataError: no ratio is known.
    """
    ratios = _ratios(scored)
    known = ~np.isnan(ratios)

    def divided(run_place: Float[np.ndarray, "Q M"], videos: int) -> tuple[list[Group], list[Group]]:
        place, of = run_place[known], ratios[known]
        return by_ratio(place, of, videos=videos), by_parts(place, of, parts=SEXTILES, videos=videos)

    each = {one.row.name: [divided(places(run.scores, run.correct), len(run.videos)) for run in one.runs] for one in scored}
    unknown = int((~known).sum())
    first, second = (
        _division(name, {system: [pair[which] for pair in runs] for system, runs in each.items()}, unknown)
        for which, name in enumerate(("bins of equal width", "sextiles"))
    )
    return first, second


def division_lines(division: Division) -> list[str]:
    """A division as Markdown, a row for each system."""
    heads = [f"{part}, {count} queries" for part, count in zip(division.parts, division.queries, strict=True)]
    lines = [f"| SumR by moment / video, {division.name} | {' | '.join(heads)} |", f"|---{'|---' * len(heads)}|"]
    for name, mean in division.mean.items():
        std = division.std[name]
        cells = [_cell(value, None if std is None else std[place]) for place, value in enumerate(mean)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, *(["", f"The ratio of {division.unknown} queries is not known."] if division.unknown else [])]


def division_values(division: Division) -> dict[str, Any]:
    """A division for JSON; null where no query is."""

    def plain(values: Float[np.ndarray, "P"] | None) -> list[float | None] | None:
        return None if values is None else [None if np.isnan(value) else float(value) for value in values]

    return {
        "parts": list(division.parts),
        "queries": list(division.queries),
        "unknown": division.unknown,
        "SumR": {name: {"mean": plain(mean), "std": plain(division.std[name])} for name, mean in division.mean.items()},
    }


def draw_divisions(found: Sequence[Division], path: Path, *, title: str) -> None:
    """A panel for each division: in each part a bar for each system, with its standard deviation over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained")
    for axes, division in zip(figure.subplots(1, len(found), sharey=True), found, strict=True):
        middle, width = np.arange(len(division.parts)), 0.84 / len(division.mean)
        for number, (name, mean) in enumerate(division.mean.items()):
            left = middle - 0.42 + (number + 0.5) * width
            axes.bar(left, mean, width, yerr=division.std[name], capsize=2, label=name)
        # An interval on two lines: beside one another they would overlap.
        parts = [part.replace(", ", ",\n") for part in division.parts]
        heads = [f"{part}\n{count}" for part, count in zip(parts, division.queries, strict=True)]
        axes.set_xticks(middle, heads, fontsize=8)
        axes.set(xlabel="moment / video, and how many queries", title=division.name, xlim=(-0.5, len(parts) - 0.5))
        axes.grid(alpha=0.3, axis="y")
        axes.set_axisbelow(True)
    first = figure.axes[0]
    first.set_ylabel("SumR on the test split")
    figure.suptitle(title)
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=LEGEND_COLUMNS)
    write_picture(path, figure)


def _ratios(scored: Sequence[Scored]) -> Float[np.ndarray, "Q"]:
    """The moment-to-video ratios of the first row that knows any: where videos have no duration, some features' times tell it."""
    for one in scored:
        ratios = one.runs[0].facts.ratios
        if ratios is not None and not np.isnan(ratios).all():
            return ratios
    raise DataError(
        "no test query has an annotated moment in a video of known length; name the original annotation files: --annotations DIR"
    )


def _division(name: str, systems: Mapping[str, Sequence[Sequence[Group]]], unknown: int) -> Division:
    groups = next(iter(systems.values()))[0]
    sums = {
        system: np.array([[group.retrieval.sumr if group.retrieval else np.nan for group in run] for run in runs])
        for system, runs in systems.items()
    }
    return Division(
        name=name,
        parts=tuple(group.name for group in groups),
        queries=tuple(group.queries for group in groups),
        mean={system: values.mean(0) for system, values in sums.items()},
        std={system: values.std(0, ddof=1) if len(values) > 1 else None for system, values in sums.items()},
        unknown=unknown,
    )


def _cell(mean: float, std: float | None) -> str:
    if np.isnan(mean):
        return "–"
    return f"{mean:.1f}" + ("" if std is None else f" ± {std:.1f}")
