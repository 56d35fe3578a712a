"""How features are read for a model: sampled to its number of frames, cut to its number of words, scaled to unit length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, Shaped

from prvr.features.packed import AsRead

FrameSampling = Literal["mean", "first", "spaced"]
"""The rows that are read of a video with too many frames: means of equal slots, the first frames, or evenly spaced ones."""


@dataclass(frozen=True)
class Reading:
    """How a model reads features.

    frame_columns, text_columns: widths of the features.
    max_frames, max_words: longer videos are sampled (`sampling`), longer sentences cut; None for no limit.
    unit: rows are scaled to unit length.
    text: a sentence is a row per word, or one row in the teacher's space.
    label_columns: the number of last text columns that are labels of a word; they are not scaled.
    subtitle_columns: the number of last frame columns that are subtitles; they are scaled by themselves.
    precision: the type of the rows that are read.
    sampling: the rows that are read of a video with more than `max_frames` frames.
    stacked: joined features keep the rows of each encoder, with zeros below, instead of aligning them in time.
    clips: the number of clips that a video is divided into, besides its frames; 0 for a model that reads frames alone.
    padded_together: a video's embeddings depend on the longest video beside it, so all videos that one call encodes are padded
        to one length.
    """

    frame_columns: int
    text_columns: int
    max_frames: int | None
    max_words: int | None
    unit: bool
    text: Literal["words", "sentences"]
    label_columns: int = 0
    precision: Literal["float32", "float64"] = "float32"
    sampling: FrameSampling = "mean"
    stacked: bool = False
    clips: int = 0
    padded_together: bool = False
    subtitle_columns: int = 0


def segment_edges(rows: int, most: int, *, dtype: type[np.floating[Any]] = np.float64) -> Int[np.ndarray, "edges"]:
    """Returns the first row of each slot of a resampled sequence, and the end of the last slot.

    e_i = min(round(i rows / most), rows - 1), halves to even, computed in `dtype`. The last edge is clipped to rows - 1, so
    the last row is left out unless its slot would be empty, as in the released code of DL-DKD.
    """
    edges = np.rint(np.arange(most + 1, dtype=dtype) / dtype(most) * dtype(rows)).astype(np.int64)
    return np.minimum(edges, rows - 1)


def resample(rows: Shaped[np.ndarray, "L E"], most: int | None) -> Shaped[np.ndarray, "N E"]:
    """Returns at most `most` rows: each is the mean of its slot, or the row at its edge if the slot is empty."""
    return rows if most is None or len(rows) <= most else slot_means(rows, segment_edges(len(rows), most))


def slot_means(rows: Shaped[np.ndarray, "L E"], edges: Int[np.ndarray, "edges"]) -> Shaped[np.ndarray, "N E"]:
    """Returns the mean of the rows between each edge and the next, or the row at the edge if there are none."""
    counts = np.maximum(np.diff(edges), 1)
    # reduceat extends the last slot to the end of its input, and returns the row itself for an empty slot.
    used = rows[: edges[-1]] if edges[-2] < edges[-1] else rows
    return np.add.reduceat(used, edges[:-1], axis=0) / counts[:, None].astype(rows.dtype)


def frame_places(rows: int, limit: int, sampling: FrameSampling) -> Int[np.ndarray, "limit"]:
    """Returns, for a video with more than `limit` frames, the first frame of each row that is read."""
    if sampling == "first":
        return np.arange(limit)
    if sampling == "spaced":
        return np.rint(np.linspace(0, rows - 1, limit)).astype(np.int64)
    return segment_edges(rows, limit)[:-1]


def sample(rows: Shaped[np.ndarray, "L E"], limit: int | None, sampling: FrameSampling) -> Shaped[np.ndarray, "N E"]:
    """Returns at most `limit` rows: means as in `resample`, or single rows."""
    if sampling == "mean" or limit is None or len(rows) <= limit:
        return resample(rows, limit)
    return rows[frame_places(len(rows), limit, sampling)]


def unit_rows(rows: Float[np.ndarray, "*L E"]) -> Float[np.ndarray, "*L E"]:
    """Divides rows by their length plus 1e-5; the released code of DL-DKD also adds it instead of taking the maximum."""
    length: np.ndarray = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / (length + 1e-5)


def read_frames(
    features: Shaped[np.ndarray, "L E"], reading: Reading, *, teacher_rows: int | None = None
) -> Float[np.ndarray, "F E"]:
    """Returns a video's features as the student reads them.

    Args:
        teacher_rows: in training, the number of the teacher's frames; the student's are first resampled to it.
    """
    if isinstance(features, AsRead):
        return sample(features, reading.max_frames, reading.sampling)
    # In float64, because the released code converts frames to Python floats.
    rows = sample(resample(features.astype(np.float64), teacher_rows), reading.max_frames, reading.sampling)
    if not reading.unit:
        return rows.astype(reading.precision)
    if not reading.subtitle_columns:
        return unit_rows(rows).astype(reading.precision)
    sides = np.split(rows, [rows.shape[1] - reading.subtitle_columns], axis=1)
    return np.concatenate([unit_rows(side) for side in sides], axis=1).astype(reading.precision)


def read_clips(features: Shaped[np.ndarray, "L E"], reading: Reading) -> Float[np.ndarray, "N E"] | None:
    """Returns the clips of a video: the means of `Reading.clips` slots of its rows as they were extracted.

    Short videos have as many clips as long ones. None for a model that reads no clips, and where they are unknown: rows that
    were packed at unit length have lost their lengths, so their clips are known only if they were packed beside them.
    """
    if not reading.clips:
        return None
    if isinstance(features, AsRead):
        return features.clips
    # The released loaders compute these edges in float32. It differs from float64 only if clips is no power of two.
    edges = segment_edges(len(features), reading.clips, dtype=np.float32)
    means = slot_means(features.astype(np.float64), edges)
    return (unit_rows(means) if reading.unit else means).astype(reading.precision)


def read_words(features: Shaped[np.ndarray, "L C"], reading: Reading) -> Float[np.ndarray, "W C"]:
    """Returns a sentence's features as the student reads them: the first words."""
    if isinstance(features, AsRead):
        return features[: reading.max_words]
    rows = features.astype(reading.precision)[: reading.max_words]
    if not reading.unit:
        return rows
    vectors, labels = np.split(rows, [rows.shape[1] - reading.label_columns], axis=1)
    return np.concatenate([unit_rows(vectors), labels], axis=1)


def read_teacher(features: Float[np.ndarray, "L T"], reading: Reading, *, student_rows: int) -> Float[np.ndarray, "F T"]:
    """Returns the teacher's frames of a video, resampled to the student's number of frames; they are not normalised."""
    if features.dtype == np.float16 and len(features) == student_rows <= (reading.max_frames or student_rows):
        return features  # `pad` converts it to float32
    # The released code fails if the student has fewer frames than the teacher; we resample the teacher's.
    rows = resample(sample(features.astype(np.float32, copy=False), reading.max_frames, reading.sampling), student_rows)
    if len(rows) < student_rows:
        # A further teacher with fewer frames than the first: each of its frames is repeated.
        rows = rows[np.arange(student_rows) * len(rows) // student_rows]
    return rows
