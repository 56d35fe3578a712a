"""Captions that describe their own video poorly, found by teachers and left out of training (TeachText).

A caption is kept if the rank of its own video in the train gallery is below `below`. The ranks are out of fold: a teacher that
has learned a caption ranks it too well, so each part of the videos is ranked by a teacher that was trained on the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from prvr.datasets import Dataset
from prvr.errors import DataError, SettingError, nearest
from prvr.files import write_json
from prvr.train.experiment import Experiment, open_data, with_label
from prvr.train.loop import Data, Progress, Recipe, train_student
from prvr.train.similarities import Similarities, similarities

CAPTIONS = "captions.json"
# How the ranks of several teachers are combined. How TeachText does it is not published.
COMBINED: Mapping[str, Callable[[Sequence[int]], Any]] = {"mean": np.mean, "median": np.median, "any": np.min, "all": np.max}


def out_of_fold_ranks(
    out: Path, recipe: Recipe, *, data: Data, folds: int = 5, device: str = "cpu", on_progress: Progress | None = None
) -> dict[str, int]:
    """The rank of each caption's own video among all train videos, 1 the best, by a teacher that was trained on neither.

    The teachers' runs are kept in OUT/fold0, OUT/fold1, ... and continue if they were interrupted; all choose their epochs on
    `data.dev`.

    Raises:
        SettingError: fewer than two folds, or more than there are videos.
    """
    videos = sorted({caption.video for caption in data.train.captions})
    if not 2 <= folds <= len(videos):
        raise SettingError(f"folds is {folds}; take from 2 to the {len(videos)} videos that have captions")
    random.Random(recipe.training.seed).shuffle(videos)
    fold_of = {video: place % folds for place, video in enumerate(videos)}
    ranks: dict[str, int] = {}
    for fold in range(folds):
        inside, outside = (
            replace(data.train, captions=tuple(c for c in data.train.captions if (fold_of[c.video] == fold) is held))
            for held in (True, False)
        )
        report = with_label(on_progress, f"part {fold + 1}/{folds}: ")
        teacher = train_student(out / f"fold{fold}", recipe, data=replace(data, train=outside), device=device, on_progress=report)
        ranks |= _ranks(similarities(teacher, inside, data.features), inside)
    return ranks


def denoise(dataset: Dataset, ranks: Sequence[Mapping[str, int]], *, below: int, combine: str = "mean") -> Dataset:
    """The split with only the captions of a combined rank below a threshold; its videos stay in the gallery.

    Args:
        ranks: for each teacher the ranks by caption id.
        combine: the rank that must be below: the mean, the median, that of any teacher or that of all.

    Raises:
        DataError: a caption has no rank, or none is left. SettingError: there is no such way to combine.
    """
    for caption in dataset.captions:
        if not ranks or any(caption.id not in its for its in ranks):
            raise DataError(f"caption {caption.id!r} has no rank by every teacher; rank the split that is denoised")
    kept = tuple(c for c in dataset.captions if _combiner(combine)([its[c.id] for its in ranks]) < below)
    if not kept:
        raise DataError(f"no caption of {len(dataset.captions)} ranks its own video below {below}; take a higher threshold")
    return replace(dataset, captions=kept)


def denoise_captions(
    out: Path,
    teachers: Sequence[Experiment],
    *,
    below: int,
    combine: str = "mean",
    folds: int = 5,
    on_progress: Progress | None = None,
) -> tuple[int, int]:
    """Writes the ids of the training captions that teachers find, OUT/captions.json, and returns their number and that of all.

    Args:
        out: also has the runs, OUT/teacher0/fold0 and so on; what is trained already is not trained again.
        teachers: what each of them is trained with.

    Raises:
        SettingError, DataError, ModelError: as `open_data`, `out_of_fold_ranks` and `denoise`.
    """
    _combiner(combine)
    opened = [open_data(teacher) for teacher in teachers]
    ranks = []
    for place, (teacher, its) in enumerate(zip(teachers, opened, strict=True)):
        report = with_label(on_progress, f"teacher {place + 1}/{len(teachers)}, ")
        folder = out / f"teacher{place}"
        ranks.append(
            out_of_fold_ranks(folder, teacher.recipe(), data=its.data, folds=folds, device=teacher.device, on_progress=report)
        )
    train = opened[0].data.train
    kept = denoise(train, ranks, below=below, combine=combine)
    write_json(out / CAPTIONS, [caption.id for caption in kept.captions])
    return len(kept.captions), len(train.captions)


def _combiner(name: str) -> Callable[[Sequence[int]], Any]:
    if name not in COMBINED:
        raise SettingError(f"ranks are not combined by {name!r}; {nearest(name, COMBINED)}")
    return COMBINED[name]


def _ranks(teacher: Similarities, dataset: Dataset) -> dict[str, int]:
    ranks = {}
    for caption in dataset.captions:
        row = teacher.scores[teacher.rows[caption.id]]
        # Videos with an equal score rank before it: the teacher does not tell them apart.
        ranks[caption.id] = int((row >= row[teacher.columns[caption.video]]).sum())
    return ranks
