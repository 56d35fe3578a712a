"""A query in an index of random videos: the exact scan and the first stage, beside NumPy's scan and the memory's bandwidth.

The gallery is generated in parts and never held in float32: the exact scores of all queries are computed with each part, and
recall is measured against them. The float16 rows that are rescored come from a few videos that stay in memory, as many rows
as the candidates have. With one thread times are CPU times, with more they are wall-clock times.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int

from benchmarks.index_gallery import Fields, Queries, World, chunks, easy_queries, hard_queries
from benchmarks.measure import Line, Size, take_turns
from benchmarks.step import make_student
from prvr.files import write_picture
from prvr.index.columns import principal
from prvr.index.contract import Entry, Header
from prvr.index.disk import DiskIndex
from prvr.index.measure import SETTINGS
from prvr.index.scan import Codes, Gallery, quantise
from prvr.index.setting import TOP, Setting
from prvr.index.sketches import FirstStage, Sketch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WEIGHTS = (0.7, 0.3)
QUERIES = 40
# Queries whose candidates are compared with the exact best.
CHECKED = 10
HELD = 400


@dataclass(frozen=True)
class Asked:
    """A gallery in memory with its sketches, two kinds of queries with their exact scores, and the rows of the first videos."""

    gallery: Gallery
    sketches: dict[tuple[float, int, bool], Sketch]
    queries: dict[str, Queries]
    scores: dict[str, Float32[np.ndarray, "Q V"]]
    held: Fields
    halves: tuple[Float16[np.ndarray, "R D"], ...]
    starts: Int[np.ndarray, "N"]


def index_lines(size: Size) -> list[Line]:
    """Seconds of a query in a gallery of the given size, and in one five times as large."""
    return [line for times in (1, 5) for line in _lines(size, times * size.gallery)]


def large_index_lines(size: Size) -> list[Line]:
    """Seconds of a query in a gallery 46 times as large: 100,000 videos, 10 GB and a quarter of an hour."""
    return _lines(size, 46 * size.gallery)


def searching_lines(size: Size) -> list[Line]:
    """Seconds of a query in an index on disk, a quarter of the size's gallery, beside NumPy's float32 scan in memory.

    The index scans its int8 codes and scores the best again from float16; the gallery of the NumPy scan is already normalised.
    """
    model = make_student(size).eval().cpu()
    videos, frames = max(size.gallery // 4, 10), max(size.frames // 2, 1)
    gallery = tuple(torch.randn(videos, frames, size.hidden) for _ in range(2))
    unit_rows = [(field / field.norm(dim=-1, keepdim=True)).flatten(0, 1).numpy() for field in gallery]
    query = tuple(torch.randn(1, size.hidden) for _ in range(2))
    unit_query = [(field / field.norm()).numpy()[0] for field in query]

    def scan() -> list[int]:
        best = [(rows @ one).reshape(videos, frames).max(1) for rows, one in zip(unit_rows, unit_query, strict=True)]
        return [int(place) for place in np.argsort(-(0.7 * best[0] + 0.3 * best[1]))[:10]]

    with tempfile.TemporaryDirectory(prefix="prvr-") as folder:
        index = DiskIndex.make(Path(folder) / "index", model, Header("", "float16", ""))
        fields = [tuple(field[place].numpy() for field in gallery) for place in range(videos)]
        index.add([Entry(str(place), rows, (frames,)) for place, rows in enumerate(fields)])
        same = len({int(hit.video) for hit in index.search(query, 10)[0]} & set(scan()))
        times = take_turns({"index": lambda: index.search(query, 10), "scan": scan}, runs=4 * size.runs)
    note = f"{videos} videos of {frames} frames; {same} of 10 hits the same (float16 on disk)"
    return [Line("a query in an index on disk, beside NumPy", times["index"], times["scan"], note=note)]


def asked(size: Size, videos: int) -> Asked:
    """Generates a gallery in parts, with the stages that are compared."""
    world = World(videos, columns=size.hidden, fewest=max(size.frames // 2, 1), most=size.frames)
    # The direction that all sentences share is computed from other sentences.
    hard = [np.split(field, 2) for field in hard_queries(world, 2 * QUERIES)]
    queries = {"hard": tuple(field[0] for field in hard), "easy": easy_queries(world, QUERIES)}
    along = [field[1].mean(0) for field in hard]

    steps = {step.sketch: step for setting in SETTINGS for step in setting.steps}

    def empty_sketches(codes: Sequence[Codes]) -> dict[tuple[float, int, bool], Sketch]:
        # The same share of the columns as in a gallery of 384 columns.
        counts = {step.columns: max(1, step.columns * size.hidden // 384) for step in steps.values()}
        found = [principal(rows, max(counts.values()), along=way) for rows, way in zip(codes, along, strict=True)]
        columns = {of_step: [of_field.first(count) for of_field in found] for of_step, count in counts.items()}
        return {key: Sketch(columns[step.columns], WEIGHTS, step.share, heaviest=step.heaviest) for key, step in steps.items()}

    threads = torch.get_num_threads()
    scores: dict[str, list[Float32[np.ndarray, "Q V"]]] = {kind: [] for kind in queries}
    its: Asked | None = None
    for fields, starts in chunks(world):
        for kind, of_kind in queries.items():
            scores[kind].append(exact_scores(fields, starts, of_kind))
        codes, twice = [quantise(rows) for rows in fields], [starts, starts]
        if its is None:
            gallery = Gallery(codes, twice, WEIGHTS, threads=threads)
            held = tuple(rows[: starts[: HELD + 1][-1]].copy() for rows in fields)
            halves = tuple(rows.astype(np.float16) for rows in held)
            its = Asked(gallery, empty_sketches(codes), queries, {}, held, halves, starts[: HELD + 1])
        else:
            its.gallery.add(codes, twice)
        for made in its.sketches.values():
            made.add(codes, twice)
    assert its is not None
    its.scores.update({kind: np.concatenate(parts, axis=1) for kind, parts in scores.items()})
    return its


def exact_scores(fields: Fields, starts: Int[np.ndarray, "N"], queries: Queries) -> Float32[np.ndarray, "Q V"]:
    """Returns the scores of unit rows for unit queries, in float32."""
    best = [np.maximum.reduceat(rows @ query.T, starts[:-1], axis=0).T for rows, query in zip(fields, queries, strict=True)]
    return np.float32(WEIGHTS[0]) * best[0] + np.float32(WEIGHTS[1]) * best[1]


def _lines(size: Size, videos: int) -> list[Line]:
    its = asked(size, videos)
    lines = [_exact_line(its, size, videos, kind) for kind in its.queries]
    lines.append(_scan_line(its, size, videos))
    for setting in SETTINGS:
        kept = " and ".join(f"{count:,}" for count in setting.candidates(TOP, videos))
        lines += _stage_lines(its, size, f"{videos:,} videos: first stage from {setting.steps[0]}, {kept} kept", setting)
    return lines


def _exact_line(its: Asked, size: Size, videos: int, kind: str) -> Line:
    """The complete exact answer, beside NumPy's float32 scan, which is timed on the videos in memory."""
    counts: list[int] = []

    def answer(number: int) -> None:
        places = its.gallery.candidates(_query(its, kind, number), TOP)
        counts.append(len(places))
        _rescore(its, _query(its, kind, number), len(places))

    ours = _turns(answer, 4 * size.runs)
    share = videos / (len(its.starts) - 1)
    plain = [
        share * seconds
        for seconds in _turns(lambda number: exact_scores(its.held, its.starts, _one(its, kind, number)), 4 * size.runs)
    ]
    found = [_found(its, kind, number, its.gallery.candidates(_query(its, kind, number), TOP)) for number in range(CHECKED)]
    note = (
        f"p95 {np.percentile(ours, 95):.3g} s; recall@10 {np.mean(found):.3f}; {np.median(counts):.0f} candidates; "
        f"NumPy's from {len(its.starts) - 1} videos"
    )
    return Line(f"{videos:,} videos: exact, {kind} queries, beside NumPy float32", ours, tuple(plain), note=note)


def _scan_line(its: Asked, size: Size, videos: int) -> Line:
    """The scan alone, beside a sum over the same number of bytes; they take turns."""
    # It does not fit into a cache; for a larger gallery it is read several times.
    words, bytes_read = torch.ones(1 << 25, dtype=torch.int64), its.gallery.nbytes
    scan: list[float] = []
    bus: list[float] = []
    for _ in range(size.runs):
        scan += _turns(lambda number: its.gallery.scores(_query(its, "hard", number)), 1)
        bus += _turns(lambda _: [words[: (bytes_read - at) // 8].sum() for at in range(0, bytes_read, words.nbytes)], 1)
    note = f"{bytes_read / 1e6:.0f} MB; {bytes_read / 1e9 / np.median(scan):.1f} GB/s"
    return Line(f"{videos:,} videos: int8 scan, beside the bus", tuple(scan), tuple(bus), wanted=0.5, note=note)


def _stage_lines(its: Asked, size: Size, label: str, setting: Setting) -> list[Line]:
    """The answer with a setting that `prvr index verify` tries."""
    keep, sketches = setting.candidates(TOP, len(its.gallery)), [its.sketches[step.sketch] for step in setting.steps]
    stage = FirstStage(its.gallery, sketches)

    def answer(number: int) -> None:
        query = _query(its, "hard", number)
        _rescore(its, query, len(stage.candidates(query, TOP, keep)))

    times = _turns(answer, 4 * size.runs)
    sizes = [sketch.nbytes for sketch in sketches[1:]] + [its.gallery.nbytes]
    read = sketches[0].nbytes + sum(nbytes * kept for nbytes, kept in zip(sizes, keep, strict=True)) // len(its.gallery)
    lines = [
        Line(label, times, (), note=f"p95 {np.percentile(times, 95):.3g} s"),
        Line(f"{label}: read", (read / 1e6,), (), "MB"),
    ]
    for kind in its.queries:
        found = [_found(its, kind, number, stage.candidates(_query(its, kind, number), TOP, keep)) for number in range(QUERIES)]
        lines.append(Line(f"{label}: recall@10, {kind}", (100 * float(np.mean(found)),), (), "%"))
    return lines


def _found(its: Asked, kind: str, number: int, places: Int[np.ndarray, "C"]) -> float:
    best = np.argsort(-its.scores[kind][number])[:TOP]
    return len(set(best.tolist()) & set(places.tolist())) / len(best)


def _rescore(its: Asked, query: Sequence[Float32[np.ndarray, "D"]], count: int) -> None:
    """Computes the exact scores of `count` of the videos in memory, from float16, as an index reads them."""
    starts = its.starts
    for place in (number % (len(starts) - 1) for number in range(count)):
        for rows, one in zip(its.halves, query, strict=True):
            (torch.from_numpy(rows[starts[place] : starts[place + 1]]).float().numpy() @ one).max()


def _query(its: Asked, kind: str, number: int) -> list[Float32[np.ndarray, "D"]]:
    return [field[number % QUERIES] for field in its.queries[kind]]


def _one(its: Asked, kind: str, number: int) -> Queries:
    return tuple(field[number % QUERIES][None] for field in its.queries[kind])


def _turns(action: Callable[[int], object], runs: int) -> tuple[float, ...]:
    """Returns the seconds of runs with one query after the other; the first run fills the caches and is not counted."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times = []
    for number in range(runs + 1):
        began = clock()
        action(number)
        times.append(clock() - began)
    return tuple(times[1:])


def draw_index(lines: Sequence[Line], path: Path) -> None:
    """Draws recall over seconds, and below it over the bytes that are read, in a column for each gallery."""
    from matplotlib.figure import Figure

    values = {line.part: float(np.median(line.ours)) for line in lines}
    galleries = dict.fromkeys(part.split(": ")[0] for part in values)
    figure = Figure(figsize=(6 * len(galleries), 8), layout="constrained")
    panels = figure.subplots(2, len(galleries), squeeze=False, sharey="col")
    for (above, below), gallery in zip(panels.T, galleries, strict=True):
        _draw_stages(above, values, gallery, over="", label="seconds of a query")
        above.plot(values[f"{gallery}: exact, hard queries, beside NumPy float32"], 100, "k*", label="exact")
        _draw_stages(below, values, gallery, over=": read", label="MB that a query reads of sketches and codes")
        above.set(title=gallery, xscale="log")
        below.set_xlim(0, 1.05 * below.dataLim.x1)
        above.legend(fontsize=7)
    write_picture(path, figure)


def _draw_stages(axes: Axes, values: Mapping[str, float], gallery: str, *, over: str, label: str) -> None:
    """Draws a curve for each sketch and kind of query, a dot for each setting; `over` is the suffix of the x values' names."""
    points = [part.removesuffix(": read") for part in values if part.startswith(f"{gallery}: ") and part.endswith(": read")]
    for color, sketch in enumerate(dict.fromkeys(point.rpartition(", ")[0] for point in points)):
        of_sketch = [point for point in points if point.rpartition(", ")[0] == sketch]
        along = [values[f"{point}{over}"] for point in of_sketch]
        for kind, style in (("hard", "o-"), ("easy", "o:")):
            recall = [values[f"{point}: recall@10, {kind}"] for point in of_sketch]
            axes.plot(along, recall, style, markersize=4, color=f"C{color}", label=f"{sketch.split(': ')[1]}, {kind}")
    axes.set(xlabel=label, ylabel="recall@10, %")
    axes.grid(alpha=0.3)
