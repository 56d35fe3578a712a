"""Features by the names of their encoders, from a folder that `prvr extract` writes or from a published package.

FEATURES/<encoder>/frames      of every video
FEATURES/<encoder>/sentences   of every caption, for encoders with images and sentences in one space
FEATURES/<encoder>/words       of every caption, for text encoders

`prvr data convert` packs a published package in the same layout, subtitles left out. ROOT/COLLECTION itself can be used in its
place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prvr.datasets.published import is_package
from prvr.errors import DataError, SettingError, nearest
from prvr.features import Features, FeatureSet, TeacherFeatures, columns, compare_lengths, place
from prvr.features.joined import JoinedFeatures
from prvr.features.object_storage import require_folder
from prvr.features.package import Package, open_package
from prvr.features.packed import Packed, is_packed
from prvr.features.sources import FeatureSources, Source, join_sources
from prvr.features.subtitles import SubtitledFrames


@dataclass(frozen=True)
class PackedShelf:
    """The packed features below a folder."""

    root: Path

    def frames(self, name: str) -> Packed:
        """The frames of every video."""
        return self._open(name, "frames")

    def text(self, name: str, kind: str) -> Packed:
        """The words or sentences of every caption."""
        return self._open(name, kind)

    def teacher(self, name: str) -> TeacherFeatures:
        """An encoder's frames and sentences."""
        return TeacherFeatures(self._open(name, "frames"), self._open(name, "sentences"))

    def subtitles(self, name: str) -> Features:
        """Raises DataError: subtitles are not packed."""
        raise DataError(f"no subtitles {name!r} in {self.root}; they are read from a package: name its folder ROOT/COLLECTION")

    def _open(self, name: str, kind: str) -> Packed:
        path = self.root / name / kind
        if not is_packed(path):
            known = sorted(folder.parent.name for folder in self.root.glob(f"*/{kind}") if is_packed(folder))
            option = "--words" if kind == "words" else "--encoder"
            make = f"make them with: prvr extract VIDEOS {self.root} {option} ENCODER"
            none = f"there are none of any encoder; {make}, or name the folder ROOT/COLLECTION of a package"
            hint = nearest(name, known) if known else none
            raise DataError(f"no {kind} features of {name!r} in {self.root}; {hint}")
        return Packed(path)


def open_shelf(features: str | Path) -> Package | PackedShelf:
    """Opens the features in a folder: a published package or packed features."""
    require_folder(features)
    path = Path(features)
    return open_package(path) if is_package(path) else PackedShelf(path)


def student_features(
    features: str | Path,
    *,
    words: str,
    frames: str | None = None,
    teachers: Sequence[str] = (),
    sentences_alone: bool = False,
    subtitles: str | None = None,
) -> FeatureSet:
    """The features that a student reads and those of its teachers, by the names of the encoders.

    Args:
        words, frames: names of encoders; NAME+NAME for features side by side. By default frames are the first teacher's.
        sentences_alone: the teachers' frames are not read, and may be missing (`Distillation.uses_teacher_scores`).
        subtitles: the name of subtitle features of a package, which follow the columns of the frames; None for none.

    Raises:
        SettingError: neither frames nor a teacher were named.
        DataError: features of that name and kind are missing; the message suggests the nearest name.
    """
    if frames is None:
        if not teachers:
            raise SettingError("no frame features were named; name a teacher, or frames to train without a teacher")
        frames = teachers[0]
    shelf = open_shelf(features)
    student_frames, student_words = _frames(shelf, frames), _text(shelf, words, "words")
    of_teachers = []
    for name in teachers:
        if sentences_alone:
            of_teachers.append(TeacherFeatures(None, shelf.text(name, "sentences")))
            continue
        coarser = taught_folder(Path(features), frames, name)
        sampled = isinstance(student_frames, Packed) and "read" in student_frames.about and is_packed(coarser)
        of_teachers.append(replace(shelf.teacher(name), student=Packed(coarser) if sampled else None))
    sources = FeatureSources(_source(frames, student_frames), _source(words, student_words))
    return _with_subtitles(shelf, subtitles, FeatureSet(student_frames, student_words, sources, tuple(of_teachers)))


def lengths_beside_teachers(features: FeatureSet, videos: Sequence[str]) -> dict[str, str]:
    """Returns, by the place of its frames, where a teacher has another number of frames than the student."""
    theirs = [teacher.frames for teacher in features.teachers if teacher.frames is not None]
    notes = {place(frames): compare_lengths(features.frames, frames, videos) for frames in theirs}
    return {where: note for where, note in notes.items() if note}


def teacher_features(features: str | Path, name: str) -> FeatureSet:
    """The features that a teacher alone reads: its frames, and its sentences as text.

    Raises:
        DataError: as `student_features`.
    """
    teacher = open_shelf(features).teacher(name)
    assert teacher.frames is not None
    sources = FeatureSources(_source(name, teacher.frames), _source(name, teacher.sentences))
    return FeatureSet(teacher.frames, teacher.sentences, sources)


def find_features(features: str | Path, sources: FeatureSources, *, text: str) -> FeatureSet:
    """The features of these sources, among those in a folder.

    Args:
        text: the kind of text features, "words" or "sentences".

    Raises:
        DataError: they are missing, or an encoder of that name with other weights made them.
    """
    shelf = open_shelf(features)
    frames, texts = _frames(shelf, sources.frames.name), _text(shelf, sources.text.name, text)
    for found, expected in ((frames, sources.frames), (texts, sources.text)):
        actual = _source(expected.name, found)
        if (actual.fingerprint, actual.rate) != (expected.fingerprint, expected.rate):
            raise DataError(
                f"{place(found)} is of {actual.name!r} with fingerprint {actual.fingerprint} at rate {actual.rate}; "
                f"the model reads fingerprint {expected.fingerprint} at rate {expected.rate}: extract with that encoder"
            )
    subtitles = sources.subtitles.name if sources.subtitles is not None else None
    return _with_subtitles(shelf, subtitles, FeatureSet(frames, texts, sources))


def _with_subtitles(shelf: Package | PackedShelf, name: str | None, features: FeatureSet) -> FeatureSet:
    """The features with these subtitles beside the frames; themselves without a name."""
    if name is None:
        return features
    joined = SubtitledFrames(features.frames, shelf.subtitles(name))
    return replace(features, frames=joined, sources=replace(features.sources, subtitles=Source(name, joined.subtitle_columns)))


def _frames(shelf: Package | PackedShelf, name: str) -> Features:
    """The frames of an encoder, or those of several side by side (NAME+NAME)."""
    return _side_by_side([shelf.frames(each) for each in name.split("+")])


def _text(shelf: Package | PackedShelf, name: str, kind: str) -> Features:
    """The text of an encoder, or its words with the sentences of others beside each word (NAME+NAME)."""
    first, *others = name.split("+")
    return _side_by_side([shelf.text(first, kind), *(shelf.text(each, "sentences") for each in others)])


def _side_by_side(parts: Sequence[Features]) -> Features:
    return parts[0] if len(parts) == 1 else JoinedFeatures([(part, columns(part)) for part in parts])


def _source(name: str, features: Features) -> Source:
    if isinstance(features, JoinedFeatures):
        parts = zip(name.split("+"), features.parts, strict=True)
        return join_sources([_source(each, part) for each, (part, _) in parts])
    if not isinstance(features, Packed):
        return Source(name, columns(features))
    encoder, rate = features.about["encoder"], features.about.get("rate")
    # Features of a package come from no encoder that prvr could open.
    return Source(encoder["name"], features.columns, features.source or None, encoder["fingerprint"], rate)


def taught_folder(root: Path, frames: str, teacher: str) -> Path:
    """The folder of the student's frames on a teacher's coarser grid."""
    return root / frames / "taught_by" / teacher
