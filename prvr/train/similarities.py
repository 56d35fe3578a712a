"""The scores of a split by a trained model, kept for its students: every caption with every video.

A folder: `scores.npy`, (Q, V) in float16 and memory-mapped, and `about.json` with the ids and the model's fingerprint. A teacher
whose scores are kept may read other features than its student, and is not needed while the student learns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from prvr.batch import check_widths
from prvr.datasets import Dataset
from prvr.errors import DataError, one_line
from prvr.evaluate.evaluation import encode_captions
from prvr.evaluate.saved_scores import BROKEN
from prvr.features import FeatureSet, check
from prvr.files import whole_file, write_json
from prvr.index.encode import add_videos
from prvr.index.exact import ExactIndex
from prvr.methods.checkpoint import Checkpoint, features_for

SCORES, ABOUT = "scores.npy", "about.json"
CAPTIONS_AT_ONCE = 1024


@dataclass(frozen=True)
class Similarities:
    """Scores (Q, V), and the rows of captions and the columns of videos by id; `about` names the model that computed them."""

    scores: Float[np.ndarray, "Q V"]
    rows: Mapping[str, int]
    columns: Mapping[str, int]
    about: Mapping[str, Any]

    def between(self, captions: Sequence[str], videos: Sequence[str]) -> Float[Tensor, "Q V"]:
        """The scores of some captions with some videos.

        Raises:
            DataError: one of them is not among those that were scored.
        """
        for what, ids, known in (("caption", captions, self.rows), ("video", videos, self.columns)):
            missing = next((id for id in ids if id not in known), None)
            if missing is not None:
                raise DataError(f"the teacher has no scores of {what} {missing!r}; make its similarities again, on this split")
        rows, columns = [self.rows[id] for id in captions], [self.columns[id] for id in videos]
        return torch.from_numpy(self.scores[rows][:, columns].astype(np.float32))


def keep_similarities(path: Path, checkpoint: Checkpoint, dataset: Dataset, features: FeatureSet) -> Similarities:
    """The similarities of a split by a model, read from `path` if they are that model's, else computed and written there.

    Raises:
        DataError: features are missing, or are not those that the model reads.
    """
    captions = [caption.id for caption in dataset.captions]
    wanted = {
        "model": checkpoint.fingerprint,
        "split": f"{dataset.name}/{dataset.split}",
        "captions": captions,
        "videos": list(dataset.video_ids),
    }
    if not _holds(path / ABOUT, wanted):
        scores = similarities(checkpoint, dataset, features).scores.astype(np.float16)
        (path / ABOUT).unlink(missing_ok=True)
        with whole_file(path / SCORES) as file:
            np.save(file, scores, allow_pickle=False)
        # Last: a folder with this file is complete.
        write_json(path / ABOUT, wanted)
    return open_similarities(path)


def open_similarities(path: Path) -> Similarities:
    """The similarities that `keep_similarities` wrote.

    Raises:
        DataError: there are none, or they are broken.
    """
    try:
        about = json.loads((path / ABOUT).read_text())
        rows, columns = ({_id(id): place for place, id in enumerate(about.pop(name))} for name in ("captions", "videos"))
        scores = np.load(path / SCORES, mmap_mode="r", allow_pickle=False)
    except (*BROKEN, AttributeError) as problem:
        raise DataError(
            f"{path} holds no similarities ({type(problem).__name__}: {one_line(problem)}); make them again"
        ) from None
    if scores.shape != (len(rows), len(columns)) or not np.issubdtype(scores.dtype, np.floating):
        raise DataError(
            f"{path / SCORES} is {scores.dtype} of shape {scores.shape}, for {len(rows)} captions and {len(columns)} videos; "
            "make them again"
        )
    return Similarities(scores, rows, columns, about)


def similarities(checkpoint: Checkpoint, dataset: Dataset, features: FeatureSet) -> Similarities:
    """The similarities of a split by a model, in memory.

    Raises:
        DataError: features are missing, or are not those that the model reads.
    """
    read = features.without_teachers
    check(dataset, read)
    check_widths(read, checkpoint.model.reading)
    index = ExactIndex(checkpoint.model)
    add_videos(index, dataset.video_ids, read.frames)
    captions = [caption.id for caption in dataset.captions]
    parts = []
    for start in range(0, len(captions), CAPTIONS_AT_ONCE):
        queries = encode_captions(checkpoint.model, captions[start : start + CAPTIONS_AT_ONCE], read.text)
        parts.append(index.scores(queries).numpy().astype(np.float32))
    rows, columns = ({id: place for place, id in enumerate(ids)} for ids in (captions, index.ids))
    return Similarities(np.concatenate(parts), rows, columns, {"model": checkpoint.fingerprint})


def _id(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no id")
    return value


def _holds(path: Path, wanted: Mapping[str, Any]) -> bool:
    try:
        return bool(json.loads(path.read_text()) == wanted)
    except (OSError, ValueError):
        return False


def teacher_similarities(
    features: str | Path, teachers: Sequence[Checkpoint], train: Dataset, *, out: Path
) -> tuple[Similarities, ...]:
    """The similarities of a train split by trained models, each from the features that it reads; kept in OUT/0, OUT/1, ...

    Raises:
        DataError: their features are missing, or are not those that they were trained on.
    """
    return tuple(
        keep_similarities(out / str(place), teacher, train, features_for(features, teacher))
        for place, teacher in enumerate(teachers)
    )
