"""The result of an extraction, and what is written into the packed folders that hold its features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from prvr.encoders import Encoder, ImageEncoder
from prvr.errors import DataError
from prvr.features.packed import PackedWriter

# The item at work, how much is done and how much there is: items as int, seconds of video as float (0.0 of 0.0: not known yet).
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Extraction:
    """The ids of items that were encoded, kept as they were and removed; and what is wrong with some of them.

    A video in `problems` that is also in `done` or `kept` has features of the part that could be read.
    """

    done: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    problems: Mapping[str, str] = field(default_factory=dict)


def feature_folder(root: Path, encoder_name: str, kind: Literal["frames", "clips", "sentences", "words"]) -> Path:
    """Returns the folder below `root` of an encoder's features of one kind."""
    return root / encoder_name / kind


def encoder_about(encoder: Encoder) -> dict[str, str]:
    """Returns the description of an encoder in the header of a packed folder."""
    # Without its source: the same encoder may be opened from another place.
    return {"name": encoder.name, "fingerprint": encoder.fingerprint}


def open_frames(out: Path, encoder: ImageEncoder, rate: float) -> PackedWriter:
    """Opens a packed folder of an encoder's frames for writing.

    Raises:
        DataError: it holds features of another encoder or rate, or another process writes to it.
    """
    about = {"kind": "frames", "encoder": encoder_about(encoder), "rate": rate}
    return PackedWriter(out, columns=encoder.image_columns, about=about, source=encoder.source)


def delete_items(writer: PackedWriter, ids: Iterable[str]) -> list[str]:
    """Deletes items, and returns the ids of those that were there."""
    there = [id for id in ids if id in writer.features]
    with explain_full_disk(writer):
        for id in there:
            writer.delete(id)
    return there


@contextmanager
def explain_full_disk(writer: PackedWriter) -> Iterator[None]:
    """Turns an OSError of a write into one line that says what to do.

    Raises:
        DataError: a write failed.
    """
    try:
        yield
    except OSError as problem:
        raise DataError(
            f"cannot write to {writer.path}: {problem.strerror}; what was finished is kept: make room and run again"
        ) from problem


def has_item(writer: PackedWriter, id: str, info: Mapping[str, Any]) -> bool:
    """Returns whether a packed folder has an item with these entries in its `info`."""
    return id in writer.features and info.items() <= writer.features.info(id).items()
