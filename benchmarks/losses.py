"""The losses of one batch, given its scores, beside the same maths written as loops over queries and videos.

    python benchmarks/losses.py [--queries 640 --videos 128 --frames 128]

Forward and backward together, one thread, medians of alternating runs; prints the ratio. The loops work as the published
code is described to: a slice per query in the KL, a loop over labels in the contrastive and the triplet loss.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from prvr import losses, scores


def ours(cosines: Tensor, dots: Tensor, teacher: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    video_scores = scores.video_scores(cosines)
    kl = losses.frame_kl(scores.own_video(cosines, target), scores.own_video(teacher, target), mask[target], temperature=0.2)
    return (
        kl
        + losses.info_nce(dots, target)
        + losses.triplet(
            video_scores,
            target,
            margin=0.1,
            negative_videos=losses.hard_negative_videos(video_scores, target, pool=1),
            negative_queries=losses.hardest_negative_queries(video_scores, target),
        )
    )


def loops(cosines: Tensor, dots: Tensor, teacher: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    queries, videos = dots.shape
    labels = target.tolist()
    lengths = mask.sum(1).tolist()
    kl = nce = trip = torch.zeros(())
    for n, y in enumerate(labels):
        student = (cosines[n, y, : lengths[y]] / 0.2).softmax(0)
        guide = (teacher[n, y, : lengths[y]] / 0.2).softmax(0)
        kl = kl + (guide * (guide / student).log()).sum()
    best = cosines.amax(-1)
    for n, y in enumerate(labels):
        nce = nce + (dots[n].logsumexp(0) - dots[n, y]) / queries
        wrong = torch.cat([best[n, :y], best[n, y + 1 :]])
        trip = trip + (0.1 + wrong.max() - best[n, y]).relu() / queries
    for v in range(videos):
        own = [n for n, y in enumerate(labels) if y == v]
        others = [n for n, y in enumerate(labels) if y != v]
        nce = nce + (dots[:, v].logsumexp(0) - dots[own, v].logsumexp(0)) / videos
        trip = trip + (0.1 + best[others, v].max() - best[own, v].mean()).relu() / videos
    return kl + nce + trip


def timed(objective: Callable[..., Tensor], given: tuple[Tensor, ...]) -> tuple[float, float]:
    cosines, dots, *rest = given
    cosines, dots = cosines.clone().requires_grad_(), dots.clone().requires_grad_()
    began = time.perf_counter()
    loss = objective(cosines, dots, *rest)
    loss.backward()
    return time.perf_counter() - began, loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("queries", 640), ("videos", 128), ("frames", 128), ("runs", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    size = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    mask = torch.arange(size.frames) < torch.randint(size.frames // 2, size.frames + 1, (size.videos, 1))
    target = torch.arange(size.videos).repeat_interleave(-(-size.queries // size.videos))[: size.queries]
    shape = (size.queries, size.videos, size.frames)
    cosines, teacher = ((torch.rand(shape) * 2 - 1).masked_fill(~mask, -float("inf")) for _ in range(2))
    given = (cosines, torch.randn(shape[:2]) * 3, teacher, target, mask)
    times: dict[str, list[float]] = {"ours": [], "loops": []}
    for _ in range(size.runs):
        for name, objective in (("ours", ours), ("loops", loops)):
            seconds, loss = timed(objective, given)
            times[name].append(seconds)
            print(f"{name:>6}: {seconds * 1000:9.1f} ms   loss {loss:.4f}")
    fast, slow = (statistics.median(times[name]) for name in ("ours", "loops"))
    print(f"losses, forward and backward: ours {fast * 1000:.1f} ms, loops {slow * 1000:.1f} ms, ratio {slow / fast:.0f}x")


if __name__ == "__main__":
    main()
