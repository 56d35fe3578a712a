"""RAL on GMMFormer v2 (Zhang et al., EMNLP Findings 2025): robust alignment of texts and videos by distributions.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
word-level frame score       S_f(q, v) = sum_t g_t max_i cos(h_t, f_i): `compare_by_words`
support set                  `support_rows`: the words of all captions of a video; of the video itself, its frames
distribution of each side    `Distribution`: a mean of unit length and the logarithm of a deviation, for each video
proxies, K                   `proxies` points drawn from each distribution
proxy-level matching         `proxy_matching`, `proxy_weight`
distribution alignment       `alignment`, `alignment_weight`
trunk and other losses       GMMFormer v2's

It computes what the released code computes (zhanglong-ustc/RAL-PRVR befbf22; tests/parity/peers/gmmformer_v2+ral). Where that is
odd, docs/decisions/0038 says so. RAL on MS-SL and on GMMFormer is published in figures alone and is not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from prvr.batch import Batch
from prvr.config import check_above_zero
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.nn import losses, scores
from prvr.nn.caption_losses import matching
from prvr.nn.clips_and_frames import branch_terms
from prvr.nn.distributions import Distributed, Distribution
from prvr.nn.gaussian import attention_views, check_widths
from prvr.nn.layers import initialise
from prvr.nn.views import ViewSettings, diversity_term
from prvr.nn.word_scores import WordScoredModel, compare_by_words, profile


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


@final
class Ral(WordScoredModel):
    """Scores by words; the distributions of both sides serve training."""

    config: RalGmmFormerV2Config

    def __init__(self, config: RalGmmFormerV2Config, *, frame_columns: int, word_columns: int) -> None:
        views = partial(attention_views, config.hidden, config.heads, config.dropout, widths=config.widths)
        super().__init__(config, views, token=True, frame_columns=frame_columns, word_columns=word_columns)
        self.of_texts, self.of_videos = Distribution(config.hidden), Distribution(config.hidden)
        self.apply(initialise)

    def distributions(self, queries: Embeddings, videos: Embeddings, batch: Batch) -> tuple[Distributed, Distributed]:
        """Those of the texts and of the videos of a batch; videos without a caption, which have no text, are left out."""
        described, target = batch.target.unique(return_inverse=True)
        frames, mask = videos[1][described], batch.frame_mask[described]
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
    compared = compare_by_words(model, queries, videos, batch)
    terms = branch_terms(config, compared, target, epoch, contrast=contrast) | diversity_term(config, queries[0], target)
    terms["matching"] = config.matching_weight * matching(queries[0], videos[0], target)
    of_texts, of_videos = model.distributions(queries, videos, batch)
    texts, its_videos = draw_points(of_texts, config.proxies), draw_points(of_videos, config.proxies)
    terms["proxies"] = config.proxy_weight * proxy_matching(its_videos, texts)
    means = Distributed(texts.mean(1), of_texts.log_deviation), Distributed(its_videos.mean(1), of_videos.log_deviation)
    terms["alignment"] = config.alignment_weight * alignment(*means)
    return terms


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
