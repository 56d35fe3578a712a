"""Runs a benchmark in a process of its own, with memory that is given back to the system or kept.

glibc returns every block over 32 MiB when it is freed, and fetches and clears it anew the next time, so that times on
the CPU depend on two settings of the environment, which must stand before a process starts.
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

from benchmarks.encoding import encoding_lines
from benchmarks.evaluation import evaluation_lines
from benchmarks.index_speed import draw_index, index_lines, large_index_lines
from benchmarks.loading import loading_lines
from benchmarks.losses import losses_lines
from benchmarks.measure import Line, Size
from benchmarks.memory import memory_lines
from benchmarks.ranking import ranking_lines
from benchmarks.searching import searching_lines
from benchmarks.step import step_lines
from prvr.errors import ModelError, SettingError, nearest
from prvr.files import write_json

MEMORY = {"default": {}, "kept": {"MALLOC_MMAP_THRESHOLD_": "8589934592", "MALLOC_TRIM_THRESHOLD_": "17179869184"}}
SIZE, LINES = "size.json", "lines.json"


@dataclass(frozen=True)
class Benchmark:
    """What is measured, under which settings of memory, and what draws a picture of it."""

    title: str
    lines: Callable[[Size], list[Line]]
    memory: tuple[str, ...] = ("default", "kept")
    draw: Callable[[Sequence[Line], Path], None] | None = None


# 10 GB and a quarter of an hour: only for those who name it.
LARGE = "index-large"

BENCHMARKS = {
    "loading": Benchmark("a training batch from files", loading_lines),
    "losses": Benchmark("the losses of a batch, given its scores", losses_lines),
    "step": Benchmark("a training step, what it launches and how often the host waits", step_lines),
    "evaluation": Benchmark("from packed features to figures", evaluation_lines),
    "encoding": Benchmark("pictures through an encoder as large as CLIP ViT-B/32", encoding_lines, ("default",)),
    "ranking": Benchmark("the figures of a score matrix", ranking_lines, ("default",)),
    "searching": Benchmark("a query in an index on disk", searching_lines, ("default",)),
    "index": Benchmark("a query in galleries of 2,000 and 10,000 videos", index_lines, ("default",), draw_index),
    LARGE: Benchmark("a query among 100,000 videos (10 GB)", large_index_lines, ("default",), draw_index),
    "memory": Benchmark("the most memory that a training step holds", memory_lines, ("default",)),
}


def benchmark(name: str) -> Benchmark:
    """A benchmark by name.

    Raises:
        SettingError: there is none of that name.
    """
    if name not in BENCHMARKS:
        raise SettingError(f"no benchmark {name!r}; {nearest(name, BENCHMARKS)}")
    return BENCHMARKS[name]


def run_apart(name: str, size: Size, *, memory: str, threads: int) -> list[Line]:
    """The lines of a benchmark, from a process of its own.

    Raises:
        ModelError: the process failed.
    """
    limits = {limit: str(threads) for limit in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    with tempfile.TemporaryDirectory(prefix="prvr-") as folder:
        write_json(Path(folder) / SIZE, asdict(size))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.run", name, folder, str(threads)],
            env={**os.environ, **MEMORY[memory], **limits},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = (done.stderr.splitlines() or [f"status {done.returncode}"])[-1]
            raise ModelError(f"benchmark {name} ended with {reason[:300]!r}; try --size small")
        lines = json.loads((Path(folder) / LINES).read_text())
    return [Line(**{**line, "ours": tuple(line["ours"]), "beside": tuple(line["beside"])}) for line in lines]


def main() -> None:
    """The process that `run_apart` starts, with a benchmark's name, a folder that holds a size, and a number of threads."""
    name, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    lines = benchmark(name).lines(Size(**json.loads((folder / SIZE).read_text())))
    write_json(folder / LINES, [asdict(line) for line in lines])


if __name__ == "__main__":
    main()
