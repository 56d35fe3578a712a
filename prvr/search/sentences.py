"""The text of a query: what is readable of it, and its features by the encoder that a model reads."""

from __future__ import annotations

import unicodedata

import numpy as np

from prvr.encoders import Encoder, SentenceEncoder, WordEncoder
from prvr.errors import ModelError, SettingError
from prvr.methods.model import Described

# A sentence has about a hundred; a longer text is not a sentence. One limit for Python, the command line and the service.
MOST_CHARACTERS = 1_000


def readable(text: str) -> str:
    """A query as text for an encoder: control characters become spaces.

    Raises:
        SettingError: it has no words, is not text, or is too long to be a sentence.
    """
    if len(text) > MOST_CHARACTERS:
        raise SettingError(f"the query has {len(text)} characters, at most {MOST_CHARACTERS} are read; say it in a sentence")
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    if any(unicodedata.category(c) == "Cs" for c in text):
        raise SettingError("the query is not UTF-8 text; type it in a terminal that is set to UTF-8")
    # Letters, marks, numbers, punctuation and symbols: the other categories are invisible.
    if not any(unicodedata.category(c)[0] in "LMNPS" for c in text):
        raise SettingError("the query is empty; say in a sentence what the moment shows")
    return text


def sentence_features(checkpoint: Described, encoder: Encoder, text: str) -> np.ndarray:
    """The features of a sentence that a checkpoint reads: a row per word, or one row."""
    if checkpoint.model.reading.text == "words":
        if isinstance(encoder, WordEncoder):
            return encoder.encode_words([text])[0]
    elif isinstance(encoder, SentenceEncoder):
        return encoder.encode_sentences([text])
    raise ModelError(f"{encoder.name!r} gives no {checkpoint.model.reading.text}, which this model reads")
