"""A random package of TVR's size, and a reader that works as the published code is described to."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.batches import frame_counts, word_counts
from benchmarks.measure import Size
from prvr.batch import Batch, TeacherBatch
from prvr.datasets import Caption, Dataset
from prvr.extract.convert import convert_package
from prvr.features import FeatureSet
from prvr.features.shelf import student_features

FRAMES, WORDS, TEACHER = "i3d_resnet", "roberta", "clip_vit_b32"
Captions = dict[str, list[str]]


def make_package(folder: Path, videos: int, queries: int, size: Size) -> Captions:
    """Writes a package in the published layout; returns its caption ids by video."""
    draw = np.random.default_rng(0)
    counts = frame_counts(videos, size, draw)
    frames = {f"v{n}": [f"v{n}_{k}" for k in range(count)] for n, count in enumerate(counts.tolist())}
    captions: Captions = {video: [] for video in frames}
    for query in range(queries):
        video = f"v{query * videos // queries}"
        captions[video].append(f"{video}#enc#{len(captions[video])}")
    features, texts = folder / "FeatureData" / FRAMES, folder / "TextData"
    for path in (features, texts):
        path.mkdir(parents=True)
    names = [name for its in frames.values() for name in its]
    with open(features / "feature.bin", "wb") as file:
        for its in frames.values():
            file.write(_rows(draw, len(its), size.frame_columns).tobytes())
    (features / "shape.txt").write_text(f"{len(names)} {size.frame_columns}")
    (features / "id.txt").write_text(" ".join(names))
    (features / "video2frames.txt").write_text(repr(frames))
    lines = [f"{id} A person does something.\n" for ids in captions.values() for id in ids]
    (texts / f"{folder.name}train.caption.txt").write_text("".join(lines))
    with (
        h5py.File(folder / "FeatureData" / f"new_clip_vit_32_{folder.name}_vid_features.hdf5", "w") as teacher_frames,
        h5py.File(texts / f"clip_ViT_B_32_{folder.name}_query_feat.hdf5", "w") as teacher_queries,
        h5py.File(texts / f"roberta_{folder.name}_query_feat.hdf5", "w") as words,
    ):
        for video, ids in captions.items():
            teacher_frames[video] = _rows(draw, len(frames[video]), size.teacher_columns)
            for id, count in zip(ids, word_counts(len(ids), size, draw).tolist(), strict=True):
                teacher_queries[id] = _rows(draw, 1, size.teacher_columns)
                words[id] = _rows(draw, count, size.word_columns)
    return captions


def pack_features(package: Path, out: Path, *, dtype: str) -> FeatureSet:
    """Packs a package's features as `prvr data convert` does, and opens them."""
    convert_package(package, out, dtype="float16" if dtype == "float16" else "float32")
    return student_features(out, frames=FRAMES, words=WORDS, teachers=[TEACHER])[0]


def features_as_published(package: Path) -> FeatureSet:
    """Opens a package's features in their published files."""
    return student_features(package, frames=FRAMES, words=WORDS, teachers=[TEACHER])[0]


def make_dataset(captions: Captions) -> Dataset:
    """Returns the captions as a split."""
    every = tuple(Caption(id, video, "A person does something.") for video, ids in captions.items() for id in ids)
    return Dataset("bench", "test", every, tuple(captions))


class PlainReader:
    """Reads a row at a time, as the published code is described to."""

    def __init__(self, folder: Path, captions: Captions, size: Size) -> None:
        features, texts = folder / "FeatureData", folder / "TextData"
        self.captions, self.rows, self.size = captions, features / FRAMES / "feature.bin", size
        names = (features / FRAMES / "id.txt").read_text().split()
        self.place = {name: place for place, name in enumerate(names)}
        self.frames: dict[str, list[str]] = {}
        for name in names:
            self.frames.setdefault(name.split("_")[0], []).append(name)
        self.teacher_frames = h5py.File(features / f"new_clip_vit_32_{folder.name}_vid_features.hdf5", "r")
        self.teacher_queries = h5py.File(texts / f"clip_ViT_B_32_{folder.name}_query_feat.hdf5", "r")
        self.words = h5py.File(texts / f"roberta_{folder.name}_query_feat.hdf5", "r")

    def close(self) -> None:
        """Closes the files."""
        for file in (self.teacher_frames, self.teacher_queries, self.words):
            file.close()

    def frame(self, name: str) -> list[float]:
        """Returns one row: opens the file, reads the row, closes the file and converts the numbers to Python's."""
        columns = self.size.frame_columns
        with open(self.rows, "rb") as file:
            file.seek(self.place[name] * columns * 4)
            numbers: list[float] = np.frombuffer(file.read(columns * 4), np.float32).tolist()
        return numbers

    def video(self, video: str, teacher_rows: int | None = None) -> Float[np.ndarray, "F E"]:
        """Returns a video's frames, resampled to the teacher's number first if one is given."""
        rows = np.array([self.frame(name) for name in self.frames[video]])
        if teacher_rows is not None:
            rows = resample_rows(rows, teacher_rows)
        return scale_rows(resample_rows(rows, self.size.frames))

    def caption(self, id: str) -> Float[np.ndarray, "W C"]:
        """Returns a caption's words."""
        return scale_rows(self.words[id][...])[: self.size.words]

    def __call__(self, videos: list[str]) -> Batch:
        """Returns a training batch."""
        teacher = [resample_rows(self.teacher_frames[video][...], self.size.frames) for video in videos]
        student = [self.video(video, len(self.teacher_frames[video])) for video in videos]
        ids = [id for video in videos for id in self.captions[video]]
        frames, mask = pad_rows(student)
        texts, text_mask = pad_rows([self.caption(id) for id in ids])
        target = torch.tensor([number for number, video in enumerate(videos) for _ in self.captions[video]])
        queries = torch.cat([torch.from_numpy(self.teacher_queries[id][...]) for id in ids])
        return Batch(frames, mask, texts, text_mask, target, (TeacherBatch(pad_rows(teacher)[0], queries),))


def resample_rows(rows: np.ndarray, most: int) -> np.ndarray:
    """Returns at most `most` rows, each the mean of several, computed one after the other."""
    if len(rows) <= most:
        return rows
    edges = np.minimum(np.round(np.arange(most + 1) / most * len(rows)).astype(int), len(rows) - 1)
    pairs = pairwise(edges)
    return np.array([rows[start] if start == stop else rows[start:stop].mean(0) for start, stop in pairs])


def scale_rows(rows: np.ndarray) -> np.ndarray:
    """Divides rows by their length plus 1e-5."""
    scaled: np.ndarray = rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + 1e-5)
    return scaled


def pad_rows(sequences: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Returns sequences in a new padded tensor, and the mask of their rows."""
    longest = max(map(len, sequences))
    padded, mask = (
        torch.zeros(len(sequences), longest, sequences[0].shape[1]),
        torch.zeros(len(sequences), longest, dtype=torch.bool),
    )
    for place, rows in enumerate(sequences):
        padded[place, : len(rows)] = torch.from_numpy(rows)
        mask[place, : len(rows)] = True
    return padded, mask


def _rows(draw: np.random.Generator, count: int, columns: int) -> np.ndarray:
    return draw.standard_normal((count, columns), np.float32)
