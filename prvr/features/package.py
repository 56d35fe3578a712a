"""A published feature package, in the layout of DL-DKD and its relatives, as what a student reads and is taught with.

ROOT/COLLECTION/FeatureData/<visual feature>            frames: a BigFile, an HDF5 file or npz files
ROOT/COLLECTION/TextData/<text feature>_COLLECTION_query_feat.hdf5      words
ROOT/COLLECTION/FeatureData/<teacher>_COLLECTION_vid_features.hdf5      a teacher's frames
ROOT/COLLECTION/TextData/<teacher>_COLLECTION_query_feat.hdf5           its sentences

The teacher of the packages has two names, which here are one: `clip_vit_b32`. The captions beside these files are read by
`prvr.datasets.published`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prvr.errors import DataError, nearest
from prvr.features import Features, FeatureSet, TeacherFeatures, columns, open_features, place
from prvr.features.bigfile import is_bigfile
from prvr.features.hdf5 import Hdf5Features
from prvr.features.npz import is_npz_folder
from prvr.features.sources import Reads, Source

# By the name of a teacher whose two files are named differently: what stands before the collection in each.
TEACHERS = {"clip_vit_b32": ("new_clip_vit_32", "clip_ViT_B_32")}
FRAMES, TEXT = "vid_features.hdf5", "query_feat.hdf5"
LONG, SHORT = "#enc#", "#"


@dataclass(frozen=True)
class Package:
    """A folder ROOT/COLLECTION; `visual`, `words` and `teachers` are the files that it has, by name of the features.

    teachers: the file of its frames and that of its sentences.
    """

    path: Path
    visual: Mapping[str, Path]
    words: Mapping[str, Path]
    teachers: Mapping[str, tuple[Path, Path]]

    def frames(self, name: str) -> Features:
        """Frames that a student reads; those of a teacher will do, too.

        Raises:
            DataError: there are none of that name, or they are broken.
        """
        folder = self.path / "FeatureData"
        if name in self.teachers:
            return Hdf5Features(self.teachers[name][0])
        if name not in self.visual:
            known = [*self.visual, *self.teachers]
            hint = nearest(name, known) if known else "there are none; a package has them as ROOT/COLLECTION/FeatureData/NAME"
            raise DataError(f"no frame features {name!r} in {folder}; {hint}")
        return open_features(self.visual[name])

    def text(self, name: str, kind: str) -> Features:
        """What a student reads of captions: `words`, or the `sentences` of a teacher.

        Raises:
            DataError: as `frames`.
        """
        if kind == "sentences":
            return self.teacher(name).sentences
        if name not in self.words:
            path = self.path / "TextData" / f"{name}_{self.path.name}_{TEXT}"
            hint = nearest(name, self.words) if self.words else "copy the file from the package"
            raise DataError(f"no words at {path}; {hint}")
        return CaptionKeys(Hdf5Features(self.words[name]))

    def teacher(self, name: str) -> TeacherFeatures:
        """A teacher's frames and sentences.

        Raises:
            DataError: as `frames`.
        """
        if name not in self.teachers:
            raise DataError(self._missing(name))
        frames, sentences = (Hdf5Features(path) for path in self.teachers[name])
        return TeacherFeatures(frames, CaptionKeys(sentences))

    def _missing(self, name: str) -> str:
        without = "; without a teacher a student can still be trained: preset no-distillation"
        files = _teacher_files(self.path, name)
        if name in TEACHERS or any(file.is_file() for file in files):
            what, path = ("frames", files[0]) if not files[0].is_file() else ("sentences", files[1])
            return f"no {what} of the teacher at {path}; copy the file from the package{without}"
        return f"no published files are known of the teacher {name!r}; {nearest(name, {*TEACHERS, *self.teachers})}"


def open_package(path: str | Path) -> Package:
    """A published package by its folder ROOT/COLLECTION; what is not there is told when it is asked for."""
    path = Path(os.path.abspath(path))
    spoken = _named(path / "TextData", f"_{path.name}_{TEXT}")
    seen = _named(path / "FeatureData", f"_{path.name}_{FRAMES}")
    pairs = {name: _teacher_files(path, name) for name in (*TEACHERS, *(name for name in seen if name in spoken))}
    teachers = {name: files for name, files in pairs.items() if all(file.is_file() for file in files)}
    sentences = {file for name in pairs for file in pairs[name]}
    words = {name: file for name, file in spoken.items() if file not in sentences}
    return Package(path, _visual(path / "FeatureData"), words, teachers)


def published_features(
    root: str | Path, collection: str, *, visual_feature: str, teacher: str | None = "clip_vit_b32", words: str = "roberta"
) -> tuple[FeatureSet, Reads]:
    """What a student reads and is taught with, and the sources for its checkpoint.

    Args:
        visual_feature: of FeatureData, such as `i3d_resnet` (TVR), `i3d` (ActivityNet), `i3d_rgb_lgi` (Charades).
        teacher: None for a student without distillation; the teacher's files need not be there then.
        words: a text feature of TextData.

    Raises:
        DataError: a file is not there or broken.
    """
    package = open_package(Path(root) / collection)
    frames, text = package.frames(visual_feature), package.text(words, "words")
    teachers = (package.teacher(teacher),) if teacher is not None else ()
    reads = Reads(Source(visual_feature, columns(frames)), Source(words, columns(text)))
    return FeatureSet(frames, text, teachers), reads


class CaptionKeys(Mapping[str, np.ndarray]):
    """Features of captions under either spelling of an id: `VIDEO#enc#NUMBER` as in caption files, or `VIDEO#NUMBER`.

    A file keeps to one spelling; which one, its first key says.
    """

    def __init__(self, features: Features) -> None:
        self.path = Path(place(features))
        self._features = features
        self._long = LONG in next(iter(features), "")

    def __getitem__(self, id: str) -> np.ndarray:
        return self._features[self._key(id)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and self._key(id) in self._features

    def _key(self, id: str) -> str:
        short = short_spelling(id)
        return short.replace(SHORT, LONG, 1) if self._long else short


def short_spelling(id: str) -> str:
    """A caption's id as `VIDEO#NUMBER`."""
    return id.replace(LONG, SHORT, 1)


def _teacher_files(path: Path, name: str) -> tuple[Path, Path]:
    seen, spoken = TEACHERS.get(name, (name, name))
    return path / "FeatureData" / f"{seen}_{path.name}_{FRAMES}", path / "TextData" / f"{spoken}_{path.name}_{TEXT}"


def _named(folder: Path, ending: str) -> dict[str, Path]:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {file.name.removesuffix(ending): file for file in files if file.name.endswith(ending)}


def _visual(folder: Path) -> dict[str, Path]:
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir() and (is_bigfile(path) or is_npz_folder(path)):
            found[path.name] = path
        elif path.suffix in (".h5", ".hdf5") and not path.name.endswith("_" + FRAMES):
            found[path.stem] = path
    return found
