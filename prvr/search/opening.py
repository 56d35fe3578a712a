"""Opens an index with the checkpoint that built it, and checks that they match."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from prvr.config import from_dict
from prvr.encoders import ImageEncoder, name_of, sentence_encoder
from prvr.encoders.hub import DEFAULT_ENCODER
from prvr.errors import DataError, ModelError, SettingError
from prvr.features.sources import FeatureSources, Source
from prvr.index.contract import Header, PersistentStore
from prvr.index.disk import DiskIndex
from prvr.index.place import FILE, index_folder_of
from prvr.index.place import MODEL as MODEL
from prvr.index.stores import folder_of, open_store
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.repository import open_checkpoint
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.search.asking import VideoSearch
from prvr.search.matching import open_matching_encoder
from prvr.video import VideoPath, find_videos, place_of

FEATURES = "features"
# The method of an encoder alone.
ZERO_SHOT = "zero_shot"
# The header of an index of format 1.
OLDER = "index.json"


def zero_shot(source: str | Path = DEFAULT_ENCODER, *, rate: float = 1.0, parts: str = "frames") -> Checkpoint:
    """Returns a checkpoint of the teacher alone, for any encoder with images and sentences in one space; SigLIP 2 by default.

    Args:
        rate: frames per second.
        parts: the parts of a video that a sentence is compared with (`prvr.methods.zero_shot`).

    Raises:
        ModelError: the encoder cannot be opened, or has no images or no sentences.
        SettingError: there are no such parts.
    """
    settings = from_dict(ZeroShotConfig, {"parts": parts})
    encoder = sentence_encoder(source)
    if not isinstance(encoder, ImageEncoder):
        raise ModelError(f"{encoder.name!r} has no image side; a teacher needs images and sentences in one space")
    frames = Source(encoder.name, encoder.image_columns, encoder.source, encoder.fingerprint, rate)
    text = Source(encoder.name, encoder.sentence_columns, encoder.source, encoder.fingerprint)
    return checkpoints.build(ZERO_SHOT, settings, FeatureSources(frames, text))


def open_index(
    place: str | Path, *, model: str | Path | None = None, method: str | type | None = None, device: str = "cpu"
) -> VideoSearch:
    """Opens an index for searching; changes by another process are seen at the next search.

    Args:
        place: the folder of the index, a folder of videos that has its index in `.prvr`, or the URL of an index elsewhere.
        model: the expected checkpoint of the index; required for a server, where no checkpoint is stored.
        method: its method, as in `checkpoint.load`; required for an external method that is not installed.

    Raises:
        ModelError: there is no index, it is broken or empty, it is of another checkpoint, or its text encoder has changed.
    """
    checkpoint, store = store_of(place, model=model, method=method)
    try:
        if not store.count():
            raise ModelError(f"the index in {place} holds no videos; add some with the command that made it")
        text = open_matching_encoder(checkpoint.sources.text, "text", device)
    except BaseException:
        store.close()
        raise
    pictures = partial(open_matching_encoder, checkpoint.sources.frames, "frames", device)
    videos = place_of(store.header.videos)
    return VideoSearch(checkpoints.to_device(checkpoint, device), store, text, videos=videos, open_image_encoder=pictures)


def is_remote(place: str | Path) -> bool:
    """Whether a place is a URL and not a folder."""
    return isinstance(place, str) and "://" in place


def store_of(
    place: str | Path, *, model: str | Path | None = None, method: str | type | None = None
) -> tuple[Checkpoint, PersistentStore]:
    """Opens the checkpoint of an index, and the index itself; arguments and errors as in `open_index`."""
    if isinstance(place, str) and is_remote(place):
        folder = folder_of(place)
        if model is None and folder is not None and (folder / MODEL / checkpoints.CONFIG).exists():
            model = folder / MODEL
        if model is None:
            raise ModelError(f"{place} does not hold its model; name the checkpoint that it was built with: --model RUN")
        checkpoint = open_checkpoint(model, method=method)
        store = open_store(place, checkpoint.model)
    else:
        place = index_folder_of(Path(place))
        refuse_older(place)
        if not (place / FILE).exists():
            raise ModelError(f"no index in {place}; {_next_step(place)}")
        checkpoint = checkpoints.load(place / MODEL, method=method)
        store = DiskIndex(place, checkpoint.model)
    try:
        check_same_model(place, store.header, checkpoint)
        if model is not None and not is_remote(place):
            given = open_checkpoint(model, method=method)
            check_same_model(place, store.header, given)
            # The given checkpoint may have been calibrated, or its re-scoring chosen, later.
            checkpoint = replace(checkpoint, calibration=given.calibration, about=given.about)
    except BaseException:
        store.close()
        raise
    return checkpoint, store


def _next_step(place: Path) -> str:
    if not place.is_dir():
        return f"make one: prvr index VIDEOS {shlex.quote(str(place))}"
    try:
        find_videos(place)
    except DataError:
        return f"make one of a folder of videos: prvr index VIDEOS {shlex.quote(str(place))}"
    return f"make one: prvr index {shlex.quote(str(place))}"


def make_or_reopen(
    path: Path, checkpoint: Checkpoint, *, videos: VideoPath, dtype: Literal["float16", "float32"] | None
) -> DiskIndex:
    """Opens the index in a folder, or makes a new one, with a copy of its checkpoint.

    Raises:
        ModelError, SettingError: as `open_existing`.
        SettingError: it is of another folder of videos.
    """
    store = open_existing(path, checkpoint, dtype=dtype)
    if store is None:
        header = Header(checkpoint.fingerprint, dtype or "float16", str(videos.resolve()))
        store = DiskIndex.make(path, checkpoint.model, header)
    try:
        if store.header.videos != str(videos.resolve()):
            check_moved(path, store.header, store.ids, videos)
            store.move(str(videos.resolve()))
        keep_checkpoint(checkpoint, path)
    except BaseException:
        store.close()
        raise
    return store


def open_existing(path: Path, checkpoint: Checkpoint, *, dtype: Literal["float16", "float32"] | None) -> DiskIndex | None:
    """Opens the index in a folder; None without one.

    Raises:
        ModelError: the index was built with another checkpoint, is damaged, or of format 1.
        SettingError: it holds another dtype.
    """
    refuse_older(path)
    if not (path / FILE).exists():
        return None
    store = DiskIndex(path, checkpoint.model)
    try:
        check_same_model(path, store.header, checkpoint)
        if dtype not in (None, store.header.dtype):
            raise SettingError(f"the index in {path} holds {store.header.dtype}, not {dtype}; index into another folder")
    except BaseException:
        store.close()
        raise
    return store


def check_moved(path: Path, header: Header, known: Collection[str], videos: VideoPath) -> None:
    """Checks that an index with another folder in its header is of this one: at least one of its videos is there.

    Videos that are not in the folder are removed: one wrong word must not empty an index.

    Args:
        known: the videos of the index; of all its shards together.

    Raises:
        SettingError: none is.
    """
    if known and not set(known) & find_videos(videos).keys():
        raise SettingError(
            f"the index in {path} is of {header.videos}, and none of its {len(known)} videos is in {videos}; "
            "index into another folder, or delete this index first"
        )


def keep_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Stores a copy of a checkpoint beside its index; also beside an existing one.

    The encoder may have moved, and a search opens the encoder that the copy names.
    """
    checkpoints.save(_keep_calibration(checkpoint, path / MODEL), path / MODEL)


def _keep_calibration(checkpoint: Checkpoint, copy: Path) -> Checkpoint:
    """Returns the checkpoint with the calibration of its stored copy, if it has none itself."""
    if checkpoint.calibration is not None or not (copy / checkpoints.CONFIG).exists():
        return checkpoint
    return replace(checkpoint, calibration=checkpoints.load(copy).calibration)


def refuse_older(path: Path) -> None:
    """Checks that a folder holds no index of format 1.

    Raises:
        ModelError: it holds one.
    """
    if (path / OLDER).exists() and not (path / FILE).exists():
        raise ModelError(f"the index in {path} is of format 1, which this prvr no longer reads; delete {path} and index again")


def check_same_model(path: Path | str, header: Header, checkpoint: Checkpoint) -> None:
    """Checks that an index was built with a checkpoint.

    Raises:
        ModelError: it was built with another one.
    """
    if checkpoint.fingerprint != header.model:
        if checkpoint.method == ZERO_SHOT and not is_remote(path) and (Path(path) / MODEL / checkpoints.CONFIG).exists():
            check_same_encoder(path, checkpoints.load(Path(path) / MODEL), checkpoint.sources.frames.source or "")
        raise ModelError(
            f"the index in {path} was built with checkpoint {header.model}, not {checkpoint.fingerprint}; "
            "use that one, or index into another folder"
        )


def check_same_encoder(path: Path | str, stored: Checkpoint, encoder: str) -> None:
    """Checks that the checkpoint of an index, if it is an encoder alone, is of an encoder of that name.

    Raises:
        ModelError: it is of another one.
    """
    made = stored.sources.frames
    if stored.method == ZERO_SHOT and made.name != name_of(encoder):
        raise ModelError(
            f"the index in {path} was made with the encoder {made.source or made.name}, not {encoder}; leave the encoder out, or "
            "index into another folder"
        )
