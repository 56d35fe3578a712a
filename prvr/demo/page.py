"""The demo's report: one HTML page with figures, the curves of training, and the hits of some queries with their frames."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from prvr.datasets import Caption
from prvr.evaluate.charts import Lane, profile_chart
from prvr.evaluate.compare import mark_untrained
from prvr.evaluate.evaluation import Evaluation
from prvr.evaluate.metrics import LABELS, format_mean, over_seeds, overlap
from prvr.report.page import render
from prvr.report.systems import read_history
from prvr.report.training import draw_training
from prvr.search.hits import Hit
from prvr.train.run_state import HISTORY
from prvr.video import VideoReader

FRAMES_SHOWN = 6
FURTHER_HITS = 4
HEAD = ("model", "seeds", "R@1", "R@5", "R@10", "R@100", "SumR", "MedR", "moment")


@dataclass(frozen=True)
class Answer:
    """A caption used as a query, with all its hits; relevance and edges are of the stretches of the best hit's video."""

    caption: Caption
    hits: list[Hit]
    relevance: Float[np.ndarray, "F"]
    edges: list[float]

    @property
    def rank(self) -> int:
        """The rank of the video that the caption was written for."""
        return 1 + [hit.video for hit in self.hits].index(self.caption.video)


def write_page(
    figures: Mapping[str, Sequence[Evaluation]],
    untrained: Mapping[str, Sequence[str]],
    runs: Mapping[str, Sequence[Path]],
    answers: Sequence[Answer],
    *,
    videos: Path,
) -> str:
    """Returns the report as HTML with all pictures in it.

    Args:
        figures: of each model, one for each seed.
        untrained: by model, the branches that had learned nothing.
        runs: by model, the folder of each seed.
        videos: the folder that the frames are read from.
    """
    histories: dict[str, dict[str, Sequence[dict[str, Any]]]] = {
        name: {run.name: read_history(run / HISTORY) for run in of_seeds} for name, of_seeds in runs.items()
    }
    return render(
        "demo.html",
        package="prvr.demo",
        title="prvr demo",
        counts=next(iter(figures.values()))[0].retrieval,
        seeds=max(map(len, figures.values())),
        head=HEAD,
        rows=[
            [mark_untrained(name, untrained.get(name, ())), str(len(of)), *map(format_figures(of).get, HEAD[2:])]
            for name, of in figures.items()
        ],
        charts={name: draw_training(name, of_seeds) for name, of_seeds in histories.items()},
        answers=[_answer_values(answer, videos) for answer in answers],
    )


def format_figures(evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """Each figure by its name in `HEAD`, over seeds mean ± standard deviation; an unknown one is left empty."""
    seeds = [{**each.retrieval.as_dict(), "moment": (each.moments or {}).get(0.5, math.nan)} for each in evaluations]
    mean, deviation = over_seeds(seeds)
    shown = {**LABELS, "moment": "moment"}
    cells = {shown[of]: format_mean(mean[of], deviation[of] if deviation else None) for of in mean if of in shown}
    return {name: "" if "nan" in cell else cell for name, cell in cells.items()}


def _answer_values(answer: Answer, videos: Path) -> dict[str, Any]:
    best, caption = answer.hits[0], answer.caption
    assert best.start is not None
    assert best.end is not None
    right, agreement, moment = best.video == caption.video, None, None
    if caption.start is not None and caption.end is not None:
        if right:
            agreement = overlap((best.start, best.end), (caption.start, caption.end))
        else:
            moment = _frames(videos / caption.video, caption.start, caption.end)
    return {
        "answer": answer,
        "best": best,
        "right": right,
        "overlap": agreement,
        "frames": _frames(videos / best.video, best.start, best.end),
        "moment": moment,
        "chart": _chart(answer),
        "further": ", ".join(f"{hit.video} ({hit.score:.3f})" for hit in answer.hits[1 : 1 + FURTHER_HITS]),
    }


def _frames(video: Path, start: float, end: float) -> list[dict[str, Any]]:
    """Some frames of a span and around it, as JPEG in base64."""
    from PIL import Image

    with VideoReader(video, rate=4.0) as reader:
        frames = list(reader)
    shown = []
    for wanted in np.linspace(max(0.0, start - 2), end + 2, FRAMES_SHOWN):
        time, frame = min(frames, key=lambda pair: abs(pair[0] - wanted))
        picture = io.BytesIO()
        Image.fromarray(frame).save(picture, "JPEG", quality=85)
        shown.append({"time": time, "inside": start <= time <= end, "jpeg": base64.b64encode(picture.getvalue()).decode()})
    return shown


def _chart(answer: Answer) -> Markup:
    best, caption = answer.hits[0], answer.caption
    lanes = []
    if caption.start is not None and caption.end is not None and best.video == caption.video:
        lanes.append(Lane("annotated", 2, [(caption.start, caption.end)]))
    if best.start is not None and best.end is not None:
        lanes.append(Lane("found", 1, [(best.start, best.end)]))
    title = "relevance of the query over the video"
    return profile_chart(answer.relevance.tolist(), answer.edges, title=title, x="seconds", y="relevance", lanes=lanes)
