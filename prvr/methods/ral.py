"""RAL (Zhang et al., EMNLP Findings 2025): robust alignment, added to the objective of another method.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
plug-and-play                `Ral`: a student as it is, with what only training needs beside it
Gaussian embeddings          `Gaussians`: a mean and the logarithm of a variance for each column
video's Gaussian             of its clips by attentive pooling; query's Gaussian: of its vector
KL alignment                 `divergence` of a query's Gaussian from its video's, `alignment_weight`
proxies, K                   `proxies` points drawn from each Gaussian
proxy-level matching         `proxy_scores`, by `losses.info_nce`, `proxy_weight`

Source: spec/methods 2.13, which has the terms and their weights and no formula. We decided: the means are the vectors
themselves, and variances come from a Linear of them, near 0.02 at first; the divergence is a sum over columns and a mean over
queries; what a query's proxies score for a video is the mean over them of the best inner product with one of the video's.

Left out: learned confidences of words. They change what is ranked, and the specification does not say how words and frames
are scored. What is ranked here is what the student ranks: the means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from prvr.batch import Batch
from prvr.config import check_above_zero
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.methods.gmmformer import GmmFormer, GmmFormerConfig
from prvr.methods.gmmformer import objective as gmmformer_objective
from prvr.methods.gmmformer_v2 import GmmFormerV2, GmmFormerV2Config
from prvr.methods.gmmformer_v2 import objective as gmmformer_v2_objective
from prvr.methods.ms_sl import MsSl, MsSlConfig
from prvr.methods.ms_sl import objective as ms_sl_objective
from prvr.methods.ms_sl import profile as ms_sl_profile
from prvr.nn import losses, scores
from prvr.nn.layers import AttentivePooling, initialise

FIRST_LOG_VARIANCE = -4.0


@dataclass(frozen=True)
class RalMsSlConfig(MsSlConfig):
    """MS-SL's settings, and RAL's."""

    proxies: int = 6
    proxy_weight: float = 0.004
    alignment_weight: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero(self, "proxies")


@dataclass(frozen=True)
class RalGmmFormerConfig(GmmFormerConfig):
    """GMMFormer's settings, and RAL's."""

    proxies: int = 6
    proxy_weight: float = 0.004
    alignment_weight: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero(self, "proxies")


@dataclass(frozen=True)
class RalGmmFormerV2Config(GmmFormerV2Config):
    """GMMFormer v2's settings, and RAL's."""

    proxies: int = 6
    proxy_weight: float = 0.004
    alignment_weight: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero(self, "proxies")


class Student(NamedTuple):
    """A method that has clips as its first field: its model and its objective."""

    model: Callable[..., Any]
    objective: Callable[..., Terms]


STUDENTS: dict[type, Student] = {
    RalMsSlConfig: Student(MsSl, ms_sl_objective),
    RalGmmFormerConfig: Student(GmmFormer, gmmformer_objective),
    RalGmmFormerV2Config: Student(GmmFormerV2, gmmformer_v2_objective),
}


class Gaussian(NamedTuple):
    """A normal distribution for each row, its columns independent."""

    mean: Float[Tensor, "N D"]
    log_variance: Float[Tensor, "N D"]


class Gaussians(nn.Module):
    """What makes a Gaussian of a query's vector and of a video's clips."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.pooling = AttentivePooling(hidden)
        self.of_query, self.of_video = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.apply(initialise)
        for layer in (self.of_query, self.of_video):
            nn.init.constant_(layer.bias, FIRST_LOG_VARIANCE)

    def forward(self, queries: Float[Tensor, "Q D"], clips: Float[Tensor, "V N D"]) -> tuple[Gaussian, Gaussian]:
        videos = self.pooling(clips, scores.every_row(clips))
        return Gaussian(queries, self.of_query(queries)), Gaussian(videos, self.of_video(videos))


@final
class Ral(nn.Module):
    """A student that is asked and scores as it does alone; `gaussians` serve its training."""

    def __init__(self, config: Any, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.student = STUDENTS[type(config)].model(config, frame_columns=frame_columns, word_columns=word_columns)
        self.gaussians = Gaussians(config.hidden)
        self.reading = self.student.reading
        self.embedding_fields: tuple[str, ...] = self.student.embedding_fields
        self.frame_fields: tuple[str, ...] = self.student.frame_fields
        self.score_weights: tuple[float, ...] | None = self.student.score_weights

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """The student's."""
        embeddings: Embeddings = self.student.encode_queries(words, mask, places)
        return embeddings

    def encode_videos(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """The student's."""
        embeddings: Embeddings = self.student.encode_videos(frames, mask, places)
        return embeddings

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """The student's."""
        scores: Tensor = self.student.score(queries, videos, mask)
        return scores

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "P"]:
        """The student's."""
        curve: Tensor = self.student.relevance(query, video)
        return curve


def objective(
    model: Ral,
    queries: Embeddings,
    videos: Embeddings,
    batch: Batch,
    epoch: int,
    *,
    contrast: Contrast = losses.info_nce,
) -> Terms:
    """The student's terms, the divergence of Gaussians that belong together, and matching of their proxies."""
    config = model.config
    terms = dict(STUDENTS[type(config)].objective(model.student, queries, videos, batch, epoch, contrast=contrast))
    of_queries, of_videos = model.gaussians(queries[0], videos[0])
    own = Gaussian(*(values[batch.target] for values in of_videos))
    terms["alignment"] = config.alignment_weight * divergence(of_queries, own).mean()
    matched = proxy_scores(drawn(of_queries, config.proxies), drawn(of_videos, config.proxies))
    terms["proxies"] = config.proxy_weight * losses.info_nce(matched, batch.target)
    return terms


def profile(model: Ral, queries: Embeddings, videos: Embeddings, batch: Batch) -> Float[Tensor, "Q F"]:
    """MS-SL's curves along videos, with RAL on it."""
    return ms_sl_profile(model.student, queries, videos, batch)


def divergence(of: Gaussian, given: Gaussian) -> Float[Tensor, "N"]:
    """KL divergence of Gaussians from others, row by row: 1/2 sum_d [log r - 1 + 1/r + (m - m')^2 / s'^2], r = s'^2 / s^2."""
    log_ratio = given.log_variance - of.log_variance
    apart = (of.mean - given.mean).square() * (-given.log_variance).exp()
    return (log_ratio - 1 + (-log_ratio).exp() + apart).sum(-1) / 2


def drawn(gaussian: Gaussian, proxies: int) -> Float[Tensor, "N K D"]:
    """Points drawn from each Gaussian, through which gradients reach its mean and variance."""
    mean, deviation = gaussian.mean[:, None], (gaussian.log_variance / 2).exp()[:, None]
    return mean + deviation * torch.randn(len(mean), proxies, mean.shape[-1], device=mean.device, dtype=mean.dtype)


def proxy_scores(queries: Float[Tensor, "Q K D"], videos: Float[Tensor, "V K D"]) -> Float[Tensor, "Q V"]:
    """mean_k max_l <query's proxy k, video's proxy l>."""
    return torch.einsum("qkd,vld->qkvl", queries, videos).amax(3).mean(1)


ON_GMMFORMER = Method(RalGmmFormerConfig, Ral, objective, contrasts=True)
ON_GMMFORMER_V2 = Method(RalGmmFormerV2Config, Ral, objective, contrasts=True)
ON_MS_SL = Method(RalMsSlConfig, Ral, objective, contrasts=True, profile=profile)
