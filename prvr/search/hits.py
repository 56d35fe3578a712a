"""What a search returns: hits, with the moments in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from prvr.encoders.timed_texts import TimedText
from prvr.index.conditions import Condition
from prvr.index.contract import Entry, ScoredVideo, Store
from prvr.index.moments import Span, best_span, find_spans, frame_rows, peak_time, relevance
from prvr.index.sequence import best_in_order, spans_in_order
from prvr.methods.model import Embeddings, StoredModel
from prvr.nn.ranks import TIED
from prvr.search.question import EncodedQuestion

# Hits of less strength are shown as weak matches.
WEAK = 0.5


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
    strength: the share of unrelated sentences that reach less here (`prvr.index.reference`); None if it is not known.
    copies: the other paths in the folder with the same content.
    parts: where each part of a question with several is answered, in their order.
    near_identical: other videos of the index that look the same all along, and take no place of their own.
    problem: why only a part of the video could be searched; None if all of it is in the index.
    date: when the video was taken, else written, as an ISO time in UTC; None if the index does not know it.
    found_by: the senses that found it, the strongest first: picture, speech or screen (`prvr.search.senses`).
    quotes: what is said or written that has words of the sentence, or means it, in the order of the times.
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
    parts: tuple[PartSpan, ...] = ()
    near_identical: tuple[str, ...] = ()
    date: str | None = None
    found_by: tuple[str, ...] = ()
    quotes: tuple[TimedText, ...] = ()

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
        """Whether it was found by its picture alone, and most unrelated sentences reach more; None if that is not known."""
        return None if self.strength is None else self.strength < WEAK and self.found_by in ((), ("picture",))

    @property
    def peak(self) -> float | None:
        """The instant of the best frame in seconds, within the first moment; None if the times of the frames are unknown."""
        return (
            peak_time(np.array(self.curve, np.float32), self.edges, self.spans[0] if self.spans else None) if self.edges else None
        )

    def as_dict(self, *, curve: bool = False) -> dict[str, Any]:
        """All fields as JSON values, the best moment's start and end, the best frame's instant, and whether it is weak.

        Args:
            curve: with `curve` and its `edges`, which are longer than all the rest.
        """
        lists: dict[str, Any]
        spans, parts = ([one._asdict() for one in of] for of in (self.spans, self.parts))
        lists = {"spans": spans, "parts": parts, "copies": list(self.copies), "near_identical": list(self.near_identical)}
        lists |= {"found_by": list(self.found_by), "quotes": [one.as_dict() for one in self.quotes]}
        fields = {**asdict(self), "start": self.start, "end": self.end, "peak": self.peak, "weak": self.weak, **lists}
        return fields if curve else {name: value for name, value in fields.items() if name not in ("curve", "edges")}


def find(index: Store, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[Hit]]:
    """The k best videos of each query among those that meet all conditions, best first, each with its moments."""
    queries_alone = [tuple(vectors[place : place + 1] for vectors in queries) for place in range(len(queries[0]))]
    found = index.search(queries, k, where=where)
    return [hits_of(index.model, query, row) for query, row in zip(queries_alone, found, strict=True)]


def hits_of(model: StoredModel, query: Embeddings, found: Sequence[ScoredVideo]) -> list[Hit]:
    """What was found for one query (a first axis of 1), with its moments."""
    hits = []
    for scored in found:
        curve, edges = relevance(model, query, scored.entry)
        spans = () if edges is None else tuple(find_spans(curve, edges, frames=frame_rows(model, scored.entry)))
        branches = dict(zip(model.embedding_fields, scored.parts, strict=False))
        hits.append(Hit(scored.video, scored.score, spans, tuple(curve.tolist()), edges, branches, **known_of(scored.entry)))
    return hits


def moment(index: Store, query: Embeddings, video: str) -> tuple[float, float] | tuple[None, None]:
    """Where in a video a query is answered: start and end in seconds, if the index has the times of its frames."""
    entry = index.fetch([video])[video]
    curve, edges = relevance(index.model, query, entry)
    return (None, None) if edges is None else best_span(curve, edges, frames=frame_rows(index.model, entry))


def first_of_weak(hits: Sequence[Hit]) -> int:
    """The place from which on all hits are weak; the number of hits if the last one is not."""
    return next((len(hits) - place for place, hit in enumerate(reversed(hits)) if not hit.weak), 0)


def hit_of(asked: EncodedQuestion, scored: ScoredVideo) -> Hit:
    """What was found, with its moments; of several parts one span from the first to the last, and the span of each."""
    if asked.is_one_query:
        return hits_of(asked.model, asked.queries[0], [scored])[0]
    curves, edges = asked.curves(scored.entry)
    found = best_in_order(curves)
    parts: list[PartSpan] = []
    if edges is not None and found is not None:
        spans = spans_in_order(curves, edges, found.places)
        parts = [PartSpan(part.said, *span) for part, span in zip(asked.parts, spans, strict=True)]
    whole = (Span(parts[0].start, parts[-1].end, scored.score),) if parts else ()
    hit = Hit(scored.video, scored.score, whole, tuple(curves.max(0).tolist()), edges, **known_of(scored.entry))
    return replace(hit, parts=tuple(parts))


def known_of(entry: Entry) -> dict[str, Any]:
    """The fields of a hit that its video brings."""
    about = entry.about
    return {"copies": tuple(about.get("copies", ())), "problem": about.get("problem"), "date": about.get("date")}


def drop_below(hits: list[Hit], min_score: float | None) -> list[Hit]:
    """The hits with a probability or score that reaches the least one."""
    if min_score is None:
        return hits
    # A score that ties with the least one reaches it.
    least = min_score - TIED * abs(min_score)
    return [hit for hit in hits if (hit.score if hit.probability is None else hit.probability) >= least]
