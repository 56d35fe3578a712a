"""Turns features on disk into a batch of tensors: resamples, normalises, pads, masks and collates them.

`prvr.extract.convert` resamples, cuts and normalises features when it packs them. Such `AsRead` rows are copied once, from the
memory map into the batch.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from prvr.errors import DataError
from prvr.features import Features, FeatureSet, columns, place, rows_of
from prvr.features.joined import JoinedFeatures
from prvr.features.packed import Packed
from prvr.features.padding import Memory as Memory
from prvr.features.padding import pad as pad
from prvr.features.reading import FrameSampling as FrameSampling
from prvr.features.reading import Reading as Reading
from prvr.features.reading import frame_places as frame_places
from prvr.features.reading import read_clips as read_clips
from prvr.features.reading import read_frames as read_frames
from prvr.features.reading import read_teacher as read_teacher
from prvr.features.reading import read_words as read_words
from prvr.features.reading import resample as resample
from prvr.features.reading import sample as sample
from prvr.features.reading import segment_edges as segment_edges
from prvr.features.reading import slot_means as slot_means
from prvr.features.reading import unit_rows as unit_rows


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
