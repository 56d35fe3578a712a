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
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from prvr.config import settings_to_compare
from prvr.datasets import Caption, Dataset
from prvr.datasets.folder import load
from prvr.demo.former import remove_former
from prvr.demo.page import Answer, format_figures, write_page
from prvr.demo.side_process import SideProcess
from prvr.demo.teacher import MADE_BY, train_teacher
from prvr.demo.world import VERSION, render_world
from prvr.device import one_thread
from prvr.evaluate.compare import mark_untrained
from prvr.evaluate.evaluation import Evaluation, evaluate_model, untrained_of
from prvr.extract.folder import extract_folder
from prvr.features.shelf import student_features, teacher_features
from prvr.files import write_whole
from prvr.methods import checkpoint as checkpoints
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.report.systems import read_history
from prvr.search import index_folder, open_index
from prvr.search.asking import VideoSearch
from prvr.train import presets
from prvr.train.loop import Data, train_student
from prvr.train.recipe import Recipe
from prvr.train.run_state import HISTORY

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


@one_thread()
def run_demo(out: str | Path, *, videos: dict[str, int] | None = None, on_progress: Progress | None = None) -> Demo:
    """Runs the demo, or the part of it that an earlier call did not finish, in two processes at a time.

    A demo of another version in `out` is made anew; files of the user stay (`prvr.demo.former`).
    The second process imports the script that calls this: it calls it below `if __name__ == "__main__":`.

    Args:
        videos: the number of videos of each split.

    Raises:
        DataError, ModelError, SettingError: a folder in `out` holds something else.
        ProcessLost: the second process has died.
        OSError, MemoryError: there is no room on the disk or in memory, or no permission.
    """
    out, report, sizes = Path(out), on_progress or _show_nothing, videos or VIDEOS
    world, features = out / "videos", out / "features"
    runs = {name: _run_folders(out / "runs" / name) for name in STUDENTS}
    recipes = {name: _recipes(name, folders) for name, folders in runs.items()}
    remove_former(out, _plan(sizes, recipes), runs=[folder for folders in runs.values() for folder in folders])
    _make_world_and_teacher(world, out / "teacher", sizes, report)
    extract_folder(world, features, encoders=[out / "teacher"], words=[out / "teacher"], rate=RATE, on_progress=report)

    test = load(world, "test")
    given = teacher_features(features, "teacher")
    zero_shot = checkpoints.build("zero_shot", ZeroShotConfig(), given.sources)
    figures = {"zero-shot teacher": [evaluate_model(zero_shot.model, test, given)]}
    *others, shown = [partial(_train_students, world, features, recipes[name]) for name in STUDENTS]
    with ExitStack() as stack:
        beside = [stack.enter_context(SideProcess(train)) for train in others]

        def watch(note: str, done: float, total: float) -> None:
            for process in beside:
                process.poll()
            report(note, done, total)

        own = shown(on_progress=watch)
        unseen, gallery = _copy_test_videos(test, world, out / "unseen"), out / "gallery"
        index_folder(unseen, gallery, checkpoints.load(runs[STUDENTS[-1]][0]), on_progress=watch)
        trained = [*(process.result(partial(_show_epochs, runs, report)) for process in beside), own]
    untrained = {}
    for name, results in zip(STUDENTS, trained, strict=True):
        figures[name] = [evaluation for evaluation, _ in results]
        untrained[name] = tuple(sorted({branch for _, branches in results for branch in branches}))

    searched = open_index(gallery)
    with closing(searched.index):
        answers = [_search(searched, caption) for caption in _draw_queries(test)]
    demo = Demo(out, figures, answers, untrained)
    write_whole(demo.report, write_page(figures, untrained, runs, answers, videos=world).encode())
    return demo


def _plan(sizes: dict[str, int], recipes: dict[str, dict[Path, Recipe]]) -> dict[str, Any]:
    """What the demo is made of: where it differs, a demo that exists is made anew."""
    firsts = {name: next(iter(of_seeds.values())) for name, of_seeds in recipes.items()}
    students = {
        name: [settings_to_compare(part) for part in (first.settings, first.training, first.distillation)]
        for name, first in firsts.items()
    }
    return {"world": [VERSION, sizes], "teacher": MADE_BY, "rate": RATE, "students": students}


def _make_world_and_teacher(world: Path, teacher: Path, sizes: dict[str, int], report: Progress) -> None:
    """Renders the videos while the teacher is trained, which needs none of them."""
    train, dev, test = sizes["train"], sizes["dev"], sizes["test"]
    with SideProcess(partial(render_world, world, train=train, dev=dev, test=test, seed=SEED)) as rendering:

        def show(done: int, total: int, loss: float, best: float) -> None:
            rendering.poll()
            report(f"teacher on stills: loss {loss:.2f}, R@1 {best:.0%}", done, total)

        train_teacher(teacher, seed=SEED, on_progress=show)
        total = sum(sizes.values())
        rendering.result(lambda: report("rendering", min(total, len(list(world.glob("video_*.mp4")))), total))


def _run_folders(out: Path) -> list[Path]:
    return [out / f"seed{seed}" for seed in range(SEED, SEED + SEEDS)]


def _recipes(name: str, folders: list[Path]) -> dict[Path, Recipe]:
    """The preset of a student with each seed, by the folder of its run."""
    recipe = presets.preset(name)
    return {
        folder: replace(recipe, training=replace(recipe.training, seed=SEED + place, **TRAINING))
        for place, folder in enumerate(folders)
    }


@one_thread()
def _train_students(
    world: Path, features: Path, recipes: dict[Path, Recipe], *, on_progress: Progress | None = None
) -> list[tuple[Evaluation, tuple[str, ...]]]:
    """Trains students by the folders of their runs; returns for each its figures, and the branches that had learned nothing."""
    given = student_features(features, frames="teacher", words="teacher", teachers=["teacher"])
    data, test = Data(load(world, "train"), load(world, "dev"), given), load(world, "test")
    results = []
    for number, (folder, recipe) in enumerate(recipes.items(), 1):
        label = f"{folder.parent.name}, seed {number} of {len(recipes)}: "
        student = train_student(folder, recipe, data=data, on_progress=_labelled(label, on_progress or _show_nothing))
        results.append((evaluate_model(student.model, test, given), untrained_of(student)))
    return results


def _show_epochs(runs: dict[str, list[Path]], report: Progress) -> None:
    """Reports the epochs of all students: those of other processes are known from their files."""
    histories = [folder / HISTORY for folders in runs.values() for folder in folders]
    done = sum(len(read_history(path)) for path in histories if path.exists())
    report("students", done, TRAINING["epochs"] * len(histories))


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
