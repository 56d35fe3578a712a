"""The weight of a teacher beside a trained student, chosen on held-out captions; the student's weights stay as they are.

S = (1 - w) S_student + w S_teacher. Among steps of `STEP` we take the smallest teacher weight whose SumR is not significantly
below the best (paired bootstrap over videos, 95 %), and not the best weight: a teacher may have been trained on the captions
or the pictures that are held out here, and then looks better on them than on later ones (LOG.md, 2026-11-21;
docs/decisions/0024).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from prvr.config import to_dict
from prvr.datasets import Dataset
from prvr.errors import SettingError
from prvr.evaluate.compare import bootstrap, rank_queries
from prvr.evaluate.evaluation import evaluate_model, scores_of
from prvr.evaluate.saved_scores import SavedScores
from prvr.features import FeatureSet
from prvr.features.sources import FeatureSources, join_sources
from prvr.methods import checkpoint as checkpoints
from prvr.methods.beside_teacher import BesideTeacher, BesideTeacherConfig
from prvr.methods.calibration import fit
from prvr.methods.checkpoint import Checkpoint

STEP = 0.05
WEIGHTS = tuple(round(STEP * step, 2) for step in range(round(1 / STEP) + 1))


@dataclass(frozen=True)
class Fusion:
    """A student and its teacher as one checkpoint, the weight of the teacher in it, and SumR on dev by weight."""

    checkpoint: Checkpoint
    weight: float
    sums: dict[float, float]


def fuse(
    student: Checkpoint, student_reads: FeatureSet, teacher: Checkpoint, teacher_reads: FeatureSet, *, dev: Dataset
) -> Fusion:
    """Combines a student with a zero-shot teacher.

    Raises:
        SettingError: the student reads no words, or the teacher is not zero-shot.
        DataError: features are missing.
    """
    if student.model.reading.text != "words" or student.model.reading.label_columns or teacher.method != "zero_shot":
        raise SettingError(
            f"{student.method} and {teacher.method} cannot be combined; take a student that reads words alone, "
            "and a teacher's name"
        )
    if student.sources.subtitles is not None:
        raise SettingError(
            f"{student.method} reads subtitles, and cannot be combined with a teacher; take one without --subtitles"
        )
    both = [(student, student_reads), (teacher, teacher_reads)]
    own, teachers = (scores_of(evaluate_model(one.model, dev, features), dev, system=one.method) for one, features in both)
    weight, sums = best_weight(own, teachers)
    settings = BesideTeacherConfig(
        student.method, to_dict(student.settings), teacher.sources.frames.columns, teacher_weight=weight
    )
    sources = FeatureSources(
        *(join_sources([getattr(one.sources, side) for one in (student, teacher)]) for side in ("frames", "text"))
    )
    made = checkpoints.build("beside_teacher", settings, sources)
    assert isinstance(made.model, BesideTeacher)
    assert isinstance(student.model, nn.Module)
    made.model.student.load_state_dict(student.model.state_dict())
    made.model.eval()
    about = {**student.about, "fusion": {"weight": weight, "dev SumR": {f"{w:g}": value for w, value in sums.items()}}}
    mixed = _mix(own, teachers, weight)
    return Fusion(replace(made, about=about, calibration=fit(mixed.scores, mixed.correct, split=dev.split)), weight, sums)


def best_weight(student: SavedScores, teacher: SavedScores) -> tuple[float, dict[float, float]]:
    """The smallest teacher weight with a SumR not significantly below the best, and SumR by weight."""
    by_weight = {weight: rank_queries(_mix(student, teacher, weight), name=f"{weight:g}") for weight in WEIGHTS}
    sums = {weight: float(one.values[:, 0].mean()) for weight, one in by_weight.items()}
    best = by_weight[max(sums, key=sums.__getitem__)]
    missing = np.stack([best.values[:, 0] - one.values[:, 0] for one in by_weight.values()], axis=1)
    low, _ = bootstrap(missing, best.video)
    return next(weight for weight, least in zip(WEIGHTS, low.tolist(), strict=True) if least <= 0), sums


def _mix(student: SavedScores, teacher: SavedScores, weight: float) -> SavedScores:
    return replace(student, scores=(1 - weight) * student.scores + weight * teacher.scores)
