"""Batches as small and as alike as they can be: every loss and every gradient is a number there, for every method that learns.

With the losses that any student can have beside its own, and all that a teacher can say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from method_checks import build
from tiny_students import STUDENTS
from toy_world import TEACHER, toy_world

from prvr.batch import Batch, collate, video_item
from prvr.methods.contract import embed
from prvr.methods.distiller import Distiller
from prvr.methods.dreamprvr import DreamPrvrConfig
from prvr.methods.holmes import HolmesConfig, HolmesDualConfig
from prvr.methods.ms_sl import MsSlConfig
from prvr.methods.msc import MscConfig
from prvr.nn.distillation import Distillation
from prvr.train.loop import Data

SIZES: dict[str, Any] = {"hidden": 8, "heads": 2, "max_frames": 20, "clips": 4}
LEADERS: dict[str, Any] = {
    "holmes": HolmesConfig(**SIZES),
    "holmes_dual": HolmesDualConfig(**SIZES),
    "dreamprvr": DreamPrvrConfig(**SIZES, registers=2),
    "msc": MscConfig(**SIZES | {"max_frames": 16, "clips": 6}, merging=(10, 6), further_merging=(4, 3)),
    "ms_sl, assigned clips": MsSlConfig(**SIZES, own_clip="assigned", alignment_weight=1.0),
}
ADDED = Distillation(
    distillation_weight=0.1, query_relations_weight=1.0, neg_nce_weight=0.1, query_diversity_weight=0.1, clip_matching_weight=0.1
)
# A late epoch: negatives are hard, targets are soft, captions are assigned and transported.
LATE = 60


@cache
def world() -> Data:
    return toy_world(videos=12)


def first_rows(rows: Mapping[str, np.ndarray], count: int | None) -> dict[str, np.ndarray]:
    return {id: its[:count] for id, its in rows.items()}


def equal(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    first = next(iter(rows.values()))
    return dict.fromkeys(rows, first)


def batch_of(reading: Any, case: str) -> Batch:
    features = world().features
    (teacher,) = features.teachers
    if case == "equal":
        alike = replace(teacher, frames=equal(teacher.frames), sentences=equal(teacher.sentences))
        features = replace(features, frames=equal(features.frames), text=equal(features.text), teachers=(alike,))
    if "one row" in case:
        seen = replace(teacher, frames=first_rows(teacher.frames, 1))
        features = replace(features, frames=first_rows(features.frames, 1), text=first_rows(features.text, 1), teachers=(seen,))
    captions: dict[str, list[str]] = {}
    for caption in world().train.captions:
        captions.setdefault(caption.video, []).append(caption.id)
    videos = list(captions)[:1] if case.startswith("one caption") else list(captions)[:4]
    most = 1 if "caption" in case else None
    made = collate([video_item(video, captions[video][:most], features, reading) for video in videos])
    if case != "a video without":
        return made
    kept = made.target < len(videos) - 1
    views = tuple(view._replace(queries=view.queries[kept]) for view in made.teachers)
    return made._replace(
        words=made.words[kept], word_mask=made.word_mask[kept], target=made.target[kept], teachers=views, word_places=None
    )


@pytest.mark.parametrize("case", ["one caption, one row", "captions of one row each", "one row", "equal", "a video without"])
@pytest.mark.parametrize("name", [*STUDENTS, *LEADERS])
def test_losses_and_gradients_are_numbers(name: str, case: str) -> None:
    method = name.partition(",")[0]
    model = build(method, {**STUDENTS, **LEADERS}[name]).train()
    batch = batch_of(model.reading, case)
    settings = ADDED
    if method in ("dual_encoding", "collaborative_experts"):  # no rows that a frame or a clip is compared by
        settings = replace(ADDED, clip_matching_weight=0.0, distillation_target="batch_matrix")
    else:
        settings = replace(ADDED, degraded_weight=0.1)
    distiller = Distiller(settings, method=method, student=model, teacher_columns=[TEACHER])
    terms = distiller.objective(model, *embed(model, batch), LATE)
    assert {term: value.item() for term, value in terms.items() if not value.isfinite()} == {}
    torch.stack(list(terms.values())).sum().backward()
    assert [key for key, one in model.named_parameters() if one.grad is not None and not one.grad.isfinite().all()] == []
