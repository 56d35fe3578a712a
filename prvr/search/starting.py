"""Opens an index for a search without torch: its import takes most of the start of the command.

That is possible where the text encoder is an ONNX folder, word vectors or a vocabulary, and the model is an encoder alone or has
been exported (`prvr checkpoint export`). The answers are those of `opening.open_index` up to the last digits of the scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from prvr.encoders import open_text_side
from prvr.errors import PrvrError
from prvr.index.contract import Header
from prvr.index.database import Database
from prvr.index.disk import DiskIndex
from prvr.index.place import FILE, MODEL, index_folder_of
from prvr.methods.exported import open_exported, text_needs_torch
from prvr.methods.model import Model
from prvr.search.asking import VideoSearch
from prvr.search.matching import open_matching_encoder
from prvr.video.remote import place_of


def open_for_search(
    place: str | Path,
    *,
    model: str | Path | None = None,
    method: str | type | None = None,
    device: str = "cpu",
    stored_rows: bool = True,
) -> VideoSearch:
    """Opens an index without torch where that will do, and as `opening.open_index` where it will not.

    Args:
        model, method: as in `open_index`. device: of the networks; without torch they run on the processor.
        stored_rows: a sentence and stored rows are all that is compared: no picture, and no re-scoring.

    Raises:
        ModelError, MissingExtra: as `open_without_torch` and `open_index`.
    """
    if stored_rows and model is None and method is None and device in ("auto", "cpu"):
        light = open_without_torch(place)
        if light is not None:
            return light
    from prvr.search.opening import open_index

    return open_index(place, model=model, method=method, device=device)


def open_without_torch(place: str | Path) -> VideoSearch | None:
    """Opens the index in a folder; None if that takes torch, or if `open_index` has to say what is wrong.

    Raises:
        ModelError: the export of the model is of another one, or broken; or the text encoder has changed.
        MissingExtra: onnxruntime is not installed.
    """
    folder = index_folder_of(Path(place))
    if "://" in str(place) or not (folder / FILE).is_file():
        return None
    try:
        # Its header and its videos do not need the model.
        header, count = _look(folder)
    except PrvrError:
        return None
    if not count:
        return None
    checkpoint = open_exported(folder / MODEL, fingerprint=header.model, accept=lambda read: not text_needs_torch(read.text))
    if checkpoint is None:
        return None
    encoder = open_matching_encoder(checkpoint.sources.text, "text", "cpu", open_with=open_text_side)
    # A search calls no more of the contract than a stored model has.
    store = DiskIndex(folder, cast(Model, checkpoint.model))
    return VideoSearch(checkpoint, store, encoder, videos=place_of(header.videos))


def _look(folder: Path) -> tuple[Header, int]:
    """The header of an index, and the number of its videos."""
    database = Database(folder / FILE)
    try:
        with database.reading():
            return database.header, len(database.videos)
    finally:
        database.close()
