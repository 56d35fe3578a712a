"""Times of contenders that take turns, and the lines of a table that come of them."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from prvr.cpu import linear

MIB = 1 << 20


@dataclass(frozen=True)
class Size:
    """How large a benchmark is; the defaults are TVR's.

    frames: the most a video has; lengths are drawn as TVR's are, or all are that long where `full`.
    gallery, asked: videos and queries of an evaluation. blocks: about how many blocks of 50 queries the baseline scores,
    the rest being the same work again; None for all. runs: of each contender; the first run of all is not counted.
    """

    videos: int = 128
    queries: int = 640
    frames: int = 128
    words: int = 30
    frame_columns: int = 3072
    word_columns: int = 768
    teacher_columns: int = 512
    hidden: int = 384
    gallery: int = 2179
    asked: int = 10_895
    blocks: int | None = 20
    runs: int = 3
    full: bool = False
    device: str = "cpu"


TVR = Size()
SMALL = Size(8, 24, 12, 6, 16, 12, 8, 8, gallery=12, asked=60, blocks=None, runs=1)
SIZES = {"tvr": TVR, "full": Size(full=True), "small": SMALL}


@dataclass(frozen=True)
class Line:
    """What one comparison gave: numbers of ours, of what runs beside it, and the ratio that is wanted, if one is.

    Seconds are those of the processor on the CPU, which other work on the machine disturbs least.
    """

    part: str
    ours: tuple[float, ...]
    beside: tuple[float, ...]
    unit: str = "s"
    wanted: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times as much the other takes; None where nothing stands beside."""
        return statistics.median(self.beside) / statistics.median(self.ours) if self.beside and any(self.ours) else None


def take_turns(contenders: Mapping[str, Callable[[], object]], *, runs: int, device: str = "cpu") -> dict[str, tuple[float, ...]]:
    """Seconds of each run of each; every contender runs once before, uncounted, unless there is a single run."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for run in range(runs + (runs > 1)):
        for name, contender in contenders.items():
            seconds = timed(contender, device=device)
            if run or runs == 1:
                times[name].append(seconds)
    return {name: tuple(its) for name, its in times.items()}


def timed(action: Callable[[], object], *, device: str = "cpu") -> float:
    """Seconds that an action takes: of this process on the CPU, until all is computed on a GPU."""
    if device == "cpu":
        began = time.process_time()
        action()
        return time.process_time() - began
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    action()
    torch.cuda.synchronize(device)
    return time.perf_counter() - began


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """The most memory that the process held meanwhile beyond what it held before; files that it maps are not counted."""
    before, peak, ended = _held(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], _held() - before)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def product_rate() -> float:
    """FLOP/s of this machine's own matrix product, at the shape of a batch's projection; the best of several."""
    rows, matrix = torch.randn(4096, 3072), torch.randn(384, 3072)
    return 2 * 4096 * 3072 * 384 / min(timed(lambda: linear(rows, matrix)) for _ in range(8))


def copy_rate() -> float:
    """Bytes per second of this machine's own copy into memory that is there; the best of several."""
    source = torch.ones(1 << 26)
    there = torch.empty_like(source).fill_(0)
    return source.nbytes / min(timed(lambda: there.copy_(source)) for _ in range(5))


def _held() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return 1024 * int(status.read_text().partition("RssAnon:")[2].split()[0])
