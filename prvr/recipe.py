"""A recipe: all that is set about a training run, and how a user changes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prvr import checks
from prvr.config import override
from prvr.distillation import Distillation
from prvr.methods import METHODS
from prvr.methods.taught import own_settings


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
        checks.above_zero(self, "lr", "epochs", "batch_videos")


@dataclass(frozen=True)
class Recipe:
    """A method, its settings (the method's own dataclass), how to train it, and what teachers tell it beside its objective.

    distillation: None for a method that distils by settings of its own, and where nothing is distilled.
    """

    method: str
    settings: Any
    training: Training
    distillation: Distillation | None = None


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
    return Recipe(recipe.method, settings, training, told)
