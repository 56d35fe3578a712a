"""A table's rows as figures, and the figures as Markdown, JSON and, where there is something to draw, a picture."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prvr.evaluate.compare import PairwiseComparison, compare, rank_queries
from prvr.evaluate.figures import count_figures
from prvr.evaluate.metrics import LABELS, Retrieval, retrieval
from prvr.files import write_json, write_picture, write_whole
from prvr.papers.footprint import Footprint, draw_footprints, footprint_lines
from prvr.papers.ratios import division_lines, division_values, divisions, draw_divisions
from prvr.papers.run import Materials, Plan, Scored
from prvr.papers.tables import Table

COLUMNS = tuple(LABELS[name] for name in ("r1", "r5", "r10", "r100", "sumr"))


@dataclass(frozen=True)
class Counted:
    """A table in figures; `lines` is its Markdown, `values` all of it for JSON."""

    lines: tuple[str, ...]
    values: dict[str, Any]


def write_table(
    table: Table,
    scored: Sequence[Scored],
    out: Path,
    *,
    materials: Materials,
    plan: Plan,
    command: str,
    footprints: Mapping[str, Footprint] | None = None,
) -> Counted:
    """Writes OUT/<table>.md and .json, and .png for a sweep, by ratio or where costs were measured.

    Raises:
        DataError: a table by moment-to-video ratio, and no ratio is known.
    """
    about = {
        "table": table.name,
        "title": table.title,
        "source": table.source,
        "claim": table.claim,
        "protocol": plan.protocol,
        "collection": materials.collection,
        "student reads": [materials.frames, *_texts(scored, materials)],
        "teachers": list(materials.teachers),
        "seeds": plan.seeds,
        "settings changed": list(plan.changes),
        "command": command,
        "machine": machine(),
    }
    rows = [_row(one, materials.collection) for one in scored]
    there = [one for one in scored if not one.left_out]
    # A gallery with one correct video per query in each run; the first row that was run is what the others are held against.
    comparison = (
        compare({one.row.name: [rank_queries(run, name=one.row.name) for run in one.runs] for one in there})
        if len(there) > 1
        else None
    )
    first = there[0].runs[0]
    about |= {"queries": len(first.queries), "videos": len(first.videos)}
    lines = [*_head(about), *_body(rows, comparison)]
    values = {**about, "rows": rows, "compared with the first row": _effects(comparison)}
    if table.sweep:
        curves = {one.row.name: sweep(one, table.sweep) for one in there}
        values["SumR by weight of the second branch"] = {"weights": list(table.sweep), **curves}
        lines += ["", *_sweep_lines(table.sweep, curves), "", f"![{table.title}]({table.name}.png)"]
        draw_sweep(table, curves, out / f"{table.name}.png")
    if table.ratios:
        found = divisions(there)
        values["SumR by moment-to-video ratio"] = {one.name: division_values(one) for one in found}
        lines += [line for one in found for line in ("", *division_lines(one))]
        lines += ["", f"![{table.title}]({table.name}.png)"]
        draw_divisions(found, out / f"{table.name}.png", title=table.title)
    if footprints:
        values["costs"] = {name: asdict(cost) for name, cost in footprints.items()}
        lines += ["", *footprint_lines(footprints), "", f"![SumR and bytes]({table.name}.png)"]
        sums = {row["name"]: row["mean"]["SumR"] for row in rows if "mean" in row}
        draw_footprints(sums, footprints, out / f"{table.name}.png", title=table.title)
    write_json(out / f"{table.name}.json", values)
    write_whole(out / f"{table.name}.md", ("\n".join(lines) + "\n").encode())
    return Counted(tuple(lines), values)


def machine() -> str:
    """What a figure of time or of randomness depends on, in words."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} CPU cores{gpu}, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"


def sweep(scored: Scored, weights: Sequence[float]) -> dict[str, list[float]]:
    """Mean and standard deviation over seeds of SumR at each weight of the second branch: S = (1 - beta) S_1 + beta S_2."""
    values = np.array(
        [
            [retrieval((1 - weight) * first.scores + weight * second.scores, first.correct).sumr for weight in weights]
            for first, second in scored.branches
        ]
    )
    return {"mean": values.mean(0).tolist(), "std": _spread(values).tolist()}


def draw_sweep(table: Table, curves: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """SumR over the weight of the second branch, a curve for each system with its standard deviation over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.errorbar(table.sweep, curve["mean"], yerr=curve["std"], marker="o", capsize=3, label=name)
    axes.set(xlabel="weight of the second branch (β)", ylabel="SumR on the test split", title=table.title)
    axes.grid(alpha=0.3)
    axes.legend()
    write_picture(path, figure)


def _texts(scored: Sequence[Scored], materials: Materials) -> list[str]:
    return list(dict.fromkeys(materials.texts[one.row.text] for one in scored if one.row.base and not one.left_out))


def _row(scored: Scored, collection: str) -> dict[str, Any]:
    row = scored.row
    about: dict[str, Any] = {"name": row.name, "preset": row.base, "changes": dict(row.changes)}
    published = row.published.get(collection)
    if published:
        about["published"] = dict(zip(COLUMNS if len(published) > 1 else ("SumR",), published, strict=True))
    if scored.left_out:
        return {**about, "left out": scored.left_out}
    each = [_figures(count_figures(run).retrieval) for run in scored.runs]
    matrix = np.array([[figures[name] for name in figures] for figures in each])
    names = list(each[0])
    mean, spread = (dict(zip(names, values.tolist(), strict=True)) for values in (matrix.mean(0), _spread(matrix)))
    return {**about, "seeds": each, "mean": mean, "std": spread if len(each) > 1 else None}


def _figures(of: Retrieval) -> dict[str, float]:
    return {label: getattr(of, name) for name, label in LABELS.items()}


def _spread(values: np.ndarray) -> np.ndarray:
    return values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])


def _effects(comparison: PairwiseComparison | None) -> dict[str, Any]:
    if comparison is None:
        return {}
    return {name: {measure: asdict(effect) for measure, effect in its.items()} for name, its in comparison.effects.items()}


def _head(about: Mapping[str, Any]) -> list[str]:
    changed = f", with {' '.join(about['settings changed'])}" if about["settings changed"] else ""
    return [
        f"# {about['title']}",
        "",
        f"{about['source']}. The paper's reading: {about['claim']}.",
        "",
        f"Protocol `{about['protocol']}`; collection `{about['collection']}`, {about['queries']} queries, "
        f"{about['videos']} videos; the student reads {', '.join(about['student reads'])}; "
        f"teachers {', '.join(about['teachers'])}; seeds {about['seeds']}{changed}.",
        "",
        f"    {about['command']}",
        "",
        f"{about['machine']}.",
        "",
    ]


def _body(rows: Sequence[Mapping[str, Any]], comparison: PairwiseComparison | None) -> list[str]:
    lines = [
        f"| | {' | '.join(COLUMNS)} | against the first row (SumR, 95 %) | p (Holm) | published |",
        f"|---{'|---' * (len(COLUMNS) + 3)}|",
    ]
    for row in rows:
        if "left out" in row:
            lines.append(f"| {row['name']} | {' | '.join('–' * len(COLUMNS))} | | | {_published(row)} |")
            continue
        cells = [f"{row['mean'][name]:.1f}" + (f" ± {row['std'][name]:.1f}" if row["std"] else "") for name in COLUMNS]
        effect = comparison.effects.get(row["name"], {}).get("sumr") if comparison else None
        against = f"{effect.difference:+.1f} ({effect.low:+.1f} to {effect.high:+.1f})" if effect else ""
        p = f"{effect.p_holm:.4f}" if effect else ""
        lines.append(f"| {row['name']} | {' | '.join(cells)} | {against} | {p} | {_published(row)} |")
    reasons = [f"{row['name']} was left out: {row['left out']}." for row in rows if "left out" in row]
    return [*lines, *(["", *reasons] if reasons else [])]


def _published(row: Mapping[str, Any]) -> str:
    return "/".join(f"{value:g}" for value in row.get("published", {}).values())


def _sweep_lines(weights: Sequence[float], curves: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    lines = [f"| SumR at β = | {' | '.join(f'{weight:g}' for weight in weights)} |", f"|---{'|---' * len(weights)}|"]
    return [*lines, *(f"| {name} | {' | '.join(f'{value:.1f}' for value in curve['mean'])} |" for name, curve in curves.items())]
