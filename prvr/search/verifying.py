"""Verification of an index: its checksums; by the user's own queries, the recall of its search, and settings of approximate
search."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from prvr.datasets.reading import text_lines
from prvr.errors import DataError, SettingError, require
from prvr.extract.extraction import Progress
from prvr.index.contract import ApproximateStore, require_approximate
from prvr.index.measure import Recall, Trial, choose_setting, measure_recall
from prvr.index.setting import measure_again
from prvr.methods.contract import Embeddings
from prvr.search.asking import VideoSearch
from prvr.search.opening import is_remote, open_index, store_of

# With fewer sentences one missed answer in a hundred cannot be told from many.
FEWEST = 20


@dataclass(frozen=True)
class Verified:
    """The number of videos, faults by video, the videos that were dropped, recall, and settings of approximate search.

    stage_fault: the damage of what approximate search scans, and what became of it; None if there is none. Videos do not have
    it: all of that is computed from them.
    """

    videos: int
    faults: dict[str, str]
    dropped: tuple[str, ...]
    recall: Recall | None
    first_stages: Trial | None
    stage_fault: str | None

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return asdict(self)


def verify_index(
    place: str | Path,
    *,
    queries: Path | None = None,
    model: str | Path | None = None,
    method: str | type | None = None,
    drop: bool = False,
    least_recall: float | None = None,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> Verified:
    """Reads all of an index and compares it with its checksums.

    Args:
        queries: a file with a sentence in each line, by which recall is measured.
        method: of its checkpoint, as in `checkpoint.load`; required for an external method that is not installed.
        drop: removes damaged videos, so that the next indexing adds them again.
        least_recall: also measures settings of approximate search by the queries. The index keeps the fastest one that finds
            this share of the exact ten best, as a mean over queries, and none if none does.

    Raises:
        ModelError: there is no index, its file is too damaged to be read, or its model does not support approximate search.
        DataError: no queries in the file, or too few to measure settings.
        MissingExtra: settings are to be measured, and FAISS is not installed.
        SettingError: settings are to be measured without queries or in shards, or `least_recall` is not a share.
    """
    texts = [] if queries is None else read_queries(queries)
    if least_recall is not None:
        _check_measurable(least_recall, texts, queries)
        if not is_remote(place):
            require("faiss", extra="index")
    if on_progress:
        on_progress("reading", 0, 1)
    _, store = store_of(place, model=model, method=method)
    try:
        if least_recall is not None:
            require_approximate(store)
        faults, count = store.verify(), store.count()
        stage_fault = store.stage_fault() if isinstance(store, ApproximateStore) else None
        damaged = tuple(id for id in faults if id) if drop else ()
        store.delete(damaged)
    finally:
        store.close()
    recall, settings = None, None
    if texts and faults.keys() <= set(damaged):
        index = open_index(place, model=model, method=method, device=device)
        try:
            encoded = _encode(index, texts)
            recall = measure_recall(index.index, encoded)
            if least_recall is not None:
                on_video = None if on_progress is None else partial(on_progress, "sketching videos")
                on_setting = None if on_progress is None else partial(on_progress, "measuring settings")
                store = require_approximate(index.index)
                settings = choose_setting(store, encoded, least_recall=least_recall, on_video=on_video, on_setting=on_setting)
        finally:
            index.index.close()
    if stage_fault:
        stage_fault += f"; {measure_again(place) if settings is None else 'this measurement replaced it'}"
    return Verified(count, faults, damaged, recall, settings, stage_fault)


def read_queries(path: Path) -> list[str]:
    """Returns the different sentences of a file, one a line.

    Raises:
        DataError: it holds none, or is no UTF-8 text.
        OSError: it cannot be read.
    """
    texts = list(dict.fromkeys(line for _, line in text_lines(path)))
    if not texts:
        raise DataError(f"{path} holds no queries; write a sentence in each line")
    return texts


def _check_measurable(least_recall: float, texts: list[str], path: Path | None) -> None:
    if not 0 < least_recall <= 1:
        raise SettingError(f"the least recall is {least_recall}; it is a share, above 0 and at most 1")
    if path is None:
        raise SettingError(f"first stages are measured by your own queries; name a file of {FEWEST} sentences or more: --queries")
    if len(texts) < FEWEST:
        raise DataError(
            f"{path} holds {len(texts)} different queries, too few to tell what a first stage misses; write {FEWEST} or more"
        )


def _encode(index: VideoSearch, texts: list[str]) -> Embeddings:
    queries = [index.encode(text) for text in texts]
    return tuple(torch.cat(vectors) for vectors in zip(*queries, strict=True))
