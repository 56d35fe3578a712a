"""A query in one file, in four shards and in Qdrant, by the same rows; and what a video takes of memory, disk and time in each.

The shards are searched in this process, one after the other: their times are those of all machines together, without Ray.
Qdrant is its own core in this process (`benchmarks.qdrant_edge`): without HTTP and JSON.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.index_speed import (
    Gallery,
    drawn_gallery,
    gallery_lines,
    query_of,
    rival_lines,
    rivals,
    share_of_best,
    turns,
)
from benchmarks.measure import Line, Size
from prvr.errors import require
from prvr.index.contract import Entry, PersistentStore
from prvr.index.disk import DiskIndex
from prvr.index.measure import SETTINGS
from prvr.index.setting import TOP
from prvr.index.stores import make_store

SHARDS = 4
VIDEOS_AT_ONCE = 64
KIND = "hard"


def cluster_lines(size: Size) -> list[Line]:
    """One file, shards and Qdrant in a gallery five times as large as the size's: a hundredth of a million videos.

    Raises:
        MissingExtra: qdrant-edge-py or FAISS is not installed.
    """
    require("qdrant_edge", extra="test")
    videos = 5 * size.gallery
    with drawn_gallery(size, videos, kinds=(KIND,)) as gallery, tempfile.TemporaryDirectory(prefix="prvr-") as folder:
        lines = [_space("one file", videos, disk=_bytes_below(gallery.index.path), resident=_codes(gallery))]
        lines += gallery_lines(gallery, size, rivals={})
        lines += _shard_lines(gallery, size, Path(folder) / "shards")
        lines += _qdrant_lines(gallery, size, Path(folder) / "qdrant")
        # Last, since they hold all rows in memory.
        lines += rival_lines(gallery, size, KIND, rivals(gallery, graphs=False))
    return lines


def _shard_lines(gallery: Gallery, size: Size, folder: Path) -> list[Line]:
    url, title = f"shards://{folder}?shards={SHARDS}", f"{gallery.videos:,} videos"
    index = make_store(url, gallery.index.model, gallery.index.header)
    seconds = _fill(gallery, index)
    lines = [
        Line(f"{title}: added to shards, a video", (seconds / gallery.videos,), ()),
        _space("shards", gallery.videos, disk=_bytes_below(folder), resident=_codes(gallery)),
        _timed(gallery, size, f"{title}: shards, all, {KIND}", index, lambda query: index.search(query, TOP)[0]),
    ]
    index.close()
    one = DiskIndex(folder / f"0-of-{SHARDS}", gallery.index.model)
    number = iter(range(10**6))
    taken = turns({"one": lambda: one.search(query_of(gallery, KIND, next(number)), TOP)}, 4 * size.runs)["one"]
    lines.append(Line(f"{title}: one of {SHARDS} shards", taken, (), note=f"{one.count():,} videos"))
    one.close()
    return lines


def _qdrant_lines(gallery: Gallery, size: Size, folder: Path) -> list[Line]:
    from benchmarks.qdrant_edge import EdgeClient
    from prvr.index.qdrant import QdrantIndex

    title, client = f"{gallery.videos:,} videos", EdgeClient(folder, threads=torch.get_num_threads())
    index = QdrantIndex.make(client, "gallery", gallery.index.model, gallery.index.header, place="qdrant-edge")
    seconds = _fill(gallery, index)
    began = time.process_time()
    client.optimise("gallery")
    coding = time.process_time() - began
    codes = sum(path.stat().st_size for path in folder.rglob("*quant*") if path.is_file())
    lines = [
        Line(f"{title}: added to Qdrant, a video", (seconds / gallery.videos,), (), note="without HTTP and JSON"),
        Line(f"{title}: codes by Qdrant's optimiser, a video", (coding / gallery.videos,), ()),
        _space("Qdrant", gallery.videos, disk=_bytes_below(folder), resident=codes),
        *_in_core(gallery, size, f"{title}: Qdrant, all", index, client, lambda query: index.search(query, TOP)[0]),
    ]
    for setting in SETTINGS:

        def search(query: Any, setting: Any = setting) -> Any:
            return index.search_with_setting(query, TOP, setting=setting)[0]

        lines += _in_core(gallery, size, f"{title}: Qdrant, {100 * setting.kept:.3g} %", index, client, search)
    index.close()
    return lines


def _in_core(
    gallery: Gallery, size: Size, part: str, index: PersistentStore, client: Any, search: Callable[[Any], Sequence[Any]]
) -> list[Line]:
    """Seconds of the core alone; then those of the whole search, which reads the rows of the hits."""
    in_core: list[float] = []

    def timed(query: Any) -> Sequence[Any]:
        before = client.seconds
        hits = search(query)
        in_core.append(client.seconds - before)
        return hits

    whole = _timed(gallery, size, f"{part}, {KIND}", index, timed)
    rows = f"{part}, with the rows of the hits"
    return [Line(whole.part, tuple(in_core[1 : 1 + len(whole.ours)]), (), note=whole.note), Line(rows, whole.ours, ())]


def _timed(gallery: Gallery, size: Size, part: str, index: PersistentStore, search: Callable[[Any], Sequence[Any]]) -> Line:
    number = iter(range(10**6))
    taken = turns({"ours": lambda: search(query_of(gallery, KIND, next(number)))}, 4 * size.runs)["ours"]
    found = [share_of_best(gallery, KIND, n, search(query_of(gallery, KIND, n))) for n in range(len(gallery.queries[KIND][0]))]
    return Line(part, taken, (), note=f"recall@10 {np.mean(found):.4f}")


def _fill(gallery: Gallery, index: PersistentStore) -> float:
    """Adds the videos of the gallery; returns the processor seconds of that alone."""
    seconds = 0.0
    for part in _parts(gallery.index):
        began = time.process_time()
        index.add(part)
        seconds += time.process_time() - began
    return seconds


def _parts(index: DiskIndex) -> Iterator[list[Entry]]:
    ids = index.ids
    for start in range(0, len(ids), VIDEOS_AT_ONCE):
        yield list(index.fetch(ids[start : start + VIDEOS_AT_ONCE]).values())


def _space(name: str, videos: int, *, disk: int, resident: int) -> Line:
    """Kilobytes of a video: in memory, and on the disk."""
    per_million = f"a million videos: {resident / videos / 1e3:.0f} GB in memory, {disk / videos / 1e3:.0f} GB on the disk"
    return Line(
        f"{videos:,} videos: kB of a video in {name}, in memory", (resident / videos / 1e3,), (), unit="kB", note=per_million
    )


def _codes(gallery: Gallery) -> int:
    """The bytes of the int8 codes of all rows, which a process that searches holds."""
    some = next(_parts(gallery.index))
    return gallery.videos * sum(rows.size for entry in some for rows in entry.fields) // len(some)


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def draw_cluster(lines: Sequence[Line], path: Path) -> None:
    """Draws recall over milliseconds on a light and on a dark page."""
    from matplotlib import style

    from benchmarks.index_speed import draw_index

    for name, page in (("default", "light"), ("dark_background", "dark")):
        with style.context(name):
            draw_index(lines, path.with_stem(f"{path.stem}-{page}"))
