"""Settings for data that no paper knows, made from each method's for the toy world.

NAME           for a folder of one's own, where the method has none chosen for it
NAME/montage   for real photographs and captions strung into videos: 760 to learn from and 250 to test with, 60 frames and 16
               captions a video. All methods are alike in size and training there, so that they differ in nothing else; how
               long and in how small batches: LOG.md, 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prvr.config import to_dict
from prvr.train.loop import Recipe

MONTAGE_EPOCHS = 8
# Of these settings a method takes the ones that it has. Nearly all videos and sentences of the montage are shorter; negatives
# are never the hardest there, as on Charades.
MONTAGE: dict[str, Any] = {
    "max_frames": 96,
    "max_words": 24,
    "hard_from_epoch": MONTAGE_EPOCHS,
    "soft_target_epochs": MONTAGE_EPOCHS,
    "epochs": MONTAGE_EPOCHS,
    "patience": MONTAGE_EPOCHS,
    "batch_videos": 8,
}
# The best of them may take what it needs.
BEST: dict[str, Any] = {**MONTAGE, "hidden": 128, "epochs": 16, "patience": 16, "soft_target_epochs": 16}
OWN: dict[str, Any] = {"max_frames": 128, "max_words": 30, "patience": 20}
TOY = "/toy"


def derived(presets: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """NAME/montage for each NAME/toy, and NAME where it is missing."""
    made = {}
    for name in (name.removesuffix(TOY) for name in presets if name.endswith(TOY)):
        made[f"{name}/montage"] = _with(presets[name + TOY], BEST if name == "prvr-best" else MONTAGE)
        if name not in presets:
            made[name] = _with(presets[name + TOY], OWN)
    return made


def _with(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    return replace(
        recipe,
        settings=_changed(recipe.settings, changes),
        training=_changed(recipe.training, changes),
        distillation=None if recipe.distillation is None else _changed(recipe.distillation, changes),
    )


def _changed(settings: Any, changes: Mapping[str, Any]) -> Any:
    there = to_dict(settings)
    return replace(settings, **{name: value for name, value in changes.items() if there.get(name) is not None})
