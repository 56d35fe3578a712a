"""What the systems of a table cost: to train, to keep an index of, and to ask; and the picture of what that buys."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from prvr.config import from_dict
from prvr.datasets import Dataset
from prvr.features import FeatureSet
from prvr.files import write_picture
from prvr.index.encode import add_videos, encode_queries
from prvr.index.exact import ExactIndex
from prvr.methods import checkpoint as checkpoints
from prvr.methods import open_method
from prvr.methods.checkpoint import Checkpoint, features_for
from prvr.nn.distillation import Distillation
from prvr.papers.complexity import StepSizes, complexity, training_memory
from prvr.train.recipe import Recipe, Training

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOAT16_BYTES = 2
HITS, WARM_UPS, ASKED = 10, 3, 50


@dataclass(frozen=True)
class Footprint:
    """What one system costs on a data set.

    flops: of encoding a video and a query of the test split's mean lengths, without the backbones.
    training_bytes: the most that a training step holds, with as many captions a video as there are on average, on the CPU.
    training_seconds: of a run, by the clock, the mean over seeds. Both are None where nothing is learned.
    index_bytes: of a video, its embeddings in float16, as an index keeps them.
    query_seconds: of one thread's processor, from the features of a query's text to its ten best of the test gallery, every
        video being scored: the median of 50 queries.
    """

    parameters: int
    flops: int
    training_bytes: int | None
    training_seconds: float | None
    index_bytes: int
    query_seconds: float


def footprint(model: Path, folders: Sequence[Path], *, features: Path, test: Dataset, train: Dataset) -> Footprint:
    """What a system costs, from the checkpoint that is asked and the folders of its runs.

    Raises:
        DataError: its features are not there, or not those that it reads.
    """
    checkpoint, trained = checkpoints.load(model), checkpoints.load(folders[0])
    given = features_for(features, checkpoint)
    frames, words = _mean_lengths(test, given)
    cost = complexity(_recipe(checkpoint), checkpoint.reads, frames=frames, words=words)
    learns = open_method(trained.method).objective is not None
    held = None
    if learns:
        videos = trained.about["training"]["batch_videos"]
        queries = round(videos * len(train.captions) / len(train.video_ids))
        held = training_memory(_recipe(trained), trained.reads, sizes=StepSizes(videos, queries, frames, words))
    size, seconds = _in_use(checkpoint, test, given)
    return Footprint(
        parameters=cost.parameters,
        flops=cost.flops,
        training_bytes=held,
        training_seconds=float(np.mean([_seconds(folder) for folder in folders])) if learns else None,
        index_bytes=size,
        query_seconds=seconds,
    )


def _recipe(checkpoint: Checkpoint) -> Recipe:
    distillation = from_dict(Distillation, checkpoint.about.get("distillation", {}))
    return Recipe(checkpoint.method, checkpoint.settings, Training(), distillation)


def footprint_lines(footprints: Mapping[str, Footprint]) -> list[str]:
    """The costs as Markdown, a row for each system."""
    lines = [
        "| | parameters (M) | a pair (GFLOPs) | training step (MiB) | training (min) | index (KiB a video) | a query (ms) |",
        f"|---{'|---' * 6}|",
    ]
    for name, cost in footprints.items():
        cells = [
            f"{cost.parameters / 1e6:.2f}",
            f"{cost.flops / 1e9:.3f}",
            "" if cost.training_bytes is None else f"{cost.training_bytes / 2**20:.0f}",
            "" if cost.training_seconds is None else f"{cost.training_seconds / 60:.1f}",
            f"{cost.index_bytes / 1024:.1f}",
            f"{1e3 * cost.query_seconds:.1f}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def draw_footprints(sums: Mapping[str, float], footprints: Mapping[str, Footprint], path: Path, *, title: str) -> None:
    """SumR over the bytes of a video in the index, a named point for each system."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots()
    order = sorted(footprints, key=lambda name: sums[name])
    for place, name in enumerate(order):
        point = footprints[name].index_bytes / 1024, sums[name]
        axes.plot(*point, "o", color=f"C{place}")
        # Names stand in a column beside the picture, in the order of SumR: many points lie on one another.
        beside = (1.03, (place + 0.5) / len(order))
        line = {"arrowstyle": "-", "color": f"C{place}", "linewidth": 0.6, "alpha": 0.6, "relpos": (0, 0.5)}
        axes.annotate(name, point, beside, textcoords="axes fraction", fontsize=8, va="center", arrowprops=line)
    axes.set(xlabel="index, KiB a video (float16)", ylabel="SumR on the test split", title=title, xscale="log")
    axes.margins(x=0.1)
    axes.grid(alpha=0.3)
    write_picture(path, figure)


def _mean_lengths(dataset: Dataset, features: FeatureSet) -> tuple[int, int]:
    frames = np.mean([len(features.frames[id]) for id in dataset.video_ids])
    words = np.mean([len(features.text[caption.id]) for caption in dataset.captions])
    return round(float(frames)), round(float(words))


def _seconds(folder: Path) -> float:
    return sum(json.loads(line)["seconds"] for line in (folder / "history.jsonl").read_text().splitlines())


def _in_use(checkpoint: Checkpoint, test: Dataset, features: FeatureSet) -> tuple[int, float]:
    """Bytes of a video in an index of the test gallery, and seconds of a query there."""
    model = checkpoint.model
    index = ExactIndex(model)
    add_videos(index, test.video_ids, features.frames)
    entries = index.fetch(index.ids).values()
    size = sum(FLOAT16_BYTES * rows.size for entry in entries for rows in entry.fields) / len(entries)
    seconds = []
    with _one_thread():
        for caption in test.captions[: WARM_UPS + ASKED]:
            started = time.process_time()
            index.search(encode_queries(model, [features.text[caption.id]]), HITS)
            seconds.append(time.process_time() - started)
    return round(size), float(np.median(seconds[WARM_UPS:] or seconds))


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
