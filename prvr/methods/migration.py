"""Checkpoints and runs that older versions wrote, converted to the settings of this version.

Then, DL-DKD's settings held those of its distillation and its weights those of the distiller, and a student beside its teacher
held the student's settings as JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The settings that DL-DKD had besides those of today, with their defaults.
_DL_DKD: dict[str, Any] = {
    "distillation_weight": 0.1,
    "distillation_offset": 0.0,
    "distillation_decay": "exponential",
    "distillation_temperature": 0.2,
    "distillation_target": "frame_profile",
    "distillation_loss": "kl",
    "distillation_aggregate": "each",
    "teacher_columns": [],
    "soft_targets": True,
    "soft_target_epochs": 120,
    "hard_fraction": 0.8,
    "hard_fraction_decay": "sigmoid",
    "mixing": 0.8,
    "mixing_decay": "sigmoid",
    "hard_part": "first",
    "detach_self_targets": False,
    "teacher_temperature": 1.0,
}
_DISTILLERS = ("feature_maps.", "teacher_shares.")


@dataclass(frozen=True)
class Former:
    """Settings of an older version.

    settings: as this version has them. distillation: the settings of distillation that were among them.
    replaced: what was stored in their place; the older version's fingerprint of a model depends on it.
    """

    settings: dict[str, Any]
    distillation: dict[str, Any]
    replaced: dict[str, Any]


def convert_settings(method: str, stored: Mapping[str, Any]) -> Former | None:
    """The settings that an older version stored, converted; None if this version stored them."""
    if method == "dl_dkd" and stored.keys() & _DL_DKD.keys():
        replaced = {name: stored.get(name, default) for name, default in _DL_DKD.items()}
        distillation = {name: value for name, value in replaced.items() if name != "teacher_columns"}
        distillation["soft_targets"] = "teacher" if replaced["soft_targets"] else "none"
        return Former({name: stored[name] for name in stored if name not in _DL_DKD}, distillation, replaced)
    if method == "beside_teacher" and isinstance(text := stored["student_settings"], str):
        settings = json.loads(text)
        student = convert_settings(stored["student"], settings) or Former(settings, {}, {})
        replaced = {"student_settings": text}
        return Former({**stored, "student_settings": student.settings}, student.distillation, replaced)
    return None


def student_weights(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of an older version without those of its distiller."""
    return {name: value for name, value in weights.items() if not name.removeprefix("student.").startswith(_DISTILLERS)}
