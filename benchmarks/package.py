"""A made-up package of TVR's sizes, and a reader that works as the published code is described to."""

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
    """Writes a package in the published layout; its caption ids by video."""
    draw = np.random.default_rng(0)
    counts = frame_counts(videos, size, draw)
    frames = {f"v{n}": [f"v{n}_{k}" for k in range(count)] for n, count in enumerate(counts.tolist())}
    captions: Captions = {video: [] for video in frames}
    for query in range(queries):
        video = f"v{query * videos // queries}"
        captions[video].append(f"{video}#enc#{len(captions[video])}")
    features, texts = folder / "FeatureData" / FRAMES, folder / "TextData"
    for made in (features, texts):
        made.mkdir(parents=True)
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
        h5py.File(folder / "FeatureData" / f"new_clip_vit_32_{folder.name}_vid_features.hdf5", "w") as seen,
        h5py.File(texts / f"clip_ViT_B_32_{folder.name}_query_feat.hdf5", "w") as spoken,
        h5py.File(texts / f"roberta_{folder.name}_query_feat.hdf5", "w") as words,
    ):
        for video, ids in captions.items():
            seen[video] = _rows(draw, len(frames[video]), size.teacher_columns)
            for id, count in zip(ids, word_counts(len(ids), size, draw).tolist(), strict=True):
                spoken[id] = _rows(draw, 1, size.teacher_columns)
                words[id] = _rows(draw, count, size.word_columns)
    return captions


def packed(package: Path, out: Path, *, dtype: str) -> FeatureSet:
    """A package's features, packed as `prvr data convert` does."""
    convert_package(package, out, dtype="float16" if dtype == "float16" else "float32")
    return student_features(out, frames=FRAMES, words=WORDS, teachers=[TEACHER])


def unpacked(package: Path) -> FeatureSet:
    """A package's features as they lie there."""
    return student_features(package, frames=FRAMES, words=WORDS, teachers=[TEACHER])


def dataset(captions: Captions) -> Dataset:
    """The captions as a split."""
    every = tuple(Caption(id, video, "A person does something.") for video, ids in captions.items() for id in ids)
    return Dataset("bench", "test", every, tuple(captions))


class PlainReader:
    """A row at a time, as the specification describes the published code (spec/dl-dkd 2.1, 2.2 and 3)."""

    def __init__(self, folder: Path, captions: Captions, size: Size) -> None:
        features, texts = folder / "FeatureData", folder / "TextData"
        self.captions, self.rows, self.size = captions, features / FRAMES / "feature.bin", size
        names = (features / FRAMES / "id.txt").read_text().split()
        self.place = {name: place for place, name in enumerate(names)}
        self.frames: dict[str, list[str]] = {}
        for name in names:
            self.frames.setdefault(name.split("_")[0], []).append(name)
        self.seen = h5py.File(features / f"new_clip_vit_32_{folder.name}_vid_features.hdf5", "r")
        self.spoken = h5py.File(texts / f"clip_ViT_B_32_{folder.name}_query_feat.hdf5", "r")
        self.words = h5py.File(texts / f"roberta_{folder.name}_query_feat.hdf5", "r")

    def close(self) -> None:
        """Closes the files."""
        for file in (self.seen, self.spoken, self.words):
            file.close()

    def frame(self, name: str) -> list[float]:
        """One row: the file is opened, read at its place and closed, and the numbers become Python's."""
        columns = self.size.frame_columns
        with open(self.rows, "rb") as file:
            file.seek(self.place[name] * columns * 4)
            numbers: list[float] = np.frombuffer(file.read(columns * 4), np.float32).tolist()
        return numbers

    def video(self, video: str, teacher_rows: int | None = None) -> Float[np.ndarray, "F E"]:
        """A video's frames, sampled to the teacher's number first where there is one."""
        rows = np.array([self.frame(name) for name in self.frames[video]])
        if teacher_rows is not None:
            rows = sampled(rows, teacher_rows)
        return scaled(sampled(rows, self.size.frames))

    def caption(self, id: str) -> Float[np.ndarray, "W C"]:
        """A caption's words."""
        return scaled(self.words[id][...])[: self.size.words]

    def __call__(self, videos: list[str]) -> Batch:
        """A training batch."""
        teacher = [sampled(self.seen[video][...], self.size.frames) for video in videos]
        student = [self.video(video, len(self.seen[video])) for video in videos]
        ids = [id for video in videos for id in self.captions[video]]
        frames, mask = filled(student)
        texts, text_mask = filled([self.caption(id) for id in ids])
        target = torch.tensor([number for number, video in enumerate(videos) for _ in self.captions[video]])
        queries = torch.cat([torch.from_numpy(self.spoken[id][...]) for id in ids])
        return Batch(frames, mask, texts, text_mask, target, (TeacherBatch(filled(teacher)[0], queries),))


def sampled(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many rows, each a mean of several, one after the other."""
    if len(rows) <= most:
        return rows
    edges = np.minimum(np.round(np.arange(most + 1) / most * len(rows)).astype(int), len(rows) - 1)
    pairs = pairwise(edges)
    return np.array([rows[start] if start == stop else rows[start:stop].mean(0) for start, stop in pairs])


def scaled(rows: np.ndarray) -> np.ndarray:
    """Rows by their length and a little."""
    scaled: np.ndarray = rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + 1e-5)
    return scaled


def filled(sequences: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Sequences side by side in new tensors, and where they are."""
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
