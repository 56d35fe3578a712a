"""The sections about students: the curves of their training, and SumR over the weight of the second branch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from prvr.report.charts import Curve, legend, line_chart
from prvr.report.page import GIVE, Section, figure, listed, note, spread, table
from prvr.report.systems import WEIGHTS, Contender, Seed

DEV = "SumR on the split that chose the epoch; the dot is the best."
LOSSES = "Loss terms, mean over batches, a line for each seed; a term that is 0 leaves a gap."
BETA = (
    "S = (1 - β) S₁ + β S₂, each branch scored alone; mean and standard deviation over seeds. These are the queries that are "
    "reported: the best β here was chosen on them."
)


def curves(contenders: Sequence[Contender]) -> Section:
    """Losses and SumR on the split that chose the epoch, of each run."""
    trained = [one for one in contenders if any(seed.history for seed in one.seeds)]
    without = [one.name for one in contenders if one not in trained]
    missing = [f"No curves of {listed(without)}: they are in the history.jsonl of a training run's folder."] if without else []
    body = "".join(f"<h3>{escape(one.name)}</h3>{_training(one)}" for one in trained)
    return Section("curves", "Training", body, tuple(missing))


def sweep(contenders: Sequence[Contender], *, asked: bool) -> Section:
    """SumR at each weight of the second branch.

    Args:
        asked: the data is at hand, so that a run's folder was enough.
    """
    title = "Weight of the second branch (β)"
    swept = [(one.name, [seed.sweep for seed in one.seeds if seed.sweep is not None]) for one in contenders]
    lacking = [name for name, values in swept if not values]
    otherwise = "name the folder of its training run" if asked else GIVE
    how = f"it takes a student of two branches; have prvr reproduce beta keep the answers of each, or {otherwise}"
    missing = [f"No sweep of {listed(lacking)}: {how}."] if lacking else []
    held = [(name, np.array(values)) for name, values in swept if values]
    if not held:
        return Section("beta", title, "", tuple(missing))
    drawn, rows = [], []
    for style, (name, values) in enumerate(held):
        mean, half = values.mean(0).tolist(), values.std(0, ddof=1).tolist() if len(values) > 1 else None
        drawn.append(Curve(name, WEIGHTS, mean, style, spread=half))
        cells = [spread(value, None if half is None else half[place]) for place, value in enumerate(mean)]
        # On two lines: there are eleven columns.
        rows.append([name, *(cell.replace(" ", "\n", 1) for cell in cells)])
    chart = line_chart(drawn, title="SumR by weight of the second branch", x="β", y="SumR", width=700.0)
    body = figure(chart + legend([(curve.name, curve.style) for curve in drawn]), BETA)
    return Section("beta", title, body + table(["β", *map("{:g}".format, WEIGHTS)], rows), tuple(missing))


def _training(one: Contender) -> str:
    drawn = [(place, seed) for place, seed in enumerate(one.seeds) if seed.history]
    dev = [_dev(place, seed) for place, seed in drawn]
    terms = list(dict.fromkeys(name for _, seed in drawn for record in seed.history or () for name in record["losses"]))
    losses = [
        Curve(name, _epochs(seed), [record["losses"].get(name, math.nan) for record in seed.history or ()], style)
        for style, name in enumerate(terms)
        for _, seed in drawn
    ]
    left = line_chart(dev, title=f"SumR over epochs, {one.name}", x="epoch", y="SumR")
    right = line_chart(losses, title=f"losses over epochs, {one.name}", x="epoch", y="loss", log=True)
    left += legend([(curve.name, curve.style) for curve in dev])
    right += legend([(name.replace("_", " "), style) for style, name in enumerate(terms)])
    silent = [seed.files.label for seed in one.seeds if not seed.history]
    lacking = note(f"No history: {', '.join(silent)}.") if silent else ""
    return f'<div class="pair">{figure(left, DEV)}{figure(right, LOSSES)}</div>{lacking}'


def _dev(place: int, seed: Seed) -> Curve:
    sumr, epochs = [record["sumr"] for record in seed.history or ()], _epochs(seed)
    best = max(range(len(sumr)), key=sumr.__getitem__)
    name = f"{seed.files.label}: best {sumr[best]:.1f}, epoch {epochs[best]:g} of {len(epochs)}"
    return Curve(name, epochs, sumr, place, marked=best)


def _epochs(seed: Seed) -> list[float]:
    return [record["epoch"] + 1.0 for record in seed.history or ()]
