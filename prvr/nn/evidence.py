"""Scores as evidence: opinions of queries about videos, what kind a query is, and transport of captions to clips (Holmes).

An opinion about B choices comes from evidence e >= 0: alpha = e + 1, S = sum alpha, the belief in a choice is e / S, and the
uncertainty u = B / S is what is left of 1. With a `prior` other than B, u = prior / S and alpha = e + prior / B.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from prvr.nn.losses import LOWEST, ownership
from prvr.nn.scores import LEAST_NORM

UNDETERMINED, PRECISE, POLYSEMOUS = 0, 1, 2
LEAST_SUM = 1e-8
# exp(1 / temperature) is a float32 from here on, with its square.
LEAST_TEMPERATURE = 0.03


class Opinion(NamedTuple):
    """What queries believe of videos: `alpha` of their Dirichlet distributions, belief and uncertainty."""

    alpha: Float[Tensor, "Q V"]
    belief: Float[Tensor, "Q V"]
    uncertainty: Float[Tensor, "Q"]


def opinion_of(scores: Float[Tensor, "Q V"], *, temperature: float, prior: float = 0.0) -> Opinion:
    """The opinion with evidence exp(tanh(score) / temperature).

    Args:
        prior: 0 for the number of videos.
    """
    evidence, prior = (scores.tanh() / temperature).exp(), prior or scores.shape[1]
    alpha = evidence + prior / scores.shape[1]
    total = alpha.sum(1, keepdim=True)
    return Opinion(alpha, evidence / total, prior / total[:, 0])


def join(one: Opinion, other: Opinion, *, prior: float = 0.0) -> Opinion:
    """Both opinions as one, by Dempster's rule: what they contradict each other in is left out.

    b = (b1 b2 + b1 u2 + b2 u1) / (1 - D), u = u1 u2 / (1 - D), D = sum of b1_v b2_w over all pairs v != w. As beliefs and
    uncertainty sum to 1, 1 - D = u1 + u2 - u1 u2 + sum_v b1_v b2_v.
    """
    prior, (u1, u2) = prior or one.belief.shape[1], (each.uncertainty[:, None] for each in (one, other))
    agreed = one.belief * other.belief
    kept = u1 + u2 - u1 * u2 + agreed.sum(1, keepdim=True)
    belief = (agreed + one.belief * u2 + other.belief * u1) / kept
    uncertainty = (u1 * u2 / kept)[:, 0]
    alpha = belief * (prior / uncertainty)[:, None] + prior / one.belief.shape[1]
    return Opinion(alpha, belief, uncertainty)


def expected_squares(alpha: Float[Tensor, "*N V"], targets: Float[Tensor, "*N V"]) -> Float[Tensor, "*N"]:
    """The squared distance from the targets that a draw of a Dirichlet distribution is expected to have.

    sum_v (y_v - alpha_v / S)^2 + alpha_v (S - alpha_v) / (S^2 (S + 1))
    """
    total = alpha.sum(-1, keepdim=True)
    mean = alpha / total
    return ((targets - mean).square() + mean * (1 - mean) / (total + 1)).sum(-1)


class Partition(NamedTuple):
    """The kind of each query, and the numbers that it came from."""

    kinds: Int[Tensor, "Q"]
    uncertainty_limit: Float[Tensor, ""]
    score_limit: Float[Tensor, ""]
    entropy: Float[Tensor, "Q"]
    median_entropy: Float[Tensor, ""]


@torch.no_grad()
def partition(opinion: Opinion, scores: Float[Tensor, "Q V"], target: Int[Tensor, "Q"], *, share: float) -> Partition:
    """Which queries are under-determined, precise or polysemous, by what the rightly answered ones are.

    Under-determined: less certain than the least certain of those, or than 1 - share. Of the others precise: the score of the own
    video is as high as the lowest of those and as `share`, and the expected entropy at most the median. Polysemous: the others.
    """
    alpha, _, uncertainty = opinion
    own = scores.gather(1, target[:, None])[:, 0]
    right = scores.argmax(1) == target
    uncertainty_limit = uncertainty.masked_fill(~right, LOWEST).max().clamp(max=1 - share)
    uncertainty_limit = torch.where(right.any(), uncertainty_limit, 1 - share)
    score_limit = own.masked_fill(~right, -LOWEST).min().clamp(min=share)
    score_limit = torch.where(right.any(), score_limit, share)
    total = alpha.sum(1, keepdim=True)
    entropy = (alpha / total * (torch.digamma(total + 1) - torch.digamma(alpha + 1))).sum(1)
    median = entropy.median()
    kinds = torch.where((own >= score_limit) & (entropy <= median), PRECISE, POLYSEMOUS)
    return Partition(
        kinds.masked_fill(uncertainty > uncertainty_limit, UNDETERMINED), uncertainty_limit, score_limit, entropy, median
    )


def join_kinds(one: Int[Tensor, "Q"], other: Int[Tensor, "Q"]) -> Int[Tensor, "Q"]:
    """Under-determined if either is, precise if both are, else polysemous."""
    both = torch.where((one == PRECISE) & (other == PRECISE), PRECISE, POLYSEMOUS)
    return both.masked_fill((one == UNDETERMINED) | (other == UNDETERMINED), UNDETERMINED)


@torch.no_grad()
def soften_targets(
    kinds: Int[Tensor, "Q"],
    scores: tuple[Float[Tensor, "Q V"], Float[Tensor, "Q V"]],
    target: Int[Tensor, "Q"],
    *,
    share: float,
    temperature: float,
) -> Float[Tensor, "Q V"]:
    """One-hot targets; those of polysemous queries have a share of the mean softmax of both scores."""
    one_hot = ownership(target, scores[0].shape[1]).to(scores[0].dtype)
    soft = torch.stack([(each / temperature).softmax(1) for each in scores]).mean(0)
    return torch.where((kinds == POLYSEMOUS)[:, None], one_hot.lerp(soft, share), one_hot)


class Blocks(NamedTuple):
    """The captions of each video beside its clips, padded to the most captions of a video; `real` are captions."""

    similarities: Float[Tensor, "V N M"]
    real: Bool[Tensor, "V N"]


def own_clips(
    queries: Float[Tensor, "Q D"], clips: Float[Tensor, "V M D"], target: Int[Tensor, "Q"], *, padding_counts: bool
) -> Blocks:
    """Cosines of captions with the clips of their videos, scaled to [0, 1] by the least and the largest of a video.

    Args:
        padding_counts: the captions that a video has fewer than another one of the batch count as cosines of 0 in that.
    """
    captions = ownership(target, len(clips))
    place = (captions.cumsum(0) - 1).gather(1, target[:, None])[:, 0]
    unit = normalize(queries, dim=-1, eps=LEAST_NORM), normalize(clips, dim=-1, eps=LEAST_NORM)
    shape = (len(clips), int(captions.sum(0).max()), clips.shape[1])
    cosines = clips.new_zeros(shape).index_put((target, place), torch.einsum("qd,qmd->qm", unit[0], unit[1][target]))
    real = captions.new_zeros(shape[:2]).index_put((target, place), captions.new_ones(len(target)))
    counted = torch.ones_like(real) if padding_counts else real
    least = torch.where(counted[..., None], cosines, -LOWEST).flatten(1).min(1).values
    largest = torch.where(counted[..., None], cosines, LOWEST).flatten(1).max(1).values
    # A video without captions, where padding does not count, has neither.
    some = counted.any(1)
    least, largest = (torch.where(some, each, 0)[:, None, None] for each in (least, largest))
    return Blocks((cosines - least) / (largest - least + LEAST_SUM), real)


@torch.no_grad()
def dustbin_values(blocks: Blocks, *, share: float) -> Float[Tensor, "V"]:
    """Of each video the similarity below which this share of its similarities lies; 0 without captions."""
    values = blocks.similarities.masked_fill(~blocks.real[..., None], -LOWEST).flatten(1).sort(1).values
    entries = blocks.real.sum(1) * blocks.similarities.shape[2]
    # In float64: .3 of 90 entries are 27 there, and 26 where the share is multiplied first.
    count = (entries.double() * share).floor().long().clamp(min=1)
    return values.gather(1, count[:, None] - 1)[:, 0].masked_fill(~blocks.real.any(1), 0)


@torch.no_grad()
def transport(blocks: Blocks, dustbin: Float[Tensor, "V"], *, temperature: float, rounds: int) -> Float[Tensor, "V N M"]:
    """How each caption is shared out over the clips of its video, in the plan that moves all captions and a dustbin to all clips.

    Captions weigh 1, the dustbin as much as all clips together, and its similarity to each clip is `dustbin`. Sinkhorn's
    iterations on logarithms. Rows of captions sum to 1; those of padding are 0.
    """
    similarities, real = blocks
    clips = similarities.shape[2]
    couplings = torch.cat([similarities, dustbin[:, None, None].expand(-1, 1, clips)], 1) / temperature
    rows = torch.cat([real, real.new_ones(len(real), 1)], 1)
    total = (real.sum(1, keepdim=True) + clips).to(couplings)
    supply = torch.cat([torch.ones_like(real), real.new_ones(len(real), 1)], 1).to(couplings) / total
    supply[:, -1] *= clips
    by_row, by_clip = couplings.new_zeros(rows.shape), couplings.new_zeros(len(real), clips)
    for _ in range(rounds):
        by_row = (supply.log() - (couplings + by_clip[:, None]).logsumexp(2)).masked_fill(~rows, LOWEST)
        by_clip = -couplings.new_tensor(clips).log() - (couplings + by_row[..., None]).logsumexp(1)
    plan = (couplings + by_row[..., None] + by_clip[:, None]).exp()[:, :-1] * clips
    return plan / (plan.sum(2, keepdim=True) + LEAST_SUM)


def transport_loss(blocks: Blocks, plan: Float[Tensor, "V N M"], *, temperature: float) -> Float[Tensor, ""]:
    """`expected_squares` of captions about clips from the plan: the mean over the captions of a video, and over videos that
    have some."""
    alpha = (blocks.similarities.tanh() / temperature).exp() + 1
    captions = blocks.real.sum(1)
    of_videos = expected_squares(alpha, plan).masked_fill(~blocks.real, 0).sum(1) / captions.clamp(min=1)
    return of_videos.sum() / (captions > 0).sum()
