"""Opens an index for a search without torch, whose import takes most of the start of the command.

That is possible where the text encoder is an ONNX folder, word vectors or a vocabulary, and the model is an encoder alone or has
been exported (`prvr checkpoint export`). The answers are those of `opening.open_index` up to the last digits of the scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from prvr.encoders import needs_torch, open_text_side
from prvr.errors import PrvrError
from prvr.index.contract import Header
from prvr.index.database import Database
from prvr.index.disk import DiskIndex
from prvr.index.place import FILE, MODEL, index_folder_of
from prvr.methods.exported import open_exported
from prvr.methods.model import Model
from prvr.search.asking import VideoSearch
from prvr.search.matching import open_matching_encoder


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
    checkpoint = open_exported(folder / MODEL, fingerprint=header.model) if count else None
    if checkpoint is None:
        return None
    text = checkpoint.sources.text
    if text.parts or text.source is None or needs_torch(text.source):
        return None
    encoder = open_matching_encoder(text, "text", "cpu", open_with=open_text_side)
    # A search calls no more of the contract than a stored model has.
    store = DiskIndex(folder, cast(Model, checkpoint.model))
    return VideoSearch(checkpoint, store, encoder, videos=Path(header.videos))


def _look(folder: Path) -> tuple[Header, int]:
    """The header of an index, and the number of its videos."""
    database = Database(folder / FILE)
    try:
        with database.reading():
            return database.header, len(database.videos)
    finally:
        database.close()
