"""XML and ReLoCLNet: scores and losses beside slow loops, and what is true of every method."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import oracles
import pytest
import torch
from method_checks import (
    MATRIX,
    PROFILE,
    build,
    check_invariants,
    check_learning,
    check_learns,
    check_taught,
    terms_of,
    toy_batch,
)

from prvr.errors import SettingError
from prvr.methods.contract import embed
from prvr.methods.reloclnet import ReloclnetConfig, objective, profile
from prvr.methods.xml import XmlConfig
from prvr.nn import losses
from prvr.nn.distillation import Distillation
from prvr.nn.losses import ranking

SIZES = {"hidden": 16, "heads": 2, "max_frames": 16, "dropout": 0.0, "input_dropout": 0.0, "hard_from_epoch": 3}
SETTINGS = {"xml": XmlConfig(**SIZES), "reloclnet": ReloclnetConfig(**SIZES)}
each = pytest.mark.parametrize("method", SETTINGS)


@each
def test_what_pads_and_who_stands_beside_changes_nothing(method: str) -> None:
    model = build(method, SETTINGS[method])
    check_invariants(model)


@each
def test_all_that_learns_gets_a_gradient(method: str) -> None:
    model = build(method, SETTINGS[method])
    check_learning(method, model, toy_batch(model), toy_batch(model, most=1))


@each
def test_a_teacher_can_be_added(method: str) -> None:
    model = build(method, SETTINGS[method])
    soft = (Distillation(soft_targets="teacher"),) if method == "reloclnet" else ()
    check_taught(method, model, toy_batch(model), by=(PROFILE, MATRIX, *soft))


@pytest.mark.slow
@pytest.mark.thorough
@each
def test_learns_the_toy_world(method: str, tmp_path: Path) -> None:
    check_learns(method, replace(SETTINGS[method], hidden=32), tmp_path)


@each
def test_a_score_is_the_best_frames_cosine(method: str) -> None:
    model = build(method, SETTINGS[method])
    batch = toy_batch(model)
    with torch.no_grad():
        queries, videos, _ = embed(model, batch)
        found = model.score(queries, videos, batch.frame_mask)
    lengths = batch.frame_mask.sum(1).tolist()
    frames = oracles.frame_scores(queries[0].tolist(), videos[0].tolist(), lengths, oracles.cosine)
    torch.testing.assert_close(found, torch.tensor(oracles.video_scores(frames)), atol=1e-5, rtol=1e-5)


@each
def test_hard_negatives_make_the_triplet_of_the_equation(method: str) -> None:
    model = build(method, replace(SETTINGS[method], negative_pool=1))
    batch = toy_batch(model)
    terms, queries, videos = terms_of(method, model, batch, epoch=3)
    s = model.score(queries, videos[:1], batch.frame_mask).tolist()
    y = batch.target.tolist()
    negatives = [oracles.hardest_wrong_videos(s, y, n, 1)[0] for n in range(len(y))]
    assert terms["triplet"].item() == pytest.approx(oracles.triplet(s, y, margin=0.1, negatives=negatives), abs=1e-5)


def test_before_that_epoch_any_wrong_partner_will_do() -> None:
    model = build("xml", replace(SETTINGS["xml"], negative_pool=1))
    batch = toy_batch(model)
    drawn = {epoch: {terms_of("xml", model, batch, epoch=epoch)[0]["triplet"].item() for _ in range(6)} for epoch in (2, 3)}
    assert len(drawn[2]) > 1
    assert len(drawn[3]) == 1
    assert max(drawn[2]) <= max(drawn[3])


@pytest.mark.parametrize("pool", [None, 2])
def test_a_negative_is_drawn_from_all_of_the_pool(pool: int | None) -> None:
    target = torch.tensor([0, 0, 1, 2, 2])
    s = torch.tensor([[0.0, 0, 3], [0, 0, 2], [1, 0, 1], [2, 1, 0], [3, 2, 0]])
    torch.manual_seed(0)
    drawn = torch.stack([losses.hard_negative_queries(s, target, pool=pool or 5) for _ in range(600)])
    every, hardest = ({2, 3, 4}, {0, 1, 3, 4}, {0, 1, 2}), ({3, 4}, {3, 4}, {0, 1})
    for video, wrong in enumerate(every if pool is None else hardest):
        counts = Counter(drawn[:, video].tolist())
        assert set(counts) == wrong
        assert min(counts.values()) > 600 / len(wrong) * 0.7


@each
def test_both_directions_draw_from_the_pool(method: str) -> None:
    torch.manual_seed(0)
    model = build(method, replace(SETTINGS[method], negative_pool=20))
    batch = toy_batch(model)
    drawn = {terms_of(method, model, batch, epoch=3)[0]["triplet"].item() for _ in range(6)}
    assert len(drawn) == 6


def test_the_other_form_of_the_ranking_loss() -> None:
    model = build("xml", replace(SETTINGS["xml"], ranking_loss="lse", negative_pool=1))
    batch = toy_batch(model)
    terms, queries, videos = terms_of("xml", model, batch, epoch=3)
    s, y = model.score(queries, videos, batch.frame_mask).tolist(), batch.target.tolist()
    to_video = [math.log1p(math.exp(max(x for v, x in enumerate(row) if v != t) - row[t])) for row, t in zip(s, y, strict=True)]
    to_text = []
    for v in range(len(s[0])):
        right = oracles.mean([row[v] for row, t in zip(s, y, strict=True) if t == v])
        to_text.append(math.log1p(math.exp(max(row[v] for row, t in zip(s, y, strict=True) if t != v) - right)))
    assert terms["triplet"].item() == pytest.approx(oracles.mean(to_video) + oracles.mean(to_text), abs=1e-5)


def test_a_pool_that_holds_every_video_still_takes_the_hardest_query() -> None:
    s, target = torch.tensor([[0.5, 0.4], [0.3, 0.5], [0.49, 0.5]]), torch.tensor([0, 1, 1])
    # Text to video: 1 + 0.4 - 0.5, 1 + 0.3 - 0.5, 1 + 0.49 - 0.5; video to text: 1 + 0.49 - 0.5, 1 + 0.4 - 0.5.
    assert ranking(s, target, margin=1.0, pool=20).item() == pytest.approx((0.9 + 0.8 + 0.99) / 3 + (0.99 + 0.9) / 2)


def test_the_contrast_of_reloclnet_is_on_the_way() -> None:
    model = build("reloclnet", SETTINGS["reloclnet"])
    batch = toy_batch(model)
    terms, queries, videos = terms_of("reloclnet", model, batch)
    lengths, y = batch.frame_mask.sum(1).tolist(), batch.target.tolist()
    d = oracles.video_scores(oracles.frame_scores(queries[0].tolist(), videos[1].tolist(), lengths, oracles.dot))
    each = []
    for n, v in enumerate(y):
        # Its row, itself again, and the captions of other videos in its column.
        together = d[n] + [d[n][v]] + [d[k][v] for k in range(len(y)) if y[k] != v]
        each.append(oracles.log_sum_exp(together) - d[n][v])
    assert terms["video_contrast"].item() == pytest.approx(0.03 * oracles.mean(each), abs=1e-5)
    terms["video_contrast"].backward()
    without = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is None}
    assert without == {"extra_frames"}


def test_another_contrast_can_take_its_place() -> None:
    model = build("reloclnet", SETTINGS["reloclnet"])
    batch = toy_batch(model)
    model.train()
    terms = objective(model, *embed(model, batch), 0, contrast=lambda dots, target: torch.tensor(2.0))
    assert terms["video_contrast"].item() == pytest.approx(0.06)


def test_an_index_holds_the_last_encoding_alone_and_the_profile_is_its() -> None:
    model = build("reloclnet", SETTINGS["reloclnet"])
    batch = toy_batch(model)
    with torch.no_grad():
        assert [len(model.train(training).encode_videos(batch.frames, batch.frame_mask)) for training in (True, False)] == [2, 1]
        queries, videos, _ = embed(model, batch)
        curves = profile(model, queries, videos, batch)
        for n, v in enumerate(batch.target.tolist()):
            length = int(batch.frame_mask[v].sum())
            alone = model.relevance((queries[0][n : n + 1],), (videos[0][v : v + 1, :length],))
            torch.testing.assert_close(curves[n, :length], alone)


@each
def test_settings_that_cannot_be(method: str) -> None:
    for changes, said in (
        ({"negative_pool": 0}, "negative_pool is 0; it must be above 0"),
        ({"dropout": 1.5}, "dropout is 1.5; it takes a share from 0 to 1"),
        ({"heads": 3}, "hidden 16 is not a multiple of heads 3"),
    ):
        with pytest.raises(SettingError, match=said):
            replace(SETTINGS[method], **changes)
