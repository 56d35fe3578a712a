"""Answering a query from the exact index, beside a NumPy float32 scan over the same embeddings held in memory.

    python benchmarks/search.py [--videos 500 --frames 64]

Medians of alternating queries; prints the ratio. The index reads float16 from its files and scores through the model.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from prvr.index.exact import ExactIndex
from prvr.methods.dl_dkd import DlDkd, DlDkdConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("videos", 500), ("frames", 64), ("queries", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    size = parser.parse_args()
    torch.manual_seed(0)
    config = DlDkdConfig()
    model = DlDkd(config, frame_columns=8, word_columns=8).eval()
    videos = tuple(torch.randn(size.videos, size.frames, config.hidden) for _ in range(2))
    mask = torch.ones(size.videos, size.frames, dtype=torch.bool)
    matrices = [(v / v.norm(dim=-1, keepdim=True)).flatten(0, 1).numpy() for v in videos]
    times: dict[str, list[float]] = {"index": [], "numpy": []}
    agree = 0
    with tempfile.TemporaryDirectory() as folder:
        index = ExactIndex.on_disk(model, Path(folder), about={})
        index.add([str(v) for v in range(size.videos)], videos, mask)
        for _ in range(size.queries):
            query = tuple(torch.randn(1, config.hidden) for _ in range(2))
            began = time.perf_counter()
            found = index.search(query, 10)[0]
            times["index"].append(time.perf_counter() - began)
            units = [(q / q.norm()).numpy()[0] for q in query]
            began = time.perf_counter()
            inheritance, exploration = (
                (matrix @ unit).reshape(size.videos, size.frames).max(1) for matrix, unit in zip(matrices, units, strict=True)
            )
            order = np.argsort(-(0.7 * inheritance + 0.3 * exploration))[:10]
            times["numpy"].append(time.perf_counter() - began)
            agree += [int(hit.video) for hit in found] == order.tolist()
    ours, plain = (statistics.median(times[name]) * 1000 for name in ("index", "numpy"))
    print(f"{size.videos} videos x {size.frames} frames, two branches: the same ten in {agree} of {size.queries} queries")
    print(f"exact index {ours:.1f} ms, NumPy scan {plain:.1f} ms, ratio {ours / plain:.2f}")


if __name__ == "__main__":
    main()
