"""What a run came to, and the one writer that it is noted with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from prvr.encoders import Encoder
from prvr.errors import DataError
from prvr.features.packed import PackedWriter

# The id just seen to, how many are, and of how many.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Extraction:
    """What a run did, by id: encoded, left as it was, taken out; and what is wrong with some of them.

    A video in `problems` that is also in `done` or `kept` has features of the part that could be read.
    """

    done: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    problems: Mapping[str, str] = field(default_factory=dict)


def feature_folder(root: Path, encoder_name: str, kind: Literal["frames", "clips", "sentences", "words"]) -> Path:
    """Where an encoder's features of one kind lie below `root`."""
    return root / encoder_name / kind


def encoder_about(encoder: Encoder) -> dict[str, str]:
    """What a packed folder says of the encoder that made it."""
    # Not its source: the same encoder may be opened from another place.
    return {"name": encoder.name, "fingerprint": encoder.fingerprint}


def is_known(writer: PackedWriter, id: str, known: Mapping[str, Any]) -> bool:
    """Whether an item is there and was made of the same."""
    return id in writer.features and known.items() <= writer.features.info(id).items()


def drop(writer: PackedWriter, ids: Iterable[str]) -> list[str]:
    """Takes out those of the items that are there, and says which they were."""
    there = [id for id in ids if id in writer.features]
    with full_disk_told(writer):
        for id in there:
            writer.delete(id)
    return there


@contextmanager
def full_disk_told(writer: PackedWriter) -> Iterator[None]:
    """Tells a write that failed in one line.

    Raises:
        DataError: it did.
    """
    try:
        yield
    except OSError as problem:
        raise DataError(
            f"cannot write to {writer.path}: {problem.strerror}; what was finished is kept: make room and run again"
        ) from problem
