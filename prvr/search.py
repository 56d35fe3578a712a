"""A sentence to hits: the video, how well it fits, and the moment in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prvr.batch import pad, read_words
from prvr.checkpoint import Checkpoint, device_of
from prvr.encoders import Encoder, SentenceEncoder, WordEncoder
from prvr.errors import ModelError, SettingError
from prvr.index.exact import ExactIndex
from prvr.methods.contract import Embeddings, Model
from prvr.moments import best_span


@dataclass(frozen=True)
class Hit:
    """A video of the gallery with its score, and the moment in seconds; None where the frames' times are unknown."""

    video: str
    score: float
    start: float | None
    end: float | None


@torch.inference_mode()
def encode_queries(model: Model, text_features: Sequence[np.ndarray]) -> Embeddings:
    """Query embeddings of sentences, from the features (W, C) of each."""
    words, mask = pad([read_words(rows, model.reading) for rows in text_features])
    device = device_of(model)
    return model.encode_queries(words.to(device), mask.to(device))


def find(index: ExactIndex, queries: Embeddings, k: int) -> list[list[Hit]]:
    """The k best videos of each query, best first, each with its moment."""
    found = index.search(queries, k)
    hits = []
    for place, row in enumerate(found):
        query = tuple(field[place : place + 1] for field in queries)
        hits.append([Hit(video, score, *moment(index, query, video)) for video, score in row])
    return hits


def moment(index: ExactIndex, query: Embeddings, video: str) -> tuple[float, float] | tuple[None, None]:
    """Where in a video a query is answered: start and end in seconds, if the index knows its frames' times."""
    edges = index.info(video).get("edges")
    if edges is None:
        return None, None
    return best_span(index.relevance(query, video).numpy(), edges)


class VideoSearch:
    """An index, the model that made it and the encoder of its text: ask it."""

    def __init__(self, checkpoint: Checkpoint, index: ExactIndex, encoder: Encoder, *, videos: Path) -> None:
        self.checkpoint, self.index, self.encoder, self.videos = checkpoint, index, encoder, videos

    def search(self, text: str, *, k: int = 10) -> list[Hit]:
        """The k videos that answer a sentence best, best first.

        Raises:
            SettingError: an empty sentence, or k below 1.
        """
        return find(self.index, self.encode(text), _positive(k))[0]

    def relevance(self, text: str, video: str) -> tuple[np.ndarray, list[float]]:
        """How relevant each frame of a video is to a sentence (F,), and the F + 1 times between which they lie.

        Raises:
            SettingError: an empty sentence, or a video that the index does not hold.
        """
        if video not in self.index:
            raise SettingError(f"the index holds no video {video!r}")
        return self.index.relevance(self.encode(text), video).numpy(), self.index.info(video)["edges"]

    def encode(self, text: str) -> Embeddings:
        """The query embedding of a sentence."""
        if not text.strip():
            raise SettingError("the query is empty; say in a sentence what the moment shows")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise SettingError("the query is not UTF-8 text; type it in a terminal that is set to UTF-8") from None
        return encode_queries(self.checkpoint.model, [sentence_features(self.checkpoint, self.encoder, text)])


def sentence_features(checkpoint: Checkpoint, encoder: Encoder, text: str) -> np.ndarray:
    """What a checkpoint reads of a sentence: a row per word, or one row."""
    if checkpoint.model.reading.text == "words":
        if isinstance(encoder, WordEncoder):
            return encoder.encode_words([text])[0]
    elif isinstance(encoder, SentenceEncoder):
        return encoder.encode_sentences([text])
    raise ModelError(f"{encoder.name!r} gives no {checkpoint.model.reading.text}, which this model reads")


def _positive(k: int) -> int:
    if k < 1:
        raise SettingError(f"k is {k}; ask for at least one hit")
    return k
