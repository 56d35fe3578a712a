"""Diversity of captions and their matching with clips, beside slow loops."""

from __future__ import annotations

import itertools
import math

import oracles
import pytest
import torch
from method_checks import noise
from torch import Tensor

from prvr.nn.caption_losses import focal_diversity, matching, query_diversity

TARGETS = {"one caption": (1,), "captions": (3, 1, 2), "one each": (1, 1), "one video": (4,), "a video without": (2, 0, 3)}
every_target = pytest.mark.parametrize("captions", TARGETS.values(), ids=list(TARGETS))


def target_of(captions: tuple[int, ...]) -> Tensor:
    return torch.arange(len(captions)).repeat_interleave(torch.tensor(captions))


def siblings(target: list[int], query: int) -> list[int]:
    return [other for other in range(len(target)) if other != query and target[other] == target[query]]


@every_target
def test_query_diversity_beside_a_slow_loop(captions: tuple[int, ...]) -> None:
    target = target_of(captions)
    queries, y = noise(len(target), 4), target.tolist()
    rows, costs = queries.tolist(), []
    for query in range(len(y)):
        powers = [math.exp(3 * (oracles.cosine(rows[query], rows[other]) + 0.15)) for other in siblings(y, query)]
        costs.append(math.log(1 + sum(powers)))
    assert float(query_diversity(queries, target, scale=3.0, margin=0.15)) == pytest.approx(oracles.mean(costs), abs=1e-5)


@every_target
@pytest.mark.parametrize("focus", [0.0, 1.0, 2.0])
def test_focal_diversity_beside_a_slow_loop(captions: tuple[int, ...], focus: float) -> None:
    target = target_of(captions)
    queries, y = noise(len(target), 4), target.tolist()
    rows, cost = queries.tolist(), 0.0
    for query in range(len(y)):
        for other in siblings(y, query):
            cosine = oracles.cosine(rows[query], rows[other])
            cost += (1 + cosine) ** focus * math.log(1 + math.exp(3 * (cosine + 0.2)))
    got = float(focal_diversity(queries, target, scale=3.0, margin=0.2, focus=focus))
    assert got == pytest.approx(cost / len(y), rel=1e-4, abs=1e-6)


@every_target
def test_matching_beside_every_assignment(captions: tuple[int, ...]) -> None:
    target = target_of(captions)
    queries, clips = noise(len(target), 4), noise(len(captions), 5, 4, seed=1)
    costs = []
    for video in range(len(captions)):
        own = [query for query in range(len(target)) if int(target[query]) == video]
        if len(own) > 1:
            cosines = [[oracles.cosine(queries[q].tolist(), clip.tolist()) for clip in clips[video]] for q in own]
            best = max(
                oracles.mean([cosines[row][clip] for row, clip in enumerate(chosen)])
                for chosen in itertools.permutations(range(5), len(own))
            )
            costs += [1 - best] * len(own)  # a mean over pairs, not over videos
    wanted = oracles.mean(costs) if costs else 0.0
    assert float(matching(queries, clips, target)) == pytest.approx(wanted, abs=1e-5)


def test_more_captions_than_clips_are_matched_as_far_as_clips_go() -> None:
    queries, clips = torch.eye(3), torch.eye(3)[None, :2]
    assert float(matching(queries, clips, torch.zeros(3, dtype=torch.long))) == pytest.approx(0)


def test_a_loss_that_is_no_number_stays_one() -> None:
    queries = torch.full((2, 3), torch.nan)
    assert matching(queries, torch.eye(3)[None], torch.zeros(2, dtype=torch.long)).isnan()
