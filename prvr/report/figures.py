"""The sections that count: figures of systems with paired tests, and figures by moment-to-video ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Float

from prvr.evaluate.compare import Effect, PairwiseComparison
from prvr.evaluate.groups import Group
from prvr.methods.checkpoint import CONFIG
from prvr.report.charts import Curve, Interval, bar_chart, bar_legend, interval_chart
from prvr.report.page import ANNOTATE, GIVE, SAVE, Section, figure, folded, listed, note, spread, table
from prvr.report.systems import Contender

# Label, name in `Retrieval`, digits.
RECALLS = (("R@1", "r1", 1), ("R@5", "r5", 1), ("R@10", "r10", 1), ("R@100", "r100", 1), ("SumR", "sumr", 1))
SHOWN = (*RECALLS, ("MedR", "medr", 1), ("MRR", "mrr", 3))
LABELS = tuple(label for label, _, _ in SHOWN)
TESTED = {"sumr": ("SumR", 1), "r1": ("R@1", 1), "mrr": ("MRR", 4)}
BARS = 6
UNKNOWN = "–"
COUNTED = (
    "Mean ± standard deviation over seeds (n - 1). R@k and SumR in percent; ties count against the system. Moment: share of "
    "queries, in percent, whose first video is the right one with a span of IoU ≥ 0.5."
)


def systems(contenders: Sequence[Contender], comparison: PairwiseComparison | None, *, resamples: int, asked: bool) -> Section:
    """Figures of every system, mean and standard deviation over seeds, and paired tests against the first one.

    Args:
        asked: the data is at hand, so that a folder with a checkpoint was enough.
    """
    there = [one for one in contenders if one.answers]
    silent = [one.name for one in contenders if not one.answers]
    otherwise = f"name a folder with its checkpoint ({CONFIG})" if asked else GIVE
    missing = [f"No answers of {listed(silent)}: keep them with {SAVE}, or {otherwise}."] if silent else []
    protocols = {one.name: _protocol(one) for one in there}
    if len(set(protocols.values())) > 1:
        told = ", ".join(f"{name} {protocol}" for name, protocol in protocols.items())
        missing.append(f"Protocols differ, so these figures are not comparable: {told}.")
    body = _figures(there) + _each_seed(there) if there else ""
    if comparison is None:
        missing.append("No tests: they take two systems with answers; name another one: prvr report RUN OTHER.")
    else:
        body += _tests(comparison, resamples)
    return Section("systems", "Systems", body, tuple(missing))


def ratios(contenders: Sequence[Contender]) -> Section:
    """Figures by how much of its video a moment fills."""
    title = "By moment-to-video ratio"
    known = [(one.name, [its.groups for its in one.answers if its.groups is not None]) for one in contenders]
    known = [(name, groups) for name, groups in known if groups]
    if not known:
        line = f"No ratios: no run knows the moments and the lengths of its videos; {ANNOTATE}."
        return Section("ratio", title, "", (line,))
    # Runs that know different moments may have different groups; those without a name in common stay empty.
    groups = {group.name: group for _, seeds in reversed(known) for seed in reversed(seeds) for group in seed}
    bins = [group.name for group in known[0][1][0]] + sorted(groups.keys() - {group.name for group in known[0][1][0]})
    rows, series, places = [], [], [float(place) for place in range(len(bins))]
    for style, (name, seeds) in enumerate(known):
        values = np.array([_by_bin(seed, bins) for seed in seeds])
        mean, half = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], math.nan)
        series.append(Curve(name, places, mean[:, -1].tolist(), style, spread=np.nan_to_num(half[:, -1]).tolist()))
        cells = [_cells(*of) for of in zip(mean, half, strict=True)]
        rows += [(place, [bins[place], name, str(groups[bins[place]].queries), *its]) for place, its in enumerate(cells)]
    # By group first, so that systems stand together; empty groups are in the chart alone.
    shown = [cells for place, cells in sorted(rows, key=lambda row: row[0]) if groups[bins[place]].queries]
    few = f" The first {BARS} systems are drawn." if len(series) > BARS else ""
    caption = (
        f"SumR of the queries whose moment fills such a share of its video; the lines are standard deviations over seeds.{few}"
    )
    chart = bar_chart(bins, series[:BARS], title="SumR by moment-to-video ratio", x="moment / video", y="SumR")
    drawn = figure(chart + bar_legend([(one.name, one.style) for one in series[:BARS]]), caption)
    head = ["moment / video", "system", "queries", *LABELS[: len(RECALLS)]]
    return Section("ratio", title, drawn + table(head, shown, text=(0, 1)))


def _figures(there: Sequence[Contender]) -> str:
    rows = []
    for one in there:
        values = np.array([[getattr(its.figures, name) for _, name, _ in SHOWN] for its in one.answers])
        half = values.std(0, ddof=1).tolist() if len(values) > 1 else [None] * len(SHOWN)
        cells = [spread(m, h, digits=digits) for m, h, (_, _, digits) in zip(values.mean(0), half, SHOWN, strict=True)]
        rows.append([one.name, str(len(values)), *cells, _moments(one)])
    some = there[0].answers[0].figures
    protocols = " and ".join(dict.fromkeys(map(_protocol, there)))
    about = f"{some.queries} queries, {some.videos} videos; protocol: {protocols}. {COUNTED}"
    if all(row[-1] == UNKNOWN for row in rows):
        rows = [row[:-1] for row in rows]
    return note(about) + table(["system", "seeds", *LABELS, "moment"][: len(rows[0])], rows)


def _protocol(one: Contender) -> str:
    return " and ".join(dict.fromkeys(its.ranked.protocol for its in one.answers))


def _moments(one: Contender) -> str:
    values = [its.spans.recall[0.5][1] for its in one.answers if its.spans is not None]
    if not values:
        return UNKNOWN
    return spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def _each_seed(there: Sequence[Contender]) -> str:
    rows = [
        [one.name, seed.files.label, *(f"{getattr(seed.answers.figures, name):.{digits}f}" for _, name, digits in SHOWN)]
        for one in there
        for seed in one.seeds
        if seed.answers is not None
    ]
    return folded("Each seed", table(["system", "run", *LABELS], rows, text=(0, 1)))


def _tests(comparison: PairwiseComparison, resamples: int) -> str:
    baseline = comparison.systems[0].name
    rows = [
        [name, TESTED[measure][0], *_effect(effect, TESTED[measure][1])]
        for name, measures in comparison.effects.items()
        for measure, effect in measures.items()
    ]
    drawn = [
        Interval(name, its["sumr"].difference, its["sumr"].low, its["sumr"].high) for name, its in comparison.effects.items()
    ]
    caption = (
        f"Difference in SumR to {baseline}, with its 95 % interval by bootstrap; p by randomisation; clustered by video: "
        f"{comparison.queries} queries of {comparison.videos} videos, {resamples} resamples. Holm: corrected for the number of "
        "systems. These tests are about other videos, not about other seeds: for those see the ± above."
    )
    chart = interval_chart(drawn, title=f"Difference in SumR to {baseline}", x=f"SumR, difference to {baseline}")
    head = ["system", "figure", f"difference to {baseline}", "95 % interval", "p", "p (Holm)"]
    return f"<h3>Against {escape(baseline)}</h3>" + figure(chart, caption) + table(head, rows, text=(0, 1))


def _effect(of: Effect, digits: int) -> list[str]:
    interval = f"{of.low:+.{digits}f} to {of.high:+.{digits}f}"
    return [f"{of.difference:+.{digits}f}", interval, f"{of.p:.2g}", f"{of.p_holm:.2g}"]


def _by_bin(seed: Sequence[Group], bins: Sequence[str]) -> list[list[float]]:
    found = {group.name: group.retrieval for group in seed}
    return [[getattr(found.get(name), field, math.nan) for _, field, _ in RECALLS] for name in bins]


def _cells(mean: Float[np.ndarray, "5"], half: Float[np.ndarray, "5"]) -> list[str]:
    """Figures of a group; none where no query is in it."""
    pairs = zip(mean.tolist(), half.tolist(), strict=True)
    return [UNKNOWN if math.isnan(value) else spread(value, None if math.isnan(its) else its) for value, its in pairs]
