"""Frozen networks that turn frames or text into features: what the student reads, and what teaches it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Encoder(Protocol):
    """What every encoder says of itself.

    `name` names its feature folder (letters, digits and underscores); `source` is what it was opened from;
    `fingerprint` is 16 hex digits of a SHA-256 over its weights, the same wherever the files lie.
    """

    name: str
    source: str
    fingerprint: str


@runtime_checkable
class ImageEncoder(Encoder, Protocol):
    """Turns frames, (height, width, 3) uint8 RGB of any size, into (N, image_columns) float32."""

    image_columns: int

    def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray: ...


@runtime_checkable
class SentenceEncoder(Encoder, Protocol):
    """Turns sentences into (N, sentence_columns) float32, in the space of the same encoder's images if it has any."""

    sentence_columns: int

    def encode_sentences(self, texts: Sequence[str]) -> np.ndarray: ...


@runtime_checkable
class WordEncoder(Encoder, Protocol):
    """Turns each sentence into one row per token, (W, word_columns) float32; special tokens included, padding not."""

    word_columns: int

    def encode_words(self, texts: Sequence[str]) -> list[np.ndarray]: ...
