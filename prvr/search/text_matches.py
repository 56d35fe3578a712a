"""What is said and written in videos and answers a sentence: by its words, and by its meaning.

A video's words answer a query as far as its rarest words are said together. With n of V videos that have a term, its weight is
that of BM25,

    weight = log(1 + (V - n + 1/2) / (n + 1/2))        evidence = sum of the weights of the terms within WINDOW seconds
                                                       share    = evidence / sum of the weights of all terms
                                                       strength = share**4 * log(1 + evidence)

A text answers it by its meaning as far as it is nearer to the query, by the cosine of their embeddings, than the NEIGHBOUR-th
nearest of all videos and of unrelated sentences:

    strength = max(cosine - cosine of the NEIGHBOUR-th, 0)**2
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from prvr.encoders.timed_texts import TimedText
from prvr.index.moments import Span
from prvr.index.text_embeddings import Direction
from prvr.index.text_tables import FoundText
from prvr.index.texts import TextStore
from prvr.index.words import terms_of

KINDS_OF: Mapping[str, tuple[str, ...]] = {"speech": ("subtitle", "speech"), "screen": ("screen",)}
# Seconds within which words answer together.
WINDOW = 12.0
MOST_QUOTES = 3
# Words with a smaller share of the query's weight are named nowhere beside a picture: "on a" is said in each film.
LEAST_SHARE = 0.5
# Of the nearest videos and unrelated sentences, the one that the others are measured from, and what a match has beyond it.
NEIGHBOUR, LEAST_EXCESS = 8, 0.05


@dataclass(frozen=True)
class TextMatch:
    """Where the texts of a video answer a query best.

    score: the share of the weight of the query's words; or the cosine, if it was found by meaning.
    strength: what its gain beside a picture is proportional to. quotes: the texts, in the order of their times.
    """

    video: str
    sense: str
    score: float
    strength: float
    quotes: tuple[TimedText, ...]
    is_by_meaning: bool = False

    @property
    def span(self) -> Span:
        """From the first to the last quote."""
        return Span(self.quotes[0].start, max(quote.end for quote in self.quotes), self.score)

    @property
    def shows_quotes(self) -> bool:
        """Whether it is shown beside a picture."""
        return self.is_by_meaning or self.score >= LEAST_SHARE


def match_words(texts: TextStore, query: str, sense: str, *, of: int, videos: Collection[str] | None = None) -> list[TextMatch]:
    """Returns where videos say or show a query's words, the largest share first; those with the same share by id.

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
    matches = []
    for video, ones in by_video.items():
        evidence, quotes = _best_window(sorted(ones, key=lambda one: one.text.start), weights)
        share = evidence / sum(weights)
        # Next to nothing where half of the words are not said: most videos say "a man" at some time.
        matches.append(TextMatch(video, sense, share, float(share**4 * math.log1p(evidence)), quotes))
    return sorted(matches, key=lambda one: (-one.score, one.video))


@final
class MeaningMatcher:
    """Finds texts by the meaning of a sentence.

    Args:
        embed: gives the embedding of a sentence, of unit length. made_by: what embeddings are made by (`embedded_by`).
    """

    def __init__(self, texts: TextStore, embed: Callable[[str], Direction], made_by: str) -> None:
        self._texts, self._embed, self._made_by = texts, embed, made_by

    def match(self, query: str, sense: str, *, videos: Collection[str] | None = None) -> list[TextMatch]:
        """Returns the videos with a text that is nearer than the NEIGHBOUR-th nearest by LEAST_EXCESS, the nearest first.

        Args:
            sense: one of `KINDS_OF`. videos: only these; None for all. The NEIGHBOUR-th is that of all.
        """
        background = self._texts.background()
        if background is None or background.made_by != self._made_by:
            return []
        sentence = self._embed(query)
        if background.rows.shape[1] != len(sentence):
            return []
        nearest = self._texts.nearest(sentence, NEIGHBOUR, kinds=KINDS_OF[sense])
        others = np.sort([*(one.cosine for one in nearest), *(background.rows @ sentence)])
        usual = float(others[-min(NEIGHBOUR, len(others))])
        if videos is not None:
            nearest = self._texts.nearest(sentence, NEIGHBOUR, kinds=KINDS_OF[sense], videos=videos)
        matches = []
        for one in nearest:
            if one.cosine - usual < LEAST_EXCESS:
                continue
            texts = self._texts.read(one.video, start=one.start, end=one.end)
            quotes = tuple(text for text in texts if text.kind == one.kind and text.end <= one.end)
            if quotes:
                # Codes of the same direction may have a cosine a little above 1.
                score, strength = min(one.cosine, 1.0), (one.cosine - usual) ** 2
                matches.append(TextMatch(one.video, sense, score, strength, quotes, is_by_meaning=True))
        return matches


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
