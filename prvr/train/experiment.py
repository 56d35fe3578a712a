"""An experiment: data, features, settings and seeds, as `prvr train` takes them, and the TOML file that repeats it.

A recipe file has the options of `prvr train` by name and the tables `settings` (of the method), `training` and `distillation`.
What it leaves out has the value of its preset, or the default of the option. Paths are read as on the command line.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from prvr.config import from_dict, to_dict
from prvr.datasets import Dataset
from prvr.datasets.splits import open_splits
from prvr.errors import DataError, SettingError, nearest
from prvr.evaluate.metrics import COLUMNS, LABELS, format_mean, over_seeds
from prvr.features.shelf import lengths_beside_teachers, student_features
from prvr.features.subtitles import videos_without_subtitles
from prvr.files import read_bytes, write_json, write_whole
from prvr.methods import open_method
from prvr.methods.checkpoint import Checkpoint, check_takes_subtitles, load
from prvr.train.distributed import Group
from prvr.train.event_files import event_files
from prvr.train.loop import Data, Progress, Warn, train_student
from prvr.train.presets import preset
from prvr.train.recipe import Recipe, change
from prvr.train.run_state import RECIPE, STATE
from prvr.train.similarities import Similarities, teacher_similarities

TABLES = ("settings", "training", "distillation")
SUMMARY = "seeds.json"
MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Experiment:
    """The options of `prvr train`, and changes to the settings of its preset.

    captions: a JSON file of the ids of the training captions that are learned from, "" for all.
    seeds: the number of runs, OUT/seed0 and so on, with the seeds that follow that of the training; None for one run in OUT.
    """

    data: str = ""
    features: str = ""
    out: str = ""
    frames: str = ""
    words: str = ""
    subtitles: str = ""
    teacher: tuple[str, ...] = ()
    teacher_run: tuple[str, ...] = ()
    preset: str = "dl-dkd++"
    method: str = ""
    captions: str = ""
    split_seed: int = 0
    protocol: str = "honest"
    device: str = "auto"
    devices: int = 1
    seeds: int | None = None
    tensorboard: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    distillation: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("seeds", "devices"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise SettingError(f"{name} is {number}; take 1 or more")

    def recipe(self) -> Recipe:
        """The settings of the preset with the changes.

        Raises:
            SettingError: a key is unknown (the text suggests the nearest, or the table that has it) or a value does not fit.
            ModelError: the method is external, and neither registered nor installed: no file chooses what is imported.
        """
        if self.method:
            open_method(self.method)
        start = preset(self.preset, method=self.method or None)
        parts = {table: getattr(start, table) for table in TABLES}
        for table, part in parts.items():
            for name in getattr(self, table):
                _check_known(name, table, parts)
            parts[table] = _apply(part, getattr(self, table))
        return replace(start, **parts)

    def complete(self, changes: Sequence[str] = ()) -> Experiment:
        """The experiment with `key=value` changes, and with every setting in its tables.

        Raises:
            SettingError: as `recipe` and `recipe.change`, or something is not named that every run needs.
        """
        recipe = change(self.recipe(), changes)
        _check_names(self, recipe)
        whole = self.with_recipe(recipe)
        # A name that no recipe file can hold is refused before anything is read or trained.
        recipe_text(whole)
        return whole

    def with_recipe(self, recipe: Recipe) -> Experiment:
        """The experiment with every setting of a recipe in its tables."""
        tables: dict[str, Any] = {table: to_dict(getattr(recipe, table)) for table in TABLES}
        return replace(self, **tables)

    def runs(self) -> list[Experiment]:
        """The experiment of each of its runs; itself without `seeds`."""
        if self.seeds is None:
            return [self]
        first = self.recipe().training.seed
        return [
            replace(self, out=str(Path(self.out) / f"seed{place}"), seeds=None, training={**self.training, "seed": first + place})
            for place in range(self.seeds)
        ]


def read_recipe(path: Path) -> Experiment:
    """Reads a recipe file; `Experiment.recipe` checks its settings.

    Raises:
        SettingError: it is not TOML (the text names the line), a key is unknown, or a value has the wrong type.
        DataError, OSError: the file cannot be read.
    """
    try:
        values = tomllib.loads(read_bytes(path, most=MOST_BYTES).decode("utf-8-sig"))
    # ValueError: also of bytes that are not UTF-8, and of numbers with thousands of digits.
    except (ValueError, RecursionError) as problem:
        reason = "it is nested too deeply" if isinstance(problem, RecursionError) else problem
        raise SettingError(f"{path} is not a TOML file: {reason}; correct it, or leave out --recipe") from None
    try:
        return from_dict(Experiment, values)
    except SettingError as problem:
        raise SettingError(f"{path}: {problem}") from None


def recipe_text(experiment: Experiment) -> str:
    """An experiment as `read_recipe` reads it.

    Raises:
        SettingError: a path or a name is not UTF-8.
    """
    values = to_dict(experiment)
    # From any folder, they are the same.
    values |= {name: os.path.abspath(values[name]) for name in ("data", "features", "out", "captions") if values[name]}
    values["teacher_run"] = list(map(os.path.abspath, experiment.teacher_run))
    lines = ["# prvr train --recipe FILE continues this run; prvr train OUT --recipe FILE repeats it in another folder."]
    lines += [f"{name} = {_toml(value)}" for name, value in values.items() if name not in TABLES and value is not None]
    for table in TABLES:
        lines += ["", f"[{table}]", *(f"{name} = {_toml(value)}" for name, value in values[table].items())]
    return "\n".join([*lines, ""])


@dataclass(frozen=True)
class OpenData:
    """What an experiment is run on. protocol: of its splits. notes: what to tell the user, by place."""

    data: Data
    protocol: str
    notes: Mapping[str, str]


def open_data(experiment: Experiment) -> OpenData:
    """Opens the splits, the features and the teachers of an experiment.

    Raises:
        DataError, ModelError: one of them is missing or broken.
    """
    recipe, teachers = experiment.recipe(), experiment.teacher
    alone = recipe.uses_teacher and not recipe.distillation.uses_teacher_scores
    features = student_features(
        experiment.features,
        frames=experiment.frames or None,
        words=experiment.words,
        teachers=teachers,
        sentences_alone=alone,
        subtitles=experiment.subtitles or None,
    )
    splits = open_splits(experiment.data, protocol=experiment.protocol, seed=experiment.split_seed)
    if experiment.captions:
        splits = replace(splits, train=keep_captions(splits.train, Path(experiment.captions)))
    videos = splits.train.video_ids
    notes = {
        **splits.train.notes,
        **lengths_beside_teachers(features, videos),
        **videos_without_subtitles(features.frames, videos),
    }
    kept: tuple[Similarities, ...] = ()
    if experiment.teacher_run:
        trained = [load(run) for run in experiment.teacher_run]
        kept = teacher_similarities(Path(experiment.features), trained, splits.train, out=Path(experiment.out) / "teachers")
    return OpenData(Data(splits.train, splits.dev, features, kept), splits.protocol, notes)


def keep_captions(train: Dataset, path: Path) -> Dataset:
    """The training split with the captions alone that a JSON list of ids names; its videos stay in the gallery.

    Raises:
        DataError: the file is no such list, or names a caption that is not in the split.
    """
    try:
        ids = json.loads(read_bytes(path))
    # ValueError: also of bytes that are not UTF-8.
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{path} is not JSON ({problem!s:.100}); write a list of caption ids, or leave out --captions") from None
    if not isinstance(ids, list) or not ids or not all(isinstance(one, str) for one in ids):
        raise DataError(f"{path} holds no list of caption ids; write it by prvr data denoise, or leave out --captions")
    wanted = set(ids)
    unknown = wanted - {caption.id for caption in train.captions}
    if unknown:
        raise DataError(
            f"{path} names {len(unknown)} captions that are not in the training split, such as {min(unknown)!r}; write it with "
            "the same data, protocol and split seed"
        )
    return replace(train, captions=tuple(caption for caption in train.captions if caption.id in wanted))


def run_experiment(
    experiment: Experiment,
    opened: OpenData,
    *,
    group: Group,
    on_progress: Progress | None = None,
    on_warning: Callable[[str, str], None] | None = None,
) -> dict[str, Checkpoint]:
    """Trains each run of an experiment that is not finished, and returns the checkpoints by folder.

    Args:
        on_warning: is called with the folder and the text.

    Raises:
        SettingError, DataError, ModelError, ProcessLost: as `train_student`.
        MissingExtra: the experiment writes files for TensorBoard, which is not installed.
    """
    runs, done = experiment.runs(), {}
    if experiment.seeds is not None and group.leads:
        write_whole(Path(experiment.out) / RECIPE, recipe_text(experiment).encode())
    for place, run in enumerate(runs):
        label = f"seed {place + 1}/{len(runs)}: " if experiment.seeds else ""
        with event_files(Path(run.out)) if run.tensorboard and group.leads else nullcontext() as on_epoch:
            done[run.out] = train_student(
                run.out,
                run.recipe(),
                data=opened.data,
                notes={
                    "split_seed": run.split_seed,
                    "protocol": opened.protocol,
                    "collection": opened.data.train.name,
                    "teachers": [*run.teacher, *(Path(teacher).name for teacher in run.teacher_run)],
                },
                recipe_file=recipe_text(run),
                on_progress=with_label(on_progress, label),
                on_warning=_of_folder(on_warning, run.out),
                on_epoch=on_epoch,
                group=group,
            )
    if experiment.seeds is not None and group.leads:
        write_json(Path(experiment.out) / SUMMARY, summarise(done))
    return done


def summarise(runs: Mapping[str, Checkpoint]) -> dict[str, Any]:
    """The figures of several seeds on the dev split: of each run, their mean, and their standard deviation (of a sample)."""
    abouts = [run.about for run in runs.values()]
    mean, deviation = over_seeds([about["dev"] for about in abouts])
    each = [
        {"run": folder, "seed": about["training"]["seed"], "epoch": about["epoch"], "dev": about["dev"]}
        for folder, about in zip(runs, abouts, strict=True)
    ]
    return {"seeds": each, "mean": mean, "std": deviation}


def summary_line(summary: Mapping[str, Any]) -> str:
    """The recalls and SumR of `summarise`, mean ± standard deviation."""
    names = [name for name, label in LABELS.items() if label in COLUMNS]
    deviation = summary["std"] or {}
    return "  ".join(f"{LABELS[name]} {format_mean(summary['mean'][name], deviation.get(name))}" for name in names)


def _check_names(experiment: Experiment, recipe: Recipe) -> None:
    missing = [name.upper() for name in ("data", "features", "out") if not getattr(experiment, name)]
    if missing:
        raise SettingError(f"no {', '.join(missing)} named; prvr train DATA FEATURES OUT --words NAME, or --recipe FILE")
    if not experiment.words:
        raise SettingError("name the student's word features: --words NAME")
    if not experiment.frames and not experiment.teacher:
        raise SettingError("name the student's frame features: --teacher NAME, or --frames NAME to train without a teacher")
    if experiment.subtitles:
        check_takes_subtitles(recipe.method)
    if recipe.beside_teacher and experiment.teacher:
        _check_beside(experiment)
    if experiment.seeds is not None and (Path(experiment.out) / STATE).exists():
        raise SettingError(f"{experiment.out} holds a run itself; name another folder for several seeds, or leave out --seeds")


def _check_known(name: str, table: str, parts: Mapping[str, Any]) -> None:
    if hasattr(parts[table], name):
        return
    home = next((other for other, part in parts.items() if name in to_dict(part)), None)
    remedy = f"it belongs in [{home}]" if home else nearest(name, to_dict(parts[table]))
    raise SettingError(f"unknown setting {name!r} in [{table}]; {remedy}")


def _apply(part: Any, values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(type(part))
    # TOML has no null.
    plain = {name: None if value == "none" and type(None) in get_args(hints[name]) else value for name, value in values.items()}
    return from_dict(type(part), {**to_dict(part), **plain})


def _toml(value: Any) -> str:
    match value:
        case None:
            return '"none"'
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            if any("\ud800" <= letter <= "\udfff" for letter in value):
                raise SettingError(f"a recipe file cannot name {value!r}, which is not UTF-8; rename it, or name it by a link")
            # JSON's escapes are TOML's, which also wants one for DEL.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(map(_toml, value))}]"


def with_label(on_progress: Progress | None, label: str) -> Progress | None:
    """Progress with a label before each note."""
    return None if on_progress is None else lambda note, done, total: on_progress(label + note, done, total)


def _of_folder(on_warning: Callable[[str, str], None] | None, folder: str) -> Warn | None:
    return None if on_warning is None else lambda text: on_warning(folder, text)


def _check_beside(experiment: Experiment) -> None:
    """Raises if a student does not read its teacher's frames, or its sentences beside each word."""
    teacher, words = experiment.teacher[0], experiment.words
    frames = experiment.frames or teacher
    read = {f"--frames {frames}": frames.split("+"), f"--words {words}": words.split("+")[1:]}
    lacking = [option for option, names in read.items() if teacher not in names]
    if lacking:
        take = " ".join(f"{option}+{teacher}" for option in lacking)
        raise SettingError(
            f"{experiment.preset} reads its teacher's features beside its own, and those of {teacher!r} are not in "
            f"{' and not in '.join(lacking)}; take {take}, or preset {experiment.preset.replace('prvr-best', 'dl-dkd++')}"
        )
