"""Several encoders asked as one: their columns side by side, as `JoinedFeatures` has them of features on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from prvr.encoders import ImageEncoder, SentenceEncoder, WordEncoder

ABOUT = ("name", "source", "fingerprint")


@final
class JoinedEyes:
    """Frames as several encoders see them."""

    def __init__(self, parts: Sequence[ImageEncoder]) -> None:
        self.parts = tuple(parts)
        self.name, self.source, self.fingerprint = ("+".join(getattr(part, what) for part in parts) for what in ABOUT)
        self.image_columns = sum(part.image_columns for part in parts)

    def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Each frame's row of every encoder (N, image_columns)."""
        return np.concatenate([part.encode_images(frames) for part in self.parts], axis=1)


@final
class JoinedReader:
    """Words as one encoder reads them, and beside each what others make of the whole sentence."""

    def __init__(self, words: WordEncoder, sentences: Sequence[SentenceEncoder]) -> None:
        self.words, self.sentences = words, tuple(sentences)
        self.name, self.source, self.fingerprint = (
            "+".join(getattr(part, what) for part in (words, *sentences)) for what in ABOUT
        )
        self.word_columns = words.word_columns + sum(part.sentence_columns for part in sentences)

    def encode_words(self, texts: Sequence[str]) -> list[np.ndarray]:
        """A row per word of each sentence (W, word_columns)."""
        columns = [part.encode_sentences(texts) for part in self.sentences]
        return [
            np.concatenate([rows, *(np.repeat(of[place][None], len(rows), axis=0) for of in columns)], axis=1)
            for place, rows in enumerate(self.words.encode_words(texts))
        ]
