"""From features on disk to a batch of tensors: resample, normalise, pad, mask, collate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Shaped
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from prvr.errors import DataError
from prvr.features import FeatureSet, columns, place, rows_of


@dataclass(frozen=True)
class Reading:
    """How a model reads features.

    frame_columns, text_columns: widths of its features.
    max_frames, max_words: longer videos are resampled, longer sentences cut; None for no limit.
    unit: rows are scaled to unit length.
    text: what a sentence is read as, a row per word or one row in the teacher's space.
    label_columns: how many of the last text columns are labels of a word, which stay as they are.
    """

    frame_columns: int
    text_columns: int
    max_frames: int | None
    max_words: int | None
    unit: bool
    text: Literal["words", "sentences"]
    label_columns: int = 0


class TeacherBatch(NamedTuple):
    """One teacher's view of a batch: frames (V, F, T) on the student's grid and queries (Q, T)."""

    frames: Float[Tensor, "V F T"]
    queries: Float[Tensor, "Q T"]


class Batch(NamedTuple):
    """Videos with all their captions. Videos stand by number of captions, most first; queries stand video by video.

    frames (V, F, E), frame_mask (V, F), words (Q, W, E), word_mask (Q, W), target (Q,): a query's place among the
    videos; teachers: one view for each teacher.
    """

    frames: Float[Tensor, "V F E"]
    frame_mask: Bool[Tensor, "V F"]
    words: Float[Tensor, "Q W C"]
    word_mask: Bool[Tensor, "Q W"]
    target: Int[Tensor, "Q"]
    teachers: tuple[TeacherBatch, ...]

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Batch:
        """The same batch elsewhere; masks and targets keep their types."""
        teachers = tuple(TeacherBatch(*(t.to(device, dtype, non_blocking=True) for t in view)) for view in self.teachers)
        return Batch(
            self.frames.to(device, dtype, non_blocking=True),
            self.frame_mask.to(device, non_blocking=True),
            self.words.to(device, dtype, non_blocking=True),
            self.word_mask.to(device, non_blocking=True),
            self.target.to(device, non_blocking=True),
            teachers,
        )


class Item(NamedTuple):
    """One video with all its captions, ready to be collated; per teacher its frames and one row a caption."""

    frames: Float32[np.ndarray, "F E"]
    words: list[Float32[np.ndarray, "W C"]]
    teachers: list[tuple[Float32[np.ndarray, "F T"], Float32[np.ndarray, "Q T"]]]


def check_widths(features: FeatureSet, reading: Reading) -> None:
    """Sees that a model can read these features.

    Raises:
        DataError: they are wider or narrower than what it was built for.
    """
    for given, wanted in ((features.frames, reading.frame_columns), (features.text, reading.text_columns)):
        if columns(given) != wanted:
            raise DataError(
                f"{place(given)} has {columns(given)} columns; this model reads {wanted}: it was made for another encoder"
            )


def video_item(video: str, captions: Sequence[str], features: FeatureSet, reading: Reading) -> Item:
    """A video with its captions, by their ids, as the student reads them and as its teachers see them.

    Raises:
        DataError: a feature is missing or not a number.
    """
    views = [rows_of("video", video, teacher.frames) for teacher in features.teachers]
    # With several teachers the first sets the student's grid, and the others follow it.
    frames = read_frames(rows_of("video", video, features.frames), reading, teacher_rows=len(views[0]) if views else None)
    teachers = []
    for teacher, view in zip(features.teachers, views, strict=True):
        sentences = [rows_of("caption", id, teacher.sentences) for id in captions]
        on_grid = read_teacher(view, reading, student_rows=len(frames))
        teachers.append((on_grid, np.concatenate(sentences).astype(np.float32)))
    words = [read_words(rows_of("caption", id, features.text), reading) for id in captions]
    return Item(frames, words, teachers)


def segment_edges(rows: int, most: int) -> Int[np.ndarray, "edges"]:
    """Where the slots of a resampled sequence begin; the last edge is where the last slot ends.

    e_i = min(round(i rows / most), rows - 1), halves to even (spec/dl-dkd 2.2). The last edge is clipped to
    rows - 1, so the last row is left out unless its slot would be empty: we follow the released code.
    """
    edges = np.rint(np.arange(most + 1) / most * rows).astype(np.int64)
    return np.minimum(edges, rows - 1)


def resample(rows: Shaped[np.ndarray, "L E"], most: int | None) -> Shaped[np.ndarray, "N E"]:
    """At most `most` rows: each the mean of its slot, or the row at its edge where the slot is empty."""
    if most is None or len(rows) <= most:
        return rows
    edges = segment_edges(len(rows), most)
    counts = np.maximum(np.diff(edges), 1)
    # reduceat runs the last slot to the end of its input, and gives the row itself for an empty slot.
    used = rows[: edges[-1]] if edges[-2] < edges[-1] else rows
    return np.add.reduceat(used, edges[:-1], axis=0) / counts[:, None].astype(rows.dtype)


def unit_rows(rows: Float[np.ndarray, "*L E"]) -> Float[np.ndarray, "*L E"]:
    """Rows divided by their length plus 1e-5: added and not floored, as in the released code."""
    length: np.ndarray = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / (length + 1e-5)


def read_frames(
    features: Shaped[np.ndarray, "L E"], reading: Reading, *, teacher_rows: int | None = None
) -> Float32[np.ndarray, "F E"]:
    """A video's features as the student reads them.

    Args:
        teacher_rows: in training, how many frames the teacher has; the student's are first resampled to as many.
    """
    # In float64, because the released code turns frames into Python floats.
    rows = resample(resample(features.astype(np.float64), teacher_rows), reading.max_frames)
    return (unit_rows(rows) if reading.unit else rows).astype(np.float32)


def read_words(features: Shaped[np.ndarray, "L C"], reading: Reading) -> Float32[np.ndarray, "W C"]:
    """A sentence's features as the student reads them: the first words."""
    rows = features.astype(np.float32)[: reading.max_words]
    if not reading.unit:
        return rows
    vectors, labels = np.split(rows, [rows.shape[1] - reading.label_columns], axis=1)
    return np.concatenate([unit_rows(vectors), labels], axis=1)


def read_teacher(features: Shaped[np.ndarray, "L T"], reading: Reading, *, student_rows: int) -> Float32[np.ndarray, "F T"]:
    """A video's frames as the teacher sees them, on the student's grid; not normalised."""
    # The released code breaks where the student has fewer frames than the teacher; we resample the teacher then.
    rows = resample(resample(features.astype(np.float32), reading.max_frames), student_rows)
    if len(rows) < student_rows:
        # A further teacher with fewer frames than the first: each of its frames stands for several places.
        rows = rows[np.arange(student_rows) * len(rows) // student_rows]
    return rows


def pad(sequences: Sequence[Shaped[np.ndarray, "_ E"]]) -> tuple[Float[Tensor, "N L E"], Bool[Tensor, "N L"]]:
    """Sequences side by side, padded with zeros, and which places are real."""
    lengths = torch.tensor([len(s) for s in sequences])
    padded = pad_sequence([torch.from_numpy(np.ascontiguousarray(s)) for s in sequences], batch_first=True)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def collate(items: Sequence[Item]) -> Batch:
    """A batch of videos with all their captions.

    Videos are sorted by number of captions, most first, as in the released code: soft targets depend on the order.
    """
    items = sorted(items, key=lambda item: -len(item.words))
    frames, frame_mask = pad([item.frames for item in items])
    words, word_mask = pad([rows for item in items for rows in item.words])
    captions = torch.tensor([len(item.words) for item in items])
    target = torch.arange(len(items)).repeat_interleave(captions)
    teachers = []
    for views in zip(*(item.teachers for item in items), strict=True):
        teacher_frames, _ = pad([view[0] for view in views])
        teachers.append(TeacherBatch(teacher_frames, torch.from_numpy(np.concatenate([view[1] for view in views]))))
    return Batch(frames, frame_mask, words, word_mask, target, tuple(teachers))
