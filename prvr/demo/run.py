"""The demo: the main job from rendered videos to a report, through the functions that any user calls.

OUT/videos     untrimmed videos and captions.jsonl     OUT/unseen       the test videos alone, to be indexed
OUT/teacher    a tiny CLIP trained on stills           OUT/gallery      the index that is asked
OUT/features   what the teacher sees and reads         OUT/report.html  tables, curves, answers
OUT/runs       a folder per student
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
from prvr.evaluate.evaluation import Evaluation, evaluate_model
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
QUESTIONS = 3
HITS = 5

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Demo:
    """What the demo came to: figures on the test split by model, and the answers to its sentences."""

    report: Path
    figures: dict[str, Evaluation]
    answers: list[Answer]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        figures = {name: {**e.retrieval.as_dict(), "moments": e.moments} for name, e in self.figures.items()}
        answers = [{"query": a.caption.text, "hits": [hit.as_dict() for hit in a.hits[:HITS]]} for a in self.answers]
        return {"report": str(self.report), "test": figures, "answers": answers}

    def lines(self) -> list[str]:
        """What a terminal shows."""
        lines = [f"{name:>18}: {evaluation.retrieval}" for name, evaluation in self.figures.items()]
        for answer in self.answers:
            best = answer.hits[0]
            where = f"{best.video} from {best.start:.1f} s to {best.end:.1f} s"
            lines.append(f'"{answer.caption.text}": {where} (right video at rank {answer.rank})')
        return [*lines, f"open {self.report}"]


def run_demo(out: str | Path, *, videos: dict[str, int] | None = None, on_progress: Progress | None = None) -> Demo:
    """Runs the demo, or the part of it that an earlier call did not finish.

    Args:
        videos: how many videos each split has.
    """
    out, tell = Path(out), on_progress or _silent
    world, features = out / "videos", out / "features"
    render_world(world, **(videos or VIDEOS), seed=SEED, on_progress=lambda done, total: tell("rendering", done, total))
    train_teacher(
        out / "teacher",
        seed=SEED,
        on_progress=lambda done, total, loss, best: tell(f"teacher on stills: loss {loss:.2f}, R@1 {best:.0%}", done, total),
    )
    extract_folder(world, features, encoders=[out / "teacher"], words=[out / "teacher"], rate=RATE, on_progress=tell)

    test = load(world, "test")
    given = teacher_features(features, "teacher")
    zero_shot = checkpoints.build("zero_shot", ZeroShotConfig(), given.sources)
    figures = {"zero-shot teacher": evaluate_model(zero_shot.model, test, given)}
    given = student_features(features, frames="teacher", words="teacher", teachers=["teacher"])
    data = Data(load(world, "train"), load(world, "dev"), given)
    for name in STUDENTS:
        student = train_student(out / "runs" / name, presets.preset(name), data=data, on_progress=tell)
        figures[name] = evaluate_model(student.model, test, given)

    index_folder(_unseen(test, world, out / "unseen"), out / "gallery", student, on_progress=tell)
    gallery = open_index(out / "gallery")
    answers = [_answer(gallery, caption) for caption in _questions(test, figures[STUDENTS[-1]])]
    page = write_page(figures, {name: out / "runs" / name for name in STUDENTS}, answers, videos=world)
    write_whole(out / "report.html", page.encode())
    return Demo(out / "report.html", figures, answers)


def _unseen(test: Dataset, world: Path, folder: Path) -> Path:
    """A folder with the test videos and no captions: what a user indexes once a student is trained."""
    folder.mkdir(exist_ok=True)
    for video in test.video_ids:
        if not (folder / video).exists():
            shutil.copy2(world / video, folder / video)
    return folder


def _questions(test: Dataset, evaluation: Evaluation) -> list[Caption]:
    """The captions, of different videos, whose best hit leads the second by most, be it right or wrong."""
    best = np.sort(evaluation.scores, axis=1)
    order = np.argsort(best[:, -2] - best[:, -1], kind="stable")
    first: dict[str, Caption] = {}
    for row in order:
        first.setdefault(test.captions[row].video, test.captions[row])
    return list(first.values())[:QUESTIONS]


def _answer(gallery: VideoSearch, caption: Caption) -> Answer:
    hits = gallery.search(caption.text, k=len(gallery.index.ids))
    return Answer(caption, hits, *gallery.relevance(caption.text, hits[0].video))


def _silent(note: str, done: int, total: int) -> None:
    """No progress is shown."""
