"""The sections about students: the curves of their training, and SumR over the weight of the second branch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from prvr.evaluate.charts import Curve, line_chart
from prvr.evaluate.sweep import WEIGHTS
from prvr.report.page import GIVE_DATA, Section, format_mean, quote_names, render
from prvr.report.systems import ReportedSystem


def training_section(systems: Sequence[ReportedSystem]) -> Section:
    """Losses of each training run, and SumR on the split that chose the epoch."""
    trained = [one for one in systems if any(seed.history for seed in one.seeds)]
    lacking = [one.name for one in systems if one not in trained]
    missing = [f"No curves of {quote_names(lacking)}: they are in history.jsonl of a training run's folder."] if lacking else []
    charts = {
        one.name: draw_training(one.name, {seed.files.label: seed.history for seed in one.seeds if seed.history})
        for one in trained
    }
    silent = {one.name: ", ".join(seed.files.label for seed in one.seeds if not seed.history) for one in trained}
    return Section("curves", "Training", render("training.html", charts=charts, silent=silent), tuple(missing))


def sweep_section(systems: Sequence[ReportedSystem], *, has_data: bool) -> Section:
    """SumR at each weight of the second branch.

    Args:
        has_data: the data set was given, so that a run's folder would have been scored.
    """
    title = "Weight of the second branch (β)"
    sweeps = {one.name: np.array([seed.sweep for seed in one.seeds if seed.sweep is not None]) for one in systems}
    lacking = [name for name, values in sweeps.items() if not len(values)]
    known = {name: values for name, values in sweeps.items() if len(values)}
    remedy = "name its training run's folder" if has_data else GIVE_DATA
    needs = f"it needs a student of two branches; prvr reproduce beta saves the scores of each branch, or {remedy}"
    missing = [f"No sweep of {quote_names(lacking)}: {needs}."] if lacking else []
    curves, rows = [], []
    for style, (name, values) in enumerate(known.items()):
        mean, half = values.mean(0).tolist(), values.std(0, ddof=1).tolist() if len(values) > 1 else None
        curves.append(Curve(name, WEIGHTS, mean, style, spread=half))
        cells = [format_mean(value, None if half is None else half[place]) for place, value in enumerate(mean)]
        # On two lines: there are eleven columns.
        rows.append([name, *(cell.replace(" ", "\n", 1) for cell in cells)])
    body = render(
        "sweep.html",
        chart=line_chart(curves, title="SumR by weight of the second branch", x="β", y="SumR") if curves else None,
        legend=[(curve.name, curve.style) for curve in curves],
        head=["β", *map("{:g}".format, WEIGHTS)],
        rows=rows,
    )
    return Section("beta", title, body, tuple(missing))


def draw_training(name: str, histories: dict[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Draws the curves of one system; `histories` has, by seed, the epochs as `read_history` returns them.

    Returns the charts `sumr` and `losses`, and the legend of each, for `training.html`.
    """
    curves = [_sumr(label, style, history) for style, (label, history) in enumerate(histories.items())]
    terms = list(dict.fromkeys(term for history in histories.values() for record in history for term in record["losses"]))
    losses = [
        Curve(term, _epochs(history), [record["losses"].get(term, math.nan) for record in history], style)
        for style, term in enumerate(terms)
        for history in histories.values()
    ]
    return {
        "sumr": line_chart(curves, title=f"SumR over epochs, {name}", x="epoch", y="SumR"),
        "sumr_legend": [(curve.name, curve.style) for curve in curves],
        "losses": line_chart(losses, title=f"losses over epochs, {name}", x="epoch", y="loss", log=True),
        "losses_legend": [(term.replace("_", " "), style) for style, term in enumerate(terms)],
    }


def _sumr(label: str, style: int, history: Sequence[dict[str, Any]]) -> Curve:
    sumr, epochs = [record["sumr"] for record in history], _epochs(history)
    best = max(range(len(sumr)), key=sumr.__getitem__)
    name = f"{label}: best {sumr[best]:.1f}, epoch {epochs[best]:g} of {len(epochs)}"
    return Curve(name, epochs, sumr, style, marked=best)


def _epochs(history: Sequence[dict[str, Any]]) -> list[float]:
    return [record["epoch"] + 1.0 for record in history]
