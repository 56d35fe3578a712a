"""An index read in full and compared with its checksums; its search with an exact scan, by the user's own queries; and what
a first stage before that scan would miss."""

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

# Fewer sentences cannot tell one answer missed of a hundred from many.
FEWEST = 20


@dataclass(frozen=True)
class Verified:
    """What was found: how many videos there are, what is damaged, by video, how well the search does, and first stages."""

    videos: int
    faults: dict[str, str]
    dropped: tuple[str, ...]
    recall: Recall | None
    first_stages: Trial | None

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
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
    """Reads all of an index.

    Args:
        queries: a file with a sentence in each line, to compare the search by.
        drop: whether damaged videos are taken out, so that the next indexing adds them again.
        least_recall: has first stages measured by the queries, too; the fastest that finds so much of the exact ten best, on
            average, is kept in the index for approximate searches, and none if none does.

    Raises:
        ModelError: there is no index, or its file is too damaged to be read at all; or its model has no first stage.
        DataError: no queries in the file, or too few to measure first stages by.
        SettingError: first stages without queries, of an index elsewhere, or a recall that is no share.
    """
    texts = [] if queries is None else _sentences(queries)
    if least_recall is not None:
        _measurable(least_recall, texts, queries)
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
    found, tried = None, None
    if texts and faults.keys() <= set(damaged):
        index = open_index(place, model=model, device=device)
        try:
            encoded = _encoded(index, texts)
            found = recall(index.index, encoded)
            if least_recall is not None:
                tell = None if on_progress is None else partial(on_progress, "measuring first stages")
                tried = try_first_stages(approximable(index.index), encoded, least_recall=least_recall, on_setting=tell)
        finally:
            index.index.close()
    return Verified(count, faults, damaged, found, tried)


def _sentences(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; write a sentence in each line") from None
    texts = list(dict.fromkeys(line for line in lines if line.strip()))
    if not texts:
        raise DataError(f"{path} holds no queries; write a sentence in each line")
    return texts


def _measurable(least_recall: float, texts: list[str], path: Path | None) -> None:
    if not 0 < least_recall <= 1:
        raise SettingError(f"the least recall is {least_recall}; it is a share, above 0 and at most 1")
    if path is None:
        raise SettingError(f"first stages are measured by your own queries; name a file of {FEWEST} sentences or more: --queries")
    if len(texts) < FEWEST:
        raise DataError(
            f"{path} holds {len(texts)} different queries, too few to tell what a first stage misses; write {FEWEST} or more"
        )


def _encoded(index: VideoSearch, texts: list[str]) -> Embeddings:
    queries = [index.encode(text) for text in texts]
    return tuple(torch.cat(vectors) for vectors in zip(*queries, strict=True))
