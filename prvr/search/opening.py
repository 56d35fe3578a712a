"""A checkpoint and its index, each seen to be of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from prvr.config import from_dict
from prvr.encoders import (
    Encoder,
    ImageEncoder,
    JoinedImageEncoder,
    JoinedWordEncoder,
    SentenceEncoder,
    WordEncoder,
    open_encoder,
    sentence_encoder,
)
from prvr.errors import ModelError, SettingError
from prvr.features.sources import Reads, Source
from prvr.index.contract import Header, PersistentStore
from prvr.index.disk import FILE, DiskIndex
from prvr.index.stores import is_remote, open_store
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.search.asking import VideoSearch
from prvr.video import find_videos

MODEL, FEATURES = "model", "features"
# Where the index of a folder is if nobody says: hidden, so that it is not searched for videos.
DEFAULT = ".prvr"
# The header of an index before there was a database.
OLDER = "index.json"


def zero_shot(source: str | Path, *, rate: float = 1.0, parts: str = "frames") -> Checkpoint:
    """The teacher alone as a checkpoint, from any encoder with images and sentences in one space.

    Args:
        parts: what of a video a sentence is compared with (`prvr.methods.zero_shot`).

    Raises:
        ModelError: the encoder cannot be opened, or lacks one of the two.
        SettingError: there are no such parts.
    """
    settings = from_dict(ZeroShotConfig, {"parts": parts})
    encoder = sentence_encoder(source)
    if not isinstance(encoder, ImageEncoder):
        raise ModelError(f"{encoder.name!r} has no image side; a teacher needs images and sentences in one space")
    frames = Source(encoder.name, encoder.image_columns, encoder.source, encoder.fingerprint, rate)
    text = Source(encoder.name, encoder.sentence_columns, encoder.source, encoder.fingerprint)
    return checkpoints.build("zero_shot", settings, Reads(frames, text))


def open_index(place: str | Path, *, model: str | Path | None = None, device: str = "cpu") -> VideoSearch:
    """An index to be asked; it sees what another process adds to it.

    Args:
        place: its folder, a folder of videos that has its index in `.prvr`, or the URL of one elsewhere.
        model: the checkpoint that the index is expected to be of; one elsewhere does not hold its own.

    Raises:
        ModelError: there is none, it is broken or empty, it is of another checkpoint, or its text encoder is another one now.
    """
    checkpoint, store = store_of(place, model=model)
    try:
        if not store.count():
            raise ModelError(f"the index in {place} holds no videos; add some with the command that made it")
        text = opened(checkpoint.reads.text, "text", device)
    except BaseException:
        store.close()
        raise
    return VideoSearch(checkpoints.to_device(checkpoint, device), store, text, videos=Path(store.header.videos))


def store_of(place: str | Path, *, model: str | Path | None = None) -> tuple[Checkpoint, PersistentStore]:
    """The checkpoint of an index, and the index itself; arguments and errors as in `open_index`."""
    if is_remote(place):
        if model is None:
            raise ModelError(f"{place} does not hold its model; name the checkpoint that it was built with: --model RUN")
        checkpoint = checkpoints.load(model)
        store = open_store(place, checkpoint.model)
    else:
        place = inside(Path(place))
        refuse_older(place)
        if not (place / FILE).exists():
            raise ModelError(f"no index in {place}; build one: prvr index VIDEOS {place} --model RUN")
        checkpoint = checkpoints.load(place / MODEL)
        store = open_store(place, checkpoint.model)
    try:
        same_model(place, store.header, checkpoint)
        if model is not None and not is_remote(place):
            given = checkpoints.load(model)
            same_model(place, store.header, given)
            # It may have been calibrated since.
            checkpoint = replace(checkpoint, calibration=given.calibration)
    except BaseException:
        store.close()
        raise
    return checkpoint, store


def inside(path: Path) -> Path:
    """The index itself, where the folder of its videos is named."""
    return path / DEFAULT if not (path / FILE).exists() and (path / DEFAULT / FILE).exists() else path


def made_or_reopened(
    path: Path, checkpoint: Checkpoint, *, videos: Path, dtype: Literal["float16", "float32"] | None
) -> DiskIndex:
    """The index in a folder, with a copy of its checkpoint.

    Raises:
        ModelError: it was built with another checkpoint.
        SettingError: it holds another dtype, or is of another folder of videos.
    """
    refuse_older(path)
    header = Header(checkpoint.fingerprint, dtype or "float16", str(videos.resolve()))
    store = DiskIndex.make(path, checkpoint.model, header)
    try:
        same_model(path, store.header, checkpoint)
        if dtype not in (None, store.header.dtype):
            raise SettingError(f"the index in {path} holds {store.header.dtype}, not {dtype}; index into another folder")
        if store.header.videos != header.videos:
            _moved(store, path, videos)
        # Again for an index that is there: its encoder may have moved, and search opens it from where the copy says.
        checkpoints.save(_still_calibrated(checkpoint, path / MODEL), path / MODEL)
    except BaseException:
        store.close()
        raise
    return store


def _still_calibrated(checkpoint: Checkpoint, copy: Path) -> Checkpoint:
    """With the probabilities of the copy of it that is there, if it has none of its own."""
    if checkpoint.calibration is not None or not (copy / checkpoints.CONFIG).exists():
        return checkpoint
    return replace(checkpoint, calibration=checkpoints.load(copy).calibration)


def _moved(store: DiskIndex, path: Path, videos: Path) -> None:
    # What is not in the folder is dropped: one wrong word must not empty an index.
    known = store.ids
    if known and not set(known) & find_videos(videos).keys():
        raise SettingError(
            f"the index in {path} is of {store.header.videos}, and none of its {len(known)} videos is in {videos}; "
            "index into another folder, or delete this index first"
        )
    store.move(str(videos.resolve()))


def refuse_older(path: Path) -> None:
    """Sees that a folder holds no index of before there was a database.

    Raises:
        ModelError: it does.
    """
    if (path / OLDER).exists() and not (path / FILE).exists():
        raise ModelError(f"the index in {path} is of format 1, which this prvr no longer reads; delete {path} and index again")


def same_model(path: Path | str, header: Header, checkpoint: Checkpoint) -> None:
    """Sees that an index is of a checkpoint.

    Raises:
        ModelError: it is of another.
    """
    if checkpoint.fingerprint != header.model:
        raise ModelError(
            f"the index in {path} was built with checkpoint {header.model}, not {checkpoint.fingerprint}; "
            "use that one, or index into another folder"
        )


def opened(source: Source, what: str, device: str) -> Encoder:
    """The encoder that a model reads, seen to be the one that it was trained on.

    Raises:
        ModelError: it is not there, it is another one, or no encoder makes what the model reads.
    """
    if source.parts:
        return _together([opened(part, what, device) for part in source.parts], what)
    if source.source is None:
        raise ModelError(
            f"this student reads {source.name!r} {what}, which no encoder here makes from raw input; "
            "train one on features of `prvr extract`"
        )
    if Path(source.source).is_absolute() and not Path(source.source).is_dir():
        raise ModelError(
            f"the encoder {source.name!r} that this model reads is no longer in {source.source}; put it back, or write "
            f"its new place as 'source' into the model's {checkpoints.CONFIG}"
        )
    encoder = open_encoder(source.source, device=device)
    if encoder.fingerprint != source.fingerprint:
        raise ModelError(
            f"the encoder in {source.source} has fingerprint {encoder.fingerprint}, this model reads {source.fingerprint}; "
            "put the old one back, or extract and train again"
        )
    return encoder


def _together(parts: Sequence[Encoder], what: str) -> Encoder:
    if what == "frames":
        return JoinedImageEncoder([part for part in parts if isinstance(part, ImageEncoder)])
    words, *others = parts
    assert isinstance(words, WordEncoder)
    return JoinedWordEncoder(words, [part for part in others if isinstance(part, SentenceEncoder)])
