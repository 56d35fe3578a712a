"""Writes a table: its figures as Markdown and JSON, and pictures of a sweep, of groups or of costs."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from prvr.evaluate.compare import PairwiseComparison, compare, mark_untrained, rank_queries
from prvr.evaluate.figures import count_figures
from prvr.evaluate.metrics import COLUMNS, LABELS, Retrieval, format_mean, over_seeds
from prvr.evaluate.sweep import draw_sweep, sweep_lines, sweep_seeds
from prvr.files import write_json, write_whole
from prvr.papers.footprint import Footprint, draw_footprints, footprint_lines
from prvr.papers.plan import Materials, Plan
from prvr.papers.ratios import division_lines, division_values, divisions, draw_divisions
from prvr.papers.run import Scored
from prvr.papers.tables import Table


@dataclass(frozen=True)
class WrittenTable:
    """A table in figures: `lines` is its Markdown, `values` its JSON."""

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
) -> WrittenTable:
    """Writes OUT/<table>.md and .json; and .png for a sweep, for a table by ratio, or if there are footprints.

    Raises:
        DataError: a table by moment-to-video ratio, and no ratio is known.
    """
    complete = [one for one in scored if not one.left_out]
    rows = [_row(one, materials.collection) for one in scored]
    # The scores of each seed keep one correct video for each query; every row is compared with the first one that was run.
    rankings = {one.row.name: [rank_queries(run, name=one.row.name) for run in one.runs] for one in complete}
    comparison = compare(rankings) if len(complete) > 1 else None
    about = _about(table, complete, materials, plan, command)
    lines = [*_head(about), *_body(rows, comparison)]
    values = {**about, "rows": rows, "compared_with_first": _effects(comparison)}
    values["baseline"] = comparison.baseline if comparison else ""
    picture = out / f"{table.name}.png"
    if table.sweep:
        curves = {one.row.name: sweep_seeds(one.branches, table.sweep) for one in complete}
        values["sumr_by_weight"] = {"weights": list(table.sweep), "systems": curves}
        lines += ["", *sweep_lines(table.sweep, curves), "", f"![{table.title}]({picture.name})"]
        draw_sweep(table.sweep, curves, picture, title=table.title)
    if table.ratios:
        found = divisions(complete)
        values["sumr_by_ratio"] = {one.key: division_values(one) for one in found}
        lines += [line for one in found for line in ("", *division_lines(one))]
        lines += ["", f"![{table.title}]({picture.name})"]
        draw_divisions(found, picture, title=table.title)
    if footprints:
        values["costs"] = {name: asdict(cost) for name, cost in footprints.items()}
        lines += ["", *footprint_lines(footprints), "", f"![SumR and bytes]({picture.name})"]
        sums = {row["name"]: row["mean"]["SumR"] for row in rows if "mean" in row}
        draw_footprints(sums, footprints, picture, title=table.title)
    write_json(out / f"{table.name}.json", values)
    write_whole(out / f"{table.name}.md", ("\n".join(lines) + "\n").encode())
    return WrittenTable(tuple(lines), values)


def machine() -> str:
    """Describes the machine: what a time, or a result of random numbers, depends on."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} CPU cores{gpu}, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"


def _about(table: Table, complete: Sequence[Scored], materials: Materials, plan: Plan, command: str) -> dict[str, Any]:
    first = complete[0].runs[0]
    texts = dict.fromkeys(materials.texts[one.row.text] for one in complete if one.row.base)
    return {
        "table": table.name,
        "title": table.title,
        "source": table.source,
        "claim": table.claim,
        "protocol": plan.protocol,
        "collection": materials.collection,
        "student_features": [materials.frames, *texts],
        "teachers": list(materials.teachers),
        "seeds": plan.seeds,
        "changed_settings": list(plan.changes),
        "command": command,
        "machine": machine(),
        "queries": len(first.queries),
        "videos": len(first.videos),
    }


def _row(scored: Scored, collection: str) -> dict[str, Any]:
    row = scored.row
    about: dict[str, Any] = {"name": row.name, "preset": row.base, "changes": dict(row.changes)}
    published = row.published.get(collection)
    if published:
        about["published"] = dict(zip(COLUMNS if len(published) > 1 else ("SumR",), published, strict=True))
    if scored.left_out:
        return {**about, "left_out": scored.left_out}
    seeds = [_figures(count_figures(run).retrieval) for run in scored.runs]
    mean, deviation = over_seeds(seeds)
    untrained = list(dict.fromkeys(branch for run in scored.runs for branch in run.untrained))
    return {**about, "seeds": seeds, "mean": mean, "std": deviation, "untrained": untrained}


def _figures(of: Retrieval) -> dict[str, float]:
    return {label: getattr(of, name) for name, label in LABELS.items()}


def _effects(comparison: PairwiseComparison | None) -> dict[str, Any]:
    if comparison is None:
        return {}
    return {
        name: {measure: asdict(effect) for measure, effect in effects.items()} for name, effects in comparison.effects.items()
    }


def _head(about: Mapping[str, Any]) -> list[str]:
    changed = f", with {' '.join(about['changed_settings'])}" if about["changed_settings"] else ""
    return [
        f"# {about['title']}",
        "",
        f"{about['source']}. The paper's claim: {about['claim']}.",
        "",
        f"Protocol `{about['protocol']}`; collection `{about['collection']}`, {about['queries']} queries, "
        f"{about['videos']} videos; the student reads {', '.join(about['student_features'])}; "
        f"teachers {', '.join(about['teachers'])}; seeds {about['seeds']}{changed}.",
        "",
        f"    {about['command']}",
        "",
        f"{about['machine']}.",
        "",
    ]


def _body(rows: Sequence[Mapping[str, Any]], comparison: PairwiseComparison | None) -> list[str]:
    baseline = comparison.baseline if comparison else ""
    against = "the first row" if baseline in ("", rows[0]["name"]) else baseline
    lines = [
        f"| | {' | '.join(COLUMNS)} | against {against} (SumR, 95 %) | p (Holm) | published |",
        f"|---{'|---' * (len(COLUMNS) + 3)}|",
    ]
    for row in rows:
        if "left_out" in row:
            lines.append(f"| {row['name']} | {' | '.join('–' * len(COLUMNS))} | | | {_published_figures(row)} |")
            continue
        cells = [format_mean(row["mean"][name], row["std"] and row["std"][name]) for name in COLUMNS]
        effect = comparison.effects.get(row["name"], {}).get("sumr") if comparison else None
        difference = f"{effect.difference:+.1f} ({effect.low:+.1f} to {effect.high:+.1f})" if effect else ""
        p = f"{effect.p_holm:.4f}" if effect else ""
        name = mark_untrained(row["name"], row["untrained"])
        lines.append(f"| {name} | {' | '.join(cells)} | {difference} | {p} | {_published_figures(row)} |")
    reasons = [f"{row['name']} was left out: {row['left_out']}." for row in rows if "left_out" in row]
    untrained = [mark_untrained(row["name"], row["untrained"]) for row in rows if row.get("untrained")]
    if untrained:
        reasons.append(f"Not compared, because a branch had learned nothing in the epoch that was kept: {'; '.join(untrained)}.")
    return [*lines, *(["", *reasons] if reasons else [])]


def _published_figures(row: Mapping[str, Any]) -> str:
    return "/".join(f"{value:g}" for value in row.get("published", {}).values())
