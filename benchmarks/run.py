"""Runs a benchmark in a process of its own, in which freed memory returns to the system or stays.

glibc returns every block over 32 MiB to the system when it is freed, and the next one is mapped and cleared again. Times on
the CPU therefore depend on two environment variables, which must be set before a process starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.evaluation import evaluation_lines, ranking_lines
from benchmarks.extraction import encoding_lines
from benchmarks.index_cluster import cluster_lines, draw_cluster
from benchmarks.index_speed import draw_index, index_lines, large_index_lines, searching_lines, vectors_lines
from benchmarks.loading import loading_lines
from benchmarks.losses import losses_lines
from benchmarks.measure import Line, Size
from benchmarks.step import memory_lines, step_lines
from prvr.errors import ModelError, SettingError, nearest
from prvr.files import write_json

MEMORY = {"default": {}, "kept": {"MALLOC_MMAP_THRESHOLD_": "8589934592", "MALLOC_TRIM_THRESHOLD_": "17179869184"}}
SIZE, LINES = "size.json", "lines.json"


@dataclass(frozen=True)
class Benchmark:
    """A measurement: its function, the memory settings that it runs with, and the function that draws it, if it has one."""

    title: str
    lines: Callable[[Size], list[Line]]
    memory: tuple[str, ...] = ("default", "kept")
    draw: Callable[[Sequence[Line], Path], None] | None = None


# `all` leaves these out: half an hour, and one that needs a folder of vectors.
LARGE, VECTORS = "index-large", "index-vectors"

BENCHMARKS = {
    "loading": Benchmark("a training batch from files", loading_lines),
    "losses": Benchmark("the losses of a batch, without its scores", losses_lines),
    "step": Benchmark("a training step, the kernels that it launches and how often the host waits", step_lines),
    "evaluation": Benchmark("from packed features to figures", evaluation_lines),
    "encoding": Benchmark("pictures through an encoder as large as CLIP ViT-B/32", encoding_lines, ("default",)),
    "ranking": Benchmark("the figures of a score matrix", ranking_lines, ("default",)),
    "searching": Benchmark("a query in an index on disk", searching_lines, ("default",)),
    "index": Benchmark("a query in galleries of 2,000 and 10,000 videos", index_lines, ("default",), draw_index),
    "index-cluster": Benchmark(
        "a query among 10,000 videos in one file, shards and Qdrant", cluster_lines, ("default",), draw_cluster
    ),
    LARGE: Benchmark("a query among 100,000 videos (3 GB)", large_index_lines, ("default",), draw_index),
    VECTORS: Benchmark("a query among vectors of your own, --vectors", vectors_lines, ("default",), draw_index),
    "memory": Benchmark("the peak memory of a training step", memory_lines, ("default",)),
}


def benchmark(name: str) -> Benchmark:
    """Returns a benchmark by name.

    Raises:
        SettingError: there is no benchmark of that name.
    """
    if name not in BENCHMARKS:
        raise SettingError(f"no benchmark {name!r}; {nearest(name, BENCHMARKS)}")
    return BENCHMARKS[name]


def run_in_child(name: str, size: Size, *, memory: str, threads: int) -> list[Line]:
    """Runs a benchmark in a child process and returns its lines.

    Raises:
        ModelError: the process failed.
    """
    limits = {limit: str(threads) for limit in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    with tempfile.TemporaryDirectory(prefix="prvr-") as folder:
        write_json(Path(folder) / SIZE, asdict(size))
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.run", name, folder, str(threads)],
            env={**os.environ, **MEMORY[memory], **limits},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if child.returncode:
            reason = (child.stderr.splitlines() or [f"status {child.returncode}"])[-1]
            raise ModelError(f"benchmark {name} ended with {reason[:300]!r}; try --size small")
        lines = json.loads((Path(folder) / LINES).read_text())
    return [Line(**{**line, "ours": tuple(line["ours"]), "beside": tuple(line["beside"])}) for line in lines]


def main() -> None:
    """Runs in the child process; its arguments are a benchmark's name, a folder with the size, and the number of threads."""
    name, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    lines = benchmark(name).lines(Size(**json.loads((folder / SIZE).read_text())))
    write_json(folder / LINES, [asdict(line) for line in lines])


if __name__ == "__main__":
    main()
