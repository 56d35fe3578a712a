"""Times of contenders that take turns, and the tables of the results, as Markdown and JSON."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear

from prvr.cpu import fast_products
from prvr.files import write_json, write_whole
from prvr.papers.write import machine

MIB = 1 << 20


@dataclass(frozen=True)
class Size:
    """The size of a benchmark; the defaults are TVR's.

    frames: the longest video; lengths follow TVR's distribution, or every video has this many frames if `full` is set.
    gallery, asked: videos and queries of an evaluation.
    blocks: about how many blocks of 50 queries the baseline scores, the rest being the same work again; None for all.
    runs: runs of each contender; the first run of all is not counted.
    vectors: a folder with packed frames and sentences, for `index-vectors`.
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
    blocks: int | None = 8
    runs: int = 3
    full: bool = False
    device: str = "cpu"
    vectors: str = ""


TVR = Size()
SMALL = Size(8, 24, 12, 6, 16, 12, 8, 8, gallery=12, asked=60, blocks=None, runs=1)
SIZES = {"tvr": TVR, "full": Size(full=True), "small": SMALL}


@dataclass(frozen=True)
class Line:
    """The result of one comparison: our numbers, the baseline's, and the wanted ratio, if there is one.

    On the CPU seconds are the process's CPU time, because other work on the machine disturbs it least.
    """

    part: str
    ours: tuple[float, ...]
    beside: tuple[float, ...]
    unit: str = "s"
    wanted: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The baseline's median over ours; None without a baseline."""
        return statistics.median(self.beside) / statistics.median(self.ours) if self.beside and any(self.ours) else None


# The lines of a table, each with the memory setting that it was measured with.
Measured = Sequence[tuple[str, Line]]


def take_turns(contenders: Mapping[str, Callable[[], object]], *, runs: int, device: str = "cpu") -> dict[str, tuple[float, ...]]:
    """Returns the seconds of each run of each contender; unless `runs` is 1, each runs once before, uncounted."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for run in range(runs + (runs > 1)):
        for name, contender in contenders.items():
            seconds = time_of(contender, device=device)
            if run or runs == 1:
                times[name].append(seconds)
    return {name: tuple(of_contender) for name, of_contender in times.items()}


def time_of(action: Callable[[], object], *, device: str = "cpu") -> float:
    """Returns the seconds of an action: CPU time on the CPU, wall-clock time until everything is computed on a GPU."""
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
    """Measures the peak increase of the process's memory in this block, in bytes, memory-mapped files included."""
    before, peak, ended = _resident_bytes(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], _resident_bytes() - before)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


@fast_products()
def product_rate() -> float:
    """Returns the FLOP/s of a matrix product with the shape of a batch's projection; the best of several."""
    rows, matrix = torch.randn(4096, 3072), torch.randn(384, 3072)
    return 2 * 4096 * 3072 * 384 / min(time_of(lambda: linear(rows, matrix)) for _ in range(8))


def copy_rate() -> float:
    """Returns the bytes per second of a copy into memory that is already mapped; the best of several."""
    source = torch.ones(1 << 26)
    target = torch.empty_like(source).fill_(0)
    return source.nbytes / min(time_of(lambda: target.copy_(source)) for _ in range(5))


def write_table(out: Path, name: str, measured: Measured, *, size: Size, threads: int, command: str) -> None:
    """Writes OUT/NAME.md and OUT/NAME.json."""
    about: dict[str, Any] = {"command": command, "machine": machine(), "threads": threads, "size": asdict(size)}
    rows = [{"memory": memory, **asdict(line), "ratio": line.ratio} for memory, line in measured]
    write_json(out / f"{name}.json", {**about, "lines": rows})
    lines = [
        f"# {name}",
        "",
        f"    {command}",
        "",
        f"{about['machine']}; threads: {threads}, device: {size.device}. Medians, with the minimum and maximum of the runs.",
        "",
        *table(measured),
    ]
    write_whole(out / f"{name}.md", ("\n".join(lines) + "\n").encode())


def table(measured: Measured) -> list[str]:
    """Returns the rows of a Markdown table."""
    lines = ["| part | memory | ours | beside | ratio | wanted | |", "|---|---|---|---|---|---|---|"]
    for memory, line in measured:
        ratio = f"{line.ratio:.3g}×" if line.ratio is not None else ""
        wanted = f"{line.wanted:g}×" if line.wanted is not None else ""
        cells = (line.part, memory, spread(line.ours, line.unit), spread(line.beside, line.unit), ratio, wanted, line.note)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def spread(values: Sequence[float], unit: str) -> str:
    """Returns the median with the minimum and the maximum: `3.1 s (2.9 to 3.4)`."""
    if not values:
        return ""
    numbers = sorted(values)
    texts = [
        f"{number:.3g}" if unit == "s" or abs(number) < 100 else f"{number:.0f}"
        for number in (statistics.median(numbers), numbers[0], numbers[-1])
    ]
    text = f"{texts[0]} {unit}".strip()
    return text if len(numbers) == 1 else f"{text} ({texts[1]} to {texts[2]})"


def _resident_bytes() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return 1024 * int(status.read_text().partition("VmRSS:")[2].split()[0])
