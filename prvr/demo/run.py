"""The demo: the main job from rendered videos to a report, through the functions that any user calls.

OUT/videos     untrimmed videos and captions.jsonl     OUT/unseen       the test videos alone, to be indexed
OUT/teacher    a tiny CLIP trained on stills           OUT/gallery      the index that is searched
OUT/features   features of frames and captions         OUT/report.html  tables, curves, hits
OUT/runs       a folder for each student and seed
"""

from __future__ import annotations

import random
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prvr.datasets import Caption, Dataset
from prvr.datasets.folder import load
from prvr.demo.page import Answer, format_figures, write_page
from prvr.demo.teacher import train_teacher
from prvr.demo.world import render_world
from prvr.evaluate.compare import mark_untrained
from prvr.evaluate.evaluation import Evaluation, evaluate_model, untrained_of
from prvr.extract.folder import extract_folder
from prvr.features.shelf import student_features, teacher_features
from prvr.files import write_whole
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.search import index_folder, open_index
from prvr.search.asking import VideoSearch
from prvr.train import presets
from prvr.train.loop import Data, train_student

VIDEOS = {"train": 120, "dev": 24, "test": 48}
RATE = 2.0
SEED, SEEDS = 0, 3
STUDENTS = ("no-distillation", "dl-dkd++")
# Changes to the presets of both students, so that six runs take two and a half minutes of a processor (docs/decisions/0089).
TRAINING: dict[str, Any] = {"lr": 6e-4, "epochs": 15}
QUERIES = 6
HITS = 5

Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Demo:
    """The results of the demo: figures on the test split by model, one for each seed, and the hits of its queries.

    untrained: by student, the branches that had learned nothing with any seed; empty where all have learned.
    """

    out: Path
    figures: dict[str, list[Evaluation]]
    answers: list[Answer]
    untrained: dict[str, tuple[str, ...]]

    @property
    def report(self) -> Path:
        """The page."""
        return self.out / "report.html"

    def as_dict(self) -> dict[str, Any]:
        """The results as plain values."""
        figures = {
            name: {
                "seeds": [{**each.retrieval.as_dict(), "moments": each.moments} for each in evaluations],
                "untrained": list(self.untrained.get(name, ())),
            }
            for name, evaluations in self.figures.items()
        }
        answers = [
            {"query": a.caption.text, "rank": a.rank, "hits": [hit.as_dict() for hit in a.hits[:HITS]]} for a in self.answers
        ]
        return {"report": str(self.report), "gallery": str(self.out / "gallery"), "test": figures, "answers": answers}

    def lines(self) -> list[str]:
        """The results as lines for a terminal."""
        lines = []
        for name, evaluations in self.figures.items():
            of, seeds = format_figures(evaluations), len(evaluations)
            shown = "  ".join(f"{label} {of[label]}" for label in ("R@1", "R@5", "R@10", "SumR"))
            lines.append(
                f"{mark_untrained(name, self.untrained.get(name, ())):>18}: {shown}  ({seeds} seed{'s' if seeds > 1 else ''})"
            )
        for answer in self.answers:
            best = answer.hits[0]
            where = f"{best.video} from {best.start:.1f} s to {best.end:.1f} s"
            lines.append(f'"{answer.caption.text}": {where} (right video at rank {answer.rank})')
        serve = shlex.join([sys.argv[0] if Path(sys.argv[0]).stem == "prvr" else "prvr", "serve", str(self.out / "gallery")])
        return [*lines, f"report: {self.report}", f"search it in the browser: {serve}"]


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
    figures = {"zero-shot teacher": [evaluate_model(zero_shot.model, test, given)]}
    given = student_features(features, frames="teacher", words="teacher", teachers=["teacher"])
    data = Data(load(world, "train"), load(world, "dev"), given)
    students = {name: _train_students(out / "runs" / name, name, data, report) for name in STUDENTS}
    untrained = {}
    for name, trained in students.items():
        figures[name] = [evaluate_model(student.model, test, given) for student in trained]
        untrained[name] = tuple(sorted({branch for student in trained for branch in untrained_of(student)}))

    shown = students[STUDENTS[-1]][0]
    index_folder(_copy_test_videos(test, world, out / "unseen"), out / "gallery", shown, on_progress=report)
    gallery = open_index(out / "gallery")
    with closing(gallery.index):
        answers = [_search(gallery, caption) for caption in _draw_queries(test)]
    demo = Demo(out, figures, answers, untrained)
    runs = {name: _run_folders(out / "runs" / name) for name in STUDENTS}
    write_whole(demo.report, write_page(figures, untrained, runs, answers, videos=world).encode())
    return demo


def _run_folders(out: Path) -> list[Path]:
    return [out / f"seed{seed}" for seed in range(SEED, SEED + SEEDS)]


def _train_students(out: Path, name: str, data: Data, report: Progress) -> list[Checkpoint]:
    """Trains a preset with each seed."""
    recipe, trained = presets.preset(name), []
    for place, folder in enumerate(_run_folders(out)):
        seeded = replace(recipe, training=replace(recipe.training, seed=SEED + place, **TRAINING))
        label = f"{name}, seed {place + 1} of {SEEDS}: "
        trained.append(train_student(folder, seeded, data=data, on_progress=_labelled(label, report)))
    return trained


def _labelled(label: str, report: Progress) -> Progress:
    return lambda note, done, total: report(label + note, done, total)


def _copy_test_videos(test: Dataset, world: Path, folder: Path) -> Path:
    """Copies the test videos without captions into a folder, which is then indexed, as a user's own videos are."""
    folder.mkdir(exist_ok=True)
    for video in test.video_ids:
        if not (folder / video).exists():
            shutil.copy2(world / video, folder / video)
    return folder


def _draw_queries(test: Dataset) -> list[Caption]:
    """Captions of the test split, drawn by the seed and not by success."""
    return random.Random(f"queries {SEED}").sample(test.captions, min(QUERIES, len(test.captions)))


def _search(gallery: VideoSearch, caption: Caption) -> Answer:
    hits = gallery.search(caption.text, k=len(gallery.index.ids))
    return Answer(caption, hits, *gallery.relevance(caption.text, hits[0].video))


def _show_nothing(note: str, done: float, total: float) -> None:
    """Ignores progress."""
