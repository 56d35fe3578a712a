"""One row of a table with one seed: its settings, its folder, and its scores on the test split, which are computed once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from prvr.config import settings_to_compare, to_dict
from prvr.datasets.splits import Splits
from prvr.evaluate.evaluation import evaluate_model, origin_of, scores_of, untrained_of
from prvr.evaluate.rescoring import choose_rescoring
from prvr.evaluate.saved_scores import SavedScores, load_scores, save_scores
from prvr.features import columns
from prvr.features.shelf import open_shelf, student_features, teacher_features
from prvr.index.rescoring import rescoring_of, with_rescoring
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint, features_for, with_settings
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.nn.hybrid import published_fusion
from prvr.papers.plan import Materials, Plan, split_seed
from prvr.papers.tables import Row
from prvr.train.experiment import Experiment, recipe_text
from prvr.train.fusion import fuse
from prvr.train.loop import Data, Recipe, train_student
from prvr.train.presets import PRESETS, preset
from prvr.train.recipe import change
from prvr.train.run_state import BRANCH_SCORES, TEST_SCORES
from prvr.train.similarities import Similarities, teacher_similarities

Progress = Callable[[str, int, int], None]
BESIDE_TEACHER, RESCORED, TRAIN_SCORES = "beside-teacher", "re-scored", "says"
LATENT_SCORES, CONCEPT_SCORES, FUSED_SCORES = "test-latent.npz", "test-concepts.npz", "test-fused.npz"


def recipe_of(row: Row, collection: str, changes: Sequence[str]) -> Recipe:
    """Returns the settings of a row on a data set: its preset, that of the data set if there is one, with its changes."""
    start = preset(_preset_name(row, collection), method=row.method or None)
    settings = {name: value for name, value in row.changes.items() if name in to_dict(start.settings)}
    distilled = {name: value for name, value in row.changes.items() if name not in settings}
    distillation = replace(start.distillation, **distilled)
    return change(replace(start, settings=replace(start.settings, **settings), distillation=distillation), changes)


def _preset_name(row: Row, collection: str) -> str:
    name = f"{row.base}/{collection}"
    return name if name in PRESETS else row.base


@dataclass(frozen=True)
class RowRun:
    """One row with one seed; all of it that is on disk already is read and not computed again."""

    row: Row
    out: Path
    materials: Materials
    plan: Plan
    splits: Splits
    seed: int

    @property
    def folder(self) -> Path:
        """The folder of the training run: OUT/runs/<row>-<hash of all that decides the result>/seed<n>."""
        recipe = self._recipe(0) if self.row.base else None
        about: list[Any] = []
        if recipe:
            # Settings of training that were added later and have their default do not change the name of an older run.
            about = [to_dict(recipe.settings), settings_to_compare(recipe.training), to_dict(recipe.distillation)]
        materials = [
            self.plan.protocol,
            self.materials.collection,
            self._frames(),
            self._words() if self.row.text in self.materials.texts else None,
        ]
        about += [self.row.method] if self.row.method else []
        about += [str(teacher.folder.relative_to(self.out)) for teacher in self._teacher_runs()]
        key = hashlib.sha256(json.dumps([about, materials, self._teacher_names()]).encode()).hexdigest()[:8]
        changes = [f"{name}={value}" for name, value in self._effective_changes().items()]
        name = " ".join([self.row.method or self.row.base or "zero-shot", *self._teacher_names(), *changes])
        slug = re.sub(r"[^a-z0-9.=+]+", "-", name.lower()).strip("-")
        return self.out / "runs" / f"{slug[:80]}-{key}" / f"seed{self.seed}"

    @property
    def model(self) -> Path:
        """The folder of the checkpoint that is tested."""
        return self.folder / {"teacher": BESIDE_TEACHER, "anchors": RESCORED}.get(self.row.fusion, "")

    def score(self, on_progress: Progress) -> SavedScores:
        """Returns the scores on the test split; trains the model first if it is not there."""
        path = self.folder / FUSED_SCORES if self.row.fusion == "test_matrix" else self.model / TEST_SCORES
        # An older prvr saved no checkpoint of a teacher alone.
        if path.is_file() and (self.model / checkpoints.CONFIG).is_file():
            return load_scores(path)
        checkpoint = self._train(on_progress) if self.row.base else self._build_teacher()
        if self.row.fusion == "test_matrix":
            return self._fuse_matrices(checkpoint, path)
        if self.row.fusion == "anchors":
            checkpoint = self._rescore(checkpoint)
        return self._score(self._add_teacher(checkpoint) if self.row.fusion == "teacher" else checkpoint, path)

    def score_branches(self) -> tuple[SavedScores, SavedScores]:
        """Returns the scores of the first branch alone and of the second branch alone."""
        first, second = (self.folder / name for name in BRANCH_SCORES)
        if not (first.is_file() and second.is_file()):
            trained = checkpoints.load(self.folder)
            for path, weight in ((first, 0.0), (second, 1.0)):
                self._score(with_settings(trained, exploration_weight=weight), path)
        return load_scores(first), load_scores(second)

    def _train(self, on_progress: Progress) -> Checkpoint:
        features = student_features(
            self.materials.features, frames=self._frames(), words=self._words(), teachers=self._teacher_names()
        )
        similarities = tuple(teacher._score_train_split(on_progress) for teacher in self._teacher_runs())
        recipe = self._recipe(self.seed)
        return train_student(
            self.folder,
            recipe,
            data=Data(self.splits.train, self.splits.dev, features, similarities),
            device=self.plan.device,
            notes={"protocol": self.splits.protocol, "collection": self.materials.collection, "teachers": self._teacher_names()},
            recipe_file=recipe_text(self._experiment(recipe)),
            on_progress=on_progress,
        )

    def _experiment(self, recipe: Recipe) -> Experiment:
        """What `prvr train` takes for the same training."""
        return Experiment(
            data=str(self.materials.data),
            features=str(self.materials.features),
            out=str(self.folder),
            frames=self._frames(),
            words=self._words(),
            teacher=tuple(self._teacher_names()),
            teacher_run=tuple(str(teacher.folder) for teacher in self._teacher_runs()),
            preset=_preset_name(self.row, self.materials.collection),
            method=self.row.method,
            split_seed=split_seed(self.materials.data, self.seed),
            protocol=self.plan.protocol,
            device=self.plan.device,
        ).with_recipe(recipe)

    def _build_teacher(self) -> Checkpoint:
        sources = teacher_features(self.materials.whole, self._teacher_names()[0]).sources
        teacher = checkpoints.build("zero_shot", ZeroShotConfig(**self.row.changes), sources)
        checkpoints.save(teacher, self.folder)
        return teacher

    def _add_teacher(self, student: Checkpoint) -> Checkpoint:
        """The student beside its first teacher; the weight of the two is chosen on the dev split."""
        features = teacher_features(self.materials.features, self._teacher_names()[0])
        teacher = checkpoints.build("zero_shot", ZeroShotConfig(), features.sources)
        fused = fuse(student, features_for(self.materials.features, student), teacher, features, dev=self.splits.dev)
        checkpoints.save(fused.checkpoint, self.model)
        return fused.checkpoint

    def _rescore(self, student: Checkpoint) -> Checkpoint:
        """The student with the re-scoring by anchors that is best on the dev split."""
        features = features_for(self.materials.features, student)
        choice = choose_rescoring(student, self.splits.dev, features, device=self.plan.device)
        rescored = with_rescoring(student, choice.rescoring)
        checkpoints.save(rescored, self.model)
        return rescored

    def _score(self, checkpoint: Checkpoint, path: Path) -> SavedScores:
        features = features_for(self.materials.features if self.row.base else self.materials.whole, checkpoint)
        model = checkpoints.to_device(checkpoint, self.plan.device).model
        rescoring = rescoring_of(checkpoint) if self.row.fusion == "anchors" else None
        evaluation = evaluate_model(model, self.splits.test, features, rescoring=rescoring)
        saved = scores_of(
            evaluation,
            self.splits.test,
            system=self.row.name,
            protocol=self.splits.protocol,
            seed=self.seed,
            untrained=untrained_of(checkpoint),
            origin=origin_of(checkpoint, self.materials.collection),
        )
        save_scores(saved, path)
        return load_scores(path)

    def _fuse_matrices(self, trained: Checkpoint, path: Path) -> SavedScores:
        """Scores of a hybrid space as DE++ publishes it: its two matrices are normalised over the whole test split."""
        latent, concept = (
            self._score(with_settings(trained, fusion="raw", latent_weight=weight), self.folder / name)
            for name, weight in ((LATENT_SCORES, 1.0), (CONCEPT_SCORES, 0.0))
        )
        matrices = (torch.from_numpy(run.scores).float() for run in (latent, concept))
        scores = published_fusion(*matrices, latent_weight=trained.settings.latent_weight)
        save_scores(replace(latent, scores=scores.numpy()), path)
        return load_scores(path)

    def _score_train_split(self, on_progress: Progress) -> Similarities:
        """The row's scores on the train split, from which another row learns; trains the row first."""
        teacher = self._train(on_progress)
        (similarities,) = teacher_similarities(
            self.materials.features, [teacher], self.splits.train, out=self.folder / TRAIN_SCORES
        )
        return similarities

    def _recipe(self, seed: int) -> Recipe:
        recipe = recipe_of(self.row, self.materials.collection, self.plan.changes)
        if "experts" in vars(recipe.settings):
            shelf = open_shelf(self.materials.features)
            experts = tuple(columns(shelf.frames(name)) for name in self._frames().split("+"))
            if experts != recipe.settings.experts:
                # Features other than those of the published experts: each expert is read by its mean, if there are several.
                own = {"experts": experts if len(experts) > 1 else (), "expert_clusters": (), "expert_tokens": ()}
                recipe = replace(recipe, settings=replace(recipe.settings, **own))
        return replace(recipe, training=replace(recipe.training, seed=recipe.training.seed + seed))

    def _effective_changes(self) -> dict[str, Any]:
        """The row's changes without those to a default: a row that names a default is the same run as one that does not."""
        if not self.row.base:
            return dict(self.row.changes)
        recipe = recipe_of(replace(self.row, changes={}), self.materials.collection, ())
        defaults = {**to_dict(recipe.distillation), **to_dict(recipe.settings)}
        return {key: value for key, value in self.row.changes.items() if defaults[key] != value}

    def _teacher_runs(self) -> list[RowRun]:
        return [replace(self, row=row) for row in self.row.taught_by]

    def _teacher_names(self) -> list[str]:
        return [self.materials.teachers[place] for place in self.row.teachers]

    def _frames(self) -> str:
        return "+".join([self.materials.frames, *(self.materials.teachers[place] for place in self.row.experts)])

    def _words(self) -> str:
        return "+".join([self.materials.texts[self.row.text], *(self.materials.teachers[place] for place in self.row.sentences)])
