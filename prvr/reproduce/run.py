"""A table's rows, trained and scored: every row over several seeds, each run in a folder of its own, so that all resumes.

OUT/runs/<row>/seed<n>/ is a run as `prvr train` keeps it, and the test run beside it: the test split is scored once for
each run, and what two tables have in common is trained once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from prvr import checkpoint as checkpoints
from prvr.checkpoint import Checkpoint
from prvr.config import override, to_dict
from prvr.errors import DataError, SettingError
from prvr.evaluate import evaluate_model, run_of
from prvr.features import columns
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.presets import PRESETS, preset
from prvr.protocols import Splits, open_splits
from prvr.published import is_package
from prvr.reproduce.tables import Row, Table, Text
from prvr.runs import Run, load_run, save_run
from prvr.train import Data, Recipe, train_student
from prvr.workspace import student_features, teacher_features

Progress = Callable[[str, int, int], None]
WHOLE, FIRST, SECOND = "test.npz", "test-first-branch.npz", "test-second-branch.npz"


@dataclass(frozen=True)
class Materials:
    """What an experiment is run on.

    data: a published package ROOT/COLLECTION, or a folder of videos with captions. features: packed ones, or the package.
    frames: whose frames the student reads. texts: names of caption features by kind; a row whose kind is not there is left
    out. teachers: their names, the first one for rows with a single teacher.
    """

    data: Path
    features: Path
    frames: str
    texts: Mapping[Text, str]
    teachers: tuple[str, ...]
    annotations: Path | None = None

    @property
    def whole(self) -> Path:
        """Where all frames of a teacher are: packed ones may be sampled for training, and a teacher alone sees all."""
        return self.data if is_package(self.data) else self.features

    @property
    def collection(self) -> str:
        """The name of the data set."""
        return self.data.resolve().name


@dataclass(frozen=True)
class Plan:
    """How a table is run: the seeds, the protocol, changes to every row's settings as key=value, and where."""

    seeds: int = 3
    protocol: str = "honest"
    changes: tuple[str, ...] = ()
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise SettingError(f"seeds is {self.seeds}; take at least one, three for a table")


@dataclass(frozen=True)
class Scored:
    """A row with what it answered on the test split, a run for each seed; or why it was left out.

    branches: for a sweep, the answers of the first branch alone and of the second, a pair for each seed.
    """

    row: Row
    runs: tuple[Run, ...] = ()
    branches: tuple[tuple[Run, Run], ...] = ()
    left_out: str = ""


def score_rows(table: Table, out: Path, materials: Materials, plan: Plan, *, on_progress: Progress) -> list[Scored]:
    """Every row of a table, trained where it was not yet, and scored.

    Raises:
        DataError, SettingError, ModelError: as `train_student`.
    """
    # A folder's test split depends on the seed of its division, a package's does not: every run must answer the same queries.
    division = [seed if is_package(materials.data) else 0 for seed in range(plan.seeds)]
    splits = [
        open_splits(materials.data, protocol=plan.protocol, seed=seed, annotations=materials.annotations) for seed in division
    ]
    scored = []
    for place, row in enumerate(table.rows):
        reason = _left_out(row, materials)
        if reason:
            scored.append(Scored(row, left_out=reason))
            continue
        runs, branches = [], []
        # The teacher alone learns nothing, and answers the same whatever the seed.
        for seed, its in enumerate(splits if row.base else splits[:1]):
            label = f"{place + 1}/{len(table.rows)} {row.name}, seed {seed + 1}/{plan.seeds}: "
            answer = _Answer(row, out, materials, plan, its, seed)
            runs.append(answer.whole(_prefixed(on_progress, label)))
            if table.sweep:
                branches.append(answer.branches())
        scored.append(Scored(row, tuple(runs), tuple(branches)))
    if all(one.left_out for one in scored):
        raise DataError(f"no row of {table.name!r} can be run: {scored[0].left_out}")
    return scored


def recipe_of(row: Row, collection: str, changes: Sequence[str], *, teacher_columns: tuple[int, ...] = ()) -> Recipe:
    """The settings of a row on a data set: its preset (that of the data set, where there is one) with its changes."""
    own = f"{row.base}/{collection}"
    start = preset(own if own in PRESETS else row.base)
    settings = replace(start.settings, **_fitting(row.changes, teacher_columns))
    settings, training = override([settings, start.training], changes)
    return Recipe(start.method, settings, training)


@dataclass(frozen=True)
class _Answer:
    """One row with one seed."""

    row: Row
    out: Path
    materials: Materials
    plan: Plan
    splits: Splits
    seed: int

    def whole(self, on_progress: Progress) -> Run:
        """The test run, from disk if it was made before."""
        path = self._folder() / WHOLE
        if path.is_file():
            return load_run(path)
        checkpoint = self._teacher() if not self.row.base else self._trained(on_progress)
        return self._scored(checkpoint, path)

    def branches(self) -> tuple[Run, Run]:
        """The test runs of the first branch alone and of the second."""
        paths = [self._folder() / name for name in (FIRST, SECOND)]
        if not all(path.is_file() for path in paths):
            trained = checkpoints.load(self._folder())
            for path, weight in zip(paths, (0.0, 1.0), strict=True):
                self._scored(reweighted(trained, weight), path)
        return load_run(paths[0]), load_run(paths[1])

    def _names(self) -> list[str]:
        return [self.materials.teachers[place] for place in self.row.teachers]

    def _folder(self) -> Path:
        recipe = self._recipe(0) if self.row.base else None
        about = [to_dict(recipe.settings), to_dict(recipe.training)] if recipe else []
        same = [self.plan.protocol, self.materials.collection, self.materials.frames, self.materials.texts.get(self.row.text)]
        key = hashlib.sha256(json.dumps([about, same, self._names()]).encode()).hexdigest()[:8]
        name = " ".join([self.row.base or "zero-shot", *self._names(), *(f"{k}={v}" for k, v in self._changed().items())])
        slug = re.sub(r"[^a-z0-9.=+]+", "-", name.lower()).strip("-")
        return self.out / "runs" / f"{slug[:80]}-{key}" / f"seed{self.seed}"

    def _changed(self) -> dict[str, Any]:
        """The row's changes that change something: a row that spells a default out is the same run as one that does not."""
        if not self.row.base:
            return {}
        plain = recipe_of(replace(self.row, changes={}), self.materials.collection, ()).settings
        return {key: value for key, value in self.row.changes.items() if getattr(plain, key) != value}

    def _recipe(self, seed: int) -> Recipe:
        changed = self.row.changes.get("distillation_target") == "feature"
        widths = (
            tuple(columns(teacher_features(self.materials.features, name)[0].frames) for name in self._names()) if changed else ()
        )
        recipe = recipe_of(self.row, self.materials.collection, self.plan.changes, teacher_columns=widths)
        return replace(recipe, training=replace(recipe.training, seed=recipe.training.seed + seed))

    def _teacher(self) -> Checkpoint:
        _, reads = teacher_features(self.materials.whole, self._names()[0])
        return checkpoints.build("zero_shot", ZeroShotConfig(), reads)

    def _trained(self, on_progress: Progress) -> Checkpoint:
        features, reads = student_features(
            self.materials.features,
            frames=self.materials.frames,
            words=self.materials.texts[self.row.text],
            teachers=self._names(),
        )
        return train_student(
            self._folder(),
            self._recipe(self.seed),
            reads=reads,
            data=Data(self.splits.train, self.splits.dev, features),
            device=self.plan.device,
            notes={"protocol": self.splits.protocol, "collection": self.materials.collection},
            on_progress=on_progress,
        )

    def _scored(self, checkpoint: Checkpoint, path: Path) -> Run:
        if self.row.base:
            names = {"frames": self.materials.frames, "words": self.materials.texts[self.row.text]}
            features, _ = student_features(self.materials.features, **names)
        else:
            features, _ = teacher_features(self.materials.whole, self._names()[0])
        model = checkpoints.to_device(checkpoint, self.plan.device).model
        found = evaluate_model(model, self.splits.test, features)
        protocol = self.splits.protocol
        save_run(run_of(found, self.splits.test, system=self.row.name, protocol=protocol, seed=self.seed), path)
        return load_run(path)


def reweighted(checkpoint: Checkpoint, exploration_weight: float) -> Checkpoint:
    """The same student with another beta, the weight of its second branch."""
    settings = replace(checkpoint.settings, exploration_weight=exploration_weight)
    with torch.random.fork_rng(devices=[]):
        made = checkpoints.build(checkpoint.method, settings, checkpoint.reads)
    assert isinstance(made.model, torch.nn.Module)
    assert isinstance(checkpoint.model, torch.nn.Module)
    made.model.load_state_dict(checkpoint.model.state_dict())
    made.model.eval()
    return replace(made, about=checkpoint.about)


def _left_out(row: Row, materials: Materials) -> str:
    if row.base and row.text not in materials.texts:
        return f"it reads caption features of the kind {row.text!r}, and none were named (--{row.text} NAME)"
    if max(row.teachers) >= len(materials.teachers):
        return f"it needs {max(row.teachers) + 1} teachers, and {len(materials.teachers)} were named (--teacher NAME)"
    return ""


def _fitting(changes: Mapping[str, Any], teacher_columns: tuple[int, ...]) -> dict[str, Any]:
    assert set(changes) <= set(DlDkdConfig.__dataclass_fields__), changes
    return {**changes, **({"teacher_columns": teacher_columns} if teacher_columns else {})}


def _prefixed(on_progress: Progress, label: str) -> Progress:
    return lambda note, done, total: on_progress(label + note, done, total)
