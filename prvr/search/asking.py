"""A sentence to hits: the video, how well it fits, and the moments in it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from prvr.encoders import Encoder, SentenceEncoder, WordEncoder
from prvr.errors import ModelError, SettingError
from prvr.index import where as conditions
from prvr.index.contract import Entry, Found, Store, contributions, relevance, units
from prvr.index.disk import approximable
from prvr.index.encode import encode_queries
from prvr.index.moments import Span, best_span, find_spans
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.contract import Embeddings, Model

# A sentence has a hundred; whoever sends more has sent something else.
MOST_CHARACTERS = 10_000


@dataclass(frozen=True)
class Hit:
    """A video of the gallery with its score, and where in it the sentence is answered.

    spans: the moments, best first; none where the frames' times are unknown.
    curve: how relevant each part of the video is. edges: the times between parts, one more than parts; None if unknown.
    branches: what each branch adds to the score, where it is a sum over branches.
    probability: that the video answers the sentence; None where the model's scores are not calibrated.
    """

    video: str
    score: float
    spans: tuple[Span, ...] = ()
    curve: tuple[float, ...] = ()
    edges: tuple[float, ...] | None = None
    branches: Mapping[str, float] = field(default_factory=dict)
    probability: float | None = None

    @property
    def start(self) -> float | None:
        """Where the best moment begins, in seconds; None where the frames' times are unknown."""
        return self.spans[0].start if self.spans else None

    @property
    def end(self) -> float | None:
        """Where the best moment ends, in seconds; None where the frames' times are unknown."""
        return self.spans[0].end if self.spans else None

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values, with the best moment's start and end beside its video."""
        spans = [span._asdict() for span in self.spans]
        return {**asdict(self), "start": self.start, "end": self.end, "spans": spans}


def find(index: Store, queries: Embeddings, k: int, *, where: Sequence[conditions.Condition] = ()) -> list[list[Hit]]:
    """The k best videos of each query among those that meet all conditions, best first, each with its moments."""
    return with_moments(index, queries, index.search(queries, k, where=where))


def with_moments(index: Store, queries: Embeddings, found: Sequence[Sequence[Found]]) -> list[list[Hit]]:
    """What was found for each query, with its moments."""
    hits = []
    for place, row in enumerate(found):
        query = tuple(vectors[place : place + 1] for vectors in queries)
        entries = index.fetch([video for video, _ in row])
        # Another process may have taken a video out since.
        hits.append([_hit(index.model, query, entries[id], score) for id, score in row if id in entries])
    return hits


def moment(index: Store, query: Embeddings, video: str) -> tuple[float, float] | tuple[None, None]:
    """Where in a video a query is answered: start and end in seconds, if the index knows its frames' times."""
    curve, edges = relevance(index.model, query, index.fetch([video])[video])
    return (None, None) if edges is None else best_span(curve, edges)


def _hit(model: Model, query: Embeddings, entry: Entry, score: float) -> Hit:
    curve, edges = relevance(model, query, entry)
    spans = () if edges is None else tuple(find_spans(curve, edges))
    branches: dict[str, float] = {}
    if model.score_weights is not None:
        rows = [rows.astype(np.float32) for rows in entry.fields]
        added = contributions(rows, units([vector[0].float().cpu().numpy() for vector in query]), model.score_weights)
        branches = dict(zip(model.embedding_fields, added, strict=True))
    return Hit(entry.video, score, spans, tuple(curve.tolist()), edges, branches)


class VideoSearch:
    """An index, the model that made it and the encoder of its text: ask it."""

    def __init__(self, checkpoint: Checkpoint, index: Store, encoder: Encoder, *, videos: Path) -> None:
        self.checkpoint, self.index, self.encoder, self.videos = checkpoint, index, encoder, videos

    def search(
        self, text: str, *, k: int = 10, where: Sequence[str] = (), min_score: float | None = None, approximate: bool = False
    ) -> list[Hit]:
        """The k videos that answer a sentence best, best first; none where nothing reaches `min_score`.

        Args:
            where: conditions that a video must meet, such as 'folder=trips' or 'duration>60' (`prvr.index.where`).
            min_score: a probability where the checkpoint is calibrated, and a score where it is not.
            approximate: whether the first stage stands before the scan, in the setting that `prvr index verify` measured.

        Raises:
            SettingError: a sentence without words or far too long, k below 1, a least score that is not finite, or a condition
                that is none; or an approximate search of an index elsewhere.
            ModelError: an approximate search without a setting that was measured on these videos.
        """
        if k < 1:
            raise SettingError(f"k is {k}; ask for at least one hit")
        if min_score is not None and not math.isfinite(min_score):
            raise SettingError(f"the least score is {min_score}; give a finite number, such as 0.5")
        query, among = self.encode(text), [conditions.parse(condition) for condition in where]
        # How far the best is ahead of the second belongs to its probability.
        ask = approximable(self.index).search_approximately if approximate else self.index.search
        hits = self._with_probabilities(with_moments(self.index, query, ask(query, max(k, 2), where=among))[0], among)[:k]
        if min_score is None:
            return hits
        return [hit for hit in hits if (hit.score if hit.probability is None else hit.probability) >= min_score]

    def _with_probabilities(self, hits: list[Hit], where: Sequence[conditions.Condition]) -> list[Hit]:
        calibration = self.checkpoint.calibration
        if calibration is None or not hits:
            return hits
        searched = max(self.index.count(where=where), len(hits))
        if len(hits) < min(2, searched):
            # Another process has changed the gallery since.
            searched = len(hits)
        probabilities = calibration.probabilities(np.array([hit.score for hit in hits]), videos=searched)
        return [replace(hit, probability=float(one)) for hit, one in zip(hits, probabilities, strict=True)]

    def relevance(self, text: str, video: str) -> tuple[np.ndarray, list[float]]:
        """How relevant each part of a video is to a sentence (P,), and the P + 1 times between which they lie.

        Raises:
            SettingError: a sentence without words, or a video that the index does not hold or whose times nobody knows.
        """
        entry = self.index.fetch([video]).get(video)
        if entry is None:
            raise SettingError(f"the index holds no video {video!r}")
        curve, edges = relevance(self.index.model, self.encode(text), entry)
        if edges is None:
            raise SettingError(f"the index does not know when the frames of {video!r} were taken")
        return curve, list(edges)

    def encode(self, text: str) -> Embeddings:
        """The query embedding of a sentence."""
        return encode_queries(self.checkpoint.model, [sentence_features(self.checkpoint, self.encoder, readable(text))])


def readable(text: str) -> str:
    """A query as an encoder may be given it: control characters become spaces.

    Raises:
        SettingError: it has no word in it, is not text or too long to be a sentence.
    """
    if len(text) > MOST_CHARACTERS:
        raise SettingError(f"the query has {len(text)} characters, at most {MOST_CHARACTERS} are read; say it in a sentence")
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    if any(unicodedata.category(c) == "Cs" for c in text):
        raise SettingError("the query is not UTF-8 text; type it in a terminal that is set to UTF-8")
    # Letters, marks, numbers, punctuation and symbols: what is left out cannot be seen.
    if not any(unicodedata.category(c)[0] in "LMNPS" for c in text):
        raise SettingError("the query is empty; say in a sentence what the moment shows")
    return text


def sentence_features(checkpoint: Checkpoint, encoder: Encoder, text: str) -> np.ndarray:
    """What a checkpoint reads of a sentence: a row per word, or one row."""
    if checkpoint.model.reading.text == "words":
        if isinstance(encoder, WordEncoder):
            return encoder.encode_words([text])[0]
    elif isinstance(encoder, SentenceEncoder):
        return encoder.encode_sentences([text])
    raise ModelError(f"{encoder.name!r} gives no {checkpoint.model.reading.text}, which this model reads")
