"""From features on disk to a batch of tensors: resample, normalise, pad, mask, collate.

Features that `prvr.extract.convert` packed were resampled, cut and normalised then: `AsRead` rows go into the batch as they are,
from the memory map, in one copy.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from prvr.errors import DataError
from prvr.features import Features, FeatureSet, columns, place, rows_of
from prvr.features.packed import AsRead, Packed


@dataclass(frozen=True)
class Reading:
    """How a model reads features.

    frame_columns, text_columns: widths of its features.
    max_frames, max_words: longer videos are resampled, longer sentences cut; None for no limit.
    unit: rows are scaled to unit length.
    text: what a sentence is read as, a row per word or one row in the teacher's space.
    label_columns: how many of the last text columns are labels of a word, which stay as they are.
    clips: how many clips a video is divided into, besides its frames; 0 for a model that reads frames alone.
    precision: the type of the rows that are read.
    padded_together: whether a video's embeddings depend on the longest video beside it: all videos that are encoded by one
        call are then padded to one length.
    """

    frame_columns: int
    text_columns: int
    max_frames: int | None
    max_words: int | None
    unit: bool
    text: Literal["words", "sentences"]
    label_columns: int = 0
    clips: int = 0
    precision: Literal["float32", "float64"] = "float32"
    padded_together: bool = False


class TeacherBatch(NamedTuple):
    """One teacher's view of a batch: frames (V, F, T) on the student's grid and queries (Q, T)."""

    frames: Float[Tensor, "V F T"]
    queries: Float[Tensor, "Q T"]


class Batch(NamedTuple):
    """Videos with all their captions. Videos stand by number of captions, most first; queries stand video by video.

    frames (V, F, E), frame_mask (V, F), words (Q, W, E), word_mask (Q, W), target (Q,): a query's place among the
    videos; teachers: one view for each teacher. frame_places, word_places: where the masks, flattened, are True; known
    here, because to count what is real a GPU would have to be waited for. None where nobody counted.
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
        """The same batch elsewhere; masks and targets keep their types."""
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
    """One video with all its captions, ready to be collated; per teacher its frames and one row a caption.

    clips: for a model that reads them; None for all others.
    """

    frames: Float[np.ndarray, "F E"]
    words: list[Float[np.ndarray, "W C"]]
    teachers: list[tuple[Float[np.ndarray, "F T"], Float[np.ndarray, "Q T"]]]
    clips: Float[np.ndarray, "N E"] | None = None


def check_widths(features: FeatureSet, reading: Reading) -> None:
    """Sees that a model can read these features.

    Raises:
        DataError: they are wider or narrower than what it was built for, or were packed to be read in another way.
    """
    for given, wanted in ((features.frames, reading.frame_columns), (features.text, reading.text_columns)):
        if columns(given) != wanted:
            raise DataError(
                f"{place(given)} has {columns(given)} columns; this model reads {wanted}: it was made for another encoder"
            )
    _check_packing(features, reading)


def _check_packing(features: FeatureSet, reading: Reading) -> None:
    for given, most in ((features.frames, reading.max_frames), (features.text, reading.max_words)):
        if isinstance(given, Packed) and not _serves(given, reading, most):
            done, model = given.about["read"], {"most": most, "unit": reading.unit}
            raise DataError(
                f"{given.path} was packed to be read as {done}, this model reads {model}; convert the package again with --whole"
            )
    if isinstance(features.frames, Packed) and reading.clips and not _has_clips(features.frames, reading.clips):
        raise DataError(
            f"{features.frames.path} was packed at unit length and without the {reading.clips} clips of a video that this model "
            f"reads; convert the package again with --clips {reading.clips} or --whole, or set clip_inputs=unit_rows, with which "
            "the model is not the published one"
        )
    for teacher in features.teachers[:1]:
        if isinstance(features.frames, Packed) and teacher.student is None and not _follows(features.frames, teacher.frames):
            raise DataError(
                f"{features.frames.path} was sampled when it was packed, and not for the teacher of {place(teacher.frames)}; "
                "convert the package again with that teacher's files, or with --whole"
            )


def _has_clips(frames: Packed, clips: int) -> bool:
    """Whether the clips of every video can be computed from its rows, or were packed beside them."""
    if not (frames.about.get("read") or {}).get("unit"):
        return True
    return frames.clips is not None and frames.clips.about["read"]["most"] == clips and all(id in frames.clips for id in frames)


def _follows(frames: Packed, teacher: Features) -> bool:
    """Whether a student's frames can still be sampled to a teacher's number, or need not be."""
    if frames.about.get("read") is None:
        return True
    return isinstance(teacher, Packed) and all(
        frames.rows_before(id) <= teacher.rows_before(id) for id in teacher if id in frames
    )


def _serves(packed: Packed, reading: Reading, most: int | None) -> bool:
    """Whether rows as they were packed are what a model would have made of the whole ones, or can be made into it."""
    read = packed.about.get("read")
    if read is None:
        return True
    words = packed.about.get("kind") == "words"
    if read["unit"] and (not reading.unit or (words and reading.label_columns)):
        return False
    if most == read["most"] or (words and most is not None and most < read["most"]):
        return True
    # Rows of unit length cannot be averaged any more: another number of rows is served only where none is sampled.
    longest = read["most"] if most is None or not read["unit"] else most
    return all(packed.rows_before(id) <= min(read["most"], longest) for id in packed)


def video_item(video: str, captions: Sequence[str], features: FeatureSet, reading: Reading) -> Item:
    """A video with its captions, by their ids, as the student reads them and as its teachers see them.

    Raises:
        DataError: a feature is missing or not a number.
    """
    rows = _rows("video", video, features.frames)
    frames = _student_frames(video, rows, features, reading)
    clips = read_clips(rows, reading)
    teachers = []
    for teacher in features.teachers:
        on_grid = read_teacher(_rows("video", video, teacher.frames), reading, student_rows=len(frames))
        sentences = np.concatenate([_rows("caption", id, teacher.sentences) for id in captions])
        teachers.append((on_grid, sentences.astype(np.float32)))
    words = [read_words(_rows("caption", id, features.text), reading) for id in captions]
    return Item(frames, words, teachers, clips)


def _student_frames(
    video: str, rows: Shaped[np.ndarray, "L E"], features: FeatureSet, reading: Reading
) -> Float[np.ndarray, "F E"]:
    if not features.teachers:
        return read_frames(rows, reading)
    # With several teachers the first sets the student's grid, and the others follow it.
    first = features.teachers[0]
    if first.student is not None and video in first.student:
        return read_frames(_rows("video", video, first.student), reading)
    view = _rows("video", video, first.frames)
    teacher_rows = first.frames.rows_before(video) if isinstance(first.frames, Packed) else len(view)
    return read_frames(rows, reading, teacher_rows=teacher_rows)


def _rows(what: str, id: str, features: Features) -> Shaped[np.ndarray, "L E"]:
    """As `rows_of`; rows in a packed folder were seen to be numbers when they were written."""
    return features[id] if isinstance(features, Packed) and id in features else rows_of(what, id, features)


def segment_edges(rows: int, most: int, *, dtype: type[np.floating[Any]] = np.float64) -> Int[np.ndarray, "edges"]:
    """Where the slots of a resampled sequence begin; the last edge is where the last slot ends.

    e_i = min(round(i rows / most), rows - 1), halves to even, computed in `dtype`. The last edge is clipped to rows - 1, so
    the last row is left out unless its slot would be empty: we follow the released code.
    """
    edges = np.rint(np.arange(most + 1, dtype=dtype) / dtype(most) * dtype(rows)).astype(np.int64)
    return np.minimum(edges, rows - 1)


def resample(rows: Shaped[np.ndarray, "L E"], most: int | None) -> Shaped[np.ndarray, "N E"]:
    """At most `most` rows: each the mean of its slot, or the row at its edge where the slot is empty."""
    return rows if most is None or len(rows) <= most else slot_means(rows, segment_edges(len(rows), most))


def slot_means(rows: Shaped[np.ndarray, "L E"], edges: Int[np.ndarray, "edges"]) -> Shaped[np.ndarray, "N E"]:
    """The mean of the rows between each edge and the next; of an empty slot the row at its edge."""
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
) -> Float[np.ndarray, "F E"]:
    """A video's features as the student reads them.

    Args:
        teacher_rows: in training, how many frames the teacher has; the student's are first resampled to as many.
    """
    if isinstance(features, AsRead):
        return features
    # In float64, because the released code turns frames into Python floats.
    rows = resample(resample(features.astype(np.float64), teacher_rows), reading.max_frames)
    return (unit_rows(rows) if reading.unit else rows).astype(reading.precision)


def read_clips(features: Shaped[np.ndarray, "L E"], reading: Reading) -> Float[np.ndarray, "N E"] | None:
    """The clips of a video: `Reading.clips` slots of its rows as they were extracted, the mean of each.

    Short videos have as many clips as long ones. None for a model that reads no clips, and where they are not known: rows that
    were packed at unit length have lost their lengths, so their clips are known only if they were packed beside them.
    """
    if not reading.clips:
        return None
    if isinstance(features, AsRead):
        return features.clips
    # The released loaders compute these edges in float32. It differs from float64 only where clips is no power of two.
    edges = segment_edges(len(features), reading.clips, dtype=np.float32)
    means = slot_means(features.astype(np.float64), edges)
    return (unit_rows(means) if reading.unit else means).astype(reading.precision)


def read_words(features: Shaped[np.ndarray, "L C"], reading: Reading) -> Float[np.ndarray, "W C"]:
    """A sentence's features as the student reads them: the first words."""
    if isinstance(features, AsRead):
        return features[: reading.max_words]
    rows = features.astype(reading.precision)[: reading.max_words]
    if not reading.unit:
        return rows
    vectors, labels = np.split(rows, [rows.shape[1] - reading.label_columns], axis=1)
    return np.concatenate([unit_rows(vectors), labels], axis=1)


def read_teacher(features: Float[np.ndarray, "L T"], reading: Reading, *, student_rows: int) -> Float[np.ndarray, "F T"]:
    """A video's frames as the teacher sees them, on the student's grid; not normalised."""
    if features.dtype == np.float16 and len(features) == student_rows <= (reading.max_frames or student_rows):
        return features  # `pad` widens it
    # The released code breaks where the student has fewer frames than the teacher; we resample the teacher then.
    rows = resample(resample(features.astype(np.float32, copy=False), reading.max_frames), student_rows)
    if len(rows) < student_rows:
        # A further teacher with fewer frames than the first: each of its frames stands for several places.
        rows = rows[np.arange(student_rows) * len(rows) // student_rows]
    return rows


class Memory:
    """Room for the tensors of one batch, which the next batch takes again: what was there before is overwritten.

    Memory that is new has to be cleared by the kernel first, which takes several times as long as filling it.
    """

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._taken = 0

    def begin(self) -> None:
        """Gives all blocks back for the next batch."""
        self._taken = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Shaped[np.ndarray, "..."]:
        """An array to be filled, in the block of that turn."""
        size, turn = math.prod(shape) * dtype.itemsize, self._taken
        self._taken += 1
        if turn == len(self._blocks):
            self._blocks.append(np.empty(0, np.uint8))
        if size > len(self._blocks[turn]):
            self._blocks[turn] = np.empty(size, np.uint8)
        return self._blocks[turn][:size].view(dtype).reshape(shape)


def pad(
    sequences: Sequence[Float[np.ndarray, "_ E"]], memory: Memory | None = None
) -> tuple[Float[Tensor, "N L E"], Bool[Tensor, "N L"]]:
    """Sequences side by side, padded with zeros, and which places are real; float16 becomes float32."""
    # NumPy asks the kernel for huge pages and torch does not: four times as quick where memory is new.
    empty = np.empty if memory is None else memory.empty
    lengths = torch.tensor([len(s) for s in sequences])
    dtype = np.result_type(*{s.dtype for s in sequences})
    wide = np.dtype(np.float32) if dtype == np.float16 else dtype
    padded = empty((len(sequences), max(map(len, sequences)), sequences[0].shape[1]), wide)
    tensor = torch.from_numpy(padded)
    for number, sequence in enumerate(sequences):
        if dtype == np.float16:
            # By torch: NumPy takes each number alone.
            tensor[number, : len(sequence)] = _shared(sequence)
        else:
            padded[number, : len(sequence)] = sequence
        padded[number, len(sequence) :] = 0
    return tensor, torch.arange(padded.shape[1]) < lengths[:, None]


def _shared(rows: Float[np.ndarray, "_ E"]) -> Tensor:
    """The same memory as a tensor, which is only read."""
    _warn_no_more()
    return torch.from_numpy(rows)


@functools.cache
def _warn_no_more() -> None:
    # torch says once in a process that a file's memory may not be written to.
    alone = np.zeros(1)
    alone.flags.writeable = False
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        torch.from_numpy(alone)


def collate(items: Sequence[Item], memory: Memory | None = None) -> Batch:
    """A batch of videos with all their captions.

    Videos are sorted by number of captions, most first, as in the released code: soft targets depend on the order.

    Args:
        memory: for a loop that is done with a batch when it asks for the next; by default a batch has its own.
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
    """The clips of videos as one tensor; None where those of a video are not known."""
    known = [each for each in clips if each is not None]
    return pad(known, memory)[0] if len(known) == len(clips) else None
