"""The section about probabilities: how far those of first hits can be trusted; and the same as a picture for a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prvr.evaluate.charts import Curve, draw_lines, house_style, line_chart
from prvr.evaluate.metrics import over_seeds
from prvr.evaluate.reliability import Judged, curve, reliability, risks
from prvr.files import write_picture
from prvr.report.page import Section, format_mean, quote_names, render
from prvr.report.systems import CalibrationReport, ReportedSystem

MOST_DRAWN = 6
POINTS = 200
DIAGONAL = 7
# Label, name in `Reliability`, factor, digits.
SHOWN = (
    ("ECE %", "ece", 100, 1),
    ("Brier", "brier", 1, 3),
    ("AURC", "aurc", 1, 3),
    ("best order", "aurc_best", 1, 3),
    ("no order", "wrong", 1, 3),
)


def probability_sections(systems: Sequence[ReportedSystem]) -> list[Section]:
    """Calibration error and the risk-coverage curve of the systems that have probabilities; empty if none has."""
    reports = {
        one.name: [seed.calibration for seed in one.results if seed.calibration is not None] for one in systems if one.results
    }
    known = {name: seeds for name, seeds in reports.items() if seeds}
    if not known:
        return []
    lacking = [name for name in reports if name not in known]
    remedy = "fit them on the scores of another split: prvr score SCORES.npz --calibrate DEV.npz --save SCORES.npz"
    missing = [f"No probabilities of {quote_names(lacking)}: {remedy}."] if lacking else []
    optimistic = [name for name, seeds in known.items() if any(seed.on_same_split for seed in seeds)]
    missing += [f"Fitted on the split that is reported, so too good: {quote_names(optimistic)}."] if optimistic else []
    drawn = list(known.items())[:MOST_DRAWN]
    diagonal = Curve("as predicted", (0.0, 1.0), (0.0, 1.0), DIAGONAL)
    right = [_share_right(name, seed.judged, style) for style, (name, seeds) in enumerate(drawn) for seed in seeds]
    wrong = [_risk(name, seed.judged, style) for style, (name, seeds) in enumerate(drawn) for seed in seeds]
    body = render(
        "probabilities.html",
        most_drawn=MOST_DRAWN if len(known) > MOST_DRAWN else 0,
        right=line_chart([diagonal, *right], title="share right over probability", x="probability", y="share right"),
        wrong=line_chart(wrong, title="share wrong over coverage", x="coverage", y="share wrong"),
        legend=[(name, style) for style, (name, _) in enumerate(drawn)],
        diagonal=[(diagonal.name, DIAGONAL)],
        head=["system", "seeds", "fitted on", *(label for label, *_ in SHOWN)],
        rows=[_row(name, seeds) for name, seeds in known.items()],
    )
    return [Section("probabilities", "Probabilities", body, tuple(missing))]


def draw_risks(judged: Judged, path: Path) -> None:
    """Writes a PNG of first hits: the share that is right over the probability, and the share that is wrong over coverage."""
    from matplotlib.figure import Figure

    figures = reliability(judged)
    probability, right, counts = zip(*curve(judged), strict=True)
    coverage = (np.arange(1, figures.hits + 1) / figures.hits).tolist()
    orders = [
        (f"by probability, area {figures.aurc:.3f}", risks(judged.probability, judged.right).tolist(), 0),
        (f"best order, area {figures.aurc_best:.3f}", risks(judged.right.astype(float), judged.right).tolist(), 2),
        (f"no order, area {figures.wrong:.3f}", [figures.wrong] * figures.hits, DIAGONAL),
    ]
    with house_style():
        figure = Figure(figsize=(10, 4))
        left, beside = figure.subplots(1, 2)
        diagonal = Curve("as predicted", (0.0, 1.0), (0.0, 1.0), DIAGONAL)
        draw_lines(left, [diagonal, Curve("first hits", probability, right, 0)], x="probability", y="share right")
        left.plot(probability, right, "o", color="C0")
        left.set_title(f"ECE {100 * figures.ece:.1f} % ({len(counts)} bins of about {round(float(np.mean(counts)))} hits)")
        curves = [Curve(name, coverage, values, style) for name, values, style in orders]
        draw_lines(beside, curves, x="coverage: share of queries answered", y="share wrong")
        beside.legend()
        for axes in (left, beside):
            axes.set(xlim=(0, 1), ylim=(0, 1))
        write_picture(path, figure)


def _share_right(name: str, judged: Judged, style: int) -> Curve:
    probability, right, _ = zip(*curve(judged), strict=True)
    # A line of one point is invisible.
    return Curve(name, probability, right, style, marked=0 if len(right) == 1 else None)


def _risk(name: str, judged: Judged, style: int) -> Curve:
    wrong = risks(judged.probability, judged.right)
    places = np.unique(np.linspace(0, len(wrong) - 1, min(POINTS, len(wrong))).astype(int))
    return Curve(name, ((places + 1) / len(wrong)).tolist(), wrong[places].tolist(), style)


def _row(name: str, seeds: Sequence[CalibrationReport]) -> list[str]:
    found = [reliability(seed.judged) for seed in seeds]
    mean, deviation = over_seeds([{field: factor * getattr(of, field) for _, field, factor, _ in SHOWN} for of in found])
    cells = [format_mean(mean[field], deviation[field] if deviation else None, digits=digits) for _, field, _, digits in SHOWN]
    return [name, str(len(seeds)), " and ".join(dict.fromkeys(seed.fitted_on for seed in seeds)), *cells]
