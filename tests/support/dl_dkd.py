"""DL-DKD's student with the published distillation of both papers, as training puts them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from prvr.batch import Batch
from prvr.methods.contract import Terms, embed
from prvr.methods.distiller import Distiller
from prvr.methods.dl_dkd import DlDkd
from prvr.nn.distillation import Distillation
from prvr.train.presets import preset

PLAIN, PLUS = (preset(f"{name}/tvr").distillation for name in ("dl-dkd", "dl-dkd++"))
NONE = replace(PLAIN, distillation_weight=0.0)


def split_changes(changes: dict[str, Any]) -> tuple[dict[str, Any], Distillation]:
    """Changes to the student's settings, and DL-DKD++'s distillation with the other changes."""
    names = {field.name for field in fields(Distillation)}
    distillation = {name: value for name, value in changes.items() if name in names}
    return {name: value for name, value in changes.items() if name not in names}, replace(PLUS, **distillation)


def distiller_of(model: DlDkd, batch: Batch, settings: Distillation = PLUS, *, kept: int = 0) -> Distiller:
    """The distiller of a student, for the teachers of a batch."""
    columns = [teacher.queries.shape[1] for teacher in batch.teachers]
    return Distiller(settings, method="dl_dkd", student=model, teacher_columns=columns, kept=kept)


def taught(model: DlDkd, batch: Batch, epoch: int, settings: Distillation = PLUS, *, kept: Sequence[Tensor] = ()) -> Terms:
    """The terms of a batch, for a distillation without weights of its own."""
    return distiller_of(model, batch, settings, kept=len(kept)).objective(model, *embed(model, batch), epoch, kept)
