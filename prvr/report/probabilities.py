"""The section about probabilities: how far those of first hits hold, and what is right among the surest of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prvr.evaluate.reliability import Judged, Reliability, curve, reliability, risks
from prvr.report.charts import Curve, legend, line_chart
from prvr.report.page import Section, figure, listed, note, spread, table
from prvr.report.systems import Contender, Trust

DRAWN = 6
POINTS = 200
SAID = 7
# Label, name in `Reliability`, factor, digits.
SHOWN = (
    ("ECE %", "ece", 100, 1),
    ("Brier", "brier", 1, 3),
    ("AURC", "aurc", 1, 3),
    ("best order", "aurc_best", 1, 3),
    ("no order", "wrong", 1, 3),
)
COUNTED = (
    "First hits, each query asked with its videos in the gallery and again without them. ECE: how far probability and share "
    "right are apart, in ten bins. AURC: area under the risk-coverage curve, beside that of the best order and of none. Small is "
    "good in all of them; mean ± standard deviation over seeds."
)
RIGHT = "Share of first hits that are right, by the probability they were given, in ten bins; “as said” is where both agree."
RISK = "Share wrong among the surest hits, over how many of all are answered: what asking for a higher probability spares."


def probabilities(contenders: Sequence[Contender]) -> list[Section]:
    """Calibration error and the risk-coverage curve of the systems that have probabilities; no section where none has."""
    trusts = {one.name: [its.trust for its in one.answers if its.trust is not None] for one in contenders if one.answers}
    held = {name: its for name, its in trusts.items() if its}
    if not held:
        return []
    without = [name for name in trusts if name not in held]
    how = "fit them on scores of another split: prvr score SCORES.npz --calibrate DEV.npz --save SCORES.npz"
    missing = [f"No probabilities of {listed(without)}: {how}."] if without else []
    known = [name for name, its in held.items() if any(one.itself for one in its)]
    missing += [f"Fitted on the split that is reported, so too good: {listed(known)}."] if known else []
    few = f" The first {DRAWN} systems are drawn." if len(held) > DRAWN else ""
    drawn = list(held.items())[:DRAWN]
    said = [Curve("as said", (0.0, 1.0), (0.0, 1.0), SAID)]
    right = [_right(name, one.judged, style) for style, (name, its) in enumerate(drawn) for one in its]
    risk = [_risk(name, one.judged, style) for style, (name, its) in enumerate(drawn) for one in its]
    names = [(name, style) for style, (name, _) in enumerate(drawn)]
    left = line_chart([*said, *right], title="share right over probability", x="probability", y="share right")
    left += legend([*names, ("as said", SAID)])
    beside = line_chart(risk, title="share wrong over coverage", x="coverage", y="share wrong") + legend(names)
    body = f'{note(COUNTED + few)}<div class="pair">{figure(left, RIGHT)}{figure(beside, RISK)}</div>'
    head = ["system", "seeds", "fitted on", *(label for label, *_ in SHOWN)]
    rows = [_row(name, its) for name, its in held.items()]
    return [Section("probabilities", "Probabilities", body + table(head, rows, text=(0, 2)), tuple(missing))]


def _right(name: str, judged: Judged, style: int) -> Curve:
    probability, right, _ = zip(*curve(judged), strict=True)
    # A line of one point is not seen.
    return Curve(name, probability, right, style, marked=0 if len(right) == 1 else None)


def _risk(name: str, judged: Judged, style: int) -> Curve:
    wrong = risks(judged.probability, judged.right)
    places = np.unique(np.linspace(0, len(wrong) - 1, min(POINTS, len(wrong))).astype(int))
    return Curve(name, ((places + 1) / len(wrong)).tolist(), wrong[places].tolist(), style)


def _row(name: str, trusts: Sequence[Trust]) -> list[str]:
    found: list[Reliability] = [reliability(one.judged) for one in trusts]
    values = np.array([[factor * getattr(of, field) for _, field, factor, _ in SHOWN] for of in found])
    half = values.std(0, ddof=1).tolist() if len(values) > 1 else [None] * len(SHOWN)
    cells = [spread(m, h, digits=digits) for m, h, (*_, digits) in zip(values.mean(0), half, SHOWN, strict=True)]
    return [name, str(len(trusts)), " and ".join(dict.fromkeys(one.fitted for one in trusts)), *cells]
