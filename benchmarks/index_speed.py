"""A query in an index of random videos: the exact search, the approximate one, and other libraries in place of its first stage.

A gallery is generated in parts and never held in float32: the exact scores of all queries are computed with each part, and
recall is measured against them. Of a large gallery only the sketches of all videos are held; candidates are then scored in an
index on disk of its first `HELD` videos, as many as there are candidates, and a candidate counts as found where it is kept.
With one thread times are CPU times, with more they are wall-clock times.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int

from benchmarks.index_gallery import Fields, Queries, World, chunks, easy_queries, hard_queries
from benchmarks.measure import Line, Size, take_turns
from benchmarks.step import make_student
from prvr.errors import SettingError, require
from prvr.features import open_features
from prvr.files import write_picture
from prvr.index.contract import Entry, Header
from prvr.index.disk import DiskIndex
from prvr.index.measure import SETTINGS
from prvr.index.setting import TOP, Setting
from prvr.index.sketches import divide, learn_codebook
from prvr.index.stage import Candidates, FindsCandidates, FirstStage, LearnedStage
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WEIGHTS = (0.7, 0.3)
QUERIES = 40
# Queries that a codebook is learned from: others of the same kind, as few as a user has.
LEARNED = 40
# Videos of an index on disk; of more videos there are sketches alone.
HELD = 11_000
KINDS = ("hard", "turned", "easy")
# Videos that NumPy's scan is timed with.
PLAIN = 400
# The rows that other libraries are asked for; graphs are searched as wide (ef, expansion).
ROWS = (100, 400, 1600, 6400)


@dataclass(frozen=True)
class Gallery:
    """An index on disk of the first videos, a first stage of all for each kind of queries, and the queries' exact scores."""

    index: DiskIndex
    videos: int
    stages: dict[str, FirstStage]
    queries: dict[str, Queries]
    scores: dict[str, Float32[np.ndarray, "Q V"]]
    plain: tuple[Fields, Int[np.ndarray, "N"]]


def index_lines(size: Size) -> list[Line]:
    """A query in galleries of the given size and of one five times as large; other libraries beside it in the first."""
    lines = []
    for times in (1, 5):
        with drawn_gallery(size, times * size.gallery) as gallery:
            lines += gallery_lines(gallery, size, rivals=rivals(gallery, graphs=times == 1))
    return lines


def large_index_lines(size: Size) -> list[Line]:
    """A query in a gallery 46 times as large: 100,000 videos, 3 GB of memory, and half an hour."""
    with drawn_gallery(size, 46 * size.gallery, held=size.gallery, kinds=KINDS[:1]) as gallery:
        return gallery_lines(gallery, size, rivals={})


def vectors_lines(size: Size) -> list[Line]:
    """A query among vectors of one's own: packed frames and sentences in a folder.

    Raises:
        SettingError: no folder is named.
    """
    if not size.vectors:
        raise SettingError("no vectors are named; give a folder with packed frames/ and sentences/: --vectors FOLDER")
    with own_gallery(Path(size.vectors)) as gallery:
        return gallery_lines(gallery, size, rivals=rivals(gallery, graphs=True))


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


@contextmanager
def drawn_gallery(size: Size, videos: int, *, held: int = HELD, kinds: Sequence[str] = KINDS) -> Iterator[Gallery]:
    """A random gallery; of hard queries, of hard ones with axes of their own (turned), and of easy ones."""
    world = World(videos, columns=size.hidden, fewest=max(size.frames // 2, 1), most=size.frames)
    count = QUERIES + LEARNED
    makers = {"hard": hard_queries, "turned": partial(hard_queries, turned=True), "easy": easy_queries}
    both = {kind: makers[kind](world, count) for kind in kinds}
    with tempfile.TemporaryDirectory(prefix="prvr-") as folder:
        index = DiskIndex.make(Path(folder), make_student(size).eval().cpu(), Header("", "float16", ""))
        yield _fill(index, chunks(world), both, WEIGHTS, videos, held)
        index.close()


@contextmanager
def own_gallery(folder: Path) -> Iterator[Gallery]:
    """The gallery of packed vectors: an item of `frames` is a video, the rows of `sentences` are queries."""
    frames, sentences = open_features(folder / "frames"), open_features(folder / "sentences")
    names, columns = list(frames), frames.columns
    some = list(sentences)[:: max(1, len(sentences) // (QUERIES + LEARNED))][: QUERIES + LEARNED]
    rows = [np.asarray(frames[name], np.float32) for name in names]
    starts = np.cumsum([0, *map(len, rows)])
    unit = np.concatenate(rows)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    asked = np.concatenate([np.asarray(sentences[name], np.float32)[:1] for name in some])
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    # Every other one, so that both halves are of all videos.
    queries = {"own": (np.concatenate([asked[::2], asked[1::2]]),)}
    model = ZeroShot(ZeroShotConfig(), frame_columns=columns, word_columns=columns).eval()
    with tempfile.TemporaryDirectory(prefix="prvr-") as path:
        index = DiskIndex.make(Path(path), model, Header("", "float16", ""))
        yield _fill(index, [((unit,), starts)], queries, (1.0,), len(names), HELD)
        index.close()


def _fill(
    index: DiskIndex,
    parts: Any,
    both: Mapping[str, Queries],
    weights: tuple[float, ...],
    videos: int,
    held: int,
) -> Gallery:
    """Adds videos, learns a codebook for each kind of queries from the first part, and sketches all videos with it."""
    queries = {kind: tuple(field[:QUERIES] for field in fields) for kind, fields in both.items()}
    others = {kind: np.concatenate([field[QUERIES:] for field in fields], axis=1) for kind, fields in both.items()}
    scores: dict[str, list[np.ndarray]] = {kind: [] for kind in queries}
    stages: dict[str, FirstStage] = {}
    plain: Any = None
    done = 0
    for fields, starts in parts:
        for kind, asked in queries.items():
            scores[kind].append(exact_scores(fields, starts, asked, weights))
        spans = list(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))
        segments = [divide([rows[a:b] for rows in fields], weights) for a, b in spans]
        if plain is None:
            few = starts[: PLAIN + 1]
            plain = tuple(rows[: few[-1]].copy() for rows in fields), few
            stages = {
                kind: FirstStage(learn_codebook(np.concatenate([of.vectors for of in segments]), others[kind]))
                for kind in queries
            }
        numbers = range(done + 1, done + len(spans) + 1)
        for stage in stages.values():
            stage.extend((number, stage.codebook.sketch(of)) for number, of in zip(numbers, segments, strict=True))
        entries = [
            Entry(f"{number:07}", tuple(rows[a:b] for rows in fields), (b - a,))
            for number, (a, b) in zip(numbers, spans, strict=True)
            if number <= held
        ]
        index.add(entries)
        done += len(spans)
    return Gallery(index, videos, stages, queries, {kind: np.concatenate(of, axis=1) for kind, of in scores.items()}, plain)


def exact_scores(
    fields: Fields, starts: Int[np.ndarray, "N"], queries: Queries, weights: Sequence[float]
) -> Float32[np.ndarray, "Q V"]:
    """Returns the scores of unit rows for unit queries, in float32."""
    best = [np.maximum.reduceat(rows @ query.T, starts[:-1], axis=0).T for rows, query in zip(fields, queries, strict=True)]
    return np.tensordot(np.asarray(weights, np.float32), np.stack(best), 1)


def gallery_lines(gallery: Gallery, size: Size, *, rivals: Mapping[str, Mapping[str, FindsCandidates]]) -> list[Line]:
    """The exact search beside NumPy and the memory, then approximate searches by our first stage and by others."""
    title = f"{gallery.videos:,} videos"
    kinds = list(gallery.queries)
    lines = [*_exact_lines(gallery, size, title, kinds[0]), _batch_line(gallery, size, title, kinds[0])]
    for kind in kinds:
        for setting in SETTINGS:
            part = f"{title}: first stage, {100 * setting.kept:.3g} %, {kind}"
            lines.append(_stage_line(gallery, size, part, kind, gallery.stages[kind], setting))
        lines += [] if kind == "easy" else rival_lines(gallery, size, kind, rivals)
    return lines


def rival_lines(gallery: Gallery, size: Size, kind: str, rivals: Mapping[str, Mapping[str, FindsCandidates]]) -> list[Line]:
    """Approximate searches by other libraries in place of our first stage."""
    return [
        _stage_line(gallery, size, f"{gallery.videos:,} videos: {name}, {label}, {kind}", kind, stage, Setting(1.0))
        for name, stages in rivals.items()
        for label, stage in stages.items()
    ]


def _exact_lines(gallery: Gallery, size: Size, title: str, kind: str) -> list[Line]:
    """The exact search beside NumPy's float32 scan, and the scan of the codes beside a sum over as many bytes; by turns."""
    index, (fields, starts) = gallery.index, gallery.plain
    times_larger, share = gallery.videos / index.count(), gallery.videos / (len(starts) - 1)
    index.search_by_codes(query_of(gallery, kind, 0), TOP)
    codes_bytes = sum(rows.shape[1] for rows in fields) * _rows_of(gallery)
    words = torch.ones(1 << 25, dtype=torch.int64)
    number = iter(range(10**6))
    weights = index.model.score_weights or ()

    def read() -> None:
        for at in range(0, codes_bytes, words.nbytes):
            words[: (codes_bytes - at) // 8].sum()

    contenders = {
        "exact": lambda: index.search(query_of(gallery, kind, next(number)), TOP),
        "numpy": lambda: exact_scores(fields, starts, _one(gallery, kind, next(number)), weights),
        "scan": lambda: index.search_by_codes(query_of(gallery, kind, next(number)), TOP),
        "memory": read,
    }
    times = turns(contenders, 4 * size.runs)
    times["numpy"] = tuple(share * seconds for seconds in times["numpy"])
    note = f"NumPy's from {len(starts) - 1} videos"
    if times_larger > 1:
        note += f"; ours is {times_larger:.3g} times that of {index.count():,}"
        times |= {name: tuple(times_larger * seconds for seconds in times[name]) for name in ("exact", "scan", "memory")}
    else:
        found = [share_of_best(gallery, kind, n, index.search(query_of(gallery, kind, n), TOP)[0]) for n in range(QUERIES)]
        note += f"; recall@10 {np.mean(found):.3f}"
    megabytes = f"{codes_bytes * times_larger / 1e6:.0f} MB"
    return [
        Line(f"{title}: exact, beside NumPy float32", times["exact"], times["numpy"], note=note),
        Line(f"{title}: scan of the codes, beside reading as many bytes", times["scan"], times["memory"], note=megabytes),
    ]


def _batch_line(gallery: Gallery, size: Size, title: str, kind: str) -> Line:
    """Seconds of each of twenty queries at once, beside one at a time, in the index on disk."""
    index, together = gallery.index, 20
    batch = tuple(torch.from_numpy(field[:together]) for field in gallery.queries[kind])
    times = turns(
        {"batch": lambda: index.search(batch, TOP), "one": lambda: index.search(query_of(gallery, kind, 1), TOP)}, size.runs
    )
    each = tuple(seconds / together for seconds in times["batch"])
    return Line(f"{title}: exact, each of {together} at once, beside one", each, times["one"], note=f"{index.count():,} videos")


def _stage_line(gallery: Gallery, size: Size, part: str, kind: str, stage: FindsCandidates, setting: Setting) -> Line:
    """Seconds of an approximate search, and its recall@10 as the baseline's place, in percent."""
    whole, count = gallery.index.count() == gallery.videos, setting.candidates(TOP, gallery.videos)
    chosen = stage if whole else _Elsewhere(stage, gallery.index.count(), count)
    learned = LearnedStage(chosen, next(iter(gallery.stages.values())).codebook, {})

    def answer(number: int) -> list[Any]:
        return gallery.index.search_with_setting(query_of(gallery, kind, number), TOP, setting=setting, learned=learned)[0]

    number = iter(range(10**6))
    times = turns({"ours": lambda: answer(next(number))}, 4 * size.runs)["ours"]
    if whole:
        shares = [share_of_best(gallery, kind, n, answer(n)) for n in range(QUERIES)]
    else:
        best = np.argsort(-gallery.scores[kind], axis=1)[:, :TOP] + 1
        kept = [stage.candidates(_vectors(gallery, kind, n), count) for n in range(QUERIES)]
        shares = [len(set(row.tolist()) & set(of.numbers.tolist())) / TOP for row, of in zip(best, kept, strict=True)]
    return Line(part, times, (), note=f"recall@10 {np.mean(shares):.4f}")


class _Elsewhere:
    """A first stage of more videos than the index holds: each candidate stands for one that it holds."""

    def __init__(self, stage: FindsCandidates, held: int, count: int) -> None:
        self._stage, self._held, self._count = stage, held, count

    def candidates(
        self, query: Sequence[Float[np.ndarray, "_"]], count: int, allowed: Collection[int] | None = None
    ) -> Candidates:
        found = self._stage.candidates(query, self._count)
        # Steps that have no divisor in common with the number of videos: each is another one.
        numbers, places = np.unique(1 + found.numbers * 7919 % self._held, return_inverse=True)
        return found._replace(numbers=numbers, of=places[found.of])


def rivals(gallery: Gallery, *, graphs: bool) -> dict[str, dict[str, FindsCandidates]]:
    """Other libraries in place of the first stage: rows of the heaviest field, whose videos are scored as those of ours.

    Args:
        graphs: also those that take minutes to be built.
    """
    number = int(np.argmax(gallery.index.model.score_weights))
    entries = gallery.index.fetch(gallery.index.ids)
    rows = np.concatenate([entry.fields[number] for entry in entries.values()]).astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    owners = np.repeat(np.arange(1, len(entries) + 1), [len(entry.fields[number]) for entry in entries.values()])
    del entries
    threads, columns = torch.get_num_threads(), rows.shape[1]
    faiss = require("faiss", extra="index")
    faiss.omp_set_num_threads(threads)
    flat = faiss.IndexFlatIP(columns)
    flat.add(rows)
    lists = max(1, int(4 * len(rows) ** 0.5))
    inverted = faiss.IndexIVFFlat(faiss.IndexFlatIP(columns), columns, lists, faiss.METRIC_INNER_PRODUCT)
    inverted.cp.min_points_per_centroid = 1
    inverted.train(rows[:: max(1, len(rows) // (64 * lists))])
    inverted.add(rows)
    searches: dict[str, list[tuple[str, Callable[[Any, int], Any]]]] = {
        "FAISS flat": [("all", lambda query, count: flat.search(query, count)[1][0])],
        "FAISS IVF": [("30 % of the lists", _probe(faiss, inverted, int(0.3 * lists) + 1))],
    }
    if graphs:
        searches |= _graphs(rows, threads)
    return {
        name: {f"{label}, {count} rows": _Rows(search, owners, number, count) for label, search in of for count in ROWS}
        for name, of in searches.items()
    }


def _probe(faiss: Any, index: Any, lists: int) -> Callable[[Any, int], Any]:
    settings = faiss.SearchParametersIVF(nprobe=lists)
    return lambda query, count: index.search(query, count, params=settings)[1][0]


def _graphs(rows: Float32[np.ndarray, "R D"], threads: int) -> dict[str, list[tuple[str, Callable[[Any, int], Any]]]]:
    """The graphs of the libraries that are installed."""
    graphs: dict[str, list[tuple[str, Callable[[Any, int], Any]]]] = {}
    if find_spec("hnswlib"):
        graph = importlib.import_module("hnswlib").Index(space="ip", dim=rows.shape[1])
        graph.init_index(max_elements=len(rows), ef_construction=200, M=16)
        graph.set_num_threads(threads)
        graph.add_items(rows)

        def by_hnswlib(query: Any, count: int) -> Any:
            graph.set_ef(count)
            return graph.knn_query(query, count)[0][0]

        graphs["hnswlib"] = [("graph", by_hnswlib)]
    if find_spec("usearch"):
        other = importlib.import_module("usearch.index").Index(
            ndim=rows.shape[1], metric="ip", dtype="f16", connectivity=16, expansion_add=128
        )
        other.add(np.arange(len(rows)), rows, threads=threads)

        def by_usearch(query: Any, count: int) -> Any:
            other.expansion_search = count
            return other.search(query[0], count, threads=threads).keys

        graphs["usearch"] = [("graph", by_usearch)]
    return graphs


class _Rows:
    """The videos of the rows that another library finds."""

    def __init__(self, search: Callable[[Any, int], Any], owners: Int[np.ndarray, "R"], field: int, rows: int) -> None:
        self._search, self._owners, self._field, self._rows = search, owners, field, min(rows, len(owners))

    def candidates(
        self, query: Sequence[Float[np.ndarray, "_"]], count: int, allowed: Collection[int] | None = None
    ) -> Candidates:
        found = np.asarray(self._search(query[self._field][None].astype(np.float32), self._rows)).astype(np.int64)
        owners = self._owners[found[found >= 0]]
        _, firsts = np.unique(owners, return_index=True)
        return Candidates(owners[np.sort(firsts)])


def _rows_of(gallery: Gallery) -> int:
    index = gallery.index
    return (
        sum(len(entry.fields[0]) for start in index.ids[:PLAIN] for entry in index.fetch([start]).values())
        * index.count()
        // min(PLAIN, index.count())
    )


def share_of_best(gallery: Gallery, kind: str, number: int, hits: Sequence[Any]) -> float:
    best = np.argsort(-gallery.scores[kind][number])[:TOP] + 1
    return len(set(best.tolist()) & {int(hit.video) for hit in hits}) / len(best)


def query_of(gallery: Gallery, kind: str, number: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(field) for field in _one(gallery, kind, number))


def _one(gallery: Gallery, kind: str, number: int) -> Queries:
    return tuple(field[number % QUERIES][None] for field in gallery.queries[kind])


def _vectors(gallery: Gallery, kind: str, number: int) -> list[Float32[np.ndarray, "D"]]:
    return [field[number % QUERIES] for field in gallery.queries[kind]]


def turns(contenders: Mapping[str, Callable[[], object]], runs: int) -> dict[str, tuple[float, ...]]:
    """Returns the seconds of contenders that take turns; the first run fills the caches and is not counted."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs + 1):
        for name, action in contenders.items():
            began = clock()
            action()
            times[name].append(clock() - began)
    return {name: tuple(of[1:]) for name, of in times.items()}


def draw_index(lines: Sequence[Line], path: Path) -> None:
    """Draws recall over milliseconds: a panel for each gallery, a curve for each first stage and kind of query."""
    from matplotlib.figure import Figure

    galleries = dict.fromkeys(line.part.split(": ")[0] for line in lines)
    figure = Figure(figsize=(6 * len(galleries), 5), layout="constrained")
    for axes, gallery in zip(figure.subplots(1, len(galleries), squeeze=False)[0], galleries, strict=True):
        _draw_gallery(axes, [line for line in lines if line.part.startswith(f"{gallery}: ")])
        axes.set(title=gallery, xscale="log", xlabel="milliseconds of a query", ylabel="recall@10", ylim=(0.5, 1.01))
    write_picture(path, figure)


def _draw_gallery(axes: Axes, lines: Sequence[Line]) -> None:
    from matplotlib import rcParams

    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for line in lines:
        if "recall@10" in line.note and ": exact" not in line.part:
            name, *_, kind = line.part.split(": ")[1].split(", ")
            curves.setdefault((name, kind), []).append((1000 * float(np.median(line.ours)), float(line.note.split()[-1])))
    names = list(dict.fromkeys(name for name, _ in curves))
    for (name, kind), points in curves.items():
        # The best recall in that time or less.
        ordered = [(time, max(recall for other, recall in points if other <= time)) for time, _ in sorted(points)]
        style = {"hard": "o-", "own": "o-", "turned": "s--"}.get(kind, "x:")
        axes.plot(*zip(*ordered, strict=True), style, color=f"C{names.index(name)}", markersize=3, label=f"{name}, {kind}")
    exact = next(line for line in lines if ": exact, beside" in line.part)
    axes.plot(1000 * float(np.median(exact.ours)), 1, "*", color=rcParams["text.color"], label="exact")
    axes.legend(fontsize=6)
    axes.grid(alpha=0.3)
