"""The demo's report: one HTML file with a table, the curves of training, and the answers with their frames."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from prvr.datasets import Caption
from prvr.evaluate.evaluation import Evaluation
from prvr.evaluate.metrics import overlap
from prvr.search.asking import Hit
from prvr.video import VideoReader

FRAMES_SHOWN = 6
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
table { border-collapse: collapse } th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left } img { max-width: 100% } figure { margin: .5rem 0 }
.frames { display: flex; flex-wrap: wrap; gap: .4rem } .frames figure { margin: 0; width: 9rem } figcaption { font-size: .8rem }
.in img { outline: 3px solid #d62728 } .right { color: #1a7f37 } .wrong { color: #b35900 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } th, td { border-color: #444 }
  .right { color: #3fb950 } .wrong { color: #e3893b } img.plot { background: #fff } }
"""


@dataclass(frozen=True)
class Answer:
    """A caption asked as a query: all hits, and how relevant the best one's frames are between which times."""

    caption: Caption
    hits: list[Hit]
    relevance: np.ndarray
    edges: list[float]

    @property
    def rank(self) -> int:
        """Where the video stands that the caption was written for."""
        return 1 + [hit.video for hit in self.hits].index(self.caption.video)


def write_page(figures: Mapping[str, Evaluation], runs: Mapping[str, Path], answers: Sequence[Answer], *, videos: Path) -> str:
    """The report as HTML; pictures are inside it."""
    some = next(iter(figures.values())).retrieval
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>prvr demo</title>
<style>{STYLE}</style>
<h1>prvr demo</h1>
<p>A tiny CLIP, trained on clean stills, teaches a student that reads untrimmed videos. The captions of the test videos are
worded as no caption the students were trained on; the teacher has read such words. The students read the teacher's own
features. Rendered videos and one seed: this shows that the whole path works, and nothing about how methods rank on real
video.</p>
<h2>Retrieval on the test videos</h2>
<p>{some.queries} captions, {some.videos} videos. Chance is R@1 {100 / some.videos:.1f}. The last column is the share of captions
whose best hit is the right video, with a span that overlaps the true moment by IoU &ge; 0.5.</p>
{_table(figures)}
<h2>Training</h2>
{"".join(_run(name, run) for name, run in runs.items())}
<h2>Three sentences</h2>
<p>Asked of an index of the test videos, by the last student: the three captions whose best hit leads the second by most.
Whether it is the right one had no say in the choice, and stands below.</p>
{"".join(_answer(answer, videos) for answer in answers)}
</html>
"""


def _table(figures: Mapping[str, Evaluation]) -> str:
    rows = []
    for name, evaluation in figures.items():
        of, moments = evaluation.retrieval, evaluation.moments or {}
        values = [f"{value:.1f}" for value in (of.r1, of.r5, of.r10, of.r100, of.sumr)] + [f"{of.medr:g}"]
        values.append(f"{moments[0.5]:.1f}" if 0.5 in moments else "")
        rows.append(f"<tr><td>{escape(name)}</td>{''.join(f'<td>{value}</td>' for value in values)}</tr>")
    head = "".join(f"<th>{name}</th>" for name in ("model", "R@1", "R@5", "R@10", "R@100", "SumR", "MedR", "moment"))
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _run(name: str, run: Path) -> str:
    return f"<h3>{escape(name)}</h3>{_image((run / 'curves.png').read_bytes(), 'png', f'curves of {name}')}"


def _answer(answer: Answer, videos: Path) -> str:
    best, caption = answer.hits[0], answer.caption
    assert best.start is not None
    assert best.end is not None
    found = f"{escape(best.video)} from {best.start:.1f} s to {best.end:.1f} s, score {best.score:.3f}"
    return f"""<section><h3>&ldquo;{escape(caption.text)}&rdquo;</h3>
<p>Best of {len(answer.hits)}: {found}. {_verdict(answer)}</p>
{_frames(videos / best.video, best.start, best.end)}
{_image(_curve(answer), "png", "relevance of the query over the video")}
<p>Further hits: {escape(", ".join(f"{hit.video} ({hit.score:.3f})" for hit in answer.hits[1:5]))}</p></section>
"""


def _verdict(answer: Answer) -> str:
    best, caption = answer.hits[0], answer.caption
    if best.video != caption.video:
        return f'<span class="wrong">The caption was written for {escape(caption.video)}, which is at rank {answer.rank}.</span>'
    if None in (best.start, best.end, caption.start, caption.end):
        return '<span class="right">The right video.</span>'
    shared = overlap((best.start, best.end), (caption.start, caption.end))  # type: ignore[arg-type]
    true = f"{caption.start:.1f} s to {caption.end:.1f} s"
    return f'<span class="right">The right video</span>; the moment is {true}, IoU {shared:.2f}.'


def _frames(video: Path, start: float, end: float) -> str:
    from PIL import Image

    around = np.linspace(max(0.0, start - 2), end + 2, FRAMES_SHOWN)
    with VideoReader(video, rate=4.0) as reader:
        frames = list(reader)
    shown = []
    for wanted in around:
        time, frame = min(frames, key=lambda pair: abs(pair[0] - wanted))
        picture = io.BytesIO()
        Image.fromarray(frame).save(picture, "JPEG", quality=85)
        kind = "in" if start <= time <= end else "out"
        image = _image(picture.getvalue(), "jpeg", f"frame at {time:.1f} s")
        shown.append(f'<figure class="{kind}">{image}<figcaption>{time:.1f} s</figcaption></figure>')
    return f'<div class="frames">{"".join(shown)}</div>'


def _curve(answer: Answer) -> bytes:
    from matplotlib.figure import Figure

    best, caption = answer.hits[0], answer.caption
    figure = Figure(figsize=(9, 1.8), layout="constrained")
    axes = figure.subplots()
    axes.stairs(answer.relevance, answer.edges, baseline=None, color="C0")
    if best.start is not None and best.end is not None:
        axes.axvspan(best.start, best.end, color="C3", alpha=0.2, label="found")
    if caption.start is not None and caption.end is not None and best.video == caption.video:
        axes.axvspan(caption.start, caption.end, ymax=0.06, color="C2", label="annotated")
    axes.set(xlabel="seconds", ylabel="relevance", xlim=(answer.edges[0], answer.edges[-1]))
    axes.legend(fontsize=8, loc="upper right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


def _image(data: bytes, kind: str, text: str) -> str:
    shape = ' class="plot"' if kind == "png" else ""
    return f'<img{shape} alt="{escape(text)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
