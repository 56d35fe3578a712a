"""The interface of what encodes videos: jobs go in, outcomes come out, and an encoder can be opened in another process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from prvr.encoders import ImageEncoder, JoinedImageEncoder, image_encoder
from prvr.errors import ModelError
from prvr.video.remote import VideoPath


@dataclass(frozen=True)
class Job:
    """A video that is to be encoded.

    after: the frames up to this time, in seconds, are known and are not encoded again; None for a reading from the start.
    look, row: of the last frame that was encoded before it, for frames that repeat it; None where that is not known.
    """

    id: str
    path: VideoPath
    after: float | None = None
    look: bytes | None = None
    row: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Part:
    """Rows of a video that is still read: those since its last part, none if it was only opened.

    times: of the rows, in seconds, not rounded. seconds: where the reading is. stated: the duration in seconds that the file
    states, 0 if it states none. stamp: of the file when it was opened (`prvr.extract.file_stamps`). damage: what could not be
    read, in words, since this reading began. look: of the last frame that was encoded, whose row is the last one; None where
    all frames are encoded (`prvr.extract.repeats`).
    """

    id: str
    rows: np.ndarray
    times: tuple[float, ...]
    seconds: float
    stated: float
    stamp: dict[str, int]
    damage: str | None = None
    look: bytes | None = None


@dataclass(frozen=True)
class Encoded:
    """The features of a video, a row per frame: of the frames since its last part, if it had parts.

    info: `times` of the rows and `duration` of what could be read, in seconds; `problem`, why a part could not be read, or
    None; `file`, the stamp and the SHA-256 of the file (`prvr.extract.file_stamps`); `recorded`, what the file says of its
    recording (`prvr.video.tags`).
    """

    id: str
    rows: np.ndarray
    info: dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """A video that has no features, and the reason."""

    id: str
    problem: str


@dataclass(frozen=True)
class Changed:
    """A video to be read again: its file changed while it was read."""

    id: str


@dataclass(frozen=True)
class Unfinished:
    """The features of a video so far, to be searched until the rest is encoded; `info` as of `Encoded`."""

    id: str
    rows: np.ndarray
    info: dict[str, Any]


Outcome = Part | Unfinished | Encoded | Refused | Changed


@dataclass(frozen=True)
class FrameSampling:
    """How frames are sampled and encoded: `rate` in frames per second, `batch_size` frames per call of the encoder.

    every_frame: also those that repeat the one before (`prvr.extract.repeats`).
    """

    rate: float
    batch_size: int
    every_frame: bool = False


@dataclass(frozen=True)
class EncoderOpener:
    """Opens in another process the encoder that this process has.

    parts: the openers of encoders that are used side by side; `source` and `fingerprint` are then of all of them.
    """

    source: str
    fingerprint: str
    device: str
    parts: tuple[EncoderOpener, ...] = ()

    @staticmethod
    def for_encoder(encoder: ImageEncoder, device: str) -> EncoderOpener:
        """Returns the opener of an encoder."""
        parts = encoder.parts if isinstance(encoder, JoinedImageEncoder) else ()
        openers = tuple(EncoderOpener.for_encoder(part, device) for part in parts)
        return EncoderOpener(encoder.source, encoder.fingerprint, device, openers)

    def open(self) -> ImageEncoder:
        """Opens the encoder.

        Raises:
            ModelError: there is no encoder in that place in this process, or one with other weights.
        """
        if self.parts:
            return JoinedImageEncoder([part.open() for part in self.parts])
        encoder = image_encoder(self.source, device=self.device)
        if encoder.fingerprint != self.fingerprint:
            raise ModelError(
                f"the encoder in {self.source} has fingerprint {encoder.fingerprint} where a worker looks, "
                f"{self.fingerprint} here; give every machine the same files"
            )
        return encoder


@runtime_checkable
class Engine(Protocol):
    """Encodes videos: yields one outcome for each job as soon as it is ready, in any order, and parts of long videos before."""

    def encode(self, jobs: Sequence[Job], *, sampling: FrameSampling) -> Iterator[Outcome]: ...
