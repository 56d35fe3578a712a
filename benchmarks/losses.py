"""The losses of one batch, given its scores, beside the same maths written as loops over queries and videos."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmarks import plain
from benchmarks.batches import make_batch
from benchmarks.measure import Line, Size, take_turns
from prvr.nn import losses, scores


class Scores(NamedTuple):
    """What the losses are given: cosines of the student and of the teacher with every frame, and best inner products."""

    cosines: Float[Tensor, "Q V F"]
    dots: Float[Tensor, "Q V"]
    teacher: Float[Tensor, "Q V F"]
    target: Int[Tensor, "Q"]
    mask: Bool[Tensor, "V F"]


def losses_lines(size: Size) -> list[Line]:
    """Seconds of triplet, contrastive loss and KL together, forward and backward."""
    given = made_up(size)
    turns = {"ours": lambda: descend(ours, given), "loops": lambda: descend(loops, given)}
    times = take_turns(turns, runs=size.runs, device=size.device)
    return [Line("losses given the scores, forward and backward", times["ours"], times["loops"], wanted=100.0)]


def made_up(size: Size) -> Scores:
    """Scores of a batch without a student."""
    batch = make_batch(size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = (size.queries, *batch.frame_mask.shape)
        cosines, teacher = ((torch.rand(shape) * 2 - 1).to(size.device) for _ in range(2))
        dots = (torch.randn(shape[:2]) * 3).to(size.device)
    hidden = ~batch.frame_mask
    lowest = -float("inf")
    return Scores(cosines.masked_fill(hidden, lowest), dots, teacher.masked_fill(hidden, lowest), batch.target, batch.frame_mask)


def descend(objective: Callable[[Scores], Tensor], given: Scores) -> tuple[Tensor, Tensor, Tensor]:
    """A loss and its gradients by cosines and by inner products."""
    cosines, dots = given.cosines.detach().requires_grad_(), given.dots.detach().requires_grad_()
    loss = objective(given._replace(cosines=cosines, dots=dots))
    loss.backward()
    assert cosines.grad is not None
    assert dots.grad is not None
    return loss.detach(), cosines.grad, dots.grad


def ours(given: Scores) -> Tensor:
    """The losses as `prvr.nn.losses` has them."""
    best = scores.video_scores(given.cosines)
    profile, guide = (scores.own_video(frames, given.target) for frames in (given.cosines, given.teacher))
    return (
        losses.frame_kl(profile, guide, given.mask[given.target], temperature=0.2)
        + losses.info_nce(given.dots, given.target)
        + losses.triplet(
            best,
            given.target,
            margin=0.1,
            negative_videos=losses.hard_negative_videos(best, given.target, pool=1),
            negative_queries=losses.hardest_negative_queries(best, given.target),
        )
    )


def loops(given: Scores) -> Tensor:
    """The same in loops."""
    labels = given.target.tolist()
    kl = plain.frame_kl(given.cosines, given.teacher, labels, given.mask, temperature=0.2)
    return kl + plain.info_nce(given.dots, labels) + plain.triplet(given.cosines.amax(-1), labels, margin=0.1, pool=1)
