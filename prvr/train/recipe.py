"""A recipe: the settings of a training run, and changes to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

from prvr.config import ADDED_LATER, check_above_zero, check_not_below_zero, check_shares, override
from prvr.errors import SettingError, nearest
from prvr.features.sources import FeatureSources
from prvr.methods import BUILT_IN, distiller, open_method, register_method
from prvr.methods import checkpoint as checkpoints
from prvr.methods.contract import Model
from prvr.methods.distiller import Distiller
from prvr.nn.distillation import Distillation

Plain = Mapping[str, Any]
_NONE: Plain = MappingProxyType({})

# Changes that make a method learn from an encoder; none fits every method.
_REMEDIES = ("distillation_weight=0.1", "distillation_target=batch_matrix distillation_weight=1", "soft_targets=teacher")
# What a run is known by besides its settings (`loop._identity`).
_IN_A_RUN = ("method", "frames", "text", "train", "dev", "val", "test", "teachers", "similarities")
# An epoch's own seed (`loop._epoch_seed`) has 64 bits.
MOST_SEED = 10**12
# DL-DKD's setting was a truth value once.
_OLD_SPELLINGS = {"soft_targets=true": "soft_targets=teacher", "soft_targets=false": "soft_targets=none"}


@dataclass(frozen=True)
class Training:
    """How any method is trained.

    batch_videos: videos per batch, each with all its captions. warmup: the share of all steps in which the rate rises.
    patience: training stops after more than this number of epochs without a better SumR on the dev split.
    schedule: how the rate falls to 0 after the warm-up.
    clip_norm: the largest norm of all gradients together; None for no limit.
    ema_decay: of the exponential moving average of the weights, which is then evaluated and saved; 0 for the weights themselves.
    precision: of the encoders of queries and videos while they learn (`prvr.train.optimisation`).
    """

    lr: float = 3e-4
    epochs: int = 120
    batch_videos: int = 128
    warmup: float = 0.01
    weight_decay: float = 0.01
    patience: int = 10
    seed: int = 9527
    optimiser: Literal["bert_adam", "adamw"] = field(default="bert_adam", metadata=ADDED_LATER)
    schedule: Literal["linear", "cosine"] = field(default="linear", metadata=ADDED_LATER)
    clip_norm: float | None = field(default=None, metadata=ADDED_LATER)
    ema_decay: float = field(default=0.0, metadata=ADDED_LATER)
    precision: Literal["float32", "bfloat16", "float16"] = field(default="float32", metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        check_above_zero(self, "lr", "epochs", "batch_videos", *([] if self.clip_norm is None else ["clip_norm"]))
        check_not_below_zero(self, "weight_decay", "patience")
        check_shares(self, "warmup")
        if abs(self.seed) > MOST_SEED:
            raise SettingError(f"seed is {self.seed}; take one from {-MOST_SEED} to {MOST_SEED}")
        if not 0 <= self.ema_decay < 1:
            raise SettingError(f"ema_decay is {self.ema_decay}; it is 0 or more and below 1, such as 0.999, and 0 for no average")
        for name in ("optimiser", "schedule", "precision"):
            value, known = getattr(self, name), get_args(get_type_hints(Training)[name])
            if value not in known:
                raise SettingError(f"unknown {name} {value!r}; {nearest(str(value), known)}")


@dataclass(frozen=True)
class Recipe:
    """A method, its settings (the method's own dataclass), its training, and its distillation.

    beside_teacher: the student reads its teacher's features beside its own and is searched with the teacher beside it
        (`prvr fuse`).
    """

    method: str
    settings: Any
    training: Training
    distillation: Distillation = field(default_factory=Distillation)
    beside_teacher: bool = False

    @property
    def uses_teacher(self) -> bool:
        """Whether a teacher changes what the student learns."""
        return distiller.uses_teacher(self.distillation, self.method, self.settings)


class Preset(NamedTuple):
    """A recipe as data: the settings of its method, its training and its distillation that differ from the defaults.

    adapted: changes, each for whichever of the three has a setting of that name.
    """

    method: str
    settings: Plain = _NONE
    training: Plain = _NONE
    distillation: Plain = _NONE
    beside_teacher: bool = False
    adapted: Plain = _NONE

    def recipe(self) -> Recipe:
        """The recipe; imports its method."""
        distillation = Distillation(**self.distillation)
        return Recipe(
            self.method,
            _adapt(open_method(self.method).config(**self.settings), self.adapted),
            _adapt(Training(**self.training), self.adapted),
            _adapt(distillation, self.adapted) if self.distillation else distillation,
            self.beside_teacher,
        )


def change(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """A recipe with `key=value` changes to its settings, its training or its distillation.

    Raises:
        SettingError: as `config.override`.
    """
    assignments = [_OLD_SPELLINGS.get(assignment.lower(), assignment) for assignment in assignments]
    settings, training, distillation = override([recipe.settings, recipe.training, recipe.distillation], assignments)
    return replace(recipe, settings=settings, training=training, distillation=distillation)


def with_method(recipe: Recipe, method: str | type) -> Recipe:
    """The training of a recipe, for another method with its default settings; the recipe itself if it is of that method.

    Args:
        method: as `register_method` takes it.

    Raises:
        SettingError: there is no such method, or its settings have names that training or distillation has.
        ModelError: it cannot be imported, or lacks a part of the contract.
    """
    name = register_method(method)
    if name == recipe.method:
        return recipe
    made = Recipe(name, open_method(name).config(), recipe.training)
    if name not in BUILT_IN:
        _check_names(made)
    return made


def plugin_preset(method: str, changes: Plain) -> Preset:
    """A preset that an external method brings.

    Args:
        changes: to its settings, its training or its distillation, by name.

    Raises:
        SettingError: a name is unknown, or is that of two of the three.
    """
    plain = Recipe(method, open_method(method).config(), Training())
    _check_names(plain)
    parts = (plain.settings, plain.training, plain.distillation)
    known = {name for part in parts for name in vars(part)}
    for name in changes:
        if name not in known:
            raise SettingError(f"{method} has a preset with an unknown setting {name!r}; {nearest(name, known)}")
    settings, training, distillation = ({name: value for name, value in changes.items() if name in vars(part)} for part in parts)
    return Preset(method, settings, training, distillation)


def check_uses_teacher(recipe: Recipe, sources: FeatureSources) -> None:
    """Checks that a recipe uses the teacher that was named.

    Raises:
        SettingError: it does not; the text lists changes with which this method would.
    """
    if recipe.uses_teacher:
        return
    student = checkpoints.build(recipe.method, recipe.settings, sources).model
    remedies = [f"set {remedy}" for remedy in _REMEDIES if _helps(remedy, recipe, student)]
    remedy = ", or ".join([*remedies, "leave out --teacher"])
    raise SettingError(f"{recipe.method} with these settings learns nothing from a teacher, and one was named; {remedy}")


def _check_names(recipe: Recipe) -> None:
    """Checks that no setting of an external method has the name of something else in the history of a run."""
    taken = {*vars(recipe.training), *vars(recipe.distillation), *_IN_A_RUN}
    if same := sorted(taken & vars(recipe.settings).keys()):
        raise SettingError(
            f"the Config of {recipe.method} has {', '.join(same)}, which every run has by itself; name it otherwise"
        )


def _adapt(settings: Any, changes: Plain) -> Any:
    """The settings, with the changes that they have a name for and that are not None."""
    there = {name for name, value in vars(settings).items() if value is not None}
    return replace(settings, **{name: value for name, value in changes.items() if name in there})


def _helps(remedy: str, recipe: Recipe, student: Model) -> bool:
    changed = change(recipe, remedy.split())
    try:
        Distiller(changed.distillation, method=recipe.method, student=student, teacher_columns=[1])
    except SettingError:
        return False
    return changed.uses_teacher
