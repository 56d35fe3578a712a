"""Search in what is said and written in videos, alone and beside the picture.

A video's words answer a query as far as its rarest words are said together. With n of V videos that have a term, its weight is
that of BM25,

    weight = log(1 + (V - n + 1/2) / (n + 1/2))        evidence = sum of the weights of the terms within WINDOW seconds
                                                       share    = evidence / sum of the weights of all terms

Beside the picture, words are worth standard deviations of the picture's score over the videos:

    worth = weight * share**4 * log(1 + evidence)          score = picture's score + deviation * worth

so that a video without such words keeps the score of its picture.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import final

import numpy as np

from prvr.encoders.timed_texts import TimedText
from prvr.errors import DataError, SettingError, nearest
from prvr.files import parse_json
from prvr.index.conditions import Condition, select
from prvr.index.contract import Entry, ScoredVideo, Store
from prvr.index.few import FewVideos, few_videos
from prvr.index.moments import Span
from prvr.index.texts import FoundText, HasTexts, TextStore
from prvr.index.words import terms_of
from prvr.methods.model import Embeddings
from prvr.nn.ranks import best_places
from prvr.search.hits import Hit

ANY, PICTURE = "any", "picture"
KINDS_OF: Mapping[str, tuple[str, ...]] = {"speech": ("subtitle", "speech"), "screen": ("screen",)}
SENSES = (ANY, PICTURE, *KINDS_OF)
# Seconds within which words answer together.
WINDOW = 12.0
MOST_QUOTES = 3
# Videos by which the spread of a picture's scores is known.
SAMPLE = 64
# A sense has found a hit if it brings at least this share of what the strongest one brings.
BRINGS = 0.5
# Words with a smaller share of the query's weight are named nowhere beside a picture: "on a" is said in each film.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Said:
    """Where a video says or shows most of a query's words.

    share: of the weight of the query's words. evidence: that weight. quotes: the texts, in the order of their times.
    """

    video: str
    sense: str
    share: float
    evidence: float
    quotes: tuple[TimedText, ...]

    @property
    def strength(self) -> float:
        """What the worth of words is proportional to: next to nothing where half of them were not said."""
        return float(self.share**4 * math.log1p(self.evidence))

    @property
    def span(self) -> Span:
        """From the first to the last quote."""
        return Span(self.quotes[0].start, max(quote.end for quote in self.quotes), self.share)


@dataclass(frozen=True)
class Worth:
    """What words are worth beside a picture, in standard deviations of its scores.

    The default was fitted on real captions beside real photographs (experiments/senses.py, docs/how/words.md).

    Raises:
        DataError: the weight is not a finite number of 0 or more.
    """

    weight: float = 1.7

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise DataError(
                f"words have the weight {self.weight}, expected a finite number of 0 or more; weigh again: prvr index weigh"
            )

    @staticmethod
    def from_json(text: str | None) -> Worth:
        """What `to_json` wrote; the default for None.

        Raises:
            DataError: it is something else.
        """
        if text is None:
            return Worth()
        try:
            return Worth(**{name: float(value) for name, value in parse_json(text).items()})
        except (ValueError, TypeError, AttributeError):
            raise DataError(f"the weight of words is damaged: {text!r:.100}; weigh again: prvr index weigh") from None

    def to_json(self) -> str:
        """Its weights."""
        return json.dumps(asdict(self))

    def score(self, said: Said) -> float:
        """The score of the words in a video, in standard deviations."""
        return self.weight * said.strength


def check_sense(sense: str) -> str:
    """The name of a sense.

    Raises:
        SettingError: there is none of that name.
    """
    if sense not in SENSES:
        raise SettingError(f"nothing is searched in {sense!r}; {nearest(sense, SENSES)}")
    return sense


def find_said(texts: TextStore, query: str, sense: str, *, of: int, videos: Collection[str] | None = None) -> list[Said]:
    """Where videos say or show a query's words, the largest share first; those with the same share by id.

    Args:
        sense: one of `KINDS_OF`. of: the number of videos searched. videos: only these; None for all.
    """
    found = texts.find(terms_of(query), kinds=KINDS_OF[sense], videos=videos)
    if not found.texts:
        return []
    weights = [math.log1p((max(of, count) - count + 0.5) / (count + 0.5)) for count in found.videos_with_term]
    by_video: dict[str, list[FoundText]] = defaultdict(list)
    for one in found.texts:
        by_video[one.video].append(one)
    said = []
    for video, ones in by_video.items():
        evidence, quotes = _best_window(sorted(ones, key=lambda one: one.text.start), weights)
        said.append(Said(video, sense, evidence / sum(weights), evidence, quotes))
    return sorted(said, key=lambda one: (-one.share, one.video))


def _best_window(ones: Sequence[FoundText], weights: Sequence[float]) -> tuple[float, tuple[TimedText, ...]]:
    """The weight of the terms that are said together, and the texts that say them."""
    best, window = -1.0, ones[:1]
    for first, one in enumerate(ones):
        within = [other for other in ones[first:] if other.text.start - one.text.start <= WINDOW]
        evidence = sum(weights[term] for term in frozenset().union(*(other.terms for other in within)))
        if evidence > best:
            best, window = evidence, within
    quotes: list[FoundText] = []
    left = frozenset().union(*(one.terms for one in window))
    while left and len(quotes) < MOST_QUOTES:
        quotes.append(max(window, key=lambda one: (sum(weights[term] for term in one.terms & left), one.text.confidence)))
        left -= quotes[-1].terms
    return best, tuple(sorted((one.text for one in quotes), key=lambda text: text.start))


@final
class Senses:
    """The senses of an index: what is said and written in its videos, beside their pictures."""

    def __init__(self, index: Store) -> None:
        self._index = index
        self._sample: tuple[tuple[str, ...], FewVideos] | None = None

    def said(self, query: str, sense: str, where: Sequence[Condition], *, only: str | None = None) -> list[Said]:
        """Where videos that meet all conditions say or show a query's words; none in an index without texts.

        Args:
            only: a video; None for all.
        """
        if not isinstance(self._index, HasTexts):
            return []
        videos = [only] if only is not None else select(self._index.about(), where) if where else None
        return find_said(self._index.texts, query, sense, of=self._index.count(), videos=videos)

    def best_said(
        self, query: str, where: Sequence[Condition], *, only: str | None = None, senses: Collection[str] = KINDS_OF
    ) -> dict[str, Said]:
        """By video the one of some senses in which its words are worth most."""
        best: dict[str, Said] = {}
        for sense in senses:
            for said in self.said(query, sense, where, only=only):
                if said.video not in best or said.strength > best[said.video].strength:
                    best[said.video] = said
        return best

    def fuse(self, query: Embeddings, found: Sequence[ScoredVideo], said: Mapping[str, Said], count: int) -> list[ScoredVideo]:
        """The videos with the best fused scores among those that were found by their pictures and by their words.

        Args:
            found: the best by their pictures, at least `count`.
        """
        if not said:
            return list(found[:count])
        _, deviation = self._spread(query)
        worth = self._worth
        gains = {video: deviation * worth.score(one) for video, one in said.items()}
        candidates = _with_gains(found, gains)
        there = {one.video for one in candidates}
        if len(found) >= count:
            # What is not in `found` has no better picture than the last one there.
            floor, lowest = sorted(one.score for one in candidates)[-count], found[-1].score
            others = [video for video, gain in gains.items() if video not in there and lowest + gain >= floor]
        else:
            others = [video for video in gains if video not in there]
        candidates += _with_gains(self._score(query, [*self._index.fetch(others).values()]), gains)
        candidates.sort(key=lambda one: one.video)
        return [candidates[place] for place in best_places(np.array([one.score for one in candidates]), count)]

    def seen(self, query: Embeddings, fused: Sequence[ScoredVideo], said: Mapping[str, Said]) -> list[ScoredVideo]:
        """What `fuse` found, with the scores of the pictures alone."""
        if not said:
            return list(fused)
        worth, (_, deviation) = self._worth, self._spread(query)
        return _with_gains(fused, {video: -deviation * worth.score(one) for video, one in said.items()})

    def explain(self, query: Embeddings, hits: Sequence[Hit], said: Mapping[str, Said]) -> list[Hit]:
        """The hits of a fused search with what their words are, and which senses found them."""
        worth, (mean, deviation) = self._worth, self._spread(query)
        explained = []
        for hit in hits:
            words = said.get(hit.video)
            if words is None or words.share < LEAST_SHARE:
                explained.append(replace(hit, found_by=(PICTURE,)))
                continue
            gain = worth.score(words)
            brought = {words.sense: gain, PICTURE: (hit.score - mean) / deviation - gain if deviation > 0 else 0.0}
            least = BRINGS * max(brought.values())
            found_by = tuple(sorted((one for one, value in brought.items() if value >= least), key=lambda one: -brought[one]))
            spans = (words.span, *hit.spans) if found_by[0] == words.sense else hit.spans
            quotes = words.quotes if words.sense in found_by else ()
            explained.append(replace(hit, found_by=found_by, quotes=quotes, spans=spans))
        return explained

    def examples(self, query: Embeddings, text: str, right: str, others: int) -> list[tuple[str, float, float]]:
        """A video and the best others: each with its picture's score in standard deviations, and the strength of its words."""
        said = self.best_said(text, ())
        mean, deviation = self._spread(query)
        seen = self._index.search(query, others)[0]
        by_words = sorted(said.values(), key=lambda one: -one.strength)[:others]
        left = {right, *(one.video for one in by_words)} - {one.video for one in seen}
        scored = [*seen, *self._score(query, [*self._index.fetch([*left]).values()])]
        strengths = {one.video: one.strength for one in said.values()}
        return [(one.video, (one.score - mean) / (deviation or 1.0), strengths.get(one.video, 0.0)) for one in scored]

    @property
    def _worth(self) -> Worth:
        # Read for each search: it is weighed while a service runs.
        return Worth.from_json(self._index.texts.worth() if isinstance(self._index, HasTexts) else None)

    def _spread(self, query: Embeddings) -> tuple[float, float]:
        """The mean and the standard deviation of a query's scores over a sample of the videos."""
        scores = [one.score for one in self._sample_index().search(query, SAMPLE)[0]]
        return float(np.mean(scores)), float(np.std(scores))

    def _sample_index(self) -> FewVideos:
        ids = tuple(self._index.ids[:: -(-max(1, self._index.count()) // SAMPLE)])
        if self._sample is None or self._sample[0] != ids:
            self._sample = ids, few_videos(self._index.model, [*self._index.fetch(ids).values()])
        return self._sample[1]

    def _score(self, query: Embeddings, entries: Sequence[Entry]) -> list[ScoredVideo]:
        return few_videos(self._index.model, entries).search(query, len(entries))[0] if entries else []


def _with_gains(found: Sequence[ScoredVideo], gains: Mapping[str, float]) -> list[ScoredVideo]:
    return [replace(one, score=one.score + gains.get(one.video, 0.0)) for one in found]
