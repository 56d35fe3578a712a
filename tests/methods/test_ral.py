"""RAL: Gaussians and proxies by formula and by loops; the student beneath it stays what it is."""

from __future__ import annotations

from pathlib import Path

import oracles
import pytest
import torch
from method_checks import FRAMES_OF, WORDS_OF, check_invariants, check_learns, lively, noise, padded, sequences, toy_batch
from torch import nn
from torch.distributions import Normal, kl_divergence
from toy_world import FRAMES, TEACHER, WORDS, toy_world

from prvr.errors import SettingError
from prvr.methods import checkpoint as checkpoints
from prvr.methods import open_method
from prvr.methods.contract import embed
from prvr.methods.distiller import Distiller
from prvr.methods.ral import (
    STUDENTS,
    Gaussian,
    Gaussians,
    Ral,
    RalGmmFormerConfig,
    RalGmmFormerV2Config,
    RalMsSlConfig,
    divergence,
    drawn,
    objective,
    proxy_scores,
)
from prvr.nn.distillation import Distillation
from prvr.nn.losses import info_nce

COLUMNS = {"frame_columns": FRAMES, "word_columns": WORDS}
SMALL = {"hidden": 8, "heads": 2, "max_frames": 20, "max_words": 6, "clips": 4}
every_student = pytest.mark.parametrize("config", [kind(**SMALL) for kind in STUDENTS], ids=lambda c: type(c).__name__)


def ral(config: object) -> Ral:
    return lively(Ral(config, **COLUMNS))


def gaussian(count: int, seed: int) -> Gaussian:
    return Gaussian(noise(count, 5, seed=seed), noise(count, 5, seed=seed + 1) / 2)


def test_divergence_is_that_of_normal_distributions() -> None:
    one, other = gaussian(4, 0), gaussian(4, 2)
    normals = [Normal(g.mean, (g.log_variance / 2).exp()) for g in (one, other)]
    torch.testing.assert_close(divergence(one, other), kl_divergence(*normals).sum(1))
    assert divergence(one, one).abs().max() < 1e-6


def test_proxies_are_drawn_from_their_gaussians() -> None:
    torch.manual_seed(0)
    of = gaussian(3, 0)
    points = drawn(of, 20_000)
    assert points.shape == (3, 20_000, 5)
    torch.testing.assert_close(points.mean(1), of.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(points.var(1).log(), of.log_variance, atol=0.05, rtol=0)


@pytest.mark.parametrize(("queries", "videos", "proxies"), [(3, 2, 4), (1, 1, 1), (2, 3, 6)])
def test_proxy_scores_beside_a_slow_loop(queries: int, videos: int, proxies: int) -> None:
    ours, theirs = noise(queries, proxies, 5), noise(videos, proxies, 5, seed=1)
    got = proxy_scores(ours, theirs).tolist()
    for q in range(queries):
        for v in range(videos):
            best = [max(oracles.dot(a, b) for b in theirs[v].tolist()) for a in ours[q].tolist()]
            assert got[q][v] == pytest.approx(oracles.mean(best), abs=1e-5)


def test_variances_start_small_and_follow_what_is_seen() -> None:
    torch.manual_seed(0)
    of_queries, of_videos = Gaussians(8)(noise(3, 8), noise(2, 4, 8))
    for each in (of_queries, of_videos):
        assert 0.01 < each.log_variance.exp().mean().item() < 0.04
        assert each.log_variance.std(0).min() > 0
    torch.testing.assert_close(of_queries.mean, noise(3, 8))


@every_student
def test_a_student_is_asked_and_scores_as_alone(config: object) -> None:
    model, words, frames = ral(config), sequences(WORDS_OF, WORDS), sequences(FRAMES_OF, FRAMES, seed=1)
    check_invariants(model, words, frames)
    (seen, mask), said = padded(frames), padded(words)
    queries, videos = model.encode_queries(*said), model.encode_videos(seen, mask)
    alone = model.student.score(model.student.encode_queries(*said), model.student.encode_videos(seen, mask), mask)
    assert torch.equal(model.score(queries, videos, mask), alone)
    first = tuple(field[:1] for field in videos)
    asked = tuple(field[:1] for field in queries)
    assert torch.equal(model.relevance(asked, first), model.student.relevance(asked, first))


@every_student
def test_two_terms_come_to_the_student_s(config: object) -> None:
    model = ral(config)
    given = embed(model, toy_batch(model))
    torch.manual_seed(0)
    alone = STUDENTS[type(config)].objective(model.student, *given, 0)
    torch.manual_seed(0)
    terms = objective(model, *given, 0)
    assert set(terms) == {*alone, "alignment", "proxies"}
    for name, term in alone.items():
        torch.testing.assert_close(terms[name], term)
    sum(terms.values()).backward()
    learning = [*model.gaussians.parameters(), *model.student.parameters()]
    assert all(parameter.grad is not None for parameter in learning)


def test_the_terms_are_what_their_names_say() -> None:
    model = ral(RalGmmFormerConfig(**SMALL, alignment_weight=0.5, proxy_weight=0.25))
    queries, videos, batch = embed(model, toy_batch(model))
    for layer in (model.gaussians.of_query, model.gaussians.of_video):
        assert isinstance(layer, nn.Linear)
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, -60.0)  # so narrow that every proxy is the mean
    of_queries, of_videos = model.gaussians(queries[0], videos[0])
    terms = objective(model, queries, videos, batch, 0)
    torch.testing.assert_close(terms["proxies"], 0.25 * info_nce(of_queries.mean @ of_videos.mean.T, batch.target))
    for layer in (model.gaussians.of_query, model.gaussians.of_video):
        nn.init.zeros_(layer.bias)
    terms = objective(model, queries, videos, batch, 0)
    apart = [(q - of_videos.mean[v]).square().sum() / 2 for q, v in zip(queries[0], batch.target, strict=True)]
    torch.testing.assert_close(terms["alignment"], 0.5 * torch.stack(apart).mean())


def test_without_proxies_nothing_matches() -> None:
    for kind in (RalMsSlConfig, RalGmmFormerConfig, RalGmmFormerV2Config):
        with pytest.raises(SettingError, match="proxies is 0"):
            kind(proxies=0)
        with pytest.raises(SettingError, match="clips is 0"):
            kind(clips=0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ral_gmmformer"])
def test_learns_the_toy_world(tmp_path: Path, method: str) -> None:
    student = open_method(method).config(hidden=32, max_frames=32, clips=8, dropout=0.0, input_dropout=0.0, hard_from_epoch=100)
    best = check_learns(method, student, tmp_path, lr=3e-3, epochs=12)
    assert checkpoints.load(tmp_path).fingerprint == best.fingerprint


@pytest.mark.parametrize("method", ["gmmformer", "gmmformer_v2", "hlformer", "ral_gmmformer_v2", "ral_ms_sl"])
def test_distillation_comes_on_top(method: str) -> None:
    settings = open_method(method).config(**SMALL, dropout=0.0, input_dropout=0.0)
    student = lively(open_method(method).model(settings, **COLUMNS))
    given = embed(student, toy_batch(student, data=toy_world(videos=6, things=6)))
    taught = Distiller(
        Distillation(distillation_weight=0.5, soft_targets="teacher"), method=method, student=student, teacher_columns=[TEACHER]
    )
    torch.manual_seed(0)
    alone = open_method(method).objective(student, *given, 0)
    torch.manual_seed(0)
    terms = taught.objective(student, *given, 0)
    assert set(terms) == {*alone, "distillation"}
    assert terms["distillation"].item() > 0
    assert terms["clips_nce"].item() != pytest.approx(alone["clips_nce"].item(), rel=1e-3)
    torch.testing.assert_close(terms["clips_triplet"], alone["clips_triplet"])
