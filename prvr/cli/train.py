"""`prvr train`."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prvr.cli.terminal import Data, Device, Features, Json, Method, Protocol, app, progress, register_each, show, warn
from prvr.errors import SettingError

if TYPE_CHECKING:
    from prvr.train.loop import Recipe
    from prvr.train.similarities import Similarities

TeacherMethods = Annotated[
    list[str] | None,
    typer.Option(
        help="External method of a --teacher-run: package.module:Class; repeatable.",
        metavar="MODULE:CLASS",
        callback=register_each,
    ),
]


@app.command(epilog="Example: prvr train videos features run --frames clip --words roberta_base --teacher clip lr=3e-4")
def train(
    data: Data,
    features: Features,
    out: Annotated[Path, typer.Argument(help="Folder of the run; an interrupted run continues.")],
    words: Annotated[str, typer.Option(help="Word features of the student: a name in FEATURES.")],
    settings: Annotated[list[str] | None, typer.Argument(help="Changes to the preset, key=value.")] = None,
    frames: Annotated[str, typer.Option(help="Frame features of the student.", show_default="the first teacher's")] = "",
    teacher: Annotated[list[str] | None, typer.Option(help="Teacher: a name in FEATURES; repeatable.")] = None,
    teacher_run: Annotated[list[Path] | None, typer.Option(help="Run that teaches by its scores; repeatable.")] = None,
    preset: Annotated[str, typer.Option(help="Settings to start from.")] = "dl-dkd++",
    method: Method = "",
    teacher_method: TeacherMethods = None,
    split_seed: Annotated[int, typer.Option(help="Seed of the division into train, dev and test.")] = 0,
    protocol: Protocol = "honest",
    device: Device = "cpu",
    devices: Annotated[int, typer.Option(help="Processes that share each batch; with --device cuda, each has a GPU.", min=1)] = 1,
    as_json: Json = False,
) -> None:
    """Train a student on a folder of videos with captions, or on a package; the best epoch on the dev split is kept.

    With --method, the training is that of the preset, and the settings are the defaults of the method's Config.
    """
    from prvr.train import presets
    from prvr.train.recipe import change

    recipe = change(presets.preset(preset, method=method or None), settings or [])
    if not frames and not teacher:
        raise SettingError("name the student's frame features: --teacher NAME, or --frames NAME to train without a teacher")
    if recipe.beside_teacher and teacher:
        _check_beside(preset, frames or teacher[0], words, teacher[0])
    work = partial(
        _train,
        data,
        out,
        recipe=recipe,
        features=features,
        names=(frames, words, *(teacher or [])),
        teacher_runs=tuple(teacher_run or ()),
        methods=(method, *(teacher_method or ())),
        split_seed=split_seed,
        protocol=protocol,
        device=device,
        as_json=as_json,
    )
    if devices == 1:
        work()
    else:
        from prvr.train.launch import launch

        launch(work, devices, device=device)


def _train(
    data: Path,
    out: Path,
    *,
    recipe: Recipe,
    features: Path,
    names: tuple[str, ...],
    teacher_runs: tuple[Path, ...],
    methods: tuple[str, ...],
    split_seed: int,
    protocol: str,
    device: str,
    as_json: bool,
) -> None:
    """The command in one process, or in each of several.

    Args:
        names: those of frames, of words and of teachers. methods: external ones, which each process registers for itself.
    """
    from prvr.datasets.splits import open_splits
    from prvr.features.shelf import lengths_beside_teachers, student_features
    from prvr.methods import register_method
    from prvr.train.distributed import join_group
    from prvr.train.loop import Data as TrainingData
    from prvr.train.loop import train_student
    from prvr.train.recipe import check_uses_teacher

    for method in filter(None, methods):
        register_method(method)
    frames, words, *teachers = names
    alone = recipe.uses_teacher and not recipe.distillation.uses_teacher_scores
    given = student_features(features, frames=frames or None, words=words, teachers=teachers, sentences_alone=alone)
    if teachers:
        check_uses_teacher(recipe, given.sources)
    splits = open_splits(data, protocol=protocol, seed=split_seed)
    warn({**splits.train.notes, **lengths_beside_teachers(given, splits.train.video_ids)})
    kept: tuple[Similarities, ...] = ()
    if teacher_runs:
        from prvr.methods.checkpoint import load
        from prvr.train.similarities import teacher_similarities

        kept = teacher_similarities(features, [load(run) for run in teacher_runs], splits.train, out=out / "teachers")
    with join_group(device) as group, progress() if group.leads else nullcontext() as on_progress:
        best = train_student(
            out,
            recipe,
            data=TrainingData(splits.train, splits.dev, given, kept),
            notes={
                "split_seed": split_seed,
                "protocol": splits.protocol,
                "collection": splits.train.name,
                "teachers": [*teachers, *(run.name for run in teacher_runs)],
            },
            on_progress=on_progress,
            on_warning=lambda text: warn({str(out): text}),
            group=group,
        )
    if group.leads:
        about = best.about
        reached = f"best epoch {about['epoch'] + 1}, SumR {about['dev']['sumr']:.1f} on {splits.dev.split}"
        line = f"{out}: {reached}, protocol {splits.protocol}; curves in {out / 'curves.png'}"
        value, lines = {"run": str(out), "fingerprint": best.fingerprint, **about}, [line]
        if recipe.beside_teacher and teachers:
            fuse = ["prvr", "fuse", str(data), str(features), str(out), f"{out}-fused", "--teacher", teachers[0]]
            value["next"] = shlex.join(fuse)
            lines.append(f"next, add the teacher: {value['next']}")
        show(as_json, value, lines)
    group.leave()


def _check_beside(preset: str, frames: str, words: str, teacher: str) -> None:
    """Raises if a student does not read its teacher's frames, or its sentences beside each word."""
    read = {f"--frames {frames}": frames.split("+"), f"--words {words}": words.split("+")[1:]}
    lacking = [option for option, names in read.items() if teacher not in names]
    if lacking:
        take = " ".join(f"{option}+{teacher}" for option in lacking)
        raise SettingError(
            f"{preset} reads its teacher's features beside its own, and those of {teacher!r} are not in "
            f"{' and not in '.join(lacking)}; take {take}, or preset {preset.replace('prvr-best', 'dl-dkd++')}"
        )
