"""Collaborative experts and the mixture of embedding experts beside slow loops, and what is true of every method."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from method_checks import build, check_invariants, check_learning, check_learns, lively, toy_batch
from torch import Tensor, nn
from toy_world import WORDS, toy_world

from prvr.batch import Batch
from prvr.errors import DataError, SettingError
from prvr.features.joined import JoinedFeatures
from prvr.features.packed import Packed, PackedWriter
from prvr.methods.collaborative_experts import CollaborativeExperts, CollaborativeExpertsConfig, CollaborativeGating
from prvr.methods.contract import embed
from prvr.methods.distiller import Distiller
from prvr.methods.embedding_experts import EmbeddingExperts, EmbeddingExpertsConfig
from prvr.nn.experts import ExpertModel, GatedUnit, NetVlad, max_margin
from prvr.train.presets import preset

TEACHTEXT = preset("teachtext/toy").distillation
COLUMNS = (4, 3, 5)
# The second expert is a sequence.
SIZES: dict[str, Any] = {
    "experts": COLUMNS,
    "expert_clusters": (0, 2, 0),
    "expert_tokens": (0, 4, 0),
    "clusters": 3,
    "max_words": 5,
}
SMALL = CollaborativeExpertsConfig(hidden=6, **SIZES)
MIXTURE = EmbeddingExpertsConfig(**SIZES)
ONE = CollaborativeExpertsConfig(hidden=16, clusters=4, reads_padding=False)
LENGTHS, TARGET = (5, 1, 3), (0, 0, 1, 2, 2)


def student(**changes: Any) -> CollaborativeExperts:
    torch.manual_seed(0)
    made = CollaborativeExperts(replace(SMALL, **changes), frame_columns=sum(COLUMNS), word_columns=WORDS)
    model: CollaborativeExperts = lively(made).double()
    return model


def mixture() -> EmbeddingExperts:
    torch.manual_seed(0)
    model: EmbeddingExperts = lively(EmbeddingExperts(MIXTURE, frame_columns=sum(COLUMNS), word_columns=WORDS)).double()
    return model


def batch(*, more_frames: int = 0, without: tuple[tuple[int, int], ...] = ((1, 0), (2, 2))) -> Batch:
    """Three videos; `without` lists videos and the expert that each lacks."""
    draw = torch.Generator().manual_seed(1)
    frames = torch.randn(3, 5, sum(COLUMNS), generator=draw, dtype=torch.float64)
    for video, expert in without:
        frames[video].split(COLUMNS, dim=-1)[expert].zero_()
    words = torch.randn(5, 4, WORDS, generator=draw, dtype=torch.float64)
    frames = torch.cat([frames, torch.randn(3, more_frames, sum(COLUMNS), generator=draw, dtype=torch.float64)], 1)
    mask = torch.arange(5 + more_frames) < torch.tensor(LENGTHS)[:, None]
    word_mask = torch.arange(4) < torch.tensor([4, 2, 1, 3, 4])[:, None]
    return Batch(frames * mask[..., None], mask, words, word_mask, torch.tensor(TARGET), ())


def loop_unit(values: list[float]) -> list[float]:
    length = math.sqrt(sum(v * v for v in values))
    return [v / length for v in values]


def loop_norm(norm: nn.BatchNorm1d, values: Tensor) -> Tensor:
    return (values - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


def loop_gated(unit: GatedUnit, values: Tensor) -> list[float]:
    hidden = unit.linear.weight @ values + unit.linear.bias
    gates = loop_norm(unit.norm, unit.gate.weight @ hidden + unit.gate.bias).tolist()
    return loop_unit([h / (1 + math.exp(-g)) for h, g in zip(hidden.tolist(), gates, strict=True)])


def loop_vlad(pooling: NetVlad, rows: Tensor) -> Tensor:
    by_cluster = []
    for k, centre in enumerate(pooling.centres.T.tolist()):
        sums = [0.0] * len(centre)
        for row in rows:
            share = oracles.softmax(loop_norm(pooling.norm, row @ pooling.clusters).tolist())[k]
            sums = [s + share * (x - c) for s, x, c in zip(sums, row.tolist(), centre, strict=True)]
        by_cluster.append(loop_unit(sums))
    return torch.tensor(loop_unit([of_cluster[d] for d in range(len(centre)) for of_cluster in by_cluster]), dtype=torch.float64)


def loop_experts(model: ExpertModel, frames: Tensor) -> tuple[list[Tensor], list[bool]]:
    """The experts of one video, pooled, and which it has."""
    pooled, there = [], []
    for place, block in enumerate(frames.split(COLUMNS, dim=-1)):
        rows = [row for row in block if row.abs().sum()]
        there.append(bool(rows))
        if place == 1:
            four = torch.cat([block, torch.zeros(4, block.shape[1], dtype=torch.float64)])[:4]
            pooled.append(loop_vlad(model.experts.poolings["1"], four))
        else:
            pooled.append(torch.stack(rows).mean(0) if rows else torch.zeros(block.shape[1], dtype=torch.float64))
    return pooled, there


def loop_gating(gating: CollaborativeGating, pooled: list[Tensor], there: list[bool], *, simultaneous: bool) -> list[list[float]]:
    def mish(x: Tensor) -> Tensor:
        return x * torch.tanh(torch.log1p(x.exp()))

    def gate(one: Tensor, two: Tensor) -> Tensor:
        hidden = mish(loop_norm(gating.first_norm, gating.first(torch.cat([one, two]))))
        return gating.third(mish(loop_norm(gating.second_norm, gating.second(hidden))))

    reduced = [
        torch.tensor(loop_unit(layer(x).tolist()), dtype=torch.float64)
        for layer, x in zip(gating.reductions, pooled, strict=True)
    ]
    experts = list(reduced)
    for e, unit in enumerate(gating.gates):
        before = reduced if simultaneous else experts
        said = [gate(before[e], before[f]) for f in range(len(before)) if there[e] and there[f]]
        mean = torch.stack(said).mean(0) if said else torch.zeros(len(before[e]), dtype=torch.float64)
        logits = loop_norm(unit.norm, mean) + loop_norm(unit.own_norm, unit.linear(before[e]))
        experts[e] = torch.tensor(loop_unit((before[e] * logits.sigmoid()).tolist()), dtype=torch.float64)
    return [expert.tolist() for expert in experts]


def loop_videos(model: ExpertModel, frames: Tensor, *, simultaneous: bool = False) -> tuple[list[list[float]], list[bool]]:
    pooled, there = loop_experts(model, frames)
    if isinstance(model.videos, CollaborativeGating):
        return loop_gating(model.videos, pooled, there, simultaneous=simultaneous), there
    return [loop_gated(unit, x) for unit, x in zip(model.videos.units, pooled, strict=True)], there


@pytest.mark.parametrize("which", ["mixture", "one after the other", "simultaneous"])
@torch.no_grad()
def test_scores_against_loops(which: str) -> None:
    simultaneous = which == "simultaneous"
    model, given = mixture() if which == "mixture" else student(simultaneous=simultaneous), batch()
    queries, videos, _ = embed(model, given)
    scores = model.score(queries, videos, given.frame_mask)
    for n in range(len(TARGET)):
        # Padded words are words of zeros: five for every sentence.
        words = torch.cat([given.words[n] * given.word_mask[n][:, None], torch.zeros(1, WORDS, dtype=torch.float64)])
        pooled = loop_vlad(model.texts.pooling, words)
        weights = oracles.softmax(model.texts.mixture(pooled).tolist())
        for v, length in enumerate(LENGTHS):
            experts, there = loop_videos(model, given.frames[v, :length], simultaneous=simultaneous)
            total = below = 0.0
            for expert, has, text, weight in zip(experts, there, model.texts.units, weights, strict=True):
                total += weight * oracles.dot(loop_gated(text, pooled), expert) * has
                below += weight * has
            assert scores[n, v].item() == pytest.approx(total / below, abs=1e-9)
    assert model.relevance((queries[0][:1],), (videos[0][:1],)).tolist() == pytest.approx([scores[0, 0].item()])


@torch.no_grad()
def test_words_that_are_padding_can_be_left_out() -> None:
    model, given = student(reads_padding=False), batch()
    (queries,) = model.encode_queries(given.words, given.word_mask)
    pooled = loop_vlad(model.texts.pooling, given.words[1][given.word_mask[1]])
    weights = oracles.softmax(model.texts.mixture(pooled).tolist())
    for unit, weight, vector in zip(model.texts.units, weights, queries[1].tolist(), strict=True):
        assert vector == pytest.approx([weight * x for x in loop_gated(unit, pooled)], abs=1e-9)


@pytest.mark.parametrize("method", ["collaborative_experts", "embedding_experts"])
def test_all_that_learns_gets_a_gradient(method: str) -> None:
    settings = {"collaborative_experts": ONE, "embedding_experts": EmbeddingExpertsConfig(clusters=4)}[method]
    model = build(method, settings)
    check_invariants(model)
    check_learning(method, model, toy_batch(model), toy_batch(model, most=1))


@torch.no_grad()
def test_padding_and_order_change_nothing() -> None:
    model, first, padded = student(), batch(), batch(more_frames=3)
    one, two = (model.score(*embed(model, given)[:2], given.frame_mask) for given in (first, padded))
    torch.testing.assert_close(one, two)
    queries, videos, _ = embed(model, first)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(model.score(queries, (videos[0][order],), first.frame_mask[order]), one[:, order])


@torch.no_grad()
def test_a_video_without_any_expert_scores_nothing() -> None:
    model = student()
    given = batch(without=tuple((1, expert) for expert in range(3)))
    scores = model.score(*embed(model, given)[:2], given.frame_mask)
    assert scores[:, 1].eq(0).all()
    assert scores.isfinite().all()


def loop_max_margin(s: list[list[float]], y: tuple[int, ...], margin: float) -> float:
    hinges = []
    for n in range(len(s)):
        right = s[n][y[n]]
        hinges += [max(0.0, margin + s[n][v] - right) for v in range(len(s[0])) if v != y[n]]
        hinges += [max(0.0, margin + s[k][y[n]] - right) for k in range(len(s)) if y[k] != y[n]]
    return oracles.mean(hinges)


def test_max_margin_against_a_loop_and_by_hand() -> None:
    scores = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = loop_max_margin(scores.tolist(), TARGET, 0.2)
    assert max_margin(scores, torch.tensor(TARGET), margin=0.2).item() == pytest.approx(expected)
    # One caption a video: (0.1 + 0.4 - 0.5)+ = 0, (0.1 + 0.6 - 0.3)+ = 0.4; columns 0.1 + 0.6 - 0.5 = 0.2, 0.1 + 0.4 - 0.3 = 0.2.
    square = torch.tensor([[0.5, 0.4], [0.6, 0.3]])
    assert max_margin(square, torch.arange(2), margin=0.1).item() == pytest.approx((0.0 + 0.4 + 0.2 + 0.2) / 4)
    assert max_margin(torch.ones(2, 1), torch.zeros(2, dtype=torch.long), margin=0.1).item() == 0


def test_experts_that_do_not_fit_the_frames() -> None:
    with pytest.raises(SettingError, match=r"experts have \[4, 3, 5\] columns, and frames 20; set experts"):
        CollaborativeExperts(SMALL, frame_columns=20, word_columns=WORDS)
    with pytest.raises(SettingError, match="each must have a column"):
        CollaborativeExpertsConfig(experts=(4, 0))
    for clusters, tokens in (((2,), (4,)), ((2, 0), (4, 3)), ((2, 0), ())):
        with pytest.raises(SettingError, match="give one of each for every expert"):
            CollaborativeExpertsConfig(experts=(4, 3), expert_clusters=clusters, expert_tokens=tokens)


def test_experts_side_by_side(tmp_path: Path) -> None:
    seen = {"a": np.ones((4, 2), np.float32), "b": np.ones((3, 2), np.float32)}
    heard = {"a": np.array([[5.0], [6.0]]), "c": np.array([[7.0]])}
    joined = JoinedFeatures([(seen, 2), (heard, 1)])
    assert joined["a"].tolist() == [[1, 1, 5], [1, 1, 5], [1, 1, 6], [1, 1, 6]]
    assert joined["b"].tolist() == [[1, 1, 0]] * 3
    assert joined["c"].tolist() == [[0, 0, 7]]
    assert (list(joined), len(joined), "c" in joined, "d" in joined) == (["a", "b", "c"], 3, True, False)
    stacked = joined.stack()
    assert stacked["a"].tolist() == [[1, 1, 5], [1, 1, 6], [1, 1, 0], [1, 1, 0]]
    assert (stacked["b"].tolist(), stacked["c"].tolist()) == (joined["b"].tolist(), joined["c"].tolist())
    with PackedWriter(tmp_path, columns=2, about={"read": {"most": 2, "unit": True}}) as writer:
        writer.append("a", np.ones((2, 2), np.float32))
    with pytest.raises(DataError, match="was sampled when it was packed, and cannot be joined"):
        JoinedFeatures([(Packed(tmp_path), 2)])


@pytest.mark.thorough
def test_learns_the_toy_world(tmp_path: Path) -> None:
    data = toy_world(videos=100, things=12)
    check_learns("collaborative_experts", replace(ONE, hidden=32), tmp_path, data=data, lr=3e-3, epochs=15)


def test_the_published_loss_of_teachtext(tmp_path: Path) -> None:
    # L = L_rank(S) + mean over all pairs of Huber(S - mean of the teachers' matrices).
    model = student()
    given = batch()
    told = [torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(k)) * 2 for k in range(2)]
    distiller = Distiller(TEACHTEXT, method="collaborative_experts", student=model.float(), kept=2)
    model.double()
    queries, videos, _ = embed(model, given)
    terms = distiller.objective(model, queries, videos, given, 50, told)
    scores = model.score(queries, videos, given.frame_mask).tolist()
    total = 0.0
    for n in range(5):
        for v in range(3):
            d = abs(scores[n][v] - (told[0][n, v].item() + told[1][n, v].item()) / 2)
            total += d * d / 2 if d < 1 else d - 0.5
    assert terms["distillation"].item() == pytest.approx(total / 15, abs=1e-9)
    assert terms["ranking"].item() == pytest.approx(loop_max_margin(scores, TARGET, SMALL.margin), abs=1e-9)
    assert set(terms) == {"distillation", "ranking"}
