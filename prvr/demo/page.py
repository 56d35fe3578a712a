"""The demo's report: one HTML page with figures, the curves of training, and the hits of some queries with their frames."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from prvr.datasets import Caption
from prvr.evaluate.charts import Lane, profile_chart
from prvr.evaluate.evaluation import Evaluation
from prvr.evaluate.metrics import overlap
from prvr.report.page import render
from prvr.report.systems import read_history
from prvr.report.training import draw_training
from prvr.search.hits import Hit
from prvr.train.run_state import HISTORY
from prvr.video import VideoReader

FRAMES_SHOWN = 6
FURTHER_HITS = 4
HEAD = ("model", "R@1", "R@5", "R@10", "R@100", "SumR", "MedR", "moment")


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


def write_page(figures: Mapping[str, Evaluation], runs: Mapping[str, Path], answers: Sequence[Answer], *, videos: Path) -> str:
    """Returns the report as HTML with all pictures in it; `videos` is the folder that the frames are read from."""
    return render(
        "demo.html",
        package="prvr.demo",
        title="prvr demo",
        counts=next(iter(figures.values())).retrieval,
        head=HEAD,
        rows=[_row(name, evaluation) for name, evaluation in figures.items()],
        charts={name: draw_training(name, {name: read_history(run / HISTORY)}) for name, run in runs.items()},
        answers=[_answer_values(answer, videos) for answer in answers],
    )


def _row(name: str, evaluation: Evaluation) -> list[str]:
    of, moments = evaluation.retrieval, evaluation.moments or {}
    recalls = [f"{value:.1f}" for value in (of.r1, of.r5, of.r10, of.r100, of.sumr)]
    return [name, *recalls, f"{of.medr:g}", f"{moments[0.5]:.1f}" if 0.5 in moments else ""]


def _answer_values(answer: Answer, videos: Path) -> dict[str, Any]:
    best, caption = answer.hits[0], answer.caption
    assert best.start is not None
    assert best.end is not None
    agreement = None
    if best.video == caption.video and caption.start is not None and caption.end is not None:
        agreement = overlap((best.start, best.end), (caption.start, caption.end))
    return {
        "answer": answer,
        "best": best,
        "right": best.video == caption.video,
        "overlap": agreement,
        "frames": _frames(videos / best.video, best.start, best.end),
        "chart": _chart(answer),
        "further": ", ".join(f"{hit.video} ({hit.score:.3f})" for hit in answer.hits[1 : 1 + FURTHER_HITS]),
    }


def _frames(video: Path, start: float, end: float) -> list[dict[str, Any]]:
    """Some frames of the found span and around it, as JPEG in base64."""
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
