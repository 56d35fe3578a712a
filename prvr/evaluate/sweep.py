"""SumR over the weight of a student's second branch, S = (1 - β) S₁ + β S₂, as figures, Markdown and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from prvr.errors import DataError
from prvr.evaluate.charts import Curve, draw_lines, house_style
from prvr.evaluate.metrics import retrieval
from prvr.evaluate.saved_scores import SavedScores
from prvr.files import write_picture

WEIGHTS = tuple(step / 10 for step in range(11))


def sweep_branches(first: SavedScores, second: SavedScores, weights: Sequence[float] = WEIGHTS) -> tuple[float, ...]:
    """Returns SumR at each weight, from the scores of each branch alone.

    Raises:
        DataError: the two have different queries or videos.
    """
    if (first.queries, first.videos) != (second.queries, second.videos):
        raise DataError("the scores of the two branches are for different queries or videos; score them again")
    correct = first.correct
    return tuple(retrieval((1 - weight) * first.scores + weight * second.scores, correct).sumr for weight in weights)


def sweep_seeds(branches: Sequence[tuple[SavedScores, SavedScores]], weights: Sequence[float]) -> dict[str, list[float]]:
    """Returns mean and standard deviation of SumR over seeds, at each weight."""
    values = np.array([sweep_branches(first, second, weights) for first, second in branches])
    deviation = values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    return {"mean": values.mean(0).tolist(), "std": deviation.tolist()}


def sweep_lines(weights: Sequence[float], curves: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """A sweep as Markdown, one row for each system."""
    lines = [f"| SumR at β = | {' | '.join(f'{weight:g}' for weight in weights)} |", f"|---{'|---' * len(weights)}|"]
    return [*lines, *(f"| {name} | {' | '.join(f'{value:.1f}' for value in curve['mean'])} |" for name, curve in curves.items())]


def draw_sweep(weights: Sequence[float], curves: Mapping[str, Mapping[str, Sequence[float]]], path: Path, *, title: str) -> None:
    """Writes a PNG of SumR over the weight: one curve for each system, with its standard deviation over seeds."""
    from matplotlib.figure import Figure

    drawn = [
        Curve(name, weights, curve["mean"], style, spread=curve["std"]) for style, (name, curve) in enumerate(curves.items())
    ]
    with house_style():
        figure = Figure(figsize=(7, 4.5))
        axes = figure.subplots()
        draw_lines(axes, drawn, x="weight of the second branch (β)", y="SumR on the test split")
        axes.set_title(title)
        figure.legend(loc="outside lower center", ncols=3)
        write_picture(path, figure)
