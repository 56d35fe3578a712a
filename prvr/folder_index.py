"""A folder of videos as an index on disk, ready to be asked.

INDEX/index.json   which model, how the numbers are stored, where the videos are
INDEX/model/       the checkpoint that made it: an index can be asked with nothing else at hand
INDEX/features/    frames as the encoder gave them; a second run does only what changed
INDEX/<field>/     the model's embeddings of each video
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prvr import checkpoint as checkpoints
from prvr.checkpoint import Checkpoint, Reads, Source
from prvr.encoders import Encoder, ImageEncoder, open_encoder, sentence_encoder
from prvr.errors import ModelError, SettingError
from prvr.extract import extract_videos
from prvr.features.packed import Packed, tidy
from prvr.files import write_json
from prvr.index.encode import VIDEOS_AT_ONCE, add_videos, video_info
from prvr.index.exact import ExactIndex
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.search import VideoSearch
from prvr.video import find_videos

HEADER, MODEL, FEATURES = "index.json", "model", "features"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Indexing:
    """What a run did: videos added or done again, kept, dropped, and what was wrong with which."""

    added: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    problems: Mapping[str, str]


def zero_shot(source: str | Path, *, rate: float = 1.0) -> Checkpoint:
    """The teacher alone as a checkpoint, from any encoder with images and sentences in one space.

    Raises:
        ModelError: the encoder cannot be opened, or lacks one of the two.
    """
    encoder = sentence_encoder(source)
    if not isinstance(encoder, ImageEncoder):
        raise ModelError(f"{encoder.name!r} has no image side; a teacher needs images and sentences in one space")
    frames = Source(encoder.name, encoder.image_columns, encoder.source, encoder.fingerprint, rate)
    text = Source(encoder.name, encoder.sentence_columns, encoder.source, encoder.fingerprint)
    return checkpoints.build("zero_shot", ZeroShotConfig(), Reads(frames, text))


def index_folder(
    videos: str | Path,
    path: str | Path,
    checkpoint: Checkpoint,
    *,
    dtype: Literal["float16", "float32"] | None = None,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> Indexing:
    """Brings an index up to date with a folder: adds what is new, does again what changed, drops what is gone.

    Whenever it is cut off, all finished videos are kept, and the next call goes on.

    Args:
        dtype: of the embeddings on disk; by default that of the index, float16 for a new one.

    Raises:
        ModelError: the index was built with another checkpoint, or the student reads features that no encoder makes.
        DataError: no videos.
        SettingError: the index holds another dtype.
    """
    videos, path = Path(videos), Path(path)
    files = find_videos(videos)
    eyes = _opened(checkpoint.reads.frames, "frames", device)
    if not isinstance(eyes, ImageEncoder):
        raise ModelError(f"{eyes.name!r} has no image side; the model reads frames of it")
    index = _made_or_reopened(path, checkpoints.to_device(checkpoint, device), videos, dtype)
    rate = checkpoint.reads.frames.rate or 1.0
    extraction = extract_videos(files, path / FEATURES, encoder=eyes, rate=rate, on_progress=on_progress)
    features = Packed(path / FEATURES)
    # In the folder's order, not in that of extraction, which varies: of equal scores the first in the index comes first.
    there = [id for id in files if id in features]
    fresh = [id for id in there if id not in index or index.info(id) != video_info(id, features, checkpoint.model)]
    gone = [id for id in index.ids if id not in features]
    index.delete(gone)
    for start in range(0, len(fresh), VIDEOS_AT_ONCE):
        if on_progress:
            on_progress("embedding", start, len(fresh))
        add_videos(index, fresh[start : start + VIDEOS_AT_ONCE], features)
    for field in checkpoint.model.embedding_fields:
        tidy(path / field)
    kept = tuple(id for id in index.ids if id not in set(fresh))
    return Indexing(tuple(fresh), kept, tuple(gone), extraction.problems)


def open_index(path: str | Path, *, model: str | Path | None = None, device: str = "cpu") -> VideoSearch:
    """An index to be asked.

    Args:
        model: the checkpoint that the index is expected to be of.

    Raises:
        ModelError: there is none, it is broken or empty, it is of another checkpoint, or its text encoder is another one now.
    """
    path = Path(path)
    header = _header(path)
    checkpoint = checkpoints.to_device(checkpoints.load(path / MODEL), device)
    _same_model(path, header["model"], checkpoint)
    if model is not None:
        _same_model(path, header["model"], checkpoints.load(model))
    index = ExactIndex.on_disk(checkpoint.model, path, about=_about(header["model"]), dtype=header["dtype"])
    if not index.ids:
        raise ModelError(f"the index in {path} holds no videos; add some with the command that made it")
    return VideoSearch(checkpoint, index, _opened(checkpoint.reads.text, "text", device), videos=Path(header["videos"]))


def _made_or_reopened(path: Path, checkpoint: Checkpoint, videos: Path, dtype: str | None) -> ExactIndex:
    if (path / HEADER).exists():
        header = _header(path)
        _same_model(path, header["model"], checkpoint)
        if dtype not in (None, header["dtype"]):
            raise SettingError(f"the index in {path} holds {header['dtype']}, not {dtype}; index into another folder")
        dtype = header["dtype"]
    dtype = dtype or "float16"
    # Again for an index that is there: its encoder may have moved, and search opens it from where the copy says.
    checkpoints.save(checkpoint, path / MODEL)
    fingerprint = checkpoint.fingerprint
    write_json(path / HEADER, {"format": 1, "model": fingerprint, "dtype": dtype, "videos": str(videos.resolve())})
    return ExactIndex.on_disk(checkpoint.model, path, about=_about(fingerprint), dtype=dtype)


def _about(fingerprint: str) -> dict[str, str]:
    return {"kind": "embeddings", "model": fingerprint}


def _header(path: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads((path / HEADER).read_text())
        if {"model", "dtype", "videos"} <= header.keys():
            return header
    except FileNotFoundError:
        raise ModelError(f"no index in {path}; build one: prvr index VIDEOS {path} --model RUN") from None
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        pass
    raise ModelError(f"{path / HEADER} is broken; delete {path} and index again")


def _same_model(path: Path, there: str, checkpoint: Checkpoint) -> None:
    if checkpoint.fingerprint != there:
        raise ModelError(
            f"the index in {path} was built with checkpoint {there}, not {checkpoint.fingerprint}; "
            "use that one, or index into another folder"
        )


def _opened(source: Source, what: str, device: str) -> Encoder:
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
