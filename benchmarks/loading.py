"""Loading one training batch from a packed package, beside a reader that works as the published code is described to.

    python benchmarks/loading.py [--videos 256 --batch 128]

A made-up package of TVR's sizes: 3,072 columns, about 50 frames a video, five captions of about 15 words, a teacher of as
many frames. The plain reader opens `feature.bin` anew for each frame, seeks, reads, and turns the row into a Python list;
it reads each caption by itself through h5py, samples and normalises in float64, and collates. Both end in the same tensors.
Ours uses its memory again for each batch, as a training loop can; the plain one makes new tensors, as a loader does. One
thread, files in the page cache, medians of alternating runs over batches drawn at random; prints the ratios.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import torch

from prvr.batch import Batch, Memory, Reading, TeacherBatch, collate, video_item
from prvr.convert import convert_package
from prvr.features import FeatureSet
from prvr.workspace import student_features

COLUMNS, WORDS, TEACHER = 3072, 768, 512
READING = Reading(COLUMNS, WORDS, 128, 30, unit=True, text="words")
NAMES = {"frames": "i3d_resnet", "words": "roberta"}

Captions = dict[str, list[str]]
Load = Callable[[list[str]], Batch]


def make_package(folder: Path, videos: int) -> Captions:
    random_numbers = np.random.default_rng(0)

    def rows(count: int, columns: int) -> np.ndarray:
        return random_numbers.standard_normal((count, columns), np.float32)

    frames = {f"v{n}": [f"v{n}_{k}" for k in range(random_numbers.integers(38, 63))] for n in range(videos)}
    captions = {video: [f"{video}#enc#{k}" for k in range(5)] for video in frames}
    features, texts = folder / "FeatureData" / "i3d_resnet", folder / "TextData"
    for made in (features, texts):
        made.mkdir(parents=True)
    names = [name for its in frames.values() for name in its]
    with open(features / "feature.bin", "wb") as file:
        for its in frames.values():
            file.write(rows(len(its), COLUMNS).tobytes())
    (features / "shape.txt").write_text(f"{len(names)} {COLUMNS}")
    (features / "id.txt").write_text(" ".join(names))
    (features / "video2frames.txt").write_text(repr(frames))
    lines = [f"{id} A person does something.\n" for ids in captions.values() for id in ids]
    (texts / "tvrtrain.caption.txt").write_text("".join(lines))
    with (
        h5py.File(folder / "FeatureData" / "new_clip_vit_32_tvr_vid_features.hdf5", "w") as seen,
        h5py.File(texts / "clip_ViT_B_32_tvr_query_feat.hdf5", "w") as spoken,
        h5py.File(texts / "roberta_tvr_query_feat.hdf5", "w") as words,
    ):
        for video, ids in captions.items():
            seen[video] = rows(len(frames[video]), TEACHER)
            for id in ids:
                spoken[id] = rows(1, TEACHER)
                words[id] = rows(random_numbers.integers(8, 24), WORDS)
    return captions


class PlainReader:
    """A row at a time, as the specification describes the published code (spec/dl-dkd 2.1, 2.2 and 3)."""

    def __init__(self, folder: Path, captions: Captions) -> None:
        features, texts = folder / "FeatureData", folder / "TextData"
        self.captions, self.rows = captions, features / "i3d_resnet" / "feature.bin"
        names = (features / "i3d_resnet" / "id.txt").read_text().split()
        self.place = {name: place for place, name in enumerate(names)}
        self.frames: dict[str, list[str]] = {}
        for name in names:
            self.frames.setdefault(name.split("_")[0], []).append(name)
        self.seen = h5py.File(features / "new_clip_vit_32_tvr_vid_features.hdf5", "r")
        self.spoken = h5py.File(texts / "clip_ViT_B_32_tvr_query_feat.hdf5", "r")
        self.words = h5py.File(texts / "roberta_tvr_query_feat.hdf5", "r")

    def frame(self, name: str) -> list[float]:
        with open(self.rows, "rb") as file:
            file.seek(self.place[name] * COLUMNS * 4)
            return np.frombuffer(file.read(COLUMNS * 4), np.float32).tolist()

    def __call__(self, videos: list[str]) -> Batch:
        teacher = [sampled(self.seen[video][...], 128) for video in videos]
        rows = [np.array([self.frame(name) for name in self.frames[video]]) for video in videos]
        student = [scaled(sampled(sampled(own, len(self.seen[v])), 128)) for own, v in zip(rows, videos, strict=True)]
        ids = [id for video in videos for id in self.captions[video]]
        words = [scaled(self.words[id][...])[:30] for id in ids]
        frames, mask = filled(student)
        texts, text_mask = filled(words)
        target = torch.tensor([number for number, video in enumerate(videos) for _ in self.captions[video]])
        queries = torch.cat([torch.from_numpy(self.spoken[id][...]) for id in ids])
        return Batch(frames, mask, texts, text_mask, target, (TeacherBatch(filled(teacher)[0], queries),))


def sampled(rows: np.ndarray, most: int) -> np.ndarray:
    if len(rows) <= most:
        return rows
    edges = np.minimum(np.round(np.arange(most + 1) / most * len(rows)).astype(int), len(rows) - 1)
    pairs = pairwise(edges)
    return np.array([rows[start] if start == stop else rows[start:stop].mean(0) for start, stop in pairs])


def scaled(rows: np.ndarray) -> np.ndarray:
    return rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + 1e-5)


def filled(sequences: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, sequences))
    padded, mask = torch.zeros(len(sequences), longest, sequences[0].shape[1]), torch.zeros(len(sequences), longest, dtype=bool)
    for place, rows in enumerate(sequences):
        padded[place, : len(rows)] = torch.from_numpy(rows)
        mask[place, : len(rows)] = True
    return padded, mask


def packed_reader(folder: Path, out: Path, captions: Captions, dtype: str) -> Load:
    began = time.perf_counter()
    convert_package(folder, out, dtype=dtype)
    size = sum(file.stat().st_size for file in out.rglob("*")) / 1e6
    print(f"packing as {dtype}: {time.perf_counter() - began:.1f} s, {size:.0f} MB")
    return reader(student_features(out, **NAMES, teachers=["clip_vit_b32"])[0], captions)


def reader(features: FeatureSet, captions: Captions) -> Load:
    memory = Memory()
    return lambda videos: collate([video_item(video, captions[video], features, READING) for video in videos], memory)


def same(ours: Batch, plain: Batch, *, atol: float) -> bool:
    pairs = [*zip(ours[:5], plain[:5], strict=True), *zip(ours.teachers[0], plain.teachers[0], strict=True)]
    return all(torch.allclose(one.float(), other.float(), rtol=1e-3, atol=atol) for one, other in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("videos", 256), ("batch", 128), ("runs", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    size = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "tvr"
        captions = make_package(package, size.videos)
        loads: dict[str, Load] = {"plain": PlainReader(package, captions)}
        loads["unpacked"] = reader(student_features(package, **NAMES, teachers=["clip_vit_b32"])[0], captions)
        for dtype in ("float32", "float16"):
            loads[dtype] = packed_reader(package, Path(folder) / dtype, captions, dtype)
        measure(loads, list(captions), batch=size.batch, runs=size.runs)


def measure(loads: dict[str, Load], videos: list[str], *, batch: int, runs: int) -> None:
    draw, times = random.Random(0), {name: list[float]() for name in loads}
    for run in range(runs + 1):
        chosen, made = draw.sample(videos, batch), {}
        for name, load in loads.items():
            began = time.perf_counter()
            made[name] = load(chosen)
            if run:  # the first brings the files into the page cache
                times[name].append((time.perf_counter() - began) * 1000)
        assert all(same(made[name], made["plain"], atol=1e-6) for name in ("unpacked", "float32"))
        assert same(made["float16"], made["plain"], atol=1e-4)
    plain = statistics.median(times["plain"])
    for name, its in times.items():
        middle = statistics.median(its)
        print(f"{name:>8}: {middle:8.1f} ms a batch ({min(its):.1f} to {max(its):.1f})  ratio {plain / middle:.1f}x")


if __name__ == "__main__":
    main()
