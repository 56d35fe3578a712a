"""Loading one training batch from a packed package, beside a reader that opens a file for each frame.

Our reader reuses its memory for each batch, as the training loop does; the plain one allocates new tensors, as a loader does.
The files are in the page cache.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.measure import MIB, Line, Size, copy_rate, time_of
from benchmarks.package import Captions, PlainReader, features_as_published, make_package, pack_features
from prvr.batch import Batch, Memory, Reading, collate, video_item
from prvr.errors import ModelError
from prvr.features import FeatureSet

Load = Callable[[list[str]], Batch]


def loading_lines(size: Size) -> list[Line]:
    """Seconds of a batch from the published files, and from packed ones of both types."""
    with tempfile.TemporaryDirectory(prefix="prvr-") as folder:
        package, videos = Path(folder) / "tvr", 2 * size.videos
        captions = make_package(package, videos, 2 * size.queries, size)
        plain = PlainReader(package, captions, size)
        loads: dict[str, Load] = {"plain": plain, "unpacked": _reader(features_as_published(package), captions, size)}
        for dtype in ("float32", "float16"):
            loads[dtype] = _reader(pack_features(package, Path(folder) / dtype, dtype=dtype), captions, size)
        times, nbytes = _times(loads, list(captions), size)
        plain.close()
    note = ""
    if size.device == "cpu":
        rate, copy = nbytes / sorted(times["float32"])[len(times["float32"]) // 2], copy_rate()
        note = f"{nbytes / MIB:.0f} MiB, {rate / 1e9:.1f} GB/s, {100 * rate / copy:.0f} % of the {copy / 1e9:.1f} of a copy"
    return [
        Line("loading a batch, packed as float32", times["float32"], times["plain"], wanted=30.0, note=note),
        Line("loading a batch, packed as float16", times["float16"], times["plain"], wanted=30.0),
        Line("loading a batch, unpacked", times["unpacked"], times["plain"]),
    ]


def _reader(features: FeatureSet, captions: Captions, size: Size) -> Load:
    memory = Memory()
    reading = Reading(size.frame_columns, size.word_columns, size.frames, size.words, unit=True, text="words")
    return lambda videos: collate([video_item(video, captions[video], features, reading) for video in videos], memory)


def _times(loads: dict[str, Load], videos: list[str], size: Size) -> tuple[dict[str, tuple[float, ...]], int]:
    draw, times = random.Random(0), {name: list[float]() for name in loads}
    for run in range(2 * size.runs + 1):
        chosen, made = draw.sample(videos, size.videos), dict[str, Batch]()
        for name, load in loads.items():
            read: list[Batch] = []
            seconds = time_of(lambda load=load, read=read, chosen=chosen: read.append(load(chosen)))  # type: ignore[misc]
            made[name] = read[0]
            if run:  # the first run brings the files into the page cache
                times[name].append(seconds)
        check_equal(made["unpacked"], made["plain"], atol=1e-6)
        check_equal(made["float32"], made["plain"], atol=1e-6)
        check_equal(made["float16"], made["plain"], atol=1e-4)
    nbytes = sum(tensor.nbytes for tensor in (*made["plain"][:5], *made["plain"].teachers[0]))
    return {name: tuple(its) for name, its in times.items()}, nbytes


def check_equal(ours: Batch, plain: Batch, *, atol: float) -> None:
    """Raises ModelError if two batches hold different numbers."""
    pairs = [*zip(ours[:5], plain[:5], strict=True), *zip(ours.teachers[0], plain.teachers[0], strict=True)]
    if not all(torch.allclose(one.float(), other.float(), rtol=1e-3, atol=atol) for one, other in pairs):
        raise ModelError("the two readers return different numbers, so their times mean nothing; report this with the size")
