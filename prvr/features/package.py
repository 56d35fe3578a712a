"""A published feature package, in the layout of DL-DKD and its relatives.

ROOT/COLLECTION/FeatureData/<visual feature>            frames: a BigFile, an HDF5 file or npz files
ROOT/COLLECTION/TextData/<text feature>_COLLECTION_query_feat.hdf5      words
ROOT/COLLECTION/FeatureData/<teacher>_COLLECTION_vid_features.hdf5      a teacher's frames
ROOT/COLLECTION/TextData/<teacher>_COLLECTION_query_feat.hdf5           its sentences
ROOT/COLLECTION/TextData/<subtitles>_COLLECTION_sub_feat.hdf5           what is said, a row for each clip of a video; also by
                                                                        the name that TVR releases, COLLECTION_sub_<subtitles>.h5

The files of the packages' teacher have two names; here both are `clip_vit_b32`. `prvr.datasets.published` reads the captions
of a package.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prvr.errors import DataError, nearest
from prvr.features import Features, FeatureSet, OneWidth, TeacherFeatures, columns, open_features, place
from prvr.features.bigfile import is_bigfile
from prvr.features.hdf5 import Hdf5Features
from prvr.features.npz import is_npz_folder
from prvr.features.sources import FeatureSources, Source

# Teachers whose two files have different names: what precedes the collection in the name of each file.
TEACHERS = {"clip_vit_b32": ("new_clip_vit_32", "clip_ViT_B_32")}
FRAMES, TEXT, SUBTITLES = "vid_features.hdf5", "query_feat.hdf5", "sub_feat.hdf5"
LONG, SHORT = "#enc#", "#"


@dataclass(frozen=True)
class Package:
    """A folder ROOT/COLLECTION; `visual`, `words`, `teachers` and `spoken` are its files by name of the features.

    teachers: for each, the file of frames and the file of sentences. spoken: the files of subtitles.
    """

    path: Path
    visual: Mapping[str, Path]
    words: Mapping[str, Path]
    teachers: Mapping[str, tuple[Path, Path]]
    spoken: Mapping[str, Path]

    def frames(self, name: str) -> Features:
        """The frames of that name, a teacher's included.

        Raises:
            DataError: the package has none of that name, or they are broken.
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
        """The text features of captions: `words`, or the `sentences` of a teacher.

        Raises:
            DataError: as `frames`.
        """
        if kind == "sentences":
            spoken = _teacher_files(self.path, name)[1]
            return CaptionKeys(Hdf5Features(spoken)) if spoken.is_file() else self.teacher(name).sentences
        if name not in self.words:
            path = self.path / "TextData" / f"{name}_{self.path.name}_{TEXT}"
            hint = nearest(name, self.words) if self.words else "copy the file from the package"
            raise DataError(f"no words at {path}; {hint}")
        return CaptionKeys(Hdf5Features(self.words[name]))

    def subtitles(self, name: str) -> Features:
        """The subtitles of that name.

        Raises:
            DataError: as `frames`.
        """
        if name not in self.spoken:
            file = self.path / "TextData" / f"{name}_{self.path.name}_{SUBTITLES}"
            hint = (
                nearest(name, self.spoken) if self.spoken else "the package has none; copy them there, or leave out --subtitles"
            )
            raise DataError(f"no subtitles at {file}; {hint}")
        return Hdf5Features(self.spoken[name])

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
        return f"the package has no files of the teacher {name!r}; {nearest(name, {*TEACHERS, *self.teachers})}"


def open_package(path: str | Path) -> Package:
    """Opens a published package by its folder ROOT/COLLECTION. Missing files are reported when they are first needed."""
    path = Path(os.path.abspath(path))
    texts = _files_by_name(path / "TextData", f"_{path.name}_{TEXT}")
    frames = _files_by_name(path / "FeatureData", f"_{path.name}_{FRAMES}")
    pairs = {name: _teacher_files(path, name) for name in (*TEACHERS, *(name for name in frames if name in texts))}
    teachers = {name: files for name, files in pairs.items() if all(file.is_file() for file in files)}
    sentences = {file for name in pairs for file in pairs[name]}
    words = {name: file for name, file in texts.items() if file not in sentences}
    released = f"{path.name}_sub_"
    spoken = {
        name.removeprefix(released): file
        for name, file in _files_by_name(path / "TextData", ".h5").items()
        if name.startswith(released)
    }
    spoken |= _files_by_name(path / "TextData", f"_{path.name}_{SUBTITLES}")
    return Package(path, _visual(path / "FeatureData"), words, teachers, spoken)


def published_features(
    root: str | Path, collection: str, *, visual_feature: str, teacher: str | None = "clip_vit_b32", words: str = "roberta"
) -> FeatureSet:
    """The features of a package that a student reads, and those of its teacher.

    Args:
        visual_feature: of FeatureData, such as `i3d_resnet` (TVR), `i3d` (ActivityNet), `i3d_rgb_lgi` (Charades).
        teacher: None for a student without distillation; the teacher's files may be missing then.
        words: a text feature of TextData.

    Raises:
        DataError: a file is missing or broken.
    """
    package = open_package(Path(root) / collection)
    frames, text = package.frames(visual_feature), package.text(words, "words")
    teachers = (package.teacher(teacher),) if teacher is not None else ()
    sources = FeatureSources(Source(visual_feature, columns(frames)), Source(words, columns(text)))
    return FeatureSet(frames, text, sources, teachers)


class CaptionKeys(Mapping[str, np.ndarray]):
    """Features of captions under either spelling of an id: `VIDEO#enc#NUMBER` as in caption files, or `VIDEO#NUMBER`.

    A file has one spelling; its first key shows which.
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

    def usual_width(self, rows: np.ndarray) -> int:
        """The columns that most items have."""
        return self._features.usual_width(rows) if isinstance(self._features, OneWidth) else int(rows.shape[1])

    def _key(self, id: str) -> str:
        short = short_spelling(id)
        return short.replace(SHORT, LONG, 1) if self._long else short


def short_spelling(id: str) -> str:
    """A caption's id as `VIDEO#NUMBER`."""
    return id.replace(LONG, SHORT, 1)


def _teacher_files(path: Path, name: str) -> tuple[Path, Path]:
    frames, text = TEACHERS.get(name, (name, name))
    return path / "FeatureData" / f"{frames}_{path.name}_{FRAMES}", path / "TextData" / f"{text}_{path.name}_{TEXT}"


def _files_by_name(folder: Path, ending: str) -> dict[str, Path]:
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
