"""Captions that describe their own video poorly, found by teachers and left out of training (TeachText).

A caption is kept if the rank of its own video in the train gallery is below `below`. The ranks are out of fold: a teacher that
has learned a caption ranks it too well, so each part of the videos is ranked by a teacher that was trained on the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prvr.datasets import Dataset
from prvr.errors import DataError, SettingError
from prvr.train.loop import Data, Recipe, train_student
from prvr.train.similarities import Similarities, similarities

Combine = Literal["mean", "median", "any", "all"]
# How the ranks of several teachers are combined. How TeachText does it is not published.
COMBINED: Mapping[Combine, Callable[[Sequence[int]], Any]] = {"mean": np.mean, "median": np.median, "any": np.min, "all": np.max}


def out_of_fold_ranks(out: Path, recipe: Recipe, *, data: Data, folds: int = 5, device: str = "cpu") -> dict[str, int]:
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
        teacher = train_student(out / f"fold{fold}", recipe, data=replace(data, train=outside), device=device)
        ranks |= _ranks(similarities(teacher, inside, data.features), inside)
    return ranks


def denoise(dataset: Dataset, ranks: Sequence[Mapping[str, int]], *, below: int, combine: Combine = "mean") -> Dataset:
    """The split with only the captions of a combined rank below a threshold; its videos stay in the gallery.

    Args:
        ranks: for each teacher the ranks by caption id.
        combine: the rank that must be below: the mean, the median, that of any teacher or that of all.

    Raises:
        DataError: a caption has no rank, or none is left.
    """
    for caption in dataset.captions:
        if not ranks or any(caption.id not in its for its in ranks):
            raise DataError(f"caption {caption.id!r} has no rank by every teacher; rank the split that is denoised")
    kept = tuple(c for c in dataset.captions if COMBINED[combine]([its[c.id] for its in ranks]) < below)
    if not kept:
        raise DataError(f"no caption of {len(dataset.captions)} ranks its own video below {below}; take a higher threshold")
    return replace(dataset, captions=kept)


def _ranks(teacher: Similarities, dataset: Dataset) -> dict[str, int]:
    ranks = {}
    for caption in dataset.captions:
        row = teacher.scores[teacher.rows[caption.id]]
        # Videos with an equal score rank before it: the teacher does not tell them apart.
        ranks[caption.id] = int((row >= row[teacher.columns[caption.video]]).sum())
    return ranks
