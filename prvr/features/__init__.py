"""Frozen features on disk, as a mapping from an id to its rows: `features[id]` is (F, E), or (W, E) for words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from prvr.datasets import Dataset
from prvr.errors import DataError, SettingError
from prvr.features.bigfile import BigFile, is_bigfile
from prvr.features.hdf5 import Hdf5Features
from prvr.features.npz import SUFFIX, NpzFolder, is_npz_folder
from prvr.features.packed import Packed, is_packed
from prvr.features.sources import FeatureSources

Features = Mapping[str, np.ndarray]

# Videos whose lengths are compared with a teacher's.
MOST_COMPARED = 2048


@runtime_checkable
class Stored(Protocol):
    """Features that are stored at a path."""

    path: Path


@runtime_checkable
class Mapped(Protocol):
    """Features that are read through a memory map, or are made of such features."""

    def release(self) -> None: ...


@runtime_checkable
class Timed(Protocol):
    """Features that know facts of each item, and the time of each of its rows in seconds, or None."""

    def info(self, id: str) -> dict[str, Any]: ...

    def times(self, id: str) -> list[float] | None: ...


@runtime_checkable
class OneWidth(Protocol):
    """Features in which all items must have the width that most have."""

    def usual_width(self, rows: np.ndarray) -> int: ...


@dataclass(frozen=True)
class TeacherFeatures:
    """The features of one teacher: frames (F, T) of each video and one row (1, T) of each caption, in one space.

    frames: None for a teacher of whose sentences alone a student learns (`query_relations`).
    student: the student's frames on this teacher's coarser grid, where the student's frames were sampled when packed.
    """

    frames: Features | None
    sentences: Features
    student: Features | None = None


@dataclass(frozen=True)
class FeatureSet:
    """The features that a model reads, their sources, and the features of its teachers.

    text: words, or sentences for a zero-shot model. sources: a checkpoint keeps them, so that the model is used with
    features of the same encoders later.
    """

    frames: Features
    text: Features
    sources: FeatureSources
    teachers: tuple[TeacherFeatures, ...] = ()

    @property
    def without_teachers(self) -> FeatureSet:
        """The features that the model itself reads."""
        return replace(self, teachers=())


def open_features(path: str | Path) -> Features:
    """Opens the features of a packed folder, an HDF5 file, a published BigFile folder or a folder of npz files.

    Raises:
        DataError: the path holds no features, or they are broken.
    """
    path = Path(path)
    if path.is_file() and path.suffix == SUFFIX:
        raise DataError(f"{path} holds one item; give its folder, {path.parent}")
    if path.is_file() or path.suffix in (".h5", ".hdf5"):
        return Hdf5Features(path)
    if is_bigfile(path):
        return BigFile(path)
    return NpzFolder(path) if is_npz_folder(path) and not is_packed(path) else Packed(path)


def as_dtype(name: str) -> Literal["float16", "float32"]:
    """The type of stored numbers with that name.

    Raises:
        SettingError: it is neither float16 nor float32.
    """
    if name == "float16":
        return "float16"
    if name == "float32":
        return "float32"
    raise SettingError(f"dtype is {name!r}, expected float16 or float32")


def columns(features: Features) -> int:
    """The width of the features.

    Raises:
        DataError: there are no items.
    """
    if isinstance(features, Packed | BigFile | NpzFolder):
        return features.columns
    for id in features:
        return int(features[id].shape[1])
    raise DataError(f"{place(features)} holds no features; extract some: prvr extract VIDEOS FEATURES --encoder NAME")


def rows_of(what: str, id: str, features: Features) -> np.ndarray:
    """The rows of a video or a caption; every value is checked to be finite.

    Args:
        what: "video" or "caption", for the error message.

    Raises:
        DataError: the item is missing or has no rows, a value is NaN or infinite, or other items are of another width.
    """
    if id not in features:
        _check_present(what, [id], features)
    rows = features[id]
    if len(rows) == 0 or not np.isfinite(rows).all():
        fault = "hold NaN or infinite values" if len(rows) else "are empty"
        raise DataError(f"features of {what} {id!r} in {place(features)} {fault}; extract it again")
    if isinstance(features, OneWidth) and (usual := features.usual_width(rows)) != rows.shape[1]:
        raise DataError(
            f"features of {what} {id!r} have {rows.shape[1]} columns, most others {usual}, in {place(features)}: they "
            "come from different encoders; extract them again with one"
        )
    return rows


def release(features: Features) -> None:
    """Takes the pages of memory-mapped files that were read out of this process's memory; they stay in the system's cache.

    Whoever reads many items once calls it now and then: otherwise the whole file counts as memory in the end.
    """
    if isinstance(features, Mapped):
        features.release()


def durations_of(features: Features, videos: Iterable[str]) -> dict[str, float]:
    """The durations of videos in seconds, where the features keep them."""
    if not isinstance(features, Timed):
        return {}
    known = {id: features.info(id).get("duration") for id in videos if id in features}
    return {id: float(seconds) for id, seconds in known.items() if isinstance(seconds, int | float) and 0 < seconds < np.inf}


def compare_lengths(student: Features, teacher: Features, videos: Iterable[str] | None = None) -> str:
    """Returns where a teacher has another number of frames than the student, or an empty text.

    Training resamples the student's frames to the teacher's number, so few frames of the teacher leave few of the student.

    Args:
        videos: ids; by default all that both have. Of many videos some are compared, evenly spread.
    """
    both = [id for id in (teacher if videos is None else videos) if id in student and id in teacher]
    some = [both[place] for place in np.unique(np.linspace(0, len(both) - 1, MOST_COMPARED).astype(int))] if both else []
    lengths = {id: (_length(student, id), _length(teacher, id)) for id in some}
    unlike = {id: abs(math.log((own + 1) / (its + 1))) for id, (own, its) in lengths.items() if own != its}
    if not unlike:
        return ""
    most = max(unlike, key=unlike.__getitem__)
    own, its = lengths[most]
    return (
        f"the teacher has another number of frames in {len(unlike)} of {len(some)} videos, most of all in {most!r}: {its}, the "
        f"student {own}; training reads as many of the student's"
    )


def _length(features: Features, id: str) -> int:
    return features.rows_before(id) if isinstance(features, Packed) else len(features[id])


def place(features: Features) -> str:
    """The path of features, for error messages."""
    return str(features.path) if isinstance(features, Stored) else "the features in memory"


def check(dataset: Dataset, features: FeatureSet) -> None:
    """Checks that captions belong to videos of the split, that no features are missing, and that a teacher's two sides fit.

    Raises:
        DataError: something is missing; the message names the first item, the number of items and the next step.
    """
    _check_gallery(dataset)
    captions = {caption.id: caption.text for caption in dataset.captions}
    described = dict.fromkeys(caption.video for caption in dataset.captions)
    _check_present("video", dataset.video_ids, features.frames)
    _check_present("caption", captions, features.text)
    _check_current(captions, features.text)
    for teacher in features.teachers:
        _check_present("caption", captions, teacher.sentences)
        if teacher.frames is None:
            continue
        _check_present("video", described, teacher.frames)
        widths = columns(teacher.frames), columns(teacher.sentences)
        if widths[0] != widths[1]:
            raise DataError(
                f"teacher features have {widths[0]} columns, the teacher's queries {widths[1]}: "
                f"they come from different encoders ({place(teacher.frames)}, {place(teacher.sentences)})"
            )


def _check_gallery(dataset: Dataset) -> None:
    gallery = set(dataset.video_ids)
    for caption in dataset.captions:
        if caption.video not in gallery:
            about = repr(caption.video) if caption.video else "a video that the release keeps back"
            raise DataError(
                f"caption {caption.id!r} is about {about}; the split {dataset.split!r} of {dataset.name!r} has no such video"
            )


def _check_current(captions: Mapping[str, str], features: Features) -> None:
    if not isinstance(features, Packed):
        return
    for id, text in captions.items():
        read = features.info(id).get("text", text)
        if read != text:
            raise DataError(
                f"caption {id!r} is {text!r} now, and was {read!r} when {features.path} was made; run prvr extract again"
            )


def _check_present(what: str, ids: Iterable[str], features: Features) -> None:
    wanted = list(ids)
    missing = [id for id in wanted if id not in features]
    if missing:
        raise DataError(
            f"no features for {what} {missing[0]!r} in {place(features)} ({len(missing)} of {len(wanted)} are missing). "
            "Extract them: prvr extract VIDEOS FEATURES --encoder NAME"
        )
