"""RAL: word scores, support sets, distributions and proxies beside slow loops; what padding changes; and that it learns.

Its numbers beside the published code's: test_peers_gmmformer_family.py.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from method_checks import (
    WORDS_OF,
    build,
    check_invariants,
    check_learning,
    check_learns,
    lively,
    noise,
    padded,
    sequences,
    toy_batch,
)
from torch.distributions import Normal, kl_divergence
from toy_world import FRAMES, TEACHER, WORDS, toy_world

from prvr.batch import pad, read_words
from prvr.errors import SettingError
from prvr.evaluate import evaluation
from prvr.evaluate.evaluation import encode_captions
from prvr.methods import checkpoint as checkpoints
from prvr.methods import open_method
from prvr.methods.contract import embed
from prvr.methods.distiller import Distiller
from prvr.methods.ral import (
    Distributed,
    Ral,
    RalGmmFormerV2Config,
    alignment,
    draw_points,
    objective,
    proxy_matching,
    support_rows,
)
from prvr.nn.distillation import Distillation
from prvr.nn.word_scores import compare_words, profile

SIZES = {"hidden": 8, "heads": 2, "max_frames": 20, "max_words": 6, "clips": 4}
SMALL = RalGmmFormerV2Config(**SIZES, dropout=0.0, input_dropout=0.0)


def ral(**changes: object) -> Ral:
    return build("ral_gmmformer_v2", replace(SMALL, **changes))


@pytest.mark.parametrize("counts", [True, False])
@torch.no_grad()
def test_scores_beside_a_slow_loop(counts: bool) -> None:
    model, frames = ral(padding_counts=counts, frame_weight=0.4), (5, 20, 1)
    words, seen = sequences(WORDS_OF, WORDS), sequences(frames, FRAMES, seed=1)
    (given, mask), spoken = padded(seen), padded(words)
    queries, videos = model.encode_queries(*spoken), model.encode_videos(given, mask)
    got, (cosines, dots) = (
        model.score(queries, videos, mask),
        compare_words(model, queries, videos[1], mask, torch.zeros(6).long()),
    )
    for n, word_count in enumerate(WORDS_OF):
        rows = queries[2][n, :word_count]
        unit = torch.nn.functional.normalize(rows, dim=-1)
        shares = [model.confidence(x[None], torch.ones(1, word_count, dtype=torch.bool))[0].tolist() for x in (unit, rows)]
        for v, length in enumerate(frames):
            own = videos[1][v, :length].tolist()
            floor = [0.0] if counts and length < 20 else []
            best = [max([oracles.cosine(h, f) for f in own] + floor) for h in rows.tolist()]
            best_dots = [max([oracles.dot(h, f) for f in own] + floor) for h in rows.tolist()]
            of_words = oracles.dot(shares[0], best)
            assert cosines[n, v].item() == pytest.approx(of_words, abs=1e-5)
            assert dots[n, v].item() == pytest.approx(oracles.dot(shares[1], best_dots), abs=1e-5)
            of_clips = max(oracles.cosine(queries[0][n].tolist(), clip) for clip in videos[0][v].tolist())
            assert got[n, v].item() == pytest.approx(0.6 * of_clips + 0.4 * of_words, abs=1e-5)


@pytest.mark.parametrize("counts", [True, False])
def test_padding_and_order_change_nothing(counts: bool) -> None:
    model = ral(padding_counts=counts)
    assert model.score_weights is None
    check_invariants(model)


@torch.no_grad()
def test_captions_of_any_length_are_encoded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = toy_world(videos=6, things=6), ral()
    captions = [caption.id for caption in data.dev.captions]
    lengths = {id: 1 + place % 8 for place, id in enumerate(captions)}
    text = {id: np.resize(data.features.text[id], (lengths[id], WORDS)) for id in captions}
    monkeypatch.setattr(evaluation, "QUERIES_AT_ONCE", 2)
    queries = encode_captions(model, captions, text)
    together = model.encode_queries(*pad([read_words(text[id], model.reading) for id in captions]))
    assert len(set(lengths.values())) > 1
    assert torch.equal(queries[3], together[3])
    for ours, wanted in zip(queries[:3], together[:3], strict=True):
        real = ours.ndim < 3 or queries[3]
        torch.testing.assert_close(ours[real], wanted[real])


@torch.no_grad()
def test_the_profile_is_the_relevance_of_each_query() -> None:
    model = ral()
    queries, videos, batch = embed(model, toy_batch(model))
    along = profile(model, queries, videos, batch)
    for n, v in enumerate(batch.target.tolist()):
        length = int(batch.frame_mask[v].sum())
        alone = (videos[0][v : v + 1], videos[1][v : v + 1, :length])
        one = model.relevance(tuple(field[n : n + 1] for field in queries), alone)
        torch.testing.assert_close(along[n, :length], one)
        assert along[n, length:].eq(-math.inf).all()


def test_support_rows_are_those_of_all_captions_of_a_video() -> None:
    words, real = noise(4, 3, 2), torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]]).bool()
    rows, its_real, its_own = support_rows(words, real, torch.tensor([1, 0, 1, 2]), 3)
    assert torch.equal(rows[1], torch.cat([words[0], words[2]]))
    assert torch.equal(rows[0], torch.cat([words[1], torch.zeros(3, 2)]))
    assert its_real.tolist() == [[1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0]]
    assert its_own.tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6, [1, 1, 1, 0, 0, 0]]


@pytest.mark.parametrize("counts", [True, False])
@torch.no_grad()
def test_distributions_beside_a_slow_loop(counts: bool) -> None:
    model = ral(padding_counts=counts, support_captions=7)
    batch = toy_batch(model, most=4)
    queries, videos, batch = embed(model, batch)
    of_texts, of_videos = model.distributions(queries, videos, batch)
    words = queries[2].shape[1]
    for v in range(len(videos[0])):
        own = (batch.target == v).nonzero()[:, 0].tolist()
        real = torch.cat([queries[2][n][queries[3][n]] for n in own])
        every = torch.cat([queries[2][n] for n in own])
        zeros = torch.zeros(7 * words - len(every), 8)
        rows = torch.cat([every, zeros]) if counts else real
        check_distribution(model.of_texts, Distributed(*(x[v] for x in of_texts)), real.mean(0), rows)
        frames = videos[1][v, : int(batch.frame_mask[v].sum())]
        unit = torch.nn.functional.normalize(frames, dim=-1).mean(0)
        rows = torch.cat([frames, torch.zeros(20 - len(frames), 8)]) if counts else frames
        check_distribution(model.of_videos, Distributed(*(x[v] for x in of_videos)), unit / unit.norm(), rows)


def check_distribution(side: torch.nn.Module, got: Distributed, plain: torch.Tensor, rows: torch.Tensor) -> None:
    def pooled(pooling: torch.nn.Module) -> torch.Tensor:
        share = oracles.softmax([pooling.second(pooling.first(row).tanh()).item() for row in rows])
        return sum(a * row for a, row in zip(share, rows, strict=True))

    mean = side.norm(plain + side.mean_map(pooled(side.mean_pooling)).sigmoid())
    torch.testing.assert_close(got.mean, mean / mean.norm(), atol=1e-5, rtol=1e-4)
    wanted = side.deviation_map(pooled(side.deviation_pooling)) + side.deviation_of_mean(plain)
    torch.testing.assert_close(got.log_deviation, wanted, atol=1e-5, rtol=1e-4)


def test_proxies_are_drawn_from_their_distributions() -> None:
    torch.manual_seed(0)
    of = Distributed(noise(3, 5), noise(3, 5, seed=1) / 2)
    points = draw_points(of, 20_000)
    assert points.shape == (3, 20_000, 5)
    torch.testing.assert_close(points.mean(1), of.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(points.std(1).log(), of.log_deviation, atol=0.05, rtol=0)


@pytest.mark.parametrize(("videos", "proxies"), [(3, 2), (1, 1), (2, 6)])
def test_proxy_matching_beside_a_slow_loop(videos: int, proxies: int) -> None:
    of_videos, of_texts = noise(videos, proxies, 5), noise(videos, proxies, 5, seed=1)

    def direction(a: list, b: list) -> float:
        total = 0.0
        for i in range(videos):
            for k in range(proxies):
                every = [oracles.dot(a[i][k], b[j][m]) for j in range(videos) for m in range(proxies)]
                own = [oracles.dot(a[i][k], b[i][m]) for m in range(proxies)]
                total -= oracles.mean([x - oracles.log_sum_exp(every) for x in own])
        return total / (videos * proxies)

    wanted = (direction(of_videos.tolist(), of_texts.tolist()) + direction(of_texts.tolist(), of_videos.tolist())) / 2
    assert proxy_matching(of_videos, of_texts).item() == pytest.approx(wanted, abs=1e-5)


def test_alignment_is_two_priors_and_a_divergence() -> None:
    texts, videos = Distributed(noise(4, 5), noise(4, 5, seed=1) / 2), Distributed(noise(4, 5, seed=2), noise(4, 5, seed=3) / 2)
    normals = [Normal(side.mean, side.log_deviation.exp()) for side in (texts, videos)]
    divergence = kl_divergence(*normals).sum(1).mean()
    prior = 0.0
    for side in (texts, videos):
        # Here the logarithm is taken for that of a variance.
        standard = kl_divergence(Normal(side.mean, (side.log_deviation / 2).exp()), Normal(torch.zeros(4, 5), torch.ones(4, 5)))
        prior += standard.sum(1).mean()
    torch.testing.assert_close(alignment(texts, videos), prior + divergence)


def test_the_objective_has_all_terms_and_every_parameter_learns() -> None:
    model = ral(dropout=0.3, input_dropout=0.3)
    check_learning("ral_gmmformer_v2", model, toy_batch(model), toy_batch(model, most=1))
    terms = objective(model, *embed(model, toy_batch(model)), 0)
    shared = {"clips_triplet", "clips_nce", "frames_triplet", "frames_nce", "diversity", "matching"}
    assert set(terms) == {*shared, "proxies", "alignment"}
    doubled = ral(proxy_weight=2 * SMALL.proxy_weight, alignment_weight=2 * SMALL.alignment_weight)
    parts = []
    for each in (ral(), doubled):
        given = embed(each, toy_batch(each))
        torch.manual_seed(0)
        parts.append(objective(each, *given, 0))
    for name in ("proxies", "alignment"):
        torch.testing.assert_close(parts[1][name], 2 * parts[0][name])


def test_settings_that_cannot_be() -> None:
    for setting in ("proxies", "clips", "support_captions"):
        with pytest.raises(SettingError, match=f"{setting} is 0"):
            replace(SMALL, **{setting: 0})


@pytest.mark.slow
@pytest.mark.thorough
def test_learns_the_toy_world(tmp_path: Path) -> None:
    student = RalGmmFormerV2Config(hidden=32, max_frames=32, clips=8, dropout=0.0, input_dropout=0.0, hard_from_epoch=100)
    best = check_learns("ral_gmmformer_v2", student, tmp_path, lr=3e-3, epochs=12)
    assert checkpoints.load(tmp_path).fingerprint == best.fingerprint


DISTILLED = ("gmmformer", "gmmformer_v2", "hlformer", "ral_gmmformer_v2", "ms_sl", "holmes", "holmes_dual", "dreamprvr")


@pytest.mark.parametrize("method", DISTILLED)
def test_distillation_comes_on_top(method: str) -> None:
    settings = open_method(method).config(**SIZES, dropout=0.0, input_dropout=0.0)
    student = lively(open_method(method).model(settings, frame_columns=FRAMES, word_columns=WORDS))
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
