"""The picture that a training run keeps beside its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prvr.files import write_picture


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A picture of a run: its loss terms, and SumR on the dev split with the best epoch marked, over epochs."""
    from matplotlib.figure import Figure

    epochs = [record["epoch"] + 1 for record in history]
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, dev = figure.subplots(1, 2)
    for name in history[0]["losses"]:
        losses.plot(epochs, [record["losses"][name] for record in history], label=name.replace("_", " "))
    losses.plot(epochs, [record["loss"] for record in history], "k--", label="total")
    # Terms differ by orders of magnitude; a term that is exactly 0 somewhere leaves a gap.
    losses.set(xlabel="epoch", ylabel="loss (mean over batches)", yscale="log")
    losses.legend(fontsize=8)
    sumr = [record["dev"]["sumr"] for record in history]
    best = max(range(len(sumr)), key=sumr.__getitem__)
    dev.plot(epochs, sumr, marker=".")
    dev.plot(epochs[best], sumr[best], "o", color="C3")
    dev.set(xlabel="epoch", ylabel="SumR on the dev split", title=f"best {sumr[best]:.1f}, epoch {epochs[best]}")
    for axes in (losses, dev):
        axes.grid(alpha=0.3)
    write_picture(path, figure)
