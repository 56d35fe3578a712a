"""A folder of features by name, read for training and evaluation: one that `prvr extract` keeps, or a published package.

FEATURES/<encoder>/frames      of every video
FEATURES/<encoder>/sentences   of every caption, for encoders with images and sentences in one space
FEATURES/<encoder>/words       of every caption, for text encoders

`prvr data convert` packs a published package in the same layout; ROOT/COLLECTION itself can be read in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prvr.datasets.published import is_package
from prvr.errors import DataError, nearest
from prvr.features import Features, FeatureSet, TeacherFeatures, columns, place
from prvr.features.joined import JoinedFeatures
from prvr.features.package import Package, open_package
from prvr.features.packed import Packed, is_packed
from prvr.features.sources import Reads, Source, joined


@dataclass(frozen=True)
class PackedShelf:
    """The packed folders below one folder."""

    root: Path

    def frames(self, name: str) -> Packed:
        """The frames of every video."""
        return self._packed(name, "frames")

    def text(self, name: str, kind: str) -> Packed:
        """The words or sentences of every caption."""
        return self._packed(name, kind)

    def teacher(self, name: str) -> TeacherFeatures:
        """An encoder's frames and sentences."""
        return TeacherFeatures(self._packed(name, "frames"), self._packed(name, "sentences"))

    def _packed(self, name: str, kind: str) -> Packed:
        path = self.root / name / kind
        if not is_packed(path):
            known = sorted(folder.parent.name for folder in self.root.glob(f"*/{kind}") if is_packed(folder))
            make = f"make them with: prvr extract VIDEOS {self.root}, or name the folder ROOT/COLLECTION of a package"
            hint = nearest(name, known) if known else f"there are none in {self.root}; {make}"
            raise DataError(f"no {kind} features of {name!r} in {self.root}; {hint}")
        return Packed(path)


def open_shelf(features: str | Path) -> Package | PackedShelf:
    """The features in a folder: a published package, or packed ones."""
    path = Path(features)
    return open_package(path) if is_package(path) else PackedShelf(path)


def student_features(features: str | Path, *, frames: str, words: str, teachers: Sequence[str] = ()) -> tuple[FeatureSet, Reads]:
    """What a student reads and is taught with, by the names of the encoders, and the sources for its checkpoint.

    Raises:
        DataError: features of that name and kind are not there; the nearest is suggested.
    """
    shelf = open_shelf(features)
    seen, read = _frames(shelf, frames), _text(shelf, words, "words")
    taught = []
    for name in teachers:
        coarser = taught_folder(Path(features), frames, name)
        student = Packed(coarser) if isinstance(seen, Packed) and "read" in seen.about and is_packed(coarser) else None
        taught.append(replace(shelf.teacher(name), student=student))
    return FeatureSet(seen, read, tuple(taught)), Reads(_source(frames, seen), _source(words, read))


def teacher_features(features: str | Path, name: str) -> tuple[FeatureSet, Reads]:
    """What the teacher alone reads: its frames, and its sentences as text."""
    teacher = open_shelf(features).teacher(name)
    return FeatureSet(teacher.frames, teacher.sentences), Reads(_source(name, teacher.frames), _source(name, teacher.sentences))


def features_read(features: str | Path, reads: Reads, *, text: str) -> FeatureSet:
    """The features of these sources, among those of a folder.

    Args:
        text: the kind of text features, "words" or "sentences".

    Raises:
        DataError: they are not there, or come from an encoder of that name with other weights.
    """
    shelf = open_shelf(features)
    found = _frames(shelf, reads.frames.name), _text(shelf, reads.text.name, text)
    for given, wanted in zip(found, (reads.frames, reads.text), strict=True):
        there = _source(wanted.name, given)
        if (there.fingerprint, there.rate) != (wanted.fingerprint, wanted.rate):
            raise DataError(
                f"{place(given)} is of {there.name!r} with fingerprint {there.fingerprint} at rate {there.rate}; "
                f"the model reads fingerprint {wanted.fingerprint} at rate {wanted.rate}: extract with that encoder"
            )
    return FeatureSet(*found)


def _frames(shelf: Package | PackedShelf, name: str) -> Features:
    """The frames of an encoder, or of several side by side: NAME+NAME."""
    return _joined([shelf.frames(each) for each in name.split("+")])


def _text(shelf: Package | PackedShelf, name: str, kind: str) -> Features:
    """The text of an encoder, or words with the sentences of others beside each: NAME+NAME."""
    first, *others = name.split("+")
    return _joined([shelf.text(first, kind), *(shelf.text(each, "sentences") for each in others)])


def _joined(parts: Sequence[Features]) -> Features:
    return parts[0] if len(parts) == 1 else JoinedFeatures([(part, columns(part)) for part in parts])


def _source(name: str, features: Features) -> Source:
    if isinstance(features, JoinedFeatures):
        parts = zip(name.split("+"), features.parts, strict=True)
        return joined([_source(each, part) for each, (part, _) in parts])
    if not isinstance(features, Packed):
        return Source(name, columns(features))
    encoder, rate = features.about["encoder"], features.about.get("rate")
    # Published features come from no encoder that could be opened here.
    return Source(encoder["name"], features.columns, features.source or None, encoder["fingerprint"], rate)


def taught_folder(root: Path, frames: str, teacher: str) -> Path:
    """Where the student's frames on a teacher's coarser grid lie."""
    return root / frames / "taught_by" / teacher
