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

from prvr.config import to_dict
from prvr.datasets.published import is_package
from prvr.datasets.splits import Splits, open_splits
from prvr.errors import DataError, SettingError
from prvr.evaluate.evaluation import evaluate_model, run_of
from prvr.evaluate.runs import Run, load_run, save_run
from prvr.features import columns
from prvr.features.shelf import open_shelf, student_features, teacher_features
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint, features_for
from prvr.methods.dual_encoding_hybrid import published_fusion
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.papers.footprint import Footprint, footprint
from prvr.papers.tables import Row, Table, Text
from prvr.train.fusion import fuse
from prvr.train.loop import Data, Recipe, train_student
from prvr.train.presets import PRESETS, preset
from prvr.train.recipe import change
from prvr.train.similarities import Similarities, teacher_similarities

Progress = Callable[[str, int, int], None]
BESIDE = "beside-teacher"
WHOLE, FIRST, SECOND = "test.npz", "test-first-branch.npz", "test-second-branch.npz"
LATENT, CONCEPT, FUSED = "test-latent.npz", "test-concepts.npz", "test-fused.npz"


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

    folders: of the runs, each with its history where it learned. models: the checkpoints that were asked.
    branches: for a sweep, the answers of the first branch alone and of the second, a pair for each seed.
    """

    row: Row
    runs: tuple[Run, ...] = ()
    folders: tuple[Path, ...] = ()
    models: tuple[Path, ...] = ()
    branches: tuple[tuple[Run, Run], ...] = ()
    left_out: str = ""


def score_rows(table: Table, out: Path, materials: Materials, plan: Plan, *, on_progress: Progress) -> list[Scored]:
    """Every row of a table, trained where it was not yet, and scored.

    Raises:
        DataError, SettingError, ModelError: as `train_student`; or a table by ratio, and no moment is annotated.
    """
    # A folder's test split depends on the seed of its division, a package's does not: every run must answer the same queries.
    division = [seed if is_package(materials.data) else 0 for seed in range(plan.seeds)]
    splits = [
        open_splits(materials.data, protocol=plan.protocol, seed=seed, annotations=materials.annotations) for seed in division
    ]
    if table.ratios and not any(caption.moments for caption in splits[0].test.captions):
        raise DataError(
            f"{table.name!r} needs the moments of the test captions, and {materials.collection} has none; "
            "name the original annotation files: --annotations DIR"
        )
    scored = []
    for place, row in enumerate(table.rows):
        reason = _left_out(row, materials)
        if reason:
            scored.append(Scored(row, left_out=reason))
            continue
        answers, runs, branches = [], [], []
        # The teacher alone learns nothing, and answers the same whatever the seed.
        for seed, its in enumerate(splits if row.base else splits[:1]):
            label = f"{place + 1}/{len(table.rows)} {row.name}, seed {seed + 1}/{plan.seeds}: "
            answer = _Answer(row, out, materials, plan, its, seed)
            answers.append(answer)
            runs.append(answer.whole(_prefixed(on_progress, label)))
            if table.sweep:
                branches.append(answer.branches())
        folders, models = (tuple(getattr(answer, what) for answer in answers) for what in ("folder", "model"))
        scored.append(Scored(row, tuple(runs), folders, models, tuple(branches)))
    if all(one.left_out for one in scored):
        raise DataError(f"no row of {table.name!r} can be run: {scored[0].left_out}")
    return scored


def footprints(scored: Sequence[Scored], materials: Materials, plan: Plan, *, on_progress: Progress) -> dict[str, Footprint]:
    """What each row that was run costs.

    Raises:
        DataError, SettingError: as `footprint`.
    """
    splits = open_splits(materials.data, protocol=plan.protocol, seed=0, annotations=materials.annotations)
    there = [one for one in scored if not one.left_out]
    found = {}
    for place, one in enumerate(there):
        on_progress(f"costs of {one.row.name}", place, len(there))
        features = materials.features if one.row.base else materials.whole
        found[one.row.name] = footprint(one.models[0], one.folders, features=features, test=splits.test, train=splits.train)
    return found


def recipe_of(row: Row, collection: str, changes: Sequence[str]) -> Recipe:
    """The settings of a row on a data set: its preset (that of the data set, where there is one) with its changes."""
    of_data = f"{row.base}/{collection}"
    start = preset(of_data if of_data in PRESETS else row.base)
    own = {name: value for name, value in row.changes.items() if name in to_dict(start.settings)}
    others = {name: value for name, value in row.changes.items() if name not in own}
    distillation = replace(start.distillation, **others)
    return change(replace(start, settings=replace(start.settings, **own), distillation=distillation), changes)


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
        path = {"own": self.folder / WHOLE, "test_matrix": self.folder / FUSED, "teacher": self.model / WHOLE}[self.row.fusion]
        # An older prvr kept no checkpoint of a teacher alone.
        if path.is_file() and (self.model / checkpoints.CONFIG).is_file():
            return load_run(path)
        checkpoint = self._teacher() if not self.row.base else self._trained(on_progress)
        if self.row.fusion == "test_matrix":
            return self._fused(checkpoint, path)
        return self._scored(self._beside_teacher(checkpoint) if self.row.fusion == "teacher" else checkpoint, path)

    def branches(self) -> tuple[Run, Run]:
        """The test runs of the first branch alone and of the second."""
        paths = [self.folder / name for name in (FIRST, SECOND)]
        if not all(path.is_file() for path in paths):
            trained = checkpoints.load(self.folder)
            for path, weight in zip(paths, (0.0, 1.0), strict=True):
                self._scored(reweighted(trained, weight), path)
        return load_run(paths[0]), load_run(paths[1])

    def _fused(self, trained: Checkpoint, path: Path) -> Run:
        """The test run of a hybrid space whose two matrices are fused when all of the test is known, as DE++ publishes it."""
        latent, concept = (
            self._scored(with_settings(trained, fusion="raw", latent_weight=weight), self.folder / name)
            for name, weight in ((LATENT, 1.0), (CONCEPT, 0.0))
        )
        matrices = (torch.from_numpy(run.scores).float() for run in (latent, concept))
        scores = published_fusion(*matrices, latent_weight=trained.settings.latent_weight)
        save_run(replace(latent, scores=scores.numpy()), path)
        return load_run(path)

    def _names(self) -> list[str]:
        return [self.materials.teachers[place] for place in self.row.teachers]

    def _frames(self) -> str:
        return "+".join([self.materials.frames, *(self.materials.teachers[place] for place in self.row.experts)])

    def _words(self) -> str:
        return "+".join([self.materials.texts[self.row.text], *(self.materials.teachers[place] for place in self.row.sentences)])

    def _taught_by(self) -> list[_Answer]:
        return [replace(self, row=row) for row in self.row.taught_by]

    def _says(self, on_progress: Progress) -> Similarities:
        """What the row, trained, says of the train split."""
        teacher = self._trained(on_progress)
        (kept,) = teacher_similarities(self.materials.features, [teacher], self.splits.train, out=self.folder / "says")
        return kept

    def _beside_teacher(self, student: Checkpoint) -> Checkpoint:
        """The student with its first teacher beside it, weighed on the dev split."""
        given, reads = teacher_features(self.materials.features, self._names()[0])
        teacher = checkpoints.build("zero_shot", ZeroShotConfig(), reads)
        found = fuse(student, features_for(self.materials.features, student), teacher, given, dev=self.splits.dev)
        checkpoints.save(found.checkpoint, self.model)
        return found.checkpoint

    @property
    def model(self) -> Path:
        """Where the checkpoint is that is asked."""
        return self.folder / BESIDE if self.row.fusion == "teacher" else self.folder

    @property
    def folder(self) -> Path:
        recipe = self._recipe(0) if self.row.base else None
        about: list[Any] = [to_dict(part) for part in (recipe.settings, recipe.training, recipe.distillation)] if recipe else []
        same = [
            self.plan.protocol,
            self.materials.collection,
            self._frames(),
            self._words() if self.row.text in self.materials.texts else None,
        ]
        about += [str(teacher.folder.relative_to(self.out)) for teacher in self._taught_by()]
        key = hashlib.sha256(json.dumps([about, same, self._names()]).encode()).hexdigest()[:8]
        name = " ".join([self.row.base or "zero-shot", *self._names(), *(f"{k}={v}" for k, v in self._changed().items())])
        slug = re.sub(r"[^a-z0-9.=+]+", "-", name.lower()).strip("-")
        return self.out / "runs" / f"{slug[:80]}-{key}" / f"seed{self.seed}"

    def _changed(self) -> dict[str, Any]:
        """The row's changes that change something: a row that spells a default out is the same run as one that does not."""
        if not self.row.base:
            return dict(self.row.changes)
        recipe = recipe_of(replace(self.row, changes={}), self.materials.collection, ())
        plain = {**to_dict(recipe.distillation), **to_dict(recipe.settings)}
        return {key: value for key, value in self.row.changes.items() if plain[key] != value}

    def _recipe(self, seed: int) -> Recipe:
        recipe = recipe_of(self.row, self.materials.collection, self.plan.changes)
        if self.row.experts and hasattr(recipe.settings, "experts"):
            shelf = open_shelf(self.materials.features)
            experts = tuple(columns(shelf.frames(name)) for name in self._frames().split("+"))
            recipe = replace(recipe, settings=replace(recipe.settings, experts=experts))
        return replace(recipe, training=replace(recipe.training, seed=recipe.training.seed + seed))

    def _teacher(self) -> Checkpoint:
        _, reads = teacher_features(self.materials.whole, self._names()[0])
        teacher = checkpoints.build("zero_shot", ZeroShotConfig(**self.row.changes), reads)
        checkpoints.save(teacher, self.folder)
        return teacher

    def _trained(self, on_progress: Progress) -> Checkpoint:
        features, reads = student_features(
            self.materials.features,
            frames=self._frames(),
            words=self._words(),
            teachers=self._names(),
        )
        kept = tuple(teacher._says(on_progress) for teacher in self._taught_by())
        return train_student(
            self.folder,
            self._recipe(self.seed),
            reads=reads,
            data=Data(self.splits.train, self.splits.dev, features, kept),
            device=self.plan.device,
            notes={"protocol": self.splits.protocol, "collection": self.materials.collection},
            on_progress=on_progress,
        )

    def _scored(self, checkpoint: Checkpoint, path: Path) -> Run:
        features = features_for(self.materials.features if self.row.base else self.materials.whole, checkpoint)
        model = checkpoints.to_device(checkpoint, self.plan.device).model
        found = evaluate_model(model, self.splits.test, features)
        protocol = self.splits.protocol
        save_run(run_of(found, self.splits.test, system=self.row.name, protocol=protocol, seed=self.seed), path)
        return load_run(path)


def reweighted(checkpoint: Checkpoint, exploration_weight: float) -> Checkpoint:
    """The same student with another beta, the weight of its second branch."""
    return with_settings(checkpoint, exploration_weight=exploration_weight)


def with_settings(checkpoint: Checkpoint, **changes: Any) -> Checkpoint:
    """The same weights with other settings, of those that no weight depends on."""
    settings = replace(checkpoint.settings, **changes)
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
    for teacher in row.taught_by:
        reason = _left_out(teacher, materials)
        if reason:
            return f"of its teacher {teacher.name!r}: {reason}"
    last = max((*row.teachers, *row.experts, *row.sentences), default=-1)
    if last >= len(materials.teachers):
        return f"it needs {last + 1} teachers, and {len(materials.teachers)} were named (--teacher NAME)"
    return ""


def _prefixed(on_progress: Progress, label: str) -> Progress:
    return lambda note, done, total: on_progress(label + note, done, total)
