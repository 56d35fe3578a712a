"""Embeddings of whole sentences, near each other where the meaning is, by whichever encoder of text is at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from prvr.encoders import Encoder, JoinedWordEncoder, SentenceEncoder, WordEncoder

Embed = Callable[[Sequence[str]], Float[np.ndarray, "N E"]]
# Sentences that are encoded together.
BATCH = 32


@runtime_checkable
class PooledWords(Protocol):
    """A word encoder that says whether the mean of a sentence's rows is its embedding: it was trained so."""

    @property
    def pools_by_mean(self) -> bool: ...


def sentence_embedder(encoder: Encoder) -> Embed | None:
    """Returns a function from sentences to rows of unit length (N, E); None if an encoder of words does not pool them.

    Word vectors and models of words alone (RoBERTa) give none: the mean of word vectors found no more than words do (LOG.md).
    """
    parts = (encoder.words, *encoder.sentences) if isinstance(encoder, JoinedWordEncoder) else (encoder,)
    for part in parts:
        if isinstance(part, SentenceEncoder):
            return _in_batches(part.encode_sentences)
        if isinstance(part, WordEncoder) and isinstance(part, PooledWords) and part.pools_by_mean:
            return _in_batches(_means_of(part))
    return None


def _means_of(encoder: WordEncoder) -> Embed:
    return lambda texts: np.stack([rows.mean(0) for rows in encoder.encode_words(texts)])


def _in_batches(encode: Embed) -> Embed:
    def embed(texts: Sequence[str]) -> Float[np.ndarray, "N E"]:
        rows = np.concatenate([encode(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)])
        # A text without a word has no direction.
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)

    return embed
