"""A recipe: all that is set about a training run, and how a user changes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from prvr.config import check_above_zero, override
from prvr.errors import SettingError
from prvr.features.sources import FeatureSources
from prvr.methods import METHODS
from prvr.methods import checkpoint as checkpoints
from prvr.methods.contract import Model
from prvr.methods.taught import Guidance, own_settings
from prvr.nn.distillation import Distillation

# What makes a method learn from a teacher that is an encoder; none serves every method.
_WAYS = (
    "distillation_weight=0.1",
    "distillation_target=batch_matrix distillation_weight=1",
    "soft_targets=teacher",
    "soft_targets=true",
)


@dataclass(frozen=True)
class Training:
    """How to train, whatever the method.

    batch_videos: videos a batch, each with all its captions. warmup: share of all steps in which the rate rises.
    patience: training stops after more than so many epochs without a better SumR on the dev split.
    """

    lr: float = 3e-4
    epochs: int = 120
    batch_videos: int = 128
    warmup: float = 0.01
    weight_decay: float = 0.01
    patience: int = 10
    seed: int = 9527

    def __post_init__(self) -> None:
        check_above_zero(self, "lr", "epochs", "batch_videos")


@dataclass(frozen=True)
class Recipe:
    """A method, its settings (the method's own dataclass), how to train it, and what teachers tell it beside its objective.

    distillation: None for a method that distils by settings of its own, and where nothing is distilled.
    beside_teacher: made for a student that reads its teacher's features beside its own and is asked with the teacher beside it
        (`prvr fuse`).
    """

    method: str
    settings: Any
    training: Training
    distillation: Distillation | None = None
    beside_teacher: bool = False


def changed(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """A recipe with `key=value` changes to its settings, its training or its distillation.

    Raises:
        SettingError: as `config.override`.
    """
    parts = [recipe.settings, recipe.training]
    if METHODS[recipe.method].objective is not None and not own_settings(recipe.method):
        parts.append(recipe.distillation or Distillation())
    settings, training, *others = override(parts, assignments)
    told = others[0] if others and others[0] != Distillation() else None
    return replace(recipe, settings=settings, training=training, distillation=told)


def heeds_teachers(recipe: Recipe) -> bool:
    """Whether a teacher changes anything: the method's settings, or the distillation beside them, learn from one."""
    told = recipe.distillation
    beside = told is not None and (told.compares or told.soft_targets == "teacher")
    return beside or METHODS[recipe.method].distils(recipe.settings)


def check_heeded(recipe: Recipe, sources: FeatureSources) -> None:
    """Sees that a teacher that was named is learned from.

    Raises:
        SettingError: it is not; the text says which settings would do it with this method.
    """
    if heeds_teachers(recipe):
        return
    student = checkpoints.build(recipe.method, recipe.settings, sources).model
    ways = [f"set {way}" for way in _WAYS if _serves(way, recipe, student)]
    remedy = ", or ".join([*ways, "leave out --teacher"])
    raise SettingError(f"{recipe.method} with these settings learns nothing from a teacher, and one was named; {remedy}")


def fitted(recipe: Recipe, teacher_columns: Sequence[int]) -> Recipe:
    """The recipe with its teachers' widths, where its method needs them and they were left out.

    Args:
        teacher_columns: a number for each teacher; 0 for a trained model, which has no features.

    Raises:
        SettingError: widths were set, and not for so many teachers.
    """
    if not own_settings(recipe.method) or not recipe.settings.needs_teacher_columns:
        return recipe
    given = recipe.settings.teacher_columns
    if given and len(given) != len(teacher_columns):
        raise SettingError(
            f"teacher_columns has {len(given)} numbers, and there are {len(teacher_columns)} teachers; leave teacher_columns out"
        )
    return replace(recipe, settings=replace(recipe.settings, teacher_columns=given or tuple(teacher_columns)))


def _serves(way: str, recipe: Recipe, student: Model) -> bool:
    try:
        tried = changed(recipe, way.split())
        if tried.distillation is not None:
            Guidance(tried.distillation, method=recipe.method, student=student, teacher_columns=[1])
    except SettingError:
        return False
    return heeds_teachers(tried)
