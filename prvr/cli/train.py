"""`prvr train`."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prvr.cli.terminal import Device, Json, Method, Protocol, app, progress, register_each, show, warn
from prvr.errors import SettingError

if TYPE_CHECKING:
    from prvr.methods.checkpoint import Checkpoint
    from prvr.train.experiment import Experiment, OpenData


TeacherMethods = Annotated[
    list[str] | None,
    typer.Option(
        help="External method of a --teacher-run: package.module:Class; repeatable.",
        metavar="MODULE:CLASS",
        callback=register_each,
    ),
]


def _take_defaults(context: typer.Context, path: Path | None) -> Path | None:
    """Makes the values of a recipe file the defaults of the other options."""
    if path is not None:
        from prvr.train.experiment import TABLES, read_recipe

        context.obj = read_recipe(path)
        # Not the method: what the option names is imported, and no file chooses that.
        left_out = (*TABLES, "method")
        context.default_map = {name: value for name, value in vars(context.obj).items() if name not in left_out and value}
    return path


@app.command(epilog="Example: prvr train videos features run --frames clip --words roberta_base --teacher clip lr=3e-4")
def train(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(help="Folder of videos with captions.jsonl, or a feature package ROOT/COLLECTION.", metavar="DATA"),
    ] = None,
    features: Annotated[
        Path | None, typer.Argument(help="Folder that prvr extract or prvr data convert wrote, or a package.", metavar="FEATURES")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of the run; an interrupted run continues. With --recipe, it can be the only argument.", metavar="OUT"
        ),
    ] = None,
    settings: Annotated[list[str] | None, typer.Argument(help="Changes to the preset, key=value.", metavar="KEY=VALUE")] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="TOML file of all of this, such as RUN/recipe.toml.", callback=_take_defaults, is_eager=True),
    ] = None,
    words: Annotated[str, typer.Option(help="Word features of the student: a name in FEATURES.")] = "",
    frames: Annotated[str, typer.Option(help="Frame features of the student.", show_default="the first teacher's")] = "",
    subtitles: Annotated[str, typer.Option(help="Subtitle features beside the frames: a name in the package.")] = "",
    teacher: Annotated[list[str] | None, typer.Option(help="Teacher: a name in FEATURES; repeatable.")] = None,
    teacher_run: Annotated[list[Path] | None, typer.Option(help="Run that teaches by its scores; repeatable.")] = None,
    preset: Annotated[str, typer.Option(help="Settings to start from.")] = "dl-dkd++",
    method: Method = "",
    teacher_method: TeacherMethods = None,
    captions: Annotated[
        str, typer.Option(help="Learn from these training captions alone: a JSON list of ids, as of prvr data denoise.")
    ] = "",
    split_seed: Annotated[int, typer.Option(help="Seed of the division into train, dev and test.")] = 0,
    protocol: Protocol = "honest",
    device: Device = "auto",
    devices: Annotated[
        int, typer.Option(help="Processes that share each batch; each has a GPU where there are as many.", min=1)
    ] = 1,
    seeds: Annotated[int | None, typer.Option(help="Number of runs with different seeds: OUT/seed0 and so on.")] = None,
    tensorboard: Annotated[bool, typer.Option(help="Write OUT/tensorboard.")] = False,
    as_json: Json = False,
) -> None:
    """Train a student on a folder of videos with captions, or on a package; the best epoch on the dev split is kept.

    With --method, the training is that of the preset, and the settings are the defaults of the method's Config.
    """
    from prvr.train.experiment import Experiment

    positional = {"data": data, "features": features, "out": out}
    named = {name: str(path) for name, path in positional.items() if path is not None}
    changes = list(settings or [])
    if recipe is not None:
        named, changes = _read_places(context, named, changes)
    given = context.obj or Experiment()
    experiment = replace(
        given,
        **named,
        method=method or given.method,
        words=words,
        frames=frames,
        subtitles=subtitles,
        teacher=tuple(teacher or ()),
        teacher_run=tuple(map(str, teacher_run or ())),
        preset=preset,
        captions=captions,
        split_seed=split_seed,
        protocol=protocol,
        device=device,
        devices=devices,
        seeds=seeds,
        tensorboard=tensorboard,
    ).complete(changes)
    # Rows of the papers' tables have teachers that they do not use, and files that repeat them.
    checks_teacher = recipe is None and bool(teacher)
    methods = (method, *(teacher_method or ()))
    work = partial(_train, experiment, methods=methods, checks_teacher=checks_teacher, as_json=as_json)
    if devices == 1:
        work()
    else:
        from prvr.device import device_name
        from prvr.train.launch import launch

        launch(work, devices, device=device_name(device, processes=devices))


def _read_places(context: typer.Context, named: dict[str, str], changes: list[str]) -> tuple[dict[str, str], list[str]]:
    """The paths and the changes on a command line with a recipe: none, OUT, or DATA FEATURES OUT; then key=value."""
    typed = [path for name, path in named.items() if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    words = [*typed, *changes]
    count = next((place for place, word in enumerate(words) if "=" in word), len(words))
    if count not in (0, 1, 3):
        raise SettingError(f"{' '.join(words[:count])}: with --recipe name OUT alone, or DATA FEATURES OUT; then key=value")
    places = dict(zip(("out",) if count == 1 else ("data", "features", "out"), words[:count], strict=False))
    return places, words[count:]


def _train(experiment: Experiment, *, methods: tuple[str, ...], checks_teacher: bool, as_json: bool) -> None:
    """The command in one process, or in each of several.

    Args:
        methods: external ones, which each process registers for itself.
    """
    from prvr.methods import register_method
    from prvr.train.distributed import join_group
    from prvr.train.experiment import open_data, run_experiment
    from prvr.train.recipe import check_uses_teacher

    for method in filter(None, methods):
        register_method(method)
    opened = open_data(experiment)
    if checks_teacher:
        check_uses_teacher(experiment.recipe(), opened.data.features.sources)
    warn(opened.notes)
    with join_group(experiment.device) as group, progress() if group.leads else nullcontext() as on_progress:
        done = run_experiment(
            experiment, opened, group=group, on_progress=on_progress, on_warning=lambda run, text: warn({run: text})
        )
    if group.leads:
        _show(experiment, opened, done, as_json=as_json)
    group.leave()


def _show(experiment: Experiment, opened: OpenData, done: dict[str, Checkpoint], *, as_json: bool) -> None:
    from prvr.train.experiment import summarise, summary_line

    values, lines = [], []
    for run, best in done.items():
        about = best.about
        reached = f"best epoch {about['epoch'] + 1}, SumR {about['dev']['sumr']:.1f} on {opened.data.dev.split}"
        lines.append(f"{run}: {reached}, protocol {opened.protocol}; curves in {Path(run) / 'curves.png'}")
        value: dict[str, Any] = {"run": run, "fingerprint": best.fingerprint, **about}
        if experiment.recipe().beside_teacher and experiment.teacher:
            fuse = ["prvr", "fuse", experiment.data, experiment.features, run, f"{run}-fused", "--teacher", experiment.teacher[0]]
            value["next"] = shlex.join(fuse)
            lines.append(f"next, add the teacher: {value['next']}")
        values.append(value)
    if experiment.seeds is None:
        show(as_json, values[0], lines)
        return
    summary = summarise(done)
    lines.append(f"{experiment.out}: {summary_line(summary)} on {opened.data.dev.split}, mean ± standard deviation")
    show(as_json, {"run": experiment.out, "runs": values, "mean": summary["mean"], "std": summary["std"]}, lines)
