"""Search by a sentence: hits with their scores and the moments in them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from prvr.encoders import Encoder, SentenceEncoder, WordEncoder, count_words_read
from prvr.errors import ModelError, SettingError
from prvr.index.conditions import Condition, parse
from prvr.index.contract import ScoredVideo, Store, require_approximate
from prvr.index.encode import encode_queries
from prvr.index.moments import Span, best_span, find_spans, frame_rows, peak_time, relevance
from prvr.index.reference import reference_of
from prvr.index.rescoring import CANDIDATES, Anchors, rescoring_of
from prvr.methods.calibration import Calibration
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.contract import Embeddings, Model
from prvr.nn.scores import TIED

# A sentence has about a hundred; a longer text is not a sentence. One limit for Python, the command line and the service.
MOST_CHARACTERS = 1_000
# Hits of less strength are shown as weak matches.
WEAK = 0.5


@dataclass(frozen=True)
class Hit:
    """A video of the gallery with its score, and where in it the sentence is answered.

    spans: the moments, best first; empty if the times of the frames are unknown.
    curve: the relevance of each part of the video. edges: the times between parts, one more than parts; None if unknown.
    branches: the terms of the score by branch, if it is a sum over branches.
    probability: that the video answers the sentence; None if the model is not calibrated.
    strength: the share of unrelated sentences that reach less here (`prvr.index.reference`); None if it is not known.
    copies: the other paths in the folder with the same content.
    problem: why only a part of the video could be searched; None if all of it is in the index.
    """

    video: str
    score: float
    spans: tuple[Span, ...] = ()
    curve: tuple[float, ...] = ()
    edges: tuple[float, ...] | None = None
    branches: Mapping[str, float] = field(default_factory=dict)
    probability: float | None = None
    strength: float | None = None
    copies: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def start(self) -> float | None:
        """The start of the best moment in seconds; None if the times of the frames are unknown."""
        return self.spans[0].start if self.spans else None

    @property
    def end(self) -> float | None:
        """The end of the best moment in seconds; None if the times of the frames are unknown."""
        return self.spans[0].end if self.spans else None

    @property
    def weak(self) -> bool | None:
        """Whether most unrelated sentences reach more than this hit; None if that is not known."""
        return None if self.strength is None else self.strength < WEAK

    @property
    def peak(self) -> float | None:
        """The instant of the best frame in seconds, within the first moment; None if the times of the frames are unknown."""
        return peak_time(np.array(self.curve, np.float32), self.edges) if self.edges else None

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON values, the best moment's start and end, the best frame's instant, and whether it is weak."""
        spans = [span._asdict() for span in self.spans]
        return {
            **asdict(self),
            "start": self.start,
            "end": self.end,
            "peak": self.peak,
            "weak": self.weak,
            "spans": spans,
            "copies": list(self.copies),
        }


def find(index: Store, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[Hit]]:
    """The k best videos of each query among those that meet all conditions, best first, each with its moments."""
    queries_alone = [tuple(vectors[place : place + 1] for vectors in queries) for place in range(len(queries[0]))]
    found = index.search(queries, k, where=where)
    return [find_moments(index.model, query, row) for query, row in zip(queries_alone, found, strict=True)]


def find_moments(model: Model, query: Embeddings, found: Sequence[ScoredVideo]) -> list[Hit]:
    """What was found for one query (a first axis of 1), with its moments."""
    hits = []
    for scored in found:
        curve, edges = relevance(model, query, scored.entry)
        spans = () if edges is None else tuple(find_spans(curve, edges, frames=frame_rows(model, scored.entry)))
        branches = dict(zip(model.embedding_fields, scored.parts, strict=False))
        about = scored.entry.about
        known: dict[str, Any] = {"copies": tuple(about.get("copies", ())), "problem": about.get("problem")}
        hits.append(Hit(scored.video, scored.score, spans, tuple(curve.tolist()), edges, branches, **known))
    return hits


def moment(index: Store, query: Embeddings, video: str) -> tuple[float, float] | tuple[None, None]:
    """Where in a video a query is answered: start and end in seconds, if the index has the times of its frames."""
    entry = index.fetch([video])[video]
    curve, edges = relevance(index.model, query, entry)
    return (None, None) if edges is None else best_span(curve, edges, frames=frame_rows(index.model, entry))


def first_of_weak(hits: Sequence[Hit]) -> int:
    """The place from which on all hits are weak; the number of hits if the last one is not."""
    return next((len(hits) - place for place, hit in enumerate(reversed(hits)) if not hit.weak), 0)


class VideoSearch:
    """An index, the model that made it and its text encoder."""

    def __init__(self, checkpoint: Checkpoint, index: Store, encoder: Encoder, *, videos: Path) -> None:
        self.checkpoint, self.index, self.encoder, self.videos = checkpoint, index, encoder, videos

    def search(
        self,
        text: str,
        *,
        k: int = 10,
        where: Sequence[str] = (),
        min_score: float | None = None,
        approximate: bool = False,
        rescore: bool = False,
    ) -> list[Hit]:
        """The k videos that answer a sentence best, best first; none if no video reaches `min_score`.

        Args:
            where: conditions that a video must meet, such as 'folder=trips' or 'duration>60' (`prvr.index.conditions`).
            min_score: a probability if the checkpoint is calibrated, otherwise a score.
            approximate: searches sketches first, with the setting that `prvr index verify --approximate` measured.
            rescore: re-scores the best candidates by anchors, as `prvr evaluate --rescore anchors` chose it.

        Raises:
            SettingError: a sentence without words or too long, k below 1, a `min_score` that is not finite, a condition with
                an error; an approximate search of an index elsewhere; or no re-scoring was chosen.
            ModelError: an approximate search without a setting that was measured on these videos, or a model without rows to
                re-score by.
        """
        if k < 1:
            raise SettingError(f"k is {k}; ask for at least one hit")
        if min_score is not None and not math.isfinite(min_score):
            raise SettingError(f"the least score is {min_score}; give a finite number, such as 0.5")
        query, conditions = self.encode(text), [parse(condition) for condition in where]
        search = require_approximate(self.index).search_approximately if approximate else self.index.search
        rescoring = rescoring_of(self.checkpoint) if rescore else None
        # The probability of the best hit depends on how far it is ahead of the second one.
        found = search(query, max(k, 2) if rescoring is None else max(k, CANDIDATES), where=conditions)[0]
        if rescoring is not None:
            found = Anchors(self.index.model).rescore(query, found, rescoring)[: max(k, 2)]
        hits = find_moments(self.index.model, query, found)
        hits = self._with_probabilities(hits, conditions, self.calibration(rescore=rescore))[:k]
        hits = hits if rescore else self._with_strengths(hits, query, found)
        if min_score is None:
            return hits
        # A score that ties with the least one reaches it.
        least = min_score - TIED * abs(min_score)
        return [hit for hit in hits if (hit.score if hit.probability is None else hit.probability) >= least]

    def calibration(self, *, rescore: bool = False) -> Calibration | None:
        """What turns scores, or scores that were re-scored, into probabilities; None if nothing does."""
        return rescoring_of(self.checkpoint).calibration if rescore else self.checkpoint.calibration

    def _with_probabilities(self, hits: list[Hit], where: Sequence[Condition], calibration: Calibration | None) -> list[Hit]:
        if calibration is None or not hits:
            return hits
        searched = max(self.index.count(where=where), len(hits))
        if len(hits) < min(2, searched):
            # Another process has changed the gallery since.
            searched = len(hits)
        probabilities = calibration.probabilities(np.array([hit.score for hit in hits]), videos=searched)
        return [replace(hit, probability=float(one)) for hit, one in zip(hits, probabilities, strict=True)]

    def _with_strengths(self, hits: list[Hit], query: Embeddings, found: Sequence[ScoredVideo]) -> list[Hit]:
        """The hits of one query (a first axis of 1) beside those of unrelated sentences, if the index knows these."""
        known = reference_of(self.checkpoint, self.index)
        if known is None:
            return hits
        strengths = known.strengths(query, found[: len(hits)])
        return [replace(hit, strength=one) for hit, one in zip(hits, strengths, strict=True)]

    def relevance(self, text: str, video: str) -> tuple[np.ndarray, list[float]]:
        """The relevance of each part of a video to a sentence (P,), and the P + 1 times between the parts.

        Raises:
            SettingError: a sentence without words, or a video that the index does not hold, or without times.
        """
        entry = self.index.fetch([video]).get(video)
        if entry is None:
            raise SettingError(f"the index holds no video {video!r}")
        curve, edges = relevance(self.index.model, self.encode(text), entry)
        if edges is None:
            raise SettingError(f"the index does not have the times of the frames of {video!r}")
        return curve, list(edges)

    def note_on(self, text: str) -> str | None:
        """What is not read of a sentence, because its encoder or the model reads fewer words; None if all is read."""
        reading = self.checkpoint.model.reading
        read, words = count_words_read(self.encoder, readable(text), most=reading.max_words if reading.text == "words" else None)
        return None if read == words else f"{self.encoder.name} reads the first {read} of these {words} words; say it in fewer"

    def encode(self, text: str) -> Embeddings:
        """The query embedding of a sentence."""
        return encode_queries(self.checkpoint.model, [sentence_features(self.checkpoint, self.encoder, readable(text))])


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


def sentence_features(checkpoint: Checkpoint, encoder: Encoder, text: str) -> np.ndarray:
    """The features of a sentence that a checkpoint reads: a row per word, or one row."""
    if checkpoint.model.reading.text == "words":
        if isinstance(encoder, WordEncoder):
            return encoder.encode_words([text])[0]
    elif isinstance(encoder, SentenceEncoder):
        return encoder.encode_sentences([text])
    raise ModelError(f"{encoder.name!r} gives no {checkpoint.model.reading.text}, which this model reads")
