"""The losses of one batch without its scores, beside the same maths written as loops over queries and videos."""

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
    """The input of the losses: cosines of the student and of the teacher with every frame, and best inner products."""

    cosines: Float[Tensor, "Q V F"]
    dots: Float[Tensor, "Q V"]
    teacher: Float[Tensor, "Q V F"]
    target: Int[Tensor, "Q"]
    mask: Bool[Tensor, "V F"]


def losses_lines(size: Size) -> list[Line]:
    """Seconds of triplet, contrastive loss and KL together, forward and backward."""
    inputs = make_scores(size)
    turns = {"ours": lambda: compute_gradients(ours, inputs), "loops": lambda: compute_gradients(loops, inputs)}
    times = take_turns(turns, runs=size.runs, device=size.device)
    return [Line("losses given the scores, forward and backward", times["ours"], times["loops"], wanted=100.0)]


def make_scores(size: Size) -> Scores:
    """Draws the scores of a batch, without a student."""
    batch = make_batch(size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = (size.queries, *batch.frame_mask.shape)
        cosines, teacher = ((torch.rand(shape) * 2 - 1).to(size.device) for _ in range(2))
        dots = (torch.randn(shape[:2]) * 3).to(size.device)
    hidden = ~batch.frame_mask
    lowest = -float("inf")
    return Scores(cosines.masked_fill(hidden, lowest), dots, teacher.masked_fill(hidden, lowest), batch.target, batch.frame_mask)


def compute_gradients(objective: Callable[[Scores], Tensor], inputs: Scores) -> tuple[Tensor, Tensor, Tensor]:
    """Returns a loss and its gradients with respect to cosines and inner products."""
    cosines, dots = inputs.cosines.detach().requires_grad_(), inputs.dots.detach().requires_grad_()
    loss = objective(inputs._replace(cosines=cosines, dots=dots))
    loss.backward()
    assert cosines.grad is not None
    assert dots.grad is not None
    return loss.detach(), cosines.grad, dots.grad


def ours(inputs: Scores) -> Tensor:
    """Computes the losses with `prvr.nn.losses`."""
    best = scores.video_scores(inputs.cosines)
    profile, guide = (scores.own_video(frames, inputs.target) for frames in (inputs.cosines, inputs.teacher))
    return (
        losses.frame_kl(profile, guide, inputs.mask[inputs.target], temperature=0.2)
        + losses.info_nce(inputs.dots, inputs.target)
        + losses.triplet(
            best,
            inputs.target,
            margin=0.1,
            negative_videos=losses.hard_negative_videos(best, inputs.target, pool=1),
            negative_queries=losses.hardest_negative_queries(best, inputs.target),
        )
    )


def loops(inputs: Scores) -> Tensor:
    """Computes the same losses in loops."""
    labels = inputs.target.tolist()
    student, teacher = (frames.transpose(1, 2) for frames in (inputs.cosines, inputs.teacher))
    kl = plain.frame_kl(student, teacher, labels, inputs.mask, temperature=0.2)
    return kl + plain.info_nce(inputs.dots, labels) + plain.triplet(inputs.cosines.amax(-1), labels, margin=0.1, pool=1)
