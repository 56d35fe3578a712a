"""What is to be done, what came of it, and who may do it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from prvr.encoders import ImageEncoder, image_encoder
from prvr.errors import ModelError


@dataclass(frozen=True)
class Job:
    """A video that waits to be encoded."""

    id: str
    path: Path


@dataclass(frozen=True)
class Encoded:
    """A video's features, and what its file says of it."""

    id: str
    rows: np.ndarray
    info: dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """A video that gave nothing, and why."""

    id: str
    problem: str


Outcome = Encoded | Refused


@dataclass(frozen=True)
class Sampling:
    """How frames are taken and grouped: `rate` per second, `batch_size` of them through the encoder at once."""

    rate: float
    batch_size: int


@dataclass(frozen=True)
class Opening:
    """How another process opens the same encoder."""

    source: str
    fingerprint: str
    device: str

    def open(self) -> ImageEncoder:
        """The encoder.

        Raises:
            ModelError: there is none where this process looks, or it is another one.
        """
        encoder = image_encoder(self.source, device=self.device)
        if encoder.fingerprint != self.fingerprint:
            raise ModelError(
                f"the encoder in {self.source} has fingerprint {encoder.fingerprint} where a worker looks, "
                f"{self.fingerprint} here; give every machine the same files"
            )
        return encoder


@runtime_checkable
class Engine(Protocol):
    """Who encodes videos: gives an outcome for each job, in any order, as they are done."""

    def encode(self, jobs: Sequence[Job], *, sampling: Sampling) -> Iterator[Outcome]: ...
