"""The picture of how far a run's probabilities can be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prvr.evaluate.reliability import Judged, curve, reliability, risks
from prvr.files import write_picture


def draw_risks(judged: Judged, path: Path) -> None:
    """A picture of first hits: the share that is right over what was said, and the share that is wrong over coverage."""
    from matplotlib.figure import Figure

    of = reliability(judged)
    figure = Figure(figsize=(10, 4), layout="constrained")
    said, risk = figure.subplots(1, 2)
    probability, right, counts = zip(*curve(judged), strict=True)
    said.plot([0, 1], [0, 1], "k--", linewidth=1)
    said.plot(probability, right, marker="o")
    said.set(xlabel="probability", ylabel="share right", xlim=(0, 1), ylim=(0, 1))
    said.set_title(f"ECE {100 * of.ece:.1f} % ({len(counts)} bins of about {round(float(np.mean(counts)))} hits)")
    coverage = np.arange(1, of.hits + 1) / of.hits
    risk.plot(coverage, risks(judged.probability, judged.right), label=f"by probability, area {of.aurc:.3f}")
    risk.plot(coverage, risks(judged.right.astype(float), judged.right), "k:", label=f"best order, area {of.aurc_best:.3f}")
    risk.axhline(of.wrong, color="k", linestyle="--", linewidth=1, label=f"no order, area {of.wrong:.3f}")
    risk.set(xlabel="coverage: share of queries answered, the surest first", ylabel="share wrong", xlim=(0, 1), ylim=(0, 1))
    risk.legend(fontsize=8)
    for axes in (said, risk):
        axes.grid(alpha=0.3)
    write_picture(path, figure)
