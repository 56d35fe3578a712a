"""Search in what is said and written in videos, alone and beside the picture.

Beside the picture, the best text of a video (`prvr.search.text_matches`) is worth standard deviations of the picture's score:

    gain = weight of words or of meaning * strength          score = picture's score + deviation * gain

so that a video without such a text keeps the score of its picture.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple, final

import numpy as np

from prvr.errors import DataError, SettingError, nearest
from prvr.files import parse_json
from prvr.index.conditions import Condition, select
from prvr.index.contract import Entry, ScoredVideo, Store
from prvr.index.few import FewVideos, few_videos
from prvr.index.texts import HasTexts
from prvr.index.words import terms_of
from prvr.methods.model import Embeddings
from prvr.nn.ranks import best_places
from prvr.search.hits import Hit
from prvr.search.text_matches import KINDS_OF, MeaningMatcher, TextMatch, match_words

ANY, PICTURE = "any", "picture"
SENSES = (ANY, PICTURE, *KINDS_OF)
# Videos by which the spread of a picture's scores is known.
SAMPLE = 64
# A sense has found a hit if it brings at least this share of what the strongest one brings.
BRINGS = 0.5


@dataclass(frozen=True)
class FusionWeights:
    """What the strengths of words and of meaning are worth beside a picture, in standard deviations of its scores.

    The default was fitted on real captions beside real photographs (experiments/senses.py, docs/how/words.md).

    Raises:
        DataError: a weight is not a finite number of 0 or more.
    """

    words: float = 1.7
    meaning: float = 30.0

    def __post_init__(self) -> None:
        if not (0 <= self.words < math.inf and 0 <= self.meaning < math.inf):
            raise DataError(
                f"words and meaning have the weights {self.words} and {self.meaning}, expected finite numbers of 0 or more; "
                "weigh again: prvr index weigh"
            )

    @staticmethod
    def from_json(text: str | None) -> FusionWeights:
        """What `to_json` wrote; the default for None.

        Raises:
            DataError: it is something else.
        """
        if text is None:
            return FusionWeights()
        try:
            # Before there was a weight of meaning, that of words was `weight`.
            names = {"weight": "words"}
            return FusionWeights(**{names.get(name, name): float(value) for name, value in parse_json(text).items()})
        except (ValueError, TypeError, AttributeError):
            raise DataError(f"the weights of texts are damaged: {text!r:.100}; weigh again: prvr index weigh") from None

    def to_json(self) -> str:
        """The weights."""
        return json.dumps(asdict(self))

    def gain(self, match: TextMatch) -> float:
        """What a text adds to the score of a picture, in standard deviations."""
        return (self.meaning if match.is_by_meaning else self.words) * match.strength


class Example(NamedTuple):
    """A video beside a query: its picture's score in standard deviations, and the strengths of its words and of its meaning."""

    video: str
    picture: float
    words: float
    meaning: float


def check_sense(sense: str) -> str:
    """The name of a sense.

    Raises:
        SettingError: there is none of that name.
    """
    if sense not in SENSES:
        raise SettingError(f"nothing is searched in {sense!r}; {nearest(sense, SENSES)}")
    return sense


@final
class Senses:
    """The senses of an index: what is said and written in its videos, beside their pictures.

    Args:
        meaning: finds texts by meaning; None where no encoder of sentences is at hand.
    """

    def __init__(self, index: Store, meaning: MeaningMatcher | None = None) -> None:
        self._index, self._meaning = index, meaning
        self._sample: tuple[tuple[str, ...], FewVideos] | None = None

    def matches(self, query: str, sense: str, where: Sequence[Condition], *, only: str | None = None) -> list[TextMatch]:
        """Where videos that meet all conditions say or show a query, the best match of each; best first, then by id.

        Words in quotes, or that are begun alone (`word*`), are looked for as they are; other queries by their meaning, too.

        Args:
            only: a video; None for all.
        """
        best = _best(self._all_matches(query, sense, where, only), lambda match: match.score)
        return sorted(best.values(), key=lambda match: (-match.score, match.video))

    def best_matches(
        self, query: str, where: Sequence[Condition], *, only: str | None = None, senses: Collection[str] = KINDS_OF
    ) -> dict[str, TextMatch]:
        """By video the match that gains most, in some senses."""
        found = [match for sense in senses for match in self._all_matches(query, sense, where, only)]
        return _best(found, self._weights.gain) if found else {}

    def fuse(
        self, query: Embeddings, found: Sequence[ScoredVideo], matches: Mapping[str, TextMatch], count: int
    ) -> list[ScoredVideo]:
        """The videos with the best fused scores among those that were found by their pictures and by their texts.

        Args:
            found: the best by their pictures, at least `count`.
        """
        if not matches:
            return list(found[:count])
        _, deviation = self._spread(query)
        weights = self._weights
        gains = {video: deviation * weights.gain(one) for video, one in matches.items()}
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

    def seen(self, query: Embeddings, fused: Sequence[ScoredVideo], matches: Mapping[str, TextMatch]) -> list[ScoredVideo]:
        """What `fuse` found, with the scores of the pictures alone."""
        if not matches:
            return list(fused)
        weights, (_, deviation) = self._weights, self._spread(query)
        return _with_gains(fused, {video: -deviation * weights.gain(one) for video, one in matches.items()})

    def explain(self, query: Embeddings, hits: Sequence[Hit], matches: Mapping[str, TextMatch]) -> list[Hit]:
        """The hits of a fused search with what their texts are, and which senses found them."""
        weights, (mean, deviation) = self._weights, self._spread(query)
        explained = []
        for hit in hits:
            match = matches.get(hit.video)
            if match is None or not match.shows_quotes:
                explained.append(replace(hit, found_by=(PICTURE,)))
                continue
            gain = weights.gain(match)
            brought = {match.sense: gain, PICTURE: (hit.score - mean) / deviation - gain if deviation > 0 else 0.0}
            least = BRINGS * max(brought.values())
            found_by = tuple(sorted((one for one, value in brought.items() if value >= least), key=lambda one: -brought[one]))
            spans = (match.span, *hit.spans) if found_by[0] == match.sense else hit.spans
            quotes = match.quotes if match.sense in found_by else ()
            explained.append(replace(hit, found_by=found_by, quotes=quotes, spans=spans))
        return explained

    def examples(self, query: Embeddings, text: str, right: str, others: int) -> list[Example]:
        """A video and the best others by their pictures, by words and by meaning."""
        mean, deviation = self._spread(query)
        seen = self._index.search(query, others)[0]
        strengths: dict[str, dict[bool, float]] = defaultdict(lambda: {False: 0.0, True: 0.0})
        for match in (one for sense in KINDS_OF for one in self._all_matches(text, sense, (), None)):
            of_video = strengths[match.video]
            of_video[match.is_by_meaning] = max(of_video[match.is_by_meaning], match.strength)
        by_texts = {id for by in (False, True) for id in sorted(strengths, key=lambda id: -strengths[id][by])[:others]}
        left = {right, *by_texts} - {one.video for one in seen}
        scored = [*seen, *self._score(query, [*self._index.fetch([*left]).values()])]
        return [
            Example(one.video, (one.score - mean) / (deviation or 1.0), *(strengths[one.video][by] for by in (False, True)))
            for one in scored
        ]

    def _all_matches(self, query: str, sense: str, where: Sequence[Condition], only: str | None) -> list[TextMatch]:
        if not isinstance(self._index, HasTexts):
            return []
        videos = [only] if only is not None else select(self._index.about(), where) if where else None
        found = match_words(self._index.texts, query, sense, of=self._index.count(), videos=videos)
        if self._meaning is not None and not any(term.is_required or term.is_prefix for term in terms_of(query)):
            found += self._meaning.match(query, sense, videos=videos)
        return found

    @property
    def _weights(self) -> FusionWeights:
        # Read for each search: they are weighed while a service runs.
        return FusionWeights.from_json(self._index.texts.weights() if isinstance(self._index, HasTexts) else None)

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


def _best(matches: Sequence[TextMatch], value: Callable[[TextMatch], float]) -> dict[str, TextMatch]:
    """By video the match of the greatest value."""
    best: dict[str, TextMatch] = {}
    for match in matches:
        if match.video not in best or value(match) > value(best[match.video]):
            best[match.video] = match
    return best
