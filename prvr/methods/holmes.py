"""Holmes (ICML 2026): GMMFormer v2 that learns from evidence, with which query is sure of what; also with two queries.

The paper's words                 our names
--------------------------------  ------------------------------------------------------------------------
trunk, S                          GMMFormer v2's `ViewsModel` with other widths; the mean of a video weighs its views
two query encoders                `HolmesDual`: words score the frames (`compare_by_words`), as in RAL
evidence, opinion, uncertainty    `opinion_of` the scores of a branch, `join` of both branches (prvr.nn.evidence)
query partition                   `partition`: under-determined, precise, polysemous
calibrated targets                `soften_targets`, weight `soft_share`
inter-video evidential loss       `evidence_weight`: evidence_frames, evidence_clips, evidence_both
intra-video transport, dustbin    `transport`, `dustbin_values`, `transport_loss`, `transport_weight`
warm-up                           before epoch `warmup_epochs` targets are one-hot and nothing is transported

It computes what the released code computes (lijun2005/ICML26-Holmes a5ff655; tests/parity/peers/holmes and holmes_dual). Where
that is odd, docs/decisions/0052 says so. It has no parameter of its own, and an index holds the rows of GMMFormer v2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from prvr.batch import Batch
from prvr.config import check_above_zero, check_shares
from prvr.errors import SettingError
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.nn import evidence, losses, views, word_scores
from prvr.nn.clips_and_frames import Scores, branch_terms
from prvr.nn.gaussian import AttentionBlock, attention_views, check_widths
from prvr.nn.layers import initialise
from prvr.nn.views import ViewSettings, ViewsModel, compare_views, diversity_term
from prvr.nn.word_scores import WordScoredModel, compare_by_words


@dataclass(frozen=True)
class HolmesConfig(ViewSettings):
    """Settings of the paper; the defaults are those for TVR. `ViewSettings` has the others.

    widths: of the windows, in ninths of a sequence's length; 0 for a block without a window.
    padding_counts: rows of padding also take part in the mean that weighs the views, and the captions that a video has fewer
        than another one count as similarities of 0 where those to its clips are scaled.
    warmup_epochs: before this epoch targets are one-hot, and nothing is transported.
    evidence_temperature, transport_temperature: evidence of videos and of clips is exp(tanh(score) / temperature).
    evidence_prior: what stands for the number of choices in an opinion; 0 for the number of videos in the batch, on which the
        uncertainty then depends.
    partition_share: least score of a precise query; 1 - it is the largest uncertainty of one that is not under-determined.
    soft_share, soft_temperature: of the softmax of scores in the targets of polysemous queries.
    coupling_temperature, dustbin_share, transport_rounds: of the transport of captions to clips.
    """

    widths: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    frame_weight: float = 0.4
    warmup_epochs: int = 20
    evidence_weight: float = 0.2
    evidence_temperature: float = 0.05
    evidence_prior: float = 0.0
    partition_share: float = 0.3
    soft_share: float = 0.2
    soft_temperature: float = 1.0
    transport_weight: float = 0.8
    transport_temperature: float = 0.06
    coupling_temperature: float = 0.1
    dustbin_share: float = 0.3
    transport_rounds: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        check_widths(self.widths)
        check_shares(self, "partition_share", "soft_share", "dustbin_share")
        check_above_zero(self, "soft_temperature", "coupling_temperature", "transport_rounds")
        for name in ("evidence_temperature", "transport_temperature"):
            if not getattr(self, name) >= evidence.LEAST_TEMPERATURE:
                raise SettingError(f"{name} is {getattr(self, name)}; take at least {evidence.LEAST_TEMPERATURE}")
        if not self.evidence_prior >= 0:
            raise SettingError(f"evidence_prior is {self.evidence_prior}; take 0 for the number of videos, or a number above")


@dataclass(frozen=True)
class HolmesDualConfig(HolmesConfig):
    """The same for two queries, which are published for TVR alone."""

    frame_weight: float = 0.5
    evidence_weight: float = 0.01
    evidence_temperature: float = 0.2
    transport_weight: float = 0.1
    transport_temperature: float = 0.04


@final
class Holmes(ViewsModel):
    """Clips and frames through blocks of several widths, weighed by each video's mean."""

    config: HolmesConfig

    def __init__(self, config: HolmesConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__(config, _views(config), token=False, frame_columns=frame_columns, word_columns=word_columns)
        self.unused_token = _unused_token(config)
        self.apply(initialise)


@final
class HolmesDual(WordScoredModel):
    """The same, with the frames scored by words."""

    config: HolmesDualConfig

    def __init__(self, config: HolmesDualConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__(config, _views(config), token=False, frame_columns=frame_columns, word_columns=word_columns)
        self.unused_token = _unused_token(config)
        self.apply(initialise)


def objective(
    model: Holmes, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int, *, contrast: Contrast = losses.info_nce
) -> Terms:
    """Triplet and contrastive loss of each branch, focal diversity of queries, evidence of videos, and transport to clips."""
    compared = compare_views(model, queries, videos, batch)
    return _terms(model.config, compared, queries[0], videos[0], batch.target, epoch, contrast)


def dual_objective(
    model: HolmesDual, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int, *, contrast: Contrast = losses.info_nce
) -> Terms:
    """The same, the terms of the frames by words."""
    compared = compare_by_words(model, queries, videos, batch)
    return _terms(model.config, compared, queries[0], videos[0], batch.target, epoch, contrast)


def _terms(
    config: HolmesConfig,
    compared: dict[str, Scores],
    queries: Float[Tensor, "Q D"],
    clips: Float[Tensor, "V N D"],
    target: Int[Tensor, "Q"],
    epoch: int,
    contrast: Contrast,
) -> Terms:
    terms = branch_terms(config, compared, target, epoch, contrast=contrast) | diversity_term(config, queries, target)
    warm = epoch >= config.warmup_epochs
    terms |= evidence_terms(config, compared["frames"][0], compared["clips"][0], target, calibrated=warm)
    transported = transport_of(config, queries, clips, target) if warm else clips.new_zeros(())
    return terms | {"transport": config.transport_weight * transported}


def evidence_terms(
    config: HolmesConfig, frames: Float[Tensor, "Q V"], clips: Float[Tensor, "Q V"], target: Int[Tensor, "Q"], *, calibrated: bool
) -> Terms:
    """What the opinions of each branch, and of both joined, are expected to be off the targets.

    Args:
        frames, clips: the scores of the branches.
        calibrated: polysemous queries have soft targets.
    """
    of_branch = [
        evidence.opinion_of(each, temperature=config.evidence_temperature, prior=config.evidence_prior)
        for each in (frames, clips)
    ]
    both = evidence.join(*of_branch, prior=config.evidence_prior)
    targets = losses.ownership(target, frames.shape[1]).to(frames.dtype)
    if calibrated:
        targets = calibrated_targets(config, of_branch, (frames, clips), target)
    names = ("evidence_frames", "evidence_clips", "evidence_both")
    return {
        name: config.evidence_weight * evidence.expected_squares(each.alpha, targets).mean()
        for name, each in zip(names, (*of_branch, both), strict=True)
    }


def calibrated_targets(
    config: HolmesConfig,
    opinions: list[evidence.Opinion],
    scores: tuple[Float[Tensor, "Q V"], Float[Tensor, "Q V"]],
    target: Int[Tensor, "Q"],
) -> Float[Tensor, "Q V"]:
    """The targets by the kinds of queries in both branches."""
    kinds = [
        evidence.partition(opinion, each, target, share=config.partition_share).kinds
        for opinion, each in zip(opinions, scores, strict=True)
    ]
    return evidence.soften_targets(
        evidence.join_kinds(*kinds), scores, target, share=config.soft_share, temperature=config.soft_temperature
    )


def transport_of(
    config: HolmesConfig, queries: Float[Tensor, "Q D"], clips: Float[Tensor, "V N D"], target: Int[Tensor, "Q"]
) -> Float[Tensor, ""]:
    """The loss of captions about the clips of their videos, by the plan of their transport."""
    blocks = evidence.own_clips(queries, clips, target, padding_counts=config.padding_counts)
    dustbin = evidence.dustbin_values(blocks, share=config.dustbin_share)
    plan = evidence.transport(blocks, dustbin, temperature=config.coupling_temperature, rounds=config.transport_rounds)
    return evidence.transport_loss(blocks, plan, temperature=config.transport_temperature)


def _views(config: HolmesConfig) -> partial[list[AttentionBlock]]:
    return partial(attention_views, config.hidden, config.heads, config.dropout, widths=config.widths)


def _unused_token(config: HolmesConfig) -> nn.Parameter:
    """GMMFormer v2's token: released checkpoints hold one, and published counts include it. Nothing reads or changes it."""
    return nn.Parameter(torch.randn(1, 1, config.hidden), requires_grad=False)


METHOD = Method(HolmesConfig, Holmes, objective, contrasts=True, profile=views.profile)
DUAL = Method(HolmesDualConfig, HolmesDual, dual_objective, contrasts=True, profile=word_scores.profile)
