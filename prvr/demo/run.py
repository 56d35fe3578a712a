"""The demo: the main job from rendered videos to a report, through the functions that any user calls.

OUT/videos     the world: untrimmed videos and captions.jsonl        OUT/runs      a folder per student
OUT/teacher    a tiny CLIP trained on stills                         OUT/gallery   the index that is asked
OUT/features   what the teacher sees and reads                       OUT/report.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prvr import checkpoint as checkpoints
from prvr import presets
from prvr.datasets import Caption, Dataset
from prvr.datasets.folder import load
from prvr.demo.page import Answer, write_page
from prvr.demo.teacher import train_teacher
from prvr.demo.world import render_world
from prvr.evaluate import Evaluation, evaluate_model
from prvr.files import write_whole
from prvr.folder_index import index_folder, open_index
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.search import VideoSearch
from prvr.train import Data, train_student
from prvr.workspace import extract_folder, student_features, teacher_features

VIDEOS = {"train": 120, "dev": 24, "test": 48}
RATE = 2.0
SEED = 0
STUDENTS = ("no-distillation", "dl-dkd++")
QUESTIONS = 3

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
        answers = [{"query": a.caption.text, "hits": [vars(hit) for hit in a.hits]} for a in self.answers]
        return {"report": str(self.report), "test": figures, "answers": answers}

    def lines(self) -> list[str]:
        """What a terminal shows."""
        lines = [f"{name:>18}: {evaluation.retrieval}" for name, evaluation in self.figures.items()]
        for answer in self.answers:
            best = answer.hits[0]
            lines.append(f'"{answer.caption.text}": {best.video} from {best.start:.1f} s to {best.end:.1f} s')
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
    given, reads = teacher_features(features, "teacher")
    zero_shot = checkpoints.build("zero_shot", ZeroShotConfig(), reads)
    figures = {"zero-shot teacher": evaluate_model(zero_shot.model, test, given)}
    given, reads = student_features(features, frames="teacher", words="teacher", teachers=["teacher"])
    data = Data(load(world, "train"), load(world, "dev"), given)
    for name in STUDENTS:
        student = train_student(out / "runs" / name, presets.preset(name), reads=reads, data=data, on_progress=tell)
        figures[name] = evaluate_model(student.model, test, given)

    index_folder(world, out / "gallery", student, on_progress=tell)
    gallery = open_index(out / "gallery")
    answers = [_answer(gallery, caption) for caption in _questions(test)]
    page = write_page(figures, {name: out / "runs" / name for name in STUDENTS}, answers, videos=world)
    write_whole(out / "report.html", page.encode())
    return Demo(out / "report.html", figures, answers)


def _questions(test: Dataset) -> list[Caption]:
    """The first caption of each of a few videos, spread over the split: chosen before anything is known of the answers."""
    first = {caption.video: caption for caption in reversed(test.captions)}
    videos = test.video_ids[:: max(1, len(test.video_ids) // QUESTIONS)][:QUESTIONS]
    return [first[video] for video in videos]


def _answer(gallery: VideoSearch, caption: Caption) -> Answer:
    hits = gallery.search(caption.text, k=5)
    return Answer(caption, hits, *gallery.relevance(caption.text, hits[0].video))


def _silent(note: str, done: int, total: int) -> None:
    """No progress is shown."""
