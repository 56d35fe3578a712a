"""What can be asked: sentences, one after another or in other words, pictures, moments of the index, and what to leave out.

Everything but the order of parts becomes one query, by arithmetic on vectors of unit length in the space that sentences and
frames share (per field of the model). With t the mean of the wordings, p the picture or the frame of the moment, n the mean of
what is not wanted, u and d the means of the moments that were found good and bad:

    q = base - 0.5 n + 0.5 u - 0.1 d        base: t, or p, or t + 0.3 p

The weights were chosen on one half of the montage and measured on the other (experiments/asking.py, docs/how/indexes.md). The
second term takes away what a sentence describes, as far as the encoder sees it; encoders know no negation. The third and fourth
are Rocchio's feedback. A model whose score is no weighted sum of best cosines has no such vectors: wordings are then averaged
along the video.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float

from prvr.errors import SettingError
from prvr.index.contract import Entry
from prvr.index.moments import BAR, Span, find_spans, frame_rows, relevance
from prvr.index.sequence import Sequenced, best_in_order
from prvr.methods.model import Embeddings, Model, StoredModel
from prvr.nn.ranks import as_arrays, unit

PICTURE_WEIGHT = 0.3
WITHOUT_WEIGHT = 0.5
MORE_WEIGHT, LESS_WEIGHT = 0.5, 0.1
# Of sentences of one kind, and of moments.
MOST_SENTENCES, MOST_MOMENTS = 10, 50
# Seconds: a player's clock and the index differ a little at the end of a video.
END = 0.5


class Moment(NamedTuple):
    """A time in a video of the index, in seconds."""

    video: str
    seconds: float


@dataclass(frozen=True)
class Question:
    """What a moment shows. A sentence, a picture or a moment is needed; the rest is optional.

    text: a sentence. also: the same in other words. then: what happens later in the video, in this order.
    without: what the moment does not show.
    image: a picture, (height, width, 3) uint8 RGB, as `prvr.video.picture_file.read_picture` returns it.
    like: a moment of the index. more, less: moments of earlier hits that were right, and that were wrong.
    prompt: a template that each sentence is put into, as in `VideoSearch.encode`; "" for none, None for that of the encoder.

    Raises:
        SettingError: there is nothing to look for, there are too many sentences or moments, or feedback to several parts.
    """

    text: str = ""
    also: Sequence[str] = ()
    then: Sequence[str] = ()
    without: Sequence[str] = ()
    image: np.ndarray | None = None
    like: Moment | None = None
    more: Sequence[Moment] = ()
    less: Sequence[Moment] = ()
    prompt: str | None = None

    def __post_init__(self) -> None:
        for name, given in self._additions.items():
            most = MOST_MOMENTS if name in ("more", "less") else MOST_SENTENCES
            if isinstance(given, str) or len(given) > most:
                raise SettingError(f"{name!r} takes a list of at most {most}, not {given!r:.200}")
        if not self.has_subject and (names := [name for name, given in self._additions.items() if given]):
            raise SettingError(
                f"there is nothing to look for: {' and '.join(map(repr, names))} can only change a query; say what the moment "
                "shows, or give a picture or a moment"
            )
        if self.also and not self.text:
            raise SettingError("'also' says a sentence in other words, and there is no sentence; give it as the query")
        if self.then and (self.more or self.less):
            raise SettingError("'more' and 'less' change one query; leave them out, or 'then'")

    @property
    def has_subject(self) -> bool:
        """Whether there is something to look for."""
        return bool(self.text) or self.image is not None or self.like is not None

    @property
    def is_sentence(self) -> bool:
        """Whether it is one sentence and nothing else: the only question that probabilities are calibrated for."""
        return self.image is None and self.like is None and not any(self._additions.values())

    @property
    def moments(self) -> list[Moment]:
        """All moments of the index that it names."""
        return [*self.to_leave_out, *self.more]

    @property
    def to_leave_out(self) -> list[Moment]:
        """The moments that an answer is not to repeat."""
        return [*([self.like] if self.like else []), *self.less]

    @property
    def _additions(self) -> dict[str, Sequence[Any]]:
        names = ("also", "then", "without", "more", "less")
        return {name: getattr(self, name) for name in names}


class QuestionPart(NamedTuple):
    """What is looked for at one time. said: its sentence, or what else it is; queries: its vectors.

    There are several vectors where the model's score allows no mean of them; the part's curve is the mean of theirs.
    """

    said: str
    queries: tuple[Embeddings, ...]


def parts_of(
    question: Question,
    model: StoredModel,
    read: Callable[[str], Embeddings],
    picture: Callable[[np.ndarray], Embeddings],
    entries: Mapping[str, Entry],
) -> list[QuestionPart]:
    """The parts of a question, in their order in time.

    Args:
        read, picture: return the embedding of a sentence, and of a picture. entries: of the videos of its moments.

    Raises:
        SettingError: a sentence without words, a time beyond the end of a video, or a question that the model does not support.
    """
    # Without anything, the empty sentence is refused as such.
    sayings = (question.text, *question.also) if question.text or not question.has_subject else ()
    base = [read(text) for text in sayings]
    sentences = [QuestionPart(question.text, tuple(base))] + [QuestionPart(text, (read(text),)) for text in question.then]
    if question.is_sentence or (model.score_weights is None and not _needs_vectors(question)):
        return sentences
    if model.score_weights is None:
        raise SettingError(
            f"{type(model).__name__} does not compare one vector with the rows of a video; ask it with sentences that follow one "
            "another or say the same in other words, without pictures, moments, feedback and 'without'"
        )
    seen = [picture(question.image)] if question.image is not None else []
    seen += [query_at(entries[question.like.video], float(question.like.seconds))] if question.like else []
    more, less = ([query_at(entries[video], float(seconds)) for video, seconds in of] for of in (question.more, question.less))
    without = [read(text) for text in question.without]
    first = [(1.0, base), (PICTURE_WEIGHT if base else 1.0, seen), (MORE_WEIGHT, more), (-LESS_WEIGHT, less)]
    parts = [QuestionPart(question.text or ("picture" if question.image is not None else "moment"), (_mix(first, without),))]
    return parts + [QuestionPart(part.said, (_mix([(1.0, list(part.queries))], without),)) for part in sentences[1:]]


@dataclass(frozen=True)
class EncodedQuestion:
    """A question as queries of a model. entries: the videos of its moments, by the names that the question has for them."""

    question: Question
    parts: Sequence[QuestionPart]
    model: StoredModel
    entries: Mapping[str, Entry]

    @property
    def queries(self) -> list[Embeddings]:
        """The queries of all parts."""
        return [query for part in self.parts for query in part.queries]

    @property
    def is_one_query(self) -> bool:
        """Whether the model's own score of one query ranks the videos."""
        return len(self.queries) == 1

    @property
    def videos_to_leave_out(self) -> list[Entry]:
        """The videos of `Question.like` and `Question.less`."""
        return [self.entries[moment.video] for moment in self.question.to_leave_out]

    def curves(self, entry: Entry) -> tuple[Float[np.ndarray, "N P"], tuple[float, ...] | None]:
        """The relevance of a video's P places for each part, and the P + 1 times between the places, or None."""
        edges: tuple[float, ...] | None = None
        curves = []
        for part in self.parts:
            along = [relevance(self.model, query, entry) for query in part.queries]
            curves.append(np.mean([curve for curve, _ in along], axis=0))
            edges = along[0][1]
        return np.stack(curves), edges

    def in_order(self, entry: Entry) -> list[tuple[float, Sequenced]]:
        """The score of a video for all parts in order; none if it has too few frames."""
        found = best_in_order(self.curves(entry)[0])
        return [] if found is None else [(found.score, found)]

    def moments(self, entry: Entry) -> list[tuple[float, tuple[Span, Float[np.ndarray, "P"], tuple[float, ...]]]]:
        """All spans of a video with their scores, but for those that hold one of `Question.to_leave_out`."""
        curves, edges = self.curves(entry)
        if edges is None:
            return []
        seconds = [one.seconds for one in self.question.to_leave_out if self.entries[one.video].video == entry.video]
        spans = find_spans(curves[0], edges, limit=len(curves[0]), frames=frame_rows(self.model, entry), another=BAR)
        return [(span.score, (span, curves[0], edges)) for span in spans if not any(span.start <= t <= span.end for t in seconds)]


def query_at(entry: Entry, seconds: float) -> Embeddings:
    """The rows of a video at a time, as a query.

    Raises:
        SettingError: the video ends before, or the index does not have its times.
    """
    if entry.edges is None:
        raise SettingError(f"the index does not have the times of the frames of {entry.video!r}; name a moment of another video")
    if not entry.edges[0] - END <= seconds <= entry.edges[-1] + END:
        raise SettingError(f"{entry.video!r} ends at {entry.edges[-1]:.1f} seconds, before {seconds:g}; name a moment within it")
    frames = len(entry.edges) - 1
    frame = min(max(int(np.searchsorted(entry.edges, seconds, side="right")) - 1, 0), frames - 1)
    # A field without a row for each frame has its rows at even distances.
    rows = [field[int((frame + 0.5) * len(field) / frames)] for field in entry.fields]
    return cast(Embeddings, tuple(np.array(row, np.float32)[None] for row in rows))


def query_of_picture(model: Model, features: Float[np.ndarray, "1 E"]) -> Embeddings:
    """A picture as a query: the rows of a video of this one frame."""
    from prvr.index.encode import Sampled, encode

    (entry,) = encode(model, [Sampled("picture", features)])
    return cast(Embeddings, tuple(field[:1] for field in entry.fields))


def _needs_vectors(question: Question) -> bool:
    return question.image is not None or bool(question.moments or question.without)


def _mix(terms: Sequence[tuple[float, list[Embeddings]]], without: list[Embeddings]) -> Embeddings:
    """The weighted sum of the means of vectors of unit length, field by field."""
    given = [(weight, queries) for weight, queries in [*terms, (-WITHOUT_WEIGHT, without)] if queries]
    means = [
        [weight * np.mean([unit(vectors) for vectors in as_arrays(of_field)], axis=0) for of_field in zip(*queries, strict=True)]
        for weight, queries in given
    ]
    return tuple(np.sum(of_field, axis=0) for of_field in zip(*means, strict=True))


def parse_moment(text: str) -> Moment:
    """A moment from VIDEO@SECONDS.

    Raises:
        SettingError: the text has another form.
    """
    video, at, seconds = text.rpartition("@")
    try:
        time = float(seconds)
    except ValueError:
        time = math.nan
    if not at or not video or not 0 <= time < math.inf:
        raise SettingError(f"{text[:200]!r} is not a moment; write VIDEO@SECONDS, such as 'holiday/beach.mp4@12.5'")
    return Moment(video, time)
