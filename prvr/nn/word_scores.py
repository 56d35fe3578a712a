"""Late interaction of words and frames beside one vector for the clips: RAL on GMMFormer v2, and Holmes with two queries.

S_f(q, v) = sum_t g_t max_i cos(h_t, f_i): h_t is the row of word t by a tower of its own, g_t its confidence, f_i a frame. That
is not a weighted sum of best cosines. An index holds the same rows as GMMFormer v2's. Searched exactly, all are scored by the
model; approximately, the model scores the candidates that the best clip chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from prvr.batch import Batch
from prvr.nn import losses, scores
from prvr.nn.clips import over_frames
from prvr.nn.clips_and_frames import Scores
from prvr.nn.gaussian import AttentionBlock, WindowedHeads
from prvr.nn.layers import InputProjection, Positions, Rows
from prvr.nn.shapes import FrameMask, Places, WordMask, Words
from prvr.nn.views import ViewSettings, ViewsModel, raise_to_floor

# Words that are compared at once with all frames of a batch: 64 MB where it has 128 videos of 128 frames.
WORDS_AT_ONCE = 1024


@runtime_checkable
class ScoresWords(Protocol):
    """A model with rows of words as third field of its queries, and the mask of real words as fourth.

    confidence: what each word of a sentence weighs. padded_to: as `raise_to_floor` takes it.
    """

    padded_to: int

    @property
    def confidence(self) -> Callable[[Tensor, Tensor], Tensor]: ...


class WordTower(nn.Module):
    """A row for each word: a projection and a block of its own, with the positions of the other tower."""

    def __init__(self, columns: int, config: ViewSettings) -> None:
        super().__init__()
        self.projection = InputProjection(columns, config.hidden, config.input_dropout)
        self.block = AttentionBlock(WindowedHeads(config.hidden, config.heads, config.dropout), config.hidden, config.dropout)

    def forward(self, words: Words, mask: WordMask, positions: Positions) -> Float[Tensor, "Q W D"]:
        """The rows at padded places, too, as the block computes them from zeros."""
        rows = Rows(mask, torch.arange(mask.numel(), device=mask.device))
        hidden = self.projection(words.masked_fill(~mask[..., None], 0).flatten(0, 1))
        return rows.padded(self.block(positions(hidden, rows), rows))


class Confidence(nn.Module):
    """What each word of a sentence weighs: softmax_t(W_2 ReLU(W_1 h_t)) over its real words."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(hidden, hidden), nn.Linear(hidden, 1)

    def forward(self, words: Float[Tensor, "Q W D"], real: WordMask) -> Float[Tensor, "Q W"]:
        return self.second(self.first(words).relu())[..., 0].masked_fill(~real, losses.LOWEST).softmax(-1)


class WordScoredModel(ViewsModel):
    """S(q, v) = (1 - frame_weight) best clip's cosine + frame_weight sum over words of g_t best frame's cosine with word t."""

    def __init__(
        self,
        config: ViewSettings,
        views: Callable[[int], Sequence[nn.Module]],
        *,
        token: bool,
        frame_columns: int,
        word_columns: int,
    ) -> None:
        super().__init__(config, views, token=token, frame_columns=frame_columns, word_columns=word_columns)
        self.score_weights = None
        self.candidate_weights = (1.0, 0.0)
        self.words = WordTower(word_columns, config)
        self.confidence = Confidence(config.hidden)

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> tuple[Tensor, ...]:
        """One vector per query, twice; a row for each word, and which words are real."""
        query, most = self.queries(words, Rows.of(mask, places)), self.config.max_words
        words, mask = words[:, :most], mask[:, :most]
        return query, query, self.words(words, mask, self.queries.positions), mask

    def score(self, queries: tuple[Tensor, ...], videos: tuple[Tensor, ...], mask: FrameMask) -> Float[Tensor, "Q V"]:
        """Weighted sum of the best clip's cosine and of the words' best frames."""
        query, _, words, real = queries
        of_clips = scores.best_cosines(query, videos[0], scores.every_row(videos[0]))
        share = self.confidence(normalize(words, dim=-1, eps=scores.LEAST_NORM), real)
        of_words = raise_to_floor(scores.best_cosines(words[real], videos[1], mask), mask, self.padded_to)
        of_frames = sum_over_words(of_words, share, real)
        return (1 - self.config.frame_weight) * of_clips + self.config.frame_weight * of_frames

    def relevance(self, query: tuple[Tensor, ...], video: tuple[Tensor, ...]) -> Float[Tensor, "F"]:
        """Weighted sum over words of each frame's cosine, and that of the clip it is in."""
        return self.along(query, video, scores.every_row(video[1]))[0]

    def along(self, queries: tuple[Tensor, ...], own: tuple[Tensor, ...], mask: Bool[Tensor, "Q F"]) -> Float[Tensor, "Q F"]:
        """`relevance` of each query along a video of its own, -inf where that is padded."""
        words, clips, frames = (normalize(rows, dim=-1, eps=scores.LEAST_NORM) for rows in (queries[2], *own))
        share = self.confidence(words, queries[3])
        of_frames = torch.einsum("qw,qwd,qfd->qf", share, words, frames)
        of_clips = torch.einsum("qd,qnd->qn", normalize(queries[0], dim=-1, eps=scores.LEAST_NORM), clips)
        of_clips, weight = over_frames(of_clips, mask).masked_fill(~mask, 0), self.config.frame_weight
        return ((1 - weight) * of_clips + weight * of_frames).masked_fill(~mask, losses.LOWEST)


def profile(
    model: WordScoredModel, queries: tuple[Tensor, ...], videos: tuple[Tensor, ...], batch: Batch
) -> Float[Tensor, "Q F"]:
    """`WordScoredModel.along` of each query and its own video."""
    own = tuple(field[batch.target] for field in videos)
    return model.along(queries, own, batch.frame_mask[batch.target])


def compare_by_words(
    model: WordScoredModel, queries: tuple[Tensor, ...], videos: tuple[Tensor, ...], batch: Batch
) -> dict[str, Scores]:
    """Cosines and inner products of queries with the best clip of each video, and of their words with its frames."""
    of_clips = scores.compare(queries[0], videos[0], scores.every_row(videos[0]), batch.target)
    of_frames = compare_words(model, queries, videos[1], batch.frame_mask, batch.target)
    return {"clips": (of_clips.cosines, of_clips.dots), "frames": of_frames}


def compare_words(
    model: ScoresWords,
    queries: tuple[Tensor, ...],
    frames: Float[Tensor, "V F D"],
    mask: Bool[Tensor, "V F"],
    target: Int[Tensor, "Q"],
) -> Scores:
    """Cosines and inner products of queries with videos, by words. Words are weighed by unit rows there, by plain ones here."""
    words, real = queries[2], queries[3]
    query_of_word = real.nonzero()[:, 0]
    packed, own = words[real].split(WORDS_AT_ONCE), target[query_of_word].split(WORDS_AT_ONCE)
    parts = [scores.compare(some, frames, mask, its_target) for some, its_target in zip(packed, own, strict=True)]
    shares = model.confidence(normalize(words, dim=-1, eps=scores.LEAST_NORM), real), model.confidence(words, real)
    best = torch.cat([part.cosines for part in parts]), torch.cat([part.dots for part in parts])
    cosines, dots = (
        sum_over_words(raise_to_floor(each, mask, model.padded_to), share, real) for each, share in zip(best, shares, strict=True)
    )
    return cosines, dots


def sum_over_words(best: Float[Tensor, "R V"], share: Float[Tensor, "Q W"], real: Bool[Tensor, "Q W"]) -> Float[Tensor, "Q V"]:
    """The weighted sum over a query's words of their scores with each video; R are the real words of all queries."""
    summed = best.new_zeros(len(real), best.shape[1])
    return summed.index_add(0, real.nonzero()[:, 0], share[real][:, None] * best)
