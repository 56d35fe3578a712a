"""The score of one stored video beside the definition, and scores that tie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from prvr.nn import scores
from prvr.nn.scores import TIED, best_places, every_row, first_best, fused, score_parts, tolerance, unit_queries


@pytest.mark.parametrize("weights", [(1.0,), (0.7, 0.3), (0.5, -0.2, 2.0)])
def test_the_parts_of_a_score_are_the_terms_of_its_definition(weights: tuple[float, ...]) -> None:
    draw = torch.manual_seed(len(weights))
    queries = [torch.randn(5, 48, generator=draw) * 10**n for n, _ in enumerate(weights)]
    videos = [torch.randn(4, 9, 48, generator=draw) for _ in weights]
    masks = [every_row(field) for field in videos]
    expected = fused(queries, videos, masks, weights=weights)
    for number, query in enumerate(unit_queries(queries)):
        for video in range(4):
            parts = score_parts([field[video].numpy() for field in videos], query, weights)
            assert sum(parts) == pytest.approx(expected[number, video].item(), abs=1e-6)
            alone = [
                fused([q[number : number + 1]], [v[video : video + 1]], [m[video : video + 1]], weights=[weight]).item()
                for q, v, m, weight in zip(queries, videos, masks, weights, strict=True)
            ]
            assert parts == pytest.approx(alone, abs=1e-6)


def test_zeros_have_a_cosine_of_zero() -> None:
    (query,) = unit_queries([torch.zeros(1, 4)])
    assert score_parts([np.ones((3, 4), np.float32)], query, [1.0]) == [0.0]
    (query,) = unit_queries([torch.ones(1, 4)])
    assert score_parts([np.zeros((3, 4), np.float32)], query, [1.0]) == [0.0]


def test_the_tolerance_by_hand() -> None:
    assert tolerance(np.array([0.25, -0.5])) == 0.5 * TIED == 0.5 * 64 / 2**23
    assert tolerance(np.array([])) == 0


def test_the_best_places_by_hand() -> None:
    scores = np.array([0.1, 0.5 - 1e-7, 0.3, 0.5, 0.3 + 1e-7, -0.9])
    assert best_places(scores, 6) == [1, 3, 2, 4, 0, 5]
    for k in range(7):
        assert best_places(scores, k) == [1, 3, 2, 4, 0, 5][:k]
    assert best_places(scores[:0], 3) == []
    assert first_best(scores, apart=tolerance(scores)) == 1
    assert first_best(scores, apart=0.0) == 3


def test_a_chain_of_ties_begins_at_the_best() -> None:
    # Each ties with its neighbour; the last one does not tie with the best, and so comes after all that do.
    step = 0.6 * TIED
    scores = np.array([1 - 2 * step, 1 - step, 1.0])
    assert best_places(scores, 3) == [1, 2, 0]


@pytest.mark.parametrize("columns", [7, 96, 384])
def test_the_order_of_equal_videos_does_not_depend_on_the_order_of_summation(columns: int) -> None:
    random = np.random.default_rng(columns)
    rows, query = random.normal(size=(6, columns)), random.normal(size=columns)
    # Each of six videos is there four times.
    rows = np.tile(rows / np.linalg.norm(rows, axis=1, keepdims=True), (4, 1)).astype(np.float32)
    query = (query / np.linalg.norm(query)).astype(np.float32)
    found = set()
    for seed in range(20):
        scores = np.zeros(24, np.float32)
        for video in range(24):
            # Each copy is summed in an order of its own.
            for column in np.random.default_rng([seed, video]).permutation(columns):
                scores[video] += rows[video, column] * query[column]
        found.add(tuple(best_places(scores, 24)))
    (ranked,) = found
    assert all(list(ranked[start : start + 4]) == sorted(ranked[start : start + 4]) for start in range(0, 24, 4))
    assert [len({place % 6 for place in ranked[start : start + 4]}) for start in range(0, 24, 4)] == [1] * 6


def test_few_frame_scores_are_in_memory_at_once_and_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    queries, videos, frames = 7, 4, 5
    mask = torch.arange(frames) < torch.tensor([[5], [1], [3], [4]])
    target = torch.tensor([0, 0, 1, 2, 3, 3, 3])
    q, v = torch.randn(queries, 6, dtype=torch.float64), torch.randn(videos, frames, 6, dtype=torch.float64)
    weights = [torch.randn(queries, n, dtype=torch.float64) for n in (videos, videos, frames)]
    made: list[int] = []
    dots = scores.frame_dots

    def watch(some: Tensor, of_videos: Tensor, its: Tensor) -> Tensor:
        made.append(len(some))
        return dots(some, of_videos, its)

    monkeypatch.setattr(scores, "frame_dots", watch)
    results = []
    for at_once in (1 << 20, 3 * videos * frames + 1):
        monkeypatch.setattr(scores, "SCORES_AT_ONCE", at_once)
        a, b = q.clone().requires_grad_(), v.clone().requires_grad_()
        parts = [part.masked_fill(part.isinf(), 0) for part in scores.compare(a, b, mask, target)]
        sum((w * part).sum() for w, part in zip(weights, parts, strict=True)).backward()
        results.append([*parts, a.grad, b.grad])
    assert made == [7, 3, 3, 1]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
