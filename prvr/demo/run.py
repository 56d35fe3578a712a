"""The demo: the main job from rendered videos to a report, through the functions that any user calls.

OUT/videos     untrimmed videos and captions.jsonl     OUT/unseen       the test videos alone, to be indexed
OUT/teacher    a tiny CLIP trained on stills           OUT/gallery      the index that is searched
OUT/features   features of frames and captions         OUT/report.html  tables, curves, hits
OUT/runs       a folder for each student
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prvr.datasets import Caption, Dataset
from prvr.datasets.folder import load
from prvr.demo.page import Answer, write_page
from prvr.demo.teacher import train_teacher
from prvr.demo.world import render_world
from prvr.evaluate.compare import mark_untrained
from prvr.evaluate.evaluation import Evaluation, evaluate_model, untrained_of
from prvr.extract.folder import extract_folder
from prvr.features.shelf import student_features, teacher_features
from prvr.files import write_whole
from prvr.methods import checkpoint as checkpoints
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.search import index_folder, open_index
from prvr.search.asking import VideoSearch
from prvr.train import presets
from prvr.train.loop import Data, train_student

VIDEOS = {"train": 120, "dev": 24, "test": 48}
RATE = 2.0
SEED = 0
STUDENTS = ("no-distillation", "dl-dkd++")
QUERIES = 3
HITS = 5

Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Demo:
    """The results of the demo: figures on the test split by model, and the hits of its queries.

    untrained: by student, the branches that had learned nothing; empty where all have learned.
    """

    report: Path
    figures: dict[str, Evaluation]
    answers: list[Answer]
    untrained: dict[str, tuple[str, ...]]

    def as_dict(self) -> dict[str, Any]:
        """The results as plain values."""
        figures = {
            name: {**e.retrieval.as_dict(), "moments": e.moments, "untrained": list(self.untrained.get(name, ()))}
            for name, e in self.figures.items()
        }
        answers = [{"query": a.caption.text, "hits": [hit.as_dict() for hit in a.hits[:HITS]]} for a in self.answers]
        return {"report": str(self.report), "test": figures, "answers": answers}

    def lines(self) -> list[str]:
        """The results as lines for a terminal."""
        lines = [f"{mark_untrained(name, self.untrained.get(name, ())):>18}: {e.retrieval}" for name, e in self.figures.items()]
        for answer in self.answers:
            best = answer.hits[0]
            where = f"{best.video} from {best.start:.1f} s to {best.end:.1f} s"
            lines.append(f'"{answer.caption.text}": {where} (right video at rank {answer.rank})')
        return [*lines, f"open {self.report}"]


def run_demo(out: str | Path, *, videos: dict[str, int] | None = None, on_progress: Progress | None = None) -> Demo:
    """Runs the demo, or the part of it that an earlier call did not finish.

    Args:
        videos: the number of videos of each split.
    """
    out, report = Path(out), on_progress or _show_nothing
    world, features = out / "videos", out / "features"
    render_world(world, **(videos or VIDEOS), seed=SEED, on_progress=lambda done, total: report("rendering", done, total))
    train_teacher(
        out / "teacher",
        seed=SEED,
        on_progress=lambda done, total, loss, best: report(f"teacher on stills: loss {loss:.2f}, R@1 {best:.0%}", done, total),
    )
    extract_folder(world, features, encoders=[out / "teacher"], words=[out / "teacher"], rate=RATE, on_progress=report)

    test = load(world, "test")
    given = teacher_features(features, "teacher")
    zero_shot = checkpoints.build("zero_shot", ZeroShotConfig(), given.sources)
    figures = {"zero-shot teacher": evaluate_model(zero_shot.model, test, given)}
    given = student_features(features, frames="teacher", words="teacher", teachers=["teacher"])
    data = Data(load(world, "train"), load(world, "dev"), given)
    untrained = {}
    for name in STUDENTS:
        student = train_student(out / "runs" / name, presets.preset(name), data=data, on_progress=report)
        figures[name], untrained[name] = evaluate_model(student.model, test, given), untrained_of(student)

    index_folder(_copy_test_videos(test, world, out / "unseen"), out / "gallery", student, on_progress=report)
    gallery = open_index(out / "gallery")
    answers = [_search(gallery, caption) for caption in _choose_queries(test, figures[STUDENTS[-1]])]
    shown = {mark_untrained(name, untrained.get(name, ())): evaluation for name, evaluation in figures.items()}
    page = write_page(shown, {name: out / "runs" / name for name in STUDENTS}, answers, videos=world)
    write_whole(out / "report.html", page.encode())
    return Demo(out / "report.html", figures, answers, untrained)


def _copy_test_videos(test: Dataset, world: Path, folder: Path) -> Path:
    """Copies the test videos without captions into a folder, which is then indexed, as a user's own videos are."""
    folder.mkdir(exist_ok=True)
    for video in test.video_ids:
        if not (folder / video).exists():
            shutil.copy2(world / video, folder / video)
    return folder


def _choose_queries(test: Dataset, evaluation: Evaluation) -> list[Caption]:
    """The captions with the largest lead of the best hit over the second, each of another video, right or wrong."""
    best = np.sort(evaluation.scores, axis=1)
    order = np.argsort(best[:, -2] - best[:, -1], kind="stable")
    first: dict[str, Caption] = {}
    for row in order:
        first.setdefault(test.captions[row].video, test.captions[row])
    return list(first.values())[:QUERIES]


def _search(gallery: VideoSearch, caption: Caption) -> Answer:
    hits = gallery.search(caption.text, k=len(gallery.index.ids))
    return Answer(caption, hits, *gallery.relevance(caption.text, hits[0].video))


def _show_nothing(note: str, done: float, total: float) -> None:
    """Ignores progress."""
