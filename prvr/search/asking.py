"""Search by a sentence or another `Question`: hits with their scores and the moments in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from prvr.encoders import Encoder, ImageEncoder, count_words_read
from prvr.encoders.prompts import Prompted, check_template, is_short, with_prompt
from prvr.encoders.sentence_embeddings import sentence_embedder
from prvr.errors import ModelError, SettingError, nearest
from prvr.features.reading import read_words
from prvr.index.conditions import Condition, parse
from prvr.index.contract import Entry, ScoredVideo, Store, require_approximate
from prvr.index.few import few_videos
from prvr.index.moments import Span, relevance
from prvr.index.near_identical import drop_near_identical
from prvr.index.ranking import Result, has_curve_as_score, rank
from prvr.index.reference import reference_of
from prvr.index.text_windows import embedded_by
from prvr.index.texts import HasTexts, require_texts
from prvr.methods.calibration import Calibration
from prvr.methods.model import ArrayModel, Described, Embeddings
from prvr.search.hits import Hit, drop_below, hit_of, known_of
from prvr.search.question import EncodedQuestion, Question, parts_of, query_of_picture
from prvr.search.senses import ANY, PICTURE, Senses, check_sense
from prvr.search.sentences import readable, sentence_features
from prvr.search.text_matches import KINDS_OF, MeaningMatcher
from prvr.video import VideoPath, name_in

if TYPE_CHECKING:
    from prvr.index.rescoring import Rescoring

# Queries whose embeddings are kept: speech and screen, and each page of an answer, ask for the same one.
QUERIES_KEPT = 16


class VideoSearch:
    """An index, the model that made it and its text encoder.

    Args:
        open_image_encoder: opens the encoder of frames, for the first picture that is asked; None if there is none.
    """

    def __init__(
        self,
        checkpoint: Described,
        index: Store,
        encoder: Encoder,
        *,
        videos: VideoPath,
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
        sense: str = ANY,
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
            sense: where the answer is looked for: in the picture, in speech, on the screen, or in any of these
                (`prvr.search.senses`). Of a question that is more than one sentence, the picture is searched. A hit of speech
                or screen alone has the score of its text: the share of the sentence's words, or the cosine of the meaning.

        Raises:
            SettingError: no such sense, or more than one sentence for speech or screen; a sentence without words or too long, k
                below 1, a `min_score` that is not finite, a condition with an error; a moment that the index does not hold; a
                question that the model does not support; an approximate search of shards; or no re-scoring was
                chosen.
            ModelError: an approximate search without a setting that was measured on these videos, or a model without rows to
                re-score by.
        """
        asked, conditions = self._read(question, k=k, offset=offset, min_score=min_score, where=where)
        if len(asked.parts) > 1:
            self._require_frame_scores("then")
        rescoring = _rescoring_of(self.checkpoint) if rescore else None
        if rescore and not asked.question.is_sentence:
            raise SettingError("scores of one sentence alone can be re-scored; leave out 'rescore', or ask one sentence")
        if check_sense(sense) in KINDS_OF:
            if approximate or rescore:
                raise SettingError(f"'approximate' and 'rescore' are of pictures; leave them out, or do not search in {sense}")
            return self._search_texts(asked, sense, conditions, min_score, slice(offset, offset + k))
        # What has texts is worth something beside the picture; what is re-scored is the picture's score.
        fused = sense == ANY and asked.question.is_sentence and not rescore
        matches = self.senses.best_matches(asked.question.text, conditions) if fused else {}
        search = require_approximate(self.index).search_approximately if approximate else self.index.search

        def find(count: int) -> list[ScoredVideo]:
            if not asked.is_one_query:
                ranked = rank(self.index, asked.queries, count, asked.in_order, where=conditions, approximate=approximate)
                return [ScoredVideo(result.entry.video, result.score, (), result.entry) for result in ranked]
            (query,) = asked.queries
            if rescoring is None:
                return self.senses.fuse(query, search(query, count, where=conditions)[0], matches, count)
            from prvr.index.rescoring import CANDIDATES, Anchors

            found = search(query, max(count, CANDIDATES), where=conditions)[0]
            return Anchors(self.index.model).rescore(query, found, rescoring)[:count]

        found = drop_near_identical(
            find, max(offset + k, 2), lambda scored: scored.entry, known=asked.videos_to_leave_out, drop_known=True
        )
        calibration = self.calibration(rescore=rescore) if asked.question.is_sentence else None
        seen = self.senses.seen(asked.queries[0], [scored for scored, _ in found], matches)
        pictures = {one.video: one.score for one in seen}
        if matches and calibration is not None:
            # The margin is one between pictures, and the best of them need not be among the hits.
            best = drop_near_identical(
                lambda count: search(asked.queries[0], count, where=conditions)[0], 2, lambda scored: scored.entry
            )
            pictures |= {one.video: one.score for one, others in best if pictures.keys().isdisjoint((one.video, *others))}
        probabilities = self._probabilities([*pictures.values()], conditions, calibration)
        shown = slice(offset, offset + k)
        hits = [
            replace(hit_of(asked, scored), near_identical=others, probability=probability)
            for (scored, others), probability in zip(found[shown], probabilities[: len(found)][shown], strict=True)
        ]
        if asked.question.is_sentence and not rescore:
            hits = self._with_strengths(hits, asked.queries[0], seen[shown])
        if matches:
            hits = self.senses.explain(asked.queries[0], hits, matches)
        return drop_below(hits, min_score)

    def search_moments(
        self,
        question: str | Question,
        *,
        k: int = 10,
        offset: int = 0,
        where: Sequence[str] = (),
        min_score: float | None = None,
        approximate: bool = False,
        sense: str = ANY,
    ) -> list[Hit]:
        """The k best moments of all videos, best first, however many are of one video: hits with one span and its score.

        Arguments and errors as in `search`. Moments of near-identical videos are listed once. Of the videos of `Question.like`
        and `Question.less` only the moments that hold these times are left out. Moments are those of the picture.
        """
        if check_sense(sense) in KINDS_OF:
            raise SettingError(
                f"moments are listed by their pictures; leave out 'moments', or search in {PICTURE}, not in {sense}"
            )
        asked, conditions = self._read(question, k=k, offset=offset, min_score=min_score, where=where)
        if len(asked.parts) > 1:
            raise SettingError("moments are listed of one query; leave out 'then', or search for videos")
        self._require_frame_scores("moments")

        def find(count: int) -> list[Result[tuple[Span, np.ndarray, tuple[float, ...]]]]:
            return rank(self.index, asked.queries, count, asked.moments, where=conditions, approximate=approximate)

        hits, found = (
            [],
            drop_near_identical(find, offset + k, lambda result: result.entry, known=asked.videos_to_leave_out)[offset:],
        )
        for result, others in found:
            span, curve, edges = result.value
            hit = Hit(result.entry.video, result.score, (span,), tuple(curve.tolist()), edges, **known_of(result.entry))
            hits.append(replace(hit, near_identical=others))
        if asked.question.is_sentence and has_curve_as_score(self.index.model):
            scored = [ScoredVideo(result.entry.video, result.score, (), result.entry) for result, _ in found]
            hits = self._with_strengths(hits, asked.queries[0], scored)
        return drop_below(hits, min_score)

    def explain(self, question: str | Question, video: str, *, sense: str = ANY) -> Hit | None:
        """Where in one video a question is answered; None if the video has fewer frames than the question has parts.

        Args:
            sense: that of the quotes; those of the picture alone are none.

        Raises:
            SettingError: as `search`, or a video that the index does not hold.
        """
        asked, _ = self._read(question)
        entry = self._entry(video)
        if asked.is_one_query:
            query, scored = asked.queries[0], few_videos(self.index.model, [entry]).search(asked.queries[0], 1)[0]
            hit = hit_of(asked, scored[0])
            senses = {ANY: tuple(KINDS_OF), PICTURE: ()}.get(check_sense(sense), (sense,)) if asked.question.is_sentence else ()
            matches = self.senses.best_matches(asked.question.text, (), only=entry.video, senses=senses)
            if matches and sense == ANY:
                fused = replace(hit, score=self.senses.fuse(query, scored, matches, 1)[0].score)
                return replace(hit, quotes=self.senses.explain(query, [fused], matches)[0].quotes)
            return replace(hit, quotes=matches[entry.video].quotes) if matches else hit
        if len(asked.parts) > 1:
            self._require_frame_scores("then")
        return next((hit_of(asked, ScoredVideo(entry.video, score, (), entry)) for score, _ in asked.in_order(entry)), None)

    def _search_texts(
        self, asked: EncodedQuestion, sense: str, conditions: Sequence[Condition], min_score: float | None, shown: slice
    ) -> list[Hit]:
        """The videos with the texts that answer a sentence best."""
        require_texts(self.index, f"a search in {sense}")
        if not asked.question.is_sentence:
            raise SettingError(f"one sentence is looked for in {sense}; leave out what else is asked, or search the picture")
        found = self.senses.matches(asked.question.text, sense, conditions)
        matches = [one for one in found if min_score is None or one.score >= min_score][shown]
        entries = self.index.fetch([one.video for one in matches])
        hits = []
        for one in matches:
            if one.video in entries:
                hit = hit_of(asked, ScoredVideo(one.video, one.score, (), entries[one.video]))
                hits.append(replace(hit, spans=(one.span,), found_by=(sense,), quotes=one.quotes))
        return hits

    @cached_property
    def senses(self) -> Senses:
        """What is said and written in the videos, beside their pictures."""
        embed = sentence_embedder(self.encoder)
        if embed is None or not isinstance(self.index, HasTexts):
            return Senses(self.index)
        embed_query = lru_cache(QUERIES_KEPT)(lambda text: embed([text])[0])
        return Senses(self.index, MeaningMatcher(self.index.texts, embed_query, embedded_by(self.encoder.fingerprint)))

    def calibration(self, *, rescore: bool = False) -> Calibration | None:
        """What turns scores, or scores that were re-scored, into probabilities; None if nothing does."""
        return _rescoring_of(self.checkpoint).calibration if rescore else self.checkpoint.calibration

    def _probabilities(
        self, found: list[float], where: Sequence[Condition], calibration: Calibration | None
    ) -> Sequence[float | None]:
        """The probability of each of the best scores, in any order; None without a calibration."""
        if calibration is None or not found:
            return [None] * len(found)
        searched = max(self.index.count(where=where), len(found))
        if len(found) < min(2, searched):
            # Another process has changed the gallery since.
            searched = len(found)
        best_first = np.argsort(-np.array(found), kind="stable")
        probabilities = np.empty(len(found))
        probabilities[best_first] = calibration.probabilities(np.array(found)[best_first], videos=searched)
        return [float(one) for one in probabilities]

    def _with_strengths(self, hits: list[Hit], query: Embeddings, found: Sequence[ScoredVideo]) -> list[Hit]:
        """The hits of one query (a first axis of 1) beside those of unrelated sentences, if the index knows these."""
        known = reference_of(self.checkpoint, self.index)
        if known is None:
            return hits
        strengths = known.strengths(query, found)
        return [replace(hit, strength=one) for hit, one in zip(hits, strengths, strict=True)]

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
            notes.append(
                f"{question.like.video} is not listed (of moments, this one), nor is what looks like it: the query is of it"
            )
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
        features, model = sentence_features(self.checkpoint, self.encoder, text), self.checkpoint.model
        if isinstance(model, ArrayModel):
            return model.encode_sentence(read_words(features, model.reading))
        from prvr.index.encode import encode_queries

        return encode_queries(self.index.model, [features])

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
        if isinstance(self.index.model, ArrayModel):
            return self.index.model.has_frame_scores
        from prvr.methods.probe import has_frame_scores

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


def _rescoring_of(checkpoint: Described) -> Rescoring:
    from prvr.index.rescoring import rescoring_of

    return rescoring_of(checkpoint)
