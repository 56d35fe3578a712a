"""RAL on GMMFormer v2 (Zhang et al., EMNLP Findings 2025): robust alignment of texts and videos by distributions.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
word-level frame score       S_f(q, v) = sum_t g_t max_i cos(h_t, f_i): `WordTower` gives the row h_t of a word, `Confidence`
                             its weight g_t
support set                  `support_rows`: the words of all captions of a video; of the video itself, its frames
distribution of each side    `Distribution`: a mean of unit length and the logarithm of a deviation, for each video
proxies, K                   `proxies` points drawn from each distribution
proxy-level matching         `proxy_matching`, `proxy_weight`
distribution alignment       `alignment`, `alignment_weight`
trunk and other losses       GMMFormer v2's

It computes what the released code computes (zhanglong-ustc/RAL-PRVR befbf22; tests/parity/peers/gmmformer_v2+ral). Where that is
odd, docs/decisions/0038 says so. RAL on MS-SL and on GMMFormer is published in figures alone and is not here.

A frame score that sums over words is no weighted sum of best cosines: an index holds the same rows as GMMFormer v2's. Searched
exactly, all are scored by the model; approximately, the model scores the candidates that the best clip chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from prvr.batch import Batch
from prvr.config import check_above_zero
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.nn import losses, scores
from prvr.nn.caption_losses import matching
from prvr.nn.clips import over_frames
from prvr.nn.clips_and_frames import Scores, branch_terms
from prvr.nn.gaussian import AttentionBlock, WindowedHeads, attention_views, check_widths
from prvr.nn.layers import DecayedLayerNorm, InputProjection, Positions, Rows, initialise, pool_with_zeros
from prvr.nn.shapes import FrameMask, Places, WordMask, Words
from prvr.nn.views import ViewSettings, ViewsModel, diversity_term, raise_to_floor

# Words that are compared at once with all frames of a batch: 64 MB where it has 128 videos of 128 frames.
WORDS_AT_ONCE = 1024


@dataclass(frozen=True)
class RalGmmFormerV2Config(ViewSettings):
    """Settings of the paper; the defaults are those for TVR. `ViewSettings` has the others, GMMFormer v2's.

    support_captions: captions to which the support set of a video is filled up with zeros, which take weight in its pooling.
    padding_counts: rows of padding also take part in the pooling of both sides: words, frames and the zeros of the support set.
    """

    widths: tuple[float, ...] = (0.0, 0.5, 1.0, 5.0, 10.0, 3.0, 0.1, 8.0)
    matching_weight: float = 0.09
    frame_weight: float = 0.5
    proxies: int = 6
    support_captions: int = 26
    proxy_weight: float = 4e-3
    alignment_weight: float = 2.5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero(self, "proxies", "support_captions")
        check_widths(self.widths)


class Distributed(NamedTuple):
    """A normal distribution for each video, its columns independent."""

    mean: Float[Tensor, "V D"]
    log_deviation: Float[Tensor, "V D"]


class WordTower(nn.Module):
    """A row for each word: a projection and a block of its own, with the positions of the other tower."""

    def __init__(self, columns: int, config: RalGmmFormerV2Config) -> None:
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


class RowPooling(nn.Module):
    """sum_i softmax_i(w_2 tanh(W_1 x_i)) x_i, over given rows and over further rows of zeros."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(hidden, hidden // 2, bias=False)
        self.second = nn.Linear(hidden // 2, 1, bias=False)

    def forward(
        self, rows: Float[Tensor, "V N D"], counted: Bool[Tensor, "V N"], zeros: Int[Tensor, "V"]
    ) -> Float[Tensor, "V D"]:
        logits = self.second(self.first(rows).tanh())[..., 0]
        return pool_with_zeros(rows, logits.masked_fill(~counted, losses.LOWEST), zeros)


class Distribution(nn.Module):
    """The distribution of one side: its mean unit(LayerNorm(x + sigmoid(W att(X) + b))), and the logarithm of its deviation,
    W' att'(X) + b' + W'' x + b''; x is the side's plain mean, X its rows."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mean_pooling, self.mean_map = RowPooling(hidden), nn.Linear(hidden, hidden)
        self.norm = DecayedLayerNorm(hidden)
        self.deviation_pooling, self.deviation_map = RowPooling(hidden), nn.Linear(hidden, hidden)
        self.deviation_of_mean = nn.Linear(hidden, hidden)

    def forward(
        self,
        plain: Float[Tensor, "V D"],
        rows: Float[Tensor, "V N D"],
        counted: Bool[Tensor, "V N"],
        zeros: Int[Tensor, "V"],
    ) -> Distributed:
        mean = self.norm(plain + self.mean_map(self.mean_pooling(rows, counted, zeros)).sigmoid())
        deviation = self.deviation_map(self.deviation_pooling(rows, counted, zeros)) + self.deviation_of_mean(plain)
        return Distributed(normalize(mean, dim=-1), deviation)


@final
class Ral(ViewsModel):
    """S(q, v) = (1 - frame_weight) best clip's cosine + frame_weight sum over words of g_t best frame's cosine with word t."""

    config: RalGmmFormerV2Config

    def __init__(self, config: RalGmmFormerV2Config, *, frame_columns: int, word_columns: int) -> None:
        views = partial(attention_views, config.hidden, config.heads, config.dropout, widths=config.widths)
        super().__init__(config, views, token=True, frame_columns=frame_columns, word_columns=word_columns)
        self.score_weights = None
        self.candidate_weights = (1.0, 0.0)
        self.words = WordTower(word_columns, config)
        self.confidence = Confidence(config.hidden)
        self.of_texts, self.of_videos = Distribution(config.hidden), Distribution(config.hidden)
        self.apply(initialise)

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings:
        """One vector per query, as GMMFormer v2 has it, twice; a row for each word, and which words are real."""
        query, most = self.queries(words, Rows.of(mask, places)), self.config.max_words
        words, mask = words[:, :most], mask[:, :most]
        return query, query, self.words(words, mask, self.queries.positions), mask

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """Weighted sum of the best clip's cosine and of the words' best frames."""
        query, _, words, real = queries
        of_clips = scores.best_cosines(query, videos[0], scores.every_row(videos[0]))
        share = self.confidence(normalize(words, dim=-1, eps=scores.LEAST_NORM), real)
        of_words = raise_to_floor(scores.best_cosines(words[real], videos[1], mask), mask, self.padded_to)
        of_frames = sum_over_words(of_words, share, real)
        return (1 - self.config.frame_weight) * of_clips + self.config.frame_weight * of_frames

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """Weighted sum over words of each frame's cosine, and that of the clip it is in."""
        return self.along(query, video, scores.every_row(video[1]))[0]

    def along(self, queries: Embeddings, own: Embeddings, mask: Bool[Tensor, "Q F"]) -> Float[Tensor, "Q F"]:
        """`relevance` of each query along a video of its own, -inf where that is padded."""
        words, clips, frames = (normalize(rows, dim=-1, eps=scores.LEAST_NORM) for rows in (queries[2], *own))
        share = self.confidence(words, queries[3])
        of_frames = torch.einsum("qw,qwd,qfd->qf", share, words, frames)
        of_clips = torch.einsum("qd,qnd->qn", normalize(queries[0], dim=-1, eps=scores.LEAST_NORM), clips)
        of_clips, weight = over_frames(of_clips, mask).masked_fill(~mask, 0), self.config.frame_weight
        return ((1 - weight) * of_clips + weight * of_frames).masked_fill(~mask, losses.LOWEST)

    def distributions(self, queries: Embeddings, videos: Embeddings, batch: Batch) -> tuple[Distributed, Distributed]:
        """Those of the texts and of the videos of a batch."""
        target, frames, mask = batch.target, videos[1], batch.frame_mask
        words, real, computed = support_rows(queries[2], queries[3], target, len(frames))
        text = (words * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        unit = normalize(frames, dim=-1, eps=scores.LEAST_NORM).sum(1) / mask.sum(1, keepdim=True)
        zeros = torch.zeros_like(mask.sum(1)), torch.zeros_like(mask.sum(1))
        if self.config.padding_counts:
            filled = self.config.support_captions * queries[3].shape[1]
            zeros = (filled - computed.sum(1)).clamp(min=0), (self.padded_to - mask.sum(1)).clamp(min=0)
        of_texts = self.of_texts(text, words, computed if self.config.padding_counts else real, zeros[0])
        return of_texts, self.of_videos(normalize(unit, dim=-1), frames, mask, zeros[1])


def objective(
    model: Ral, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int, *, contrast: Contrast = losses.info_nce
) -> Terms:
    """GMMFormer v2's terms, those of the frames by words; matching of proxies, and alignment of distributions."""
    config, target = model.config, batch.target
    of_clips = scores.compare(queries[0], videos[0], scores.every_row(videos[0]), target)
    compared = {"clips": of_clips[:2], "frames": compare_words(model, queries, videos[1], batch.frame_mask, target)}
    terms = branch_terms(config, compared, target, epoch, contrast=contrast) | diversity_term(config, queries[0], target)
    terms["matching"] = config.matching_weight * matching(queries[0], videos[0], target)
    of_texts, of_videos = model.distributions(queries, videos, batch)
    texts, its_videos = draw_points(of_texts, config.proxies), draw_points(of_videos, config.proxies)
    terms["proxies"] = config.proxy_weight * proxy_matching(its_videos, texts)
    means = Distributed(texts.mean(1), of_texts.log_deviation), Distributed(its_videos.mean(1), of_videos.log_deviation)
    terms["alignment"] = config.alignment_weight * alignment(*means)
    return terms


def profile(model: Ral, queries: Embeddings, videos: Embeddings, batch: Batch) -> Float[Tensor, "Q F"]:
    """`Ral.along` of each query and its own video."""
    own = tuple(field[batch.target] for field in videos)
    return model.along(queries, own, batch.frame_mask[batch.target])


def compare_words(
    model: Ral, queries: Embeddings, frames: Float[Tensor, "V F D"], mask: Bool[Tensor, "V F"], target: Int[Tensor, "Q"]
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


def support_rows(
    words: Float[Tensor, "Q W D"], real: Bool[Tensor, "Q W"], target: Int[Tensor, "Q"], videos: int
) -> tuple[Float[Tensor, "V N D"], Bool[Tensor, "V N"], Bool[Tensor, "V N"]]:
    """The rows of all captions of each video, one after another; which of them are real words, and which are any caption's."""
    captions = losses.ownership(target, videos)
    place = (captions.cumsum(0) - 1).gather(1, target[:, None])[:, 0]
    shape = (videos, int(captions.sum(0).max()), words.shape[1])
    rows = words.new_zeros(*shape, words.shape[2]).index_put((target, place), words)
    its_real, its_own = (real.new_zeros(shape).index_put((target, place), each) for each in (real, torch.ones_like(real)))
    return rows.flatten(1, 2), its_real.flatten(1), its_own.flatten(1)


def draw_points(of: Distributed, proxies: int) -> Float[Tensor, "V K D"]:
    """Points drawn from each distribution, through which gradients reach its mean and its deviation."""
    mean, deviation = of.mean[:, None], of.log_deviation.exp()[:, None]
    return mean + deviation * torch.randn(len(mean), proxies, mean.shape[-1], device=mean.device, dtype=mean.dtype)


def proxy_matching(videos: Float[Tensor, "V K D"], texts: Float[Tensor, "V K D"]) -> Float[Tensor, ""]:
    """Each proxy of a video beside all proxies of all texts, and the reverse: the mean of both directions of
    -mean_i,k mean_l log softmax_(j,l')(<a_ik, b_jl'>)_(i,l); all own pairs are positives, outside of the logarithm."""
    products = torch.einsum("ikd,jld->ikjl", videos, texts)
    own = products.diagonal(dim1=0, dim2=2).mean()
    return (products.flatten(2).logsumexp(2).mean() + products.flatten(0, 1).logsumexp(0).mean()) / 2 - own


def alignment(of_texts: Distributed, of_videos: Distributed) -> Float[Tensor, ""]:
    """Both sides to the standard normal distribution, and the texts' distribution to the videos'; sums over columns, means over
    videos.

    As in the released code, the means are those of the drawn proxies, and the logarithm of a deviation in the divergence of the
    two is taken for that of a variance in the other two terms.
    """
    prior = sum((mean.square() + log.exp() - 1 - log).sum(1).mean() / 2 for mean, log in (of_texts, of_videos))
    apart = (2 * of_texts.log_deviation).exp() + (of_texts.mean - of_videos.mean).square()
    ratio = of_videos.log_deviation - of_texts.log_deviation
    return prior + (ratio + apart / (2 * (2 * of_videos.log_deviation).exp()) - 0.5).sum(1).mean()


METHOD = Method(RalGmmFormerV2Config, Ral, objective, contrasts=True, profile=profile, revision=2)
