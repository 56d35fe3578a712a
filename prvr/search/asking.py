"""Search by a sentence or another `Question`: hits with their scores and the moments in them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prvr.encoders import Encoder, ImageEncoder, SentenceEncoder, WordEncoder, count_words_read
from prvr.encoders.prompts import Prompted, check_template, is_short, with_prompt
from prvr.errors import ModelError, SettingError, nearest
from prvr.index.conditions import Condition, parse
from prvr.index.contract import Entry, ScoredVideo, Store, require_approximate
from prvr.index.encode import encode_queries
from prvr.index.exact import ExactIndex
from prvr.index.moments import Span, best_span, find_spans, relevance
from prvr.index.near_identical import distinct
from prvr.index.ranking import Result, rank
from prvr.index.rescoring import CANDIDATES, Anchors, rescoring_of
from prvr.index.sequence import best_in_order, spans_in_order
from prvr.methods.calibration import Calibration
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.contract import Embeddings, Model
from prvr.methods.probe import has_frame_scores
from prvr.nn.scores import TIED
from prvr.search.question import EncodedQuestion, Question, parts_of, query_of_picture
from prvr.video import name_in

# A sentence has about a hundred; a longer text is not a sentence. One limit for Python, the command line and the service.
MOST_CHARACTERS = 1_000


class PartSpan(NamedTuple):
    """Where a part of a question is answered, in seconds. score: the relevance of its best place."""

    said: str
    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Hit:
    """A video of the gallery with its score, and where in it the question is answered.

    spans: the moments, best first; empty if the times of the frames are unknown.
    curve: the relevance of each part of the video. edges: the times between parts, one more than parts; None if unknown.
    branches: the terms of the score by branch, if it is a sum over branches.
    probability: that the video answers the sentence; None if the model is not calibrated.
    copies: the other paths in the folder with the same content.
    parts: where each part of a question with several is answered, in their order.
    near_identical: other videos of the index that look the same all along, and take no place of their own.
    problem: why only a part of the video could be searched; None if all of it is in the index.
    """

    video: str
    score: float
    spans: tuple[Span, ...] = ()
    curve: tuple[float, ...] = ()
    edges: tuple[float, ...] | None = None
    branches: Mapping[str, float] = field(default_factory=dict)
    probability: float | None = None
    copies: tuple[str, ...] = ()
    problem: str | None = None
    parts: tuple[PartSpan, ...] = ()
    near_identical: tuple[str, ...] = ()

    @property
    def start(self) -> float | None:
        """The start of the best moment in seconds; None if the times of the frames are unknown."""
        return self.spans[0].start if self.spans else None

    @property
    def end(self) -> float | None:
        """The end of the best moment in seconds; None if the times of the frames are unknown."""
        return self.spans[0].end if self.spans else None

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON values, and the best moment's start and end."""
        spans, parts = ([one._asdict() for one in of] for of in (self.spans, self.parts))
        lists = {"spans": spans, "parts": parts, "copies": list(self.copies), "near_identical": list(self.near_identical)}
        return {**asdict(self), "start": self.start, "end": self.end, **lists}


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
        spans = () if edges is None else tuple(find_spans(curve, edges))
        branches = dict(zip(model.embedding_fields, scored.parts, strict=False))
        hits.append(Hit(scored.video, scored.score, spans, tuple(curve.tolist()), edges, branches, **_known(scored.entry)))
    return hits


def moment(index: Store, query: Embeddings, video: str) -> tuple[float, float] | tuple[None, None]:
    """Where in a video a query is answered: start and end in seconds, if the index has the times of its frames."""
    curve, edges = relevance(index.model, query, index.fetch([video])[video])
    return (None, None) if edges is None else best_span(curve, edges)


class VideoSearch:
    """An index, the model that made it and its text encoder.

    Args:
        open_image_encoder: opens the encoder of frames, for the first picture that is asked; None if there is none.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        index: Store,
        encoder: Encoder,
        *,
        videos: Path,
        open_image_encoder: Callable[[], Encoder] | None = None,
    ) -> None:
        self.checkpoint, self.index, self.encoder, self.videos = checkpoint, index, encoder, videos
        self._open_image_encoder = open_image_encoder

    def search(
        self,
        question: str | Question,
        *,
        k: int = 10,
        offset: int = 0,
        where: Sequence[str] = (),
        min_score: float | None = None,
        approximate: bool = False,
        rescore: bool = False,
    ) -> list[Hit]:
        """The k videos that answer a sentence or a `Question` best, best first; none if no video reaches `min_score`.

        Near-identical videos take one place (`prvr.index.near_identical`). The video of `Question.like` and those of
        `Question.less` are left out, with what is near-identical to them.

        Args:
            offset: how many of the best are left out before these.
            where: conditions that a video must meet, such as 'folder=trips' or 'duration>60' (`prvr.index.conditions`).
            min_score: a probability if the question is a sentence and the checkpoint is calibrated, otherwise a score.
            approximate: searches sketches first, with the setting that `prvr index verify --approximate` measured.
            rescore: re-scores the best candidates by anchors, as `prvr evaluate --rescore anchors` chose it.

        Raises:
            SettingError: a sentence without words or too long, k below 1, a `min_score` that is not finite, a condition with
                an error; a moment that the index does not hold; a question that the model does not support; an approximate
                search of an index elsewhere; or no re-scoring was chosen.
            ModelError: an approximate search without a setting that was measured on these videos, or a model without rows to
                re-score by.
        """
        asked, conditions = self._read(question, k=k, offset=offset, min_score=min_score, where=where)
        if len(asked.parts) > 1:
            self._require_frame_scores("then")
        rescoring = rescoring_of(self.checkpoint) if rescore else None
        if rescore and not asked.question.is_sentence:
            raise SettingError("scores of one sentence alone can be re-scored; leave out 'rescore', or ask one sentence")
        search = require_approximate(self.index).search_approximately if approximate else self.index.search

        def find(count: int) -> list[ScoredVideo]:
            if not asked.is_one_query:
                ranked = rank(self.index, asked.queries, count, asked.in_order, where=conditions, approximate=approximate)
                return [ScoredVideo(result.entry.video, result.score, (), result.entry) for result in ranked]
            (query,) = asked.queries
            if rescoring is None:
                return search(query, count, where=conditions)[0]
            found = search(query, max(count, CANDIDATES), where=conditions)[0]
            return Anchors(self.index.model).rescore(query, found, rescoring)[:count]

        # The probability of the best hit depends on how far it is ahead of the second one.
        found = distinct(find, max(offset + k, 2), lambda scored: scored.entry, known=asked.marked, drop_known=True)
        hits = [replace(_hit(asked, scored), near_identical=others) for scored, others in found]
        if asked.question.is_sentence:
            hits = self._with_probabilities(hits, conditions, self.calibration(rescore=rescore))
        return _reaching(hits[offset : offset + k], min_score)

    def search_moments(
        self,
        question: str | Question,
        *,
        k: int = 10,
        offset: int = 0,
        where: Sequence[str] = (),
        min_score: float | None = None,
        approximate: bool = False,
    ) -> list[Hit]:
        """The k best moments of all videos, best first, however many are of one video: hits with one span and its score.

        Arguments and errors as in `search`. Moments of near-identical videos are listed once. Of the videos of `Question.like`
        and `Question.less` only the moments that hold these times are left out.
        """
        asked, conditions = self._read(question, k=k, offset=offset, min_score=min_score, where=where)
        if len(asked.parts) > 1:
            raise SettingError("moments are listed of one query; leave out 'then', or search for videos")
        self._require_frame_scores("moments")

        def find(count: int) -> list[Result[tuple[Span, np.ndarray, tuple[float, ...]]]]:
            return rank(self.index, asked.queries, count, asked.moments, where=conditions, approximate=approximate)

        hits = []
        for result, others in distinct(find, offset + k, lambda result: result.entry, known=asked.marked)[offset:]:
            span, curve, edges = result.value
            hit = Hit(result.entry.video, result.score, (span,), tuple(curve.tolist()), edges, **_known(result.entry))
            hits.append(replace(hit, near_identical=others))
        return _reaching(hits, min_score)

    def explain(self, question: str | Question, video: str) -> Hit | None:
        """Where in one video a question is answered; None if the video has fewer frames than the question has parts.

        Raises:
            SettingError: as `search`, or a video that the index does not hold.
        """
        asked, _ = self._read(question)
        entry = self._entry(video)
        if asked.is_one_query:
            # A gallery of this video alone: the score is the one of a search.
            gallery = ExactIndex(self.index.model)
            gallery.add([entry])
            return _hit(asked, gallery.search(asked.queries[0], 1)[0][0])
        self._require_frame_scores("then")
        return next((_hit(asked, ScoredVideo(entry.video, score, (), entry)) for score, _ in asked.in_order(entry)), None)

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

    def relevance(self, text: str, video: str) -> tuple[np.ndarray, list[float]]:
        """The relevance of each part of a video to a sentence (P,), and the P + 1 times between the parts.

        Raises:
            SettingError: a sentence without words, or a video that the index does not hold, or without times.
        """
        curve, edges = relevance(self.index.model, self.encode(text), self._entry(video))
        if edges is None:
            raise SettingError(f"the index does not have the times of the frames of {video!r}")
        return curve, list(edges)

    def note_on(self, question: str | Question) -> str | None:
        """What is not read of a question, because the encoder or the model reads fewer words, and which videos it leaves out."""
        question = Question(question) if isinstance(question, str) else question
        reading = self.checkpoint.model.reading
        most, notes = reading.max_words if reading.text == "words" else None, []
        for text in filter(None, (question.text, *question.also, *question.then, *question.without)):
            read, words = count_words_read(self.encoder, readable(text), most=most)
            if read < words:
                notes.append(f"{self.encoder.name} reads the first {read} of these {words} words; say it in fewer")
        if question.like:
            notes.append(f"{question.like.video} itself is left out (of moments, this one), with what is near-identical to it")
        return "; ".join(notes) or None

    def encode(self, text: str, *, prompt: str | None = None) -> Embeddings:
        """The query embedding of a sentence.

        Args:
            prompt: a template such as "a photo of a {}." that the sentence is put into; "" for none. By default an encoder alone
                has the template of its family for short wordings (`prvr.encoders.prompts`); a trained student has none, nor
                has a checkpoint that was calibrated: these have seen captions as they were written.
        """
        text = readable(text)
        if prompt is not None:
            text = with_prompt(text, check_template(prompt))
        elif self.uses_prompts and isinstance(self.encoder, Prompted) and is_short(text):
            text = with_prompt(text, self.encoder.prompt)
        return encode_queries(self.checkpoint.model, [sentence_features(self.checkpoint, self.encoder, text)])

    @property
    def uses_prompts(self) -> bool:
        """Whether short wordings get the template of the encoder."""
        return self.checkpoint.method == "zero_shot" and self.checkpoint.calibration is None

    def _read(
        self,
        question: str | Question,
        *,
        k: int = 1,
        offset: int = 0,
        min_score: float | None = None,
        where: Sequence[str] = (),
    ) -> tuple[EncodedQuestion, list[Condition]]:
        """A question as its queries, and the conditions; all is checked."""
        if k < 1 or offset < 0:
            raise SettingError(f"k is {k} and offset {offset}; ask for at least one hit, from the first one or a later one")
        if min_score is not None and not math.isfinite(min_score):
            raise SettingError(f"the least score is {min_score}; give a finite number, such as 0.5")
        question = Question(question) if isinstance(question, str) else question
        conditions = [parse(condition) for condition in where]
        entries = {moment.video: self._entry(moment.video) for moment in question.moments}
        read = partial(self.encode, prompt=question.prompt)
        parts = parts_of(question, self.index.model, read, self._encode_picture, entries)
        return EncodedQuestion(question, parts, self.index.model, entries), conditions

    def _entry(self, video: str) -> Entry:
        """The video with an id, or with a copy under that path."""
        ids = self.index.ids
        known = name_in(ids, video)
        if known is None:
            places = ((id, about.get("copies", ())) for id, about in self.index.about().items())
            known = next((id for id, copies in places if name_in(copies, video)), None)
        entry = self.index.fetch([known]).get(known) if known is not None else None
        if entry is None:
            raise SettingError(f"the index holds no video {video!r}; {nearest(video, ids)}")
        return entry

    def _require_frame_scores(self, what: str) -> None:
        if not self._has_frame_scores:
            raise SettingError(
                f"{self.checkpoint.method} compares a query with whole videos and has no scores of frames, which {what!r} needs; "
                "leave it out, or index with a method that has them"
            )

    @cached_property
    def _has_frame_scores(self) -> bool:
        return has_frame_scores(self.index.model)

    def _encode_picture(self, picture: np.ndarray) -> Embeddings:
        frames, encoder = self.checkpoint.sources.frames, self.encoder
        if not isinstance(encoder, ImageEncoder) or encoder.fingerprint != frames.fingerprint:
            encoder = self._image_encoder
        return query_of_picture(self.index.model, encoder.encode_images([picture]))

    @cached_property
    def _image_encoder(self) -> ImageEncoder:
        name = self.checkpoint.sources.frames.name
        try:
            encoder = self._open_image_encoder() if self._open_image_encoder else None
        except ModelError as problem:
            raise SettingError(f"this index cannot be searched with a picture: {problem}") from None
        if not isinstance(encoder, ImageEncoder):
            raise SettingError(f"no encoder here makes {name!r} of a picture, which this index holds; search by a sentence")
        return encoder


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


def _hit(asked: EncodedQuestion, scored: ScoredVideo) -> Hit:
    """What was found, with its moments; of several parts one span from the first to the last, and the span of each."""
    if asked.is_one_query:
        return find_moments(asked.model, asked.queries[0], [scored])[0]
    curves, edges = asked.curves(scored.entry)
    found = best_in_order(curves)
    parts: list[PartSpan] = []
    if edges is not None and found is not None:
        spans = spans_in_order(curves, edges, found.places)
        parts = [PartSpan(part.said, *span) for part, span in zip(asked.parts, spans, strict=True)]
    whole = (Span(parts[0].start, parts[-1].end, scored.score),) if parts else ()
    hit = Hit(scored.video, scored.score, whole, tuple(curves.max(0).tolist()), edges, **_known(scored.entry))
    return replace(hit, parts=tuple(parts))


def _known(entry: Entry) -> dict[str, Any]:
    return {"copies": tuple(entry.about.get("copies", ())), "problem": entry.about.get("problem")}


def _reaching(hits: list[Hit], min_score: float | None) -> list[Hit]:
    """The hits whose probability or score reaches the least one."""
    if min_score is None:
        return hits
    # A score that ties with the least one reaches it.
    least = min_score - TIED * abs(min_score)
    return [hit for hit in hits if (hit.score if hit.probability is None else hit.probability) >= least]
