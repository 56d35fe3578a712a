"""Compares an index with its checksums, and its search with an exact scan by the user's own queries; measures what a first
stage before that scan would miss."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from prvr.errors import DataError, SettingError
from prvr.extract.extraction import Progress
from prvr.index.disk import approximable
from prvr.index.recall import Recall, recall
from prvr.index.trial import Trial, try_first_stages
from prvr.methods.contract import Embeddings
from prvr.search.asking import VideoSearch
from prvr.search.opening import open_index, store_of

# With fewer sentences one missed answer of a hundred cannot be told from many.
FEWEST = 20


@dataclass(frozen=True)
class Verified:
    """The number of videos, faults by video, removed videos, and what was measured of the search and of first stages."""

    videos: int
    faults: dict[str, str]
    dropped: tuple[str, ...]
    recall: Recall | None
    first_stages: Trial | None

    def as_dict(self) -> dict[str, Any]:
        """Returns all fields as JSON values."""
        return asdict(self)


def verify_index(
    place: str | Path,
    *,
    queries: Path | None = None,
    model: str | Path | None = None,
    drop: bool = False,
    least_recall: float | None = None,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> Verified:
    """Reads a whole index and compares it with its checksums.

    Args:
        queries: a file with one sentence per line; the search is compared with an exact scan for each.
        drop: whether damaged videos are removed, so that the next indexing adds them again.
        least_recall: measures first stages, too. The fastest one that finds at least this share of the exact ten best, on
            average, is kept in the index for approximate searches; if there is none, none is kept.

    Raises:
        ModelError: there is no index, or its file is too damaged to be read at all; or its model has no first stage.
        DataError: the file holds no queries, or too few to measure first stages.
        SettingError: first stages are to be measured without queries or in an index elsewhere, or the recall is not a share.
    """
    texts = [] if queries is None else _sentences(queries)
    if least_recall is not None:
        _check_measurable(least_recall, texts, queries)
    if on_progress:
        on_progress("reading", 0, 1)
    _, store = store_of(place, model=model)
    try:
        if least_recall is not None:
            approximable(store)
        faults, count = store.verify(), store.count()
        damaged = tuple(id for id in faults if id) if drop else ()
        store.delete(damaged)
    finally:
        store.close()
    measured, tried = None, None
    if texts and faults.keys() <= set(damaged):
        index = open_index(place, model=model, device=device)
        try:
            embeddings = _encode(index, texts)
            measured = recall(index.index, embeddings)
            if least_recall is not None:
                on_setting = None if on_progress is None else partial(on_progress, "measuring first stages")
                tried = try_first_stages(approximable(index.index), embeddings, least_recall=least_recall, on_setting=on_setting)
        finally:
            index.index.close()
    return Verified(count, faults, damaged, measured, tried)


def _sentences(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; write a sentence in each line") from None
    texts = list(dict.fromkeys(line for line in lines if line.strip()))
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
