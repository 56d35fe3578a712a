"""Turns features on disk into a batch of tensors: resamples, normalises, pads, masks and collates them.

`prvr.extract.convert` resamples, cuts and normalises features when it packs them. Such `AsRead` rows are copied once, from the
memory map into the batch.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from prvr.errors import DataError
from prvr.features import Features, FeatureSet, columns, place, rows_of
from prvr.features.joined import JoinedFeatures
from prvr.features.packed import AsRead, Packed
from prvr.features.padding import Memory as Memory
from prvr.features.padding import pad as pad

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


class TeacherBatch(NamedTuple):
    """One teacher's view of a batch: frames (V, F, T) on the student's grid and queries (Q, T).

    The frames have no columns where a student learns of the teacher's sentences alone.
    """

    frames: Float[Tensor, "V F _"]
    queries: Float[Tensor, "Q T"]


class Batch(NamedTuple):
    """Videos with all their captions, in descending order of the number of captions; queries are in the order of the videos.

    frames (V, F, E), frame_mask (V, F), words (Q, W, E), word_mask (Q, W).
    target (Q,): the place of a query's video in the batch.
    teachers: one view for each teacher.
    frame_places, word_places: indices of the True entries of the flattened masks. They are computed on the host, because
        computing them on a GPU would synchronise it. None: not computed.
    clips (V, N, E): the clips of each video, for a model that reads them (`Reading.clips`); None for all others.
    """

    frames: Float[Tensor, "V F E"]
    frame_mask: Bool[Tensor, "V F"]
    words: Float[Tensor, "Q W C"]
    word_mask: Bool[Tensor, "Q W"]
    target: Int[Tensor, "Q"]
    teachers: tuple[TeacherBatch, ...]
    frame_places: Int[Tensor, "R"] | None = None
    word_places: Int[Tensor, "R"] | None = None
    clips: Float[Tensor, "V N E"] | None = None

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Batch:
        """Copies the batch to a device; masks and targets keep their types."""
        teachers = tuple(TeacherBatch(*(t.to(device, dtype, non_blocking=True) for t in view)) for view in self.teachers)
        frame_places, word_places = (
            None if p is None else p.to(device, non_blocking=True) for p in (self.frame_places, self.word_places)
        )
        return Batch(
            self.frames.to(device, dtype, non_blocking=True),
            self.frame_mask.to(device, non_blocking=True),
            self.words.to(device, dtype, non_blocking=True),
            self.word_mask.to(device, non_blocking=True),
            self.target.to(device, non_blocking=True),
            teachers,
            frame_places,
            word_places,
            None if self.clips is None else self.clips.to(device, dtype, non_blocking=True),
        )


class Item(NamedTuple):
    """One video with all its captions, ready for `collate`; `teachers` holds frames and a row per caption for each teacher.

    clips: for a model that reads them; None for all others.
    """

    frames: Float[np.ndarray, "F E"]
    words: list[Float[np.ndarray, "W C"]]
    teachers: list[tuple[Float[np.ndarray, "F T"], Float[np.ndarray, "Q T"]]]
    clips: Float[np.ndarray, "N E"] | None = None


def check_widths(features: FeatureSet, reading: Reading) -> None:
    """Checks that a model can read these features.

    Raises:
        DataError: the features have another width than the model reads, or were packed for another reading.
    """
    for stored, wanted in ((features.frames, reading.frame_columns), (features.text, reading.text_columns)):
        if columns(stored) != wanted:
            raise DataError(
                f"{place(stored)} has {columns(stored)} columns; this model reads {wanted}: it was made for another encoder"
            )
    _check_packing(features, reading)


def _check_packing(features: FeatureSet, reading: Reading) -> None:
    for stored, limit in ((features.frames, reading.max_frames), (features.text, reading.max_words)):
        if isinstance(stored, Packed) and not _fits_reading(stored, reading, limit):
            packed_as, model = stored.about["read"], {"most": limit, "unit": reading.unit, "sampling": reading.sampling}
            raise DataError(
                f"{stored.path} was packed to be read as {packed_as}, this model reads {model}; "
                "convert the package again with --whole"
            )
    if isinstance(features.frames, Packed) and reading.clips and not _has_clips(features.frames, reading.clips):
        raise DataError(
            f"{features.frames.path} was packed at unit length and without the {reading.clips} clips of a video that this model "
            f"reads; convert the package again with --clips {reading.clips} or --whole, or set clip_inputs=unit_rows, with which "
            "the model is not the published one"
        )
    for teacher in features.teachers[:1]:
        if teacher.frames is None:
            continue
        if isinstance(features.frames, Packed) and teacher.student is None and not _fits_teacher(features.frames, teacher.frames):
            raise DataError(
                f"{features.frames.path} was sampled when it was packed, and not for the teacher of {place(teacher.frames)}; "
                "convert the package again with that teacher's files, or with --whole"
            )


def _has_clips(frames: Packed, clips: int) -> bool:
    """Whether the clips of every video can be computed from its rows, or were packed beside them."""
    if not (frames.about.get("read") or {}).get("unit"):
        return True
    return frames.clips is not None and frames.clips.about["read"]["most"] == clips and all(id in frames.clips for id in frames)


def _fits_teacher(frames: Packed, teacher: Features) -> bool:
    """Whether a student's packed frames can be resampled to the teacher's number, or need no resampling."""
    if frames.about.get("read") is None:
        return True
    if not isinstance(teacher, Packed):
        return False
    both = [id for id in teacher if id in frames]
    return all(map(operator.le, map(frames.rows_before, both), map(teacher.rows_before, both)))


def _fits_reading(packed: Packed, reading: Reading, limit: int | None) -> bool:
    """Whether packed rows are equal to what the model reads of whole rows, or can be converted to it."""
    read = packed.about.get("read")
    if read is None:
        return True
    words = packed.about.get("kind") == "words"
    if read["unit"] and (not reading.unit or (words and reading.label_columns)):
        return False
    if not words and reading.sampling != "mean":
        # Single rows can still be selected where none was averaged.
        return max(map(packed.rows_before, packed), default=0) <= read["most"]
    if limit == read["most"] or (words and limit is not None and limit < read["most"]):
        return True
    # Rows of unit length cannot be averaged: with another limit the rows fit only if no item was or will be resampled.
    longest = read["most"] if limit is None or not read["unit"] else limit
    return max(map(packed.rows_before, packed), default=0) <= min(read["most"], longest)


def video_item(video: str, captions: Sequence[str], features: FeatureSet, reading: Reading) -> Item:
    """Returns a video with its captions, for the student and for each teacher.

    Args:
        captions: ids.

    Raises:
        DataError: a feature is missing, or has values that are not finite.
    """
    rows = _video_rows(video, frames_of(features.frames, reading))
    frames = _student_frames(video, rows, features, reading)
    teachers = []
    for teacher in features.teachers:
        on_grid = np.empty((len(frames), 0), np.float32)
        if teacher.frames is not None:
            on_grid = read_teacher(_video_rows(video, teacher.frames), reading, student_rows=len(frames))
        sentences = np.concatenate(_sentence_rows(captions, teacher.sentences))
        teachers.append((on_grid, sentences.astype(np.float32)))
    words = [read_words(rows, reading) for rows in _rows("caption", captions, features.text)]
    return Item(frames, words, teachers, read_clips(rows, reading))


def _student_frames(
    video: str, rows: Shaped[np.ndarray, "L E"], features: FeatureSet, reading: Reading
) -> Float[np.ndarray, "F E"]:
    if not features.teachers or reading.stacked:
        return read_frames(rows, reading)
    # With several teachers the first one determines the number of the student's frames; the others are resampled to it.
    first = features.teachers[0]
    if first.student is not None and video in first.student:
        return read_frames(_video_rows(video, first.student), reading)
    if first.frames is None:
        return read_frames(rows, reading)
    view = _video_rows(video, first.frames)
    teacher_rows = first.frames.rows_before(video) if isinstance(first.frames, Packed) else len(view)
    return read_frames(rows, reading, teacher_rows=teacher_rows)


def frames_of(features: Features, reading: Reading) -> Features:
    """Returns the features of videos as a model reads them: joined ones aligned in time, or each in rows of its own."""
    return features.stack() if reading.stacked and isinstance(features, JoinedFeatures) else features


def _video_rows(video: str, features: Features) -> Shaped[np.ndarray, "L E"]:
    return _rows("video", [video], features)[0]


def _rows(what: str, ids: Sequence[str], features: Features) -> list[np.ndarray]:
    """Returns the rows of several ids as `rows_of` does, without its check for packed rows, which was made at packing."""
    packed = isinstance(features, Packed)
    return [features[id] if packed and id in features else rows_of(what, id, features) for id in ids]


def _sentence_rows(captions: Sequence[str], features: Features) -> list[np.ndarray]:
    found = _rows("caption", captions, features)
    for id, rows in zip(captions, found, strict=True):
        if len(rows) != 1:
            raise DataError(
                f"caption {id!r} has {len(rows)} rows in {place(features)}; a teacher's sentence is one vector: name an encoder "
                "of sentences as the teacher"
            )
    return found


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


def collate(items: Sequence[Item], memory: Memory | None = None) -> Batch:
    """Returns a batch of videos with all their captions.

    Videos are sorted by descending number of captions, as in the released code: soft targets depend on the order.

    Args:
        memory: for a loop that does not use a batch after the next one is made; by default a batch has its own memory.
    """
    if memory is not None:
        memory.begin()
    items = sorted(items, key=lambda item: -len(item.words))
    frames, frame_mask = pad([item.frames for item in items], memory)
    words, word_mask = pad([rows for item in items for rows in item.words], memory)
    captions = torch.tensor([len(item.words) for item in items])
    target = torch.arange(len(items)).repeat_interleave(captions)
    teachers = []
    for views in zip(*(item.teachers for item in items), strict=True):
        teacher_frames, _ = pad([view[0] for view in views], memory)
        teachers.append(TeacherBatch(teacher_frames, torch.from_numpy(np.concatenate([view[1] for view in views]))))
    frame_places, word_places = (mask.flatten().nonzero()[:, 0] for mask in (frame_mask, word_mask))
    clips = pad_clips([item.clips for item in items], memory)
    return Batch(frames, frame_mask, words, word_mask, target, tuple(teachers), frame_places, word_places, clips)


def pad_clips(clips: Sequence[Float[np.ndarray, "N E"] | None], memory: Memory | None = None) -> Float[Tensor, "V N E"] | None:
    """Returns the clips of several videos in one tensor; None if those of any are unknown."""
    known = [each for each in clips if each is not None]
    return pad(known, memory)[0] if len(known) == len(clips) else None
