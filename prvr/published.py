"""A published feature package, in the layout of DL-DKD and its relatives, as what a student reads and is taught with.

ROOT/COLLECTION/FeatureData/<visual feature>/                               frames, a BigFile
ROOT/COLLECTION/FeatureData/new_clip_vit_32_COLLECTION_vid_features.hdf5    the teacher's frames
ROOT/COLLECTION/TextData/roberta_COLLECTION_query_feat.hdf5                 words
ROOT/COLLECTION/TextData/clip_ViT_B_32_COLLECTION_query_feat.hdf5           the teacher's sentences

The captions beside them are read by `prvr.datasets.published`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from prvr.checkpoint import Reads, Source
from prvr.errors import DataError, nearest
from prvr.features import FeatureSet, TeacherFeatures, columns
from prvr.features.bigfile import BigFile, is_bigfile
from prvr.features.hdf5 import Hdf5Features

# By the name of the teacher: the files of its frames and of its sentences.
TEACHERS = {"clip_vit_b32": ("new_clip_vit_32_{}_vid_features.hdf5", "clip_ViT_B_32_{}_query_feat.hdf5")}
LONG, SHORT = "#enc#", "#"


def published_features(
    root: str | Path, collection: str, *, visual_feature: str, teacher: str | None = "clip_vit_b32"
) -> tuple[FeatureSet, Reads]:
    """What a student reads and is taught with, and the sources for its checkpoint.

    Args:
        visual_feature: a folder of FeatureData, such as `i3d_resnet` (TVR), `i3d` (ActivityNet), `i3d_rgb_lgi` (Charades).
        teacher: None for a student without distillation; the teacher's files need not be there then.

    Raises:
        DataError: a file is not there or broken.
    """
    videos, texts = (Path(root) / collection / folder for folder in ("FeatureData", "TextData"))
    frames = _frames(videos, visual_feature)
    words = CaptionKeys(_hdf5("words", texts / f"roberta_{collection}_query_feat.hdf5"))
    teachers = (_teacher(teacher, videos, texts, collection),) if teacher is not None else ()
    reads = Reads(Source(visual_feature, frames.columns), Source("roberta", columns(words)))
    return FeatureSet(frames, words, teachers), reads


class CaptionKeys(Mapping[str, np.ndarray]):
    """Features of captions under either spelling of an id: `VIDEO#enc#NUMBER` as in caption files, or `VIDEO#NUMBER`.

    A file keeps to one spelling; which one, its first key says.
    """

    def __init__(self, features: Hdf5Features) -> None:
        self.path = features.path
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
        short = id.replace(LONG, SHORT, 1)
        return short.replace(SHORT, LONG, 1) if self._long else short


def _frames(folder: Path, name: str) -> BigFile:
    if not is_bigfile(folder / name):
        known = sorted(path.name for path in folder.glob("*") if is_bigfile(path))
        hint = nearest(name, known) if known else "there are none; a package has them as ROOT/COLLECTION/FeatureData/NAME"
        raise DataError(f"no frame features {name!r} in {folder}; {hint}")
    return BigFile(folder / name)


def _teacher(name: str, videos: Path, texts: Path, collection: str) -> TeacherFeatures:
    if name not in TEACHERS:
        raise DataError(f"no published files are known of the teacher {name!r}; {nearest(name, TEACHERS)}")
    seen, spoken = (file.format(collection) for file in TEACHERS[name])
    without = "; without a teacher a student can still be trained: preset no-distillation"
    frames = _hdf5("frames of the teacher", videos / seen, otherwise=without)
    return TeacherFeatures(frames, CaptionKeys(_hdf5("sentences of the teacher", texts / spoken, otherwise=without)))


def _hdf5(what: str, path: Path, *, otherwise: str = "") -> Hdf5Features:
    if not path.is_file():
        raise DataError(f"no {what} at {path}; copy the file from the package{otherwise}")
    return Hdf5Features(path)
