"""Answering a query from the index on disk, beside a NumPy float32 scan over the same embeddings held in memory.

The index scans its int8 codes and scores the best again from float16; the scan's gallery is of unit length already.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Line, Size, take_turns
from benchmarks.step import student
from prvr.index.contract import Entry, Header
from prvr.index.disk import DiskIndex


def searching_lines(size: Size) -> list[Line]:
    """Seconds of a query in a gallery of a quarter of the size's."""
    model = student(size).eval().cpu()
    videos, frames = max(size.gallery // 4, 10), max(size.frames // 2, 1)
    gallery = tuple(torch.randn(videos, frames, size.hidden) for _ in range(2))
    units = [(field / field.norm(dim=-1, keepdim=True)).flatten(0, 1).numpy() for field in gallery]
    query = tuple(torch.randn(1, size.hidden) for _ in range(2))
    asked = [(field / field.norm()).numpy()[0] for field in query]

    def scan() -> list[int]:
        best = [(matrix @ unit).reshape(videos, frames).max(1) for matrix, unit in zip(units, asked, strict=True)]
        return [int(place) for place in np.argsort(-(0.7 * best[0] + 0.3 * best[1]))[:10]]

    with tempfile.TemporaryDirectory(prefix="prvr-") as folder:
        index = DiskIndex.make(Path(folder) / "index", model, Header("", "float16", ""))
        fields = [tuple(field[place].numpy() for field in gallery) for place in range(videos)]
        index.add([Entry(str(place), rows, (frames,)) for place, rows in enumerate(fields)])
        same = len({int(hit.video) for hit in index.search(query, 10)[0]} & set(scan()))
        times = take_turns({"index": lambda: index.search(query, 10), "scan": scan}, runs=4 * size.runs)
    note = f"{videos} videos of {frames} frames; {same} of 10 hits the same (float16 on disk)"
    return [Line("a query in an index on disk, beside NumPy", times["index"], times["scan"], note=note)]
