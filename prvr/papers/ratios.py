"""SumR by how much of its video a moment fills: in bins of equal width, and in sixths of the queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from prvr.errors import DataError
from prvr.evaluate.charts import Bars, draw_bars, house_style
from prvr.evaluate.groups import Group, by_parts, by_ratio
from prvr.evaluate.metrics import places
from prvr.files import write_picture
from prvr.papers.run import Scored

SEXTILES = 6
LEGEND_COLUMNS = 4
# Key in JSON, and title.
DIVISIONS = (("equal_width", "bins of equal width"), ("sextiles", "sextiles"))


@dataclass(frozen=True)
class Division:
    """The queries divided into groups.

    groups, queries: the name of each group and its number of queries. mean, std: SumR by system, in each group, over seeds; NaN
    for an empty group, and std is None for a single seed. unknown: the number of queries without a known ratio, in no group.
    """

    key: str
    title: str
    groups: tuple[str, ...]
    queries: tuple[int, ...]
    mean: Mapping[str, Float[np.ndarray, "G"]]
    std: Mapping[str, Float[np.ndarray, "G"] | None]
    unknown: int


def divisions(scored: Sequence[Scored]) -> tuple[Division, Division]:
    """Every system's SumR in bins of equal width and in sextiles; all systems have the same groups.

    Raises:
        DataError: no ratio is known.
    """
    ratios = _known_ratios(scored)
    known = ~np.isnan(ratios)

    def divide(place: Float[np.ndarray, "Q M"], videos: int) -> tuple[list[Group], list[Group]]:
        place, of = place[known], ratios[known]
        return by_ratio(place, of, videos=videos), by_parts(place, of, parts=SEXTILES, videos=videos)

    pairs = {one.row.name: [divide(places(run.scores, run.correct), len(run.videos)) for run in one.runs] for one in scored}
    unknown = int((~known).sum())
    first, second = (
        _division(key, title, {system: [pair[which] for pair in seeds] for system, seeds in pairs.items()}, unknown)
        for which, (key, title) in enumerate(DIVISIONS)
    )
    return first, second


def division_lines(division: Division) -> list[str]:
    """A division as Markdown, one row for each system."""
    heads = [f"{group}, {count} queries" for group, count in zip(division.groups, division.queries, strict=True)]
    lines = [f"| SumR by moment / video, {division.title} | {' | '.join(heads)} |", f"|---{'|---' * len(heads)}|"]
    for name, mean in division.mean.items():
        std = division.std[name]
        cells = [_cell(value, None if std is None else std[place]) for place, value in enumerate(mean)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, *(["", f"The ratio of {division.unknown} queries is not known."] if division.unknown else [])]


def division_values(division: Division) -> dict[str, Any]:
    """A division for JSON; null for an empty group."""

    def plain(values: Float[np.ndarray, "G"] | None) -> list[float | None] | None:
        return None if values is None else [None if np.isnan(value) else float(value) for value in values]

    return {
        "groups": list(division.groups),
        "queries": list(division.queries),
        "unknown": division.unknown,
        "SumR": {name: {"mean": plain(mean), "std": plain(division.std[name])} for name, mean in division.mean.items()},
    }


def draw_divisions(found: Sequence[Division], path: Path, *, title: str) -> None:
    """Writes a PNG with a panel for each division: in each group one bar for each system, with its deviation over seeds."""
    from matplotlib.figure import Figure

    with house_style():
        figure = Figure(figsize=(13, 5))
        for axes, division in zip(figure.subplots(1, len(found), sharey=True), found, strict=True):
            # An interval on two lines: beside one another they would overlap.
            names = [group.replace(", ", ",\n") for group in division.groups]
            groups = [f"{name}\n{count}" for name, count in zip(names, division.queries, strict=True)]
            series = [
                Bars(name, mean.tolist(), style, _spread(division.std[name], len(groups)))
                for style, (name, mean) in enumerate(division.mean.items())
            ]
            draw_bars(axes, groups, series, x="moment / video, and the number of queries", y="")
            axes.set_title(division.title)
        first = figure.axes[0]
        first.set_ylabel("SumR on the test split")
        figure.suptitle(title)
        figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=LEGEND_COLUMNS)
        write_picture(path, figure)


def _known_ratios(scored: Sequence[Scored]) -> Float[np.ndarray, "Q"]:
    """The moment-to-video ratios of the first row that has any: some features know the length of a video from their times."""
    for one in scored:
        ratios = one.runs[0].facts.ratios
        if ratios is not None and not np.isnan(ratios).all():
            return ratios
    raise DataError(
        "no test query has an annotated moment in a video of known length; name the original annotation files: --annotations DIR"
    )


def _division(key: str, title: str, systems: Mapping[str, Sequence[Sequence[Group]]], unknown: int) -> Division:
    groups = next(iter(systems.values()))[0]
    sums = {
        system: np.array([[group.retrieval.sumr if group.retrieval else np.nan for group in run] for run in seeds])
        for system, seeds in systems.items()
    }
    return Division(
        key=key,
        title=title,
        groups=tuple(group.name for group in groups),
        queries=tuple(group.queries for group in groups),
        mean={system: values.mean(0) for system, values in sums.items()},
        std={system: values.std(0, ddof=1) if len(values) > 1 else None for system, values in sums.items()},
        unknown=unknown,
    )


def _spread(std: Float[np.ndarray, "G"] | None, groups: int) -> list[float]:
    return [0.0] * groups if std is None else np.nan_to_num(std).tolist()


def _cell(mean: float, std: float | None) -> str:
    if np.isnan(mean):
        return "–"
    return f"{mean:.1f}" + ("" if std is None else f" ± {std:.1f}")
