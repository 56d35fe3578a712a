"""Opinions, kinds of queries and transport beside slow loops and hand-worked numbers.

Their numbers beside the published code's: tests/methods/test_peers_leaders.py.
"""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from method_checks import noise

from prvr.nn import evidence

TARGET = torch.tensor([0, 0, 1, 3, 3, 3])


def scores(seed: int = 0) -> torch.Tensor:
    return noise(6, 4, seed=seed).double().tanh()


@pytest.mark.parametrize("prior", [0.0, 2.0])
def test_beliefs_and_uncertainty_sum_to_one(prior: float) -> None:
    opinion = evidence.opinion_of(scores(), temperature=0.3, prior=prior)
    torch.testing.assert_close(opinion.belief.sum(1) + opinion.uncertainty, torch.ones(6).double())
    alpha = math.exp(math.tanh(scores()[2, 1].item()) / 0.3) + (prior or 4) / 4
    assert opinion.alpha[2, 1].item() == pytest.approx(alpha)
    assert opinion.uncertainty[2].item() == pytest.approx((prior or 4) / opinion.alpha[2].sum().item())


@pytest.mark.parametrize("prior", [0.0, 3.0])
def test_joined_opinions_beside_a_slow_loop(prior: float) -> None:
    one, other = (evidence.opinion_of(scores(seed), temperature=0.4, prior=prior) for seed in (0, 1))
    both = evidence.join(one, other, prior=prior)
    for n in range(6):
        a, b, u, w = one.belief[n].tolist(), other.belief[n].tolist(), one.uncertainty[n].item(), other.uncertainty[n].item()
        conflict = sum(a[i] * b[j] for i in range(4) for j in range(4) if i != j)
        belief = [(x * y + x * w + y * u) / (1 - conflict) for x, y in zip(a, b, strict=True)]
        assert both.belief[n].tolist() == pytest.approx(belief)
        assert both.uncertainty[n].item() == pytest.approx(u * w / (1 - conflict))
        total = (prior or 4) / both.uncertainty[n].item()
        assert both.alpha[n].tolist() == pytest.approx([x * total + (prior or 4) / 4 for x in belief])
    torch.testing.assert_close(both.belief.sum(1) + both.uncertainty, torch.ones(6).double())


def test_sure_branches_that_contradict_each_other_stay_finite() -> None:
    sure = torch.tensor([[1.0, -1.0, -1.0]]), torch.tensor([[-1.0, 1.0, -1.0]])
    both = evidence.join(*(evidence.opinion_of(each, temperature=evidence.LEAST_TEMPERATURE) for each in sure))
    assert both.alpha.isfinite().all()
    assert both.uncertainty.item() > 0
    assert evidence.expected_squares(both.alpha, torch.eye(3)[:1]).isfinite().all()


def test_expected_squares_are_those_of_draws() -> None:
    torch.manual_seed(0)
    alpha, targets = torch.tensor([1.5, 3.0, 0.7]).double(), torch.tensor([0.0, 0.8, 0.2]).double()
    drawn = torch.distributions.Dirichlet(alpha).sample((200_000,))
    wanted = (targets - drawn).square().sum(1).mean()
    torch.testing.assert_close(evidence.expected_squares(alpha, targets), wanted, atol=2e-3, rtol=0)


@pytest.mark.parametrize("wrong", [False, True])
def test_kinds_beside_a_slow_loop(wrong: bool) -> None:
    given, share = scores(3), 0.3
    own = [3, 1, 0, 2, 1, 0]
    if wrong:
        own = given.argmin(1).tolist()
    else:
        for n in (0, 2, 3):
            own[n] = int(given[n].argmax())
    target = torch.tensor(own)
    opinion = evidence.opinion_of(given, temperature=0.2)
    found = evidence.partition(opinion, given, target, share=share)
    right = [n for n in range(6) if int(given[n].argmax()) == own[n]]
    assert bool(right) != wrong
    limit_u = min([opinion.uncertainty[n].item() for n in right] + [1 - share], key=lambda u: u) if wrong else None
    if not wrong:
        limit_u = min(max(opinion.uncertainty[n].item() for n in right), 1 - share)
    limit_p = share if wrong else max(min(given[n, own[n]].item() for n in right), share)
    alpha = opinion.alpha
    entropies = []
    for n in range(6):
        total = alpha[n].sum()
        entropies.append(
            sum((a / total * (torch.digamma(total + 1) - torch.digamma(a + 1))).item() for a in alpha[n]),
        )
    median = sorted(entropies)[2]
    assert found.median_entropy.item() == pytest.approx(median)
    for n in range(6):
        kind = evidence.POLYSEMOUS
        if given[n, own[n]].item() >= limit_p and entropies[n] <= median + 1e-12:
            kind = evidence.PRECISE
        if opinion.uncertainty[n].item() > limit_u:
            kind = evidence.UNDETERMINED
        assert found.kinds[n].item() == kind


def test_joined_kinds_by_hand() -> None:
    one, other = torch.tensor([0, 1, 2, 1, 1, 2]), torch.tensor([1, 1, 2, 2, 0, 0])
    assert evidence.join_kinds(one, other).tolist() == [0, 1, 2, 2, 0, 0]


def test_soft_targets_of_polysemous_queries_alone() -> None:
    pair, kinds = (scores(0), scores(1)), torch.tensor([0, 1, 2, 2, 1, 0])
    targets = evidence.soften_targets(kinds, pair, TARGET, share=0.2, temperature=0.5)
    for n, kind in enumerate(kinds.tolist()):
        soft = [oracles.softmax((each[n] / 0.5).tolist()) for each in pair]
        one_hot = [float(v == TARGET[n]) for v in range(4)]
        mixed = [0.8 * hard + 0.1 * (a + b) for hard, a, b in zip(one_hot, *soft, strict=True)]
        assert targets[n].tolist() == pytest.approx(mixed if kind == evidence.POLYSEMOUS else one_hot)
    torch.testing.assert_close(targets.sum(1), torch.ones(6).double())


@pytest.mark.parametrize("counts", [True, False])
def test_blocks_of_own_clips_beside_a_slow_loop(counts: bool) -> None:
    queries, clips = noise(6, 5).double(), noise(4, 3, 5, seed=1).double()
    blocks = evidence.own_clips(queries, clips, TARGET, padding_counts=counts)
    assert blocks.real.tolist() == [[True, True, False], [True, False, False], [False] * 3, [True] * 3]
    for v in range(4):
        own = [n for n in range(6) if TARGET[n] == v]
        cosines = [[oracles.cosine(queries[n].tolist(), clip) for clip in clips[v].tolist()] for n in own]
        values = [value for row in cosines for value in row] + ([0.0] if counts and len(own) < 3 else [])
        for place, row in enumerate(cosines):
            wanted = [(value - min(values)) / (max(values) - min(values) + 1e-8) for value in row]
            assert blocks.similarities[v, place].tolist() == pytest.approx(wanted)
    assert blocks.similarities.isfinite().all()


def test_a_plan_moves_all_that_there_is() -> None:
    """Every clip receives as much as another; captions have one share, the dustbin as many as there are clips."""
    queries, clips = noise(6, 5).double(), noise(4, 3, 5, seed=1).double()
    blocks = evidence.own_clips(queries, clips, TARGET, padding_counts=True)
    dustbin = evidence.dustbin_values(blocks, share=0.3)
    plan = evidence.transport(blocks, dustbin, temperature=0.1, rounds=50)
    assert torch.equal(plan > 0, blocks.real[..., None].expand_as(plan))
    torch.testing.assert_close(plan.sum(2), blocks.real.double(), atol=1e-6, rtol=0)
    for v, count in ((0, 2), (1, 1), (3, 3)):
        values = sorted(blocks.similarities[v, :count].flatten().tolist())
        assert dustbin[v].item() == values[max(1, math.floor(0.3 * count * 3)) - 1]
        wanted = sinkhorn(blocks.similarities[v, :count].tolist(), dustbin[v].item(), temperature=0.1, rounds=50)
        for place in range(count):
            assert plan[v, place].tolist() == pytest.approx(wanted[place], abs=1e-7)


@pytest.mark.parametrize(("captions", "clips"), [(5, 18), (10, 9), (9, 20), (15, 6), (1, 3)])
def test_the_dustbin_counts_three_tenths_of_all_entries(captions: int, clips: int) -> None:
    """Where three tenths of the entries are a whole number, neither order of the products may round it down."""
    similarities = torch.arange(captions * clips, dtype=torch.float64).view(1, captions, clips)
    blocks = evidence.Blocks(similarities, torch.ones(1, captions, dtype=torch.bool))
    assert evidence.dustbin_values(blocks, share=0.3).item() == max(1, 3 * captions * clips // 10) - 1


def sinkhorn(similarities: list[list[float]], dustbin: float, *, temperature: float, rounds: int) -> list[list[float]]:
    """In plain numbers: rows and columns are scaled by turns; then each row of a caption to a sum of 1."""
    clips = len(similarities[0])
    plan = [[math.exp(x / temperature) for x in row] for row in [*similarities, [dustbin] * clips]]
    supply = [1 / (len(similarities) + clips)] * len(similarities) + [clips / (len(similarities) + clips)]
    for _ in range(rounds):
        plan = [[x * mass / sum(row) for x in row] for row, mass in zip(plan, supply, strict=True)]
        sums = [sum(row[m] for row in plan) for m in range(clips)]
        plan = [[x / (clips * total) for x, total in zip(row, sums, strict=True)] for row in plan]
    return [[x / sum(row) for x in row] for row in plan[:-1]]


def test_the_transport_loss_is_a_mean_over_captions_and_then_over_videos_with_some() -> None:
    queries, clips = noise(6, 5).double(), noise(4, 3, 5, seed=1).double()
    blocks = evidence.own_clips(queries, clips, TARGET, padding_counts=True)
    blocks = evidence.Blocks(blocks.similarities.detach().requires_grad_(), blocks.real)
    plan = noise(4, 3, 3, seed=2).double().softmax(2)
    of_videos = []
    for v, count in ((0, 2), (1, 1), (3, 3)):
        alpha = (blocks.similarities[v, :count].tanh() / 0.2).exp() + 1
        of_videos.append(evidence.expected_squares(alpha, plan[v, :count]).mean().item())
    found = evidence.transport_loss(blocks, plan, temperature=0.2)
    assert found.item() == pytest.approx(oracles.mean(of_videos))
    found.backward()
    assert blocks.similarities.grad is not None
    assert torch.equal(blocks.similarities.grad.abs().sum(2) > 0, blocks.real)
