"""The sections with figures: all systems with paired tests, and by moment-to-video ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from prvr.evaluate.charts import Bars, Interval, bar_chart, interval_chart
from prvr.evaluate.compare import Effect, PairwiseComparison, mark_untrained
from prvr.evaluate.groups import Group
from prvr.evaluate.metrics import over_seeds
from prvr.methods.checkpoint import CONFIG
from prvr.report.page import ANNOTATE, GIVE_DATA, SAVE, Section, format_mean, quote_names, render
from prvr.report.systems import ReportedSystem

# Label, name in `Retrieval`, digits.
RECALLS = (("R@1", "r1", 1), ("R@5", "r5", 1), ("R@10", "r10", 1), ("R@100", "r100", 1), ("SumR", "sumr", 1))
SHOWN = (*RECALLS, ("MedR", "medr", 1), ("MRR", "mrr", 3))
LABELS = tuple(label for label, _, _ in SHOWN)
TESTED = {"sumr": ("SumR", 1), "r1": ("R@1", 1), "mrr": ("MRR", 4)}
MOST_BARS = 6
UNKNOWN = "–"


def systems_section(
    systems: Sequence[ReportedSystem], comparison: PairwiseComparison | None, *, resamples: int, has_data: bool
) -> Section:
    """Figures of every system, mean and standard deviation over seeds, and paired tests against the first system.

    Args:
        has_data: the data set was given, so that a folder with a checkpoint would have been scored.
    """
    scored = [one for one in systems if one.results]
    lacking = [one.name for one in systems if not one.results]
    remedy = f"name a folder with its checkpoint ({CONFIG})" if has_data else GIVE_DATA
    missing = [f"No scores of {quote_names(lacking)}: save them with {SAVE}, or {remedy}."] if lacking else []
    protocols = {one.name: _protocol(one) for one in scored}
    if len(set(protocols.values())) > 1:
        named = ", ".join(f"{name} {protocol}" for name, protocol in protocols.items())
        missing.append(f"Protocols differ, so these figures are not comparable: {named}.")
    if comparison is None:
        missing.append("No tests: they need two systems with scores; name another one: prvr report RUN OTHER.")
    dead = [mark_untrained(one.name, one.untrained) for one in scored if one.untrained]
    if dead:
        missing.append(f"Not compared, because a branch had learned nothing in the epoch that was kept: {'; '.join(dead)}.")
    tests = _tests(comparison) | {"resamples": resamples} if comparison and comparison.effects else None
    body = render("systems.html", **_figures(scored), tests=tests) if scored else Markup()
    return Section("systems", "Systems", body, tuple(missing))


def ratio_section(systems: Sequence[ReportedSystem]) -> Section:
    """Figures by how much of its video a moment fills."""
    title = "By moment-to-video ratio"
    found = {one.name: [seed.groups for seed in one.results if seed.groups is not None] for one in systems}
    known = {name: seeds for name, seeds in found.items() if seeds}
    if not known:
        line = f"No ratios: no scores come with the moments and the lengths of their videos; {ANNOTATE}."
        return Section("ratio", title, Markup(), (line,))
    # Scores with different moments may have different groups; a group that a system lacks is empty.
    groups = {group.name: group for seeds in reversed(known.values()) for seed in reversed(seeds) for group in seed}
    first = [group.name for group in next(iter(known.values()))[0]]
    bins = first + sorted(groups.keys() - set(first))
    rows, series = [], []
    for style, (name, seeds) in enumerate(known.items()):
        values = np.array([_figures_by_bin(seed, bins) for seed in seeds])
        mean, half = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], math.nan)
        spread = np.nan_to_num(half[:, -1]).tolist()
        series.append(Bars(name, mean[:, -1].tolist(), style, spread))
        cells = [_cells(*of_bin) for of_bin in zip(mean, half, strict=True)]
        rows.append([[bin, name, str(groups[bin].queries), *cells[place]] for place, bin in enumerate(bins)])
    drawn = series[:MOST_BARS]
    body = render(
        "ratio.html",
        chart=bar_chart(bins, drawn, title="SumR by moment-to-video ratio", x="moment / video", y="SumR"),
        legend=[(one.name, one.style) for one in drawn],
        most_bars=MOST_BARS if len(series) > MOST_BARS else 0,
        head=["moment / video", "system", "queries", *LABELS[: len(RECALLS)]],
        rows=[of_system[place] for place, bin in enumerate(bins) for of_system in rows if groups[bin].queries],
    )
    return Section("ratio", title, body)


def _figures(scored: Sequence[ReportedSystem]) -> dict[str, Any]:
    rows = []
    for one in scored:
        mean, deviation = over_seeds([{name: getattr(seed.figures, name) for _, name, _ in SHOWN} for seed in one.results])
        cells = [format_mean(mean[name], deviation[name] if deviation else None, digits=digits) for _, name, digits in SHOWN]
        rows.append([mark_untrained(one.name, one.untrained), str(len(one.results)), *cells, _moments(one)])
    if all(row[-1] == UNKNOWN for row in rows):
        rows = [row[:-1] for row in rows]
    seeds = [
        [one.name, seed.files.label, *(f"{getattr(seed.results.figures, name):.{digits}f}" for _, name, digits in SHOWN)]
        for one in scored
        for seed in one.seeds
        if seed.results is not None
    ]
    return {
        "counts": scored[0].results[0].figures,
        "protocols": " and ".join(dict.fromkeys(map(_protocol, scored))),
        "head": ["system", "seeds", *LABELS, "moment"][: len(rows[0])],
        "rows": rows,
        "seed_head": ["system", "run", *LABELS],
        "seed_rows": seeds,
    }


def _protocol(one: ReportedSystem) -> str:
    return " and ".join(dict.fromkeys(seed.ranked.protocol for seed in one.results))


def _moments(one: ReportedSystem) -> str:
    values = [seed.spans.recall[0.5][1] for seed in one.results if seed.spans is not None]
    if not values:
        return UNKNOWN
    mean, deviation = over_seeds([{"r1": value} for value in values])
    return format_mean(mean["r1"], deviation["r1"] if deviation else None)


def _tests(comparison: PairwiseComparison) -> dict[str, Any]:
    baseline = comparison.baseline
    sums = {name: effects["sumr"] for name, effects in comparison.effects.items()}
    intervals = [Interval(name, effect.difference, effect.low, effect.high) for name, effect in sums.items()]
    rows = [
        [name, TESTED[measure][0], *_effect(effect, TESTED[measure][1])]
        for name, measures in comparison.effects.items()
        for measure, effect in measures.items()
    ]
    chart = interval_chart(intervals, title=f"Difference in SumR to {baseline}", x=f"SumR, difference to {baseline}")
    return {"baseline": baseline, "comparison": comparison, "chart": chart, "rows": rows}


def _effect(effect: Effect, digits: int) -> list[str]:
    interval = f"{effect.low:+.{digits}f} to {effect.high:+.{digits}f}"
    return [f"{effect.difference:+.{digits}f}", interval, f"{effect.p:.2g}", f"{effect.p_holm:.2g}"]


def _figures_by_bin(seed: Sequence[Group], bins: Sequence[str]) -> list[list[float]]:
    found = {group.name: group.retrieval for group in seed}
    return [[getattr(found.get(name), field, math.nan) for _, field, _ in RECALLS] for name in bins]


def _cells(mean: Float[np.ndarray, "5"], half: Float[np.ndarray, "5"]) -> list[str]:
    """The figures of a group; a dash for each if no query is in it."""
    pairs = zip(mean.tolist(), half.tolist(), strict=True)
    return [UNKNOWN if math.isnan(value) else format_mean(value, None if math.isnan(of) else of) for value, of in pairs]
