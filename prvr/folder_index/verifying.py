"""An index read in full and compared with its checksums, and its search with an exact scan, by the user's own queries."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from prvr.errors import DataError
from prvr.extract.ledger import Progress
from prvr.folder_index.opening import open_index, store_of
from prvr.index.recall import Recall, recall
from prvr.search import VideoSearch


@dataclass(frozen=True)
class Verified:
    """What was found: how many videos there are, what is damaged, by video, and how well the search does."""

    videos: int
    faults: dict[str, str]
    dropped: tuple[str, ...]
    recall: Recall | None

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return asdict(self)


def verify_index(
    place: str | Path,
    *,
    queries: Path | None = None,
    model: str | Path | None = None,
    drop: bool = False,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> Verified:
    """Reads all of an index.

    Args:
        queries: a file with a sentence in each line, to compare the search by.
        drop: whether damaged videos are taken out, so that the next indexing adds them again.

    Raises:
        ModelError: there is no index, or its file is too damaged to be read at all.
        DataError: no queries in the file.
    """
    texts = None if queries is None else _sentences(queries)
    if on_progress:
        on_progress("reading", 0, 1)
    _, store = store_of(place, model=model)
    try:
        faults, count = store.verify(), store.count()
        damaged = tuple(id for id in faults if id) if drop else ()
        store.delete(damaged)
    finally:
        store.close()
    found = None
    if texts and faults.keys() <= set(damaged):
        found = _recall(open_index(place, model=model, device=device), texts)
    return Verified(count, faults, damaged, found)


def _sentences(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; write a sentence in each line") from None
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise DataError(f"{path} holds no queries; write a sentence in each line")
    return texts


def _recall(index: VideoSearch, texts: list[str]) -> Recall:
    queries = [index.encode(text) for text in texts]
    try:
        return recall(index.index, tuple(torch.cat(vectors) for vectors in zip(*queries, strict=True)))
    finally:
        index.index.close()
