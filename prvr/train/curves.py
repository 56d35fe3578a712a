"""The picture that a training run keeps beside its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prvr.evaluate.charts import Curve, draw_lines, house_style
from prvr.files import write_picture


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes a PNG of the loss terms, and of SumR on the dev split with the best epoch marked, over epochs."""
    from matplotlib.figure import Figure

    epochs = [record["epoch"] + 1.0 for record in history]
    terms = {name: [float(record["losses"][name]) for record in history] for name in history[0]["losses"]}
    terms["total"] = [float(record["loss"]) for record in history]
    sumr = [float(record["dev"]["sumr"]) for record in history]
    best = max(range(len(sumr)), key=sumr.__getitem__)
    with house_style():
        figure = Figure(figsize=(10, 4))
        losses, dev = figure.subplots(1, 2)
        # Terms differ by orders of magnitude; a term that is exactly 0 leaves a gap.
        curves = [Curve(name.replace("_", " "), epochs, values, style) for style, (name, values) in enumerate(terms.items())]
        draw_lines(losses, curves, x="epoch", y="loss (mean over batches)", log=True)
        losses.legend()
        draw_lines(dev, [Curve("SumR", epochs, sumr, 0, marked=best)], x="epoch", y="SumR on the dev split")
        dev.set_title(f"best {sumr[best]:.1f}, epoch {epochs[best]:g}")
        write_picture(path, figure)
