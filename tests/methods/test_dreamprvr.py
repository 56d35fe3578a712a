"""DreamPRVR: attention to registers beside a slow loop, its losses, what padding changes, and that it learns.

Its numbers beside the published code's: test_peers_leaders.py; the registers: tests/nn/test_registers.py.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    lively,
    noise,
    toy_batch,
)
from torch.distributions import Normal, kl_divergence

from prvr.errors import SettingError
from prvr.methods import checkpoint as checkpoints
from prvr.methods.contract import embed
from prvr.methods.dreamprvr import (
    DreamPrvr,
    DreamPrvrConfig,
    RegisterHeads,
    RegisterSource,
    divergence,
    draw_perturbation,
    mean_texts,
    objective,
    perturb,
    query_similarity,
)
from prvr.nn.gaussian import WindowedHeads, window
from prvr.nn.layers import Rows
from prvr.nn.registers import sinusoids

SIZES: dict[str, Any] = {"hidden": 8, "heads": 2, "max_frames": 20, "max_words": 6, "clips": 4, "registers": 3, "steps": 4}
SMALL = DreamPrvrConfig(**SIZES, dropout=0.0, input_dropout=0.0)


def dream(**changes: object) -> DreamPrvr:
    return build("dreamprvr", replace(SMALL, **changes))


@pytest.mark.parametrize("counts", [True, False])
def test_padding_and_company_change_no_score(counts: bool) -> None:
    model = dream(padding_counts=counts)
    check_invariants(model)
    assert (model.score_weights is None) == counts


@pytest.mark.parametrize("width", [0.0, 4.0])
@torch.no_grad()
def test_attention_to_rows_within_a_window_and_to_all_registers(width: float) -> None:
    heads = lively(RegisterHeads(6, 2, 0.0, width=width, places=9))
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    rows, hidden, registers = Rows.of(mask), noise(6, 6), noise(2, 3, 6, seed=1)
    found, shape = heads(hidden, rows, registers), window(9, width, like=hidden) if width else torch.ones(9, 9)
    for v, (first, length) in enumerate(((0, 4), (4, 2))):
        keys = torch.cat([hidden[first : first + length], registers[v]])
        for place in range(length):
            out = []
            for head in (slice(0, 3), slice(3, 6)):
                query = heads.query(hidden[first + place])[head]
                logits = [oracles.dot(query.tolist(), heads.key(key)[head].tolist()) / math.sqrt(3) for key in keys]
                logits = [x * (shape[place, j].item() if j < length else 1) for j, x in enumerate(logits)]
                share = oracles.softmax(logits)
                out.append(sum(a * heads.value(key)[head] for a, key in zip(share, keys, strict=True)))
            torch.testing.assert_close(found[first + place], torch.cat(out), atol=1e-5, rtol=1e-4)
    plain = lively(WindowedHeads(6, 2, 0.0, width=width, places=9))
    plain.load_state_dict(heads.state_dict())
    torch.testing.assert_close(heads(hidden, rows, registers[:, :0]), plain(hidden, rows))


def test_the_objective_has_all_terms_and_every_parameter_learns() -> None:
    model = dream(dropout=0.3, input_dropout=0.3)
    check_learning("dreamprvr", model, toy_batch(model), toy_batch(model, most=1))
    terms = objective(model, *embed(model, toy_batch(model)), 0)
    shared = {"clips_triplet", "clips_nce", "frames_triplet", "frames_nce", "diversity"}
    assert set(terms) == {*shared, "query_similarity", "kl", "diffusion"}


def test_what_registers_come_from_is_returned_in_training_and_computed_again_in_evaluation() -> None:
    model = dream()
    batch = toy_batch(model)
    _, trained, _ = embed(model.train(), batch)
    _, evaluated, _ = embed(model.eval(), batch)
    assert len(trained) == 5
    assert len(evaluated) == len(model.embedding_fields) == 2
    for one, other in zip(model.source_of(trained, batch), model.source_of(evaluated, batch), strict=True):
        torch.testing.assert_close(one, other)


def test_likeness_of_siblings_beside_a_slow_loop() -> None:
    queries, target = noise(5, 4), torch.tensor([0, 1, 0, 0, 2])
    costs = []
    for n in (0, 2, 3):
        logits = {k: oracles.cosine(queries[n].tolist(), queries[k].tolist()) / 0.2 for k in range(5) if k != n}
        total = oracles.log_sum_exp(list(logits.values()))
        costs.append(oracles.mean([total - logits[k] for k in (0, 2, 3) if k != n]))
    found = query_similarity(queries, target, temperature=0.2)
    assert found.item() == pytest.approx(oracles.mean(costs), rel=1e-5)
    for alone in (torch.arange(5), torch.arange(1)):
        given = queries[: len(alone)].clone().requires_grad_()
        nothing = query_similarity(given, alone, temperature=0.2)
        nothing.backward()
        assert nothing.item() == 0
        assert given.grad is not None
        assert given.grad.isfinite().all()


def test_the_divergence_is_that_of_torch() -> None:
    source = RegisterSource(noise(4, 5), noise(4, 5, seed=1), noise(4, 3, 5))
    wanted = kl_divergence(Normal(source.mean, (source.log_variance / 2).exp()), Normal(torch.zeros(4, 5), torch.ones(4, 5)))
    torch.testing.assert_close(divergence(source), wanted.sum(1).mean())


def test_texts_are_standardised_and_perturbed() -> None:
    torch.manual_seed(0)
    queries, target = noise(5, 6), torch.tensor([0, 2, 0, 0, 2])
    texts = mean_texts(queries, target, 3)
    torch.testing.assert_close(texts[0], queries[[0, 2, 3]].mean(0))
    assert not texts[1].any()
    scale, shift = draw_perturbation(texts, 20_000)
    deviation = 0.1 * texts.std(1)
    torch.testing.assert_close(scale.mean(1), torch.ones(3, 6), atol=5e-3, rtol=0)
    torch.testing.assert_close(scale.std(1), deviation[:, None].expand(-1, 6), atol=3e-3, rtol=0)
    torch.testing.assert_close(shift.mean(1), texts.mean(1)[:, None].expand(-1, 6), atol=5e-3, rtol=0)
    torch.testing.assert_close(shift.std(1), deviation[:, None].expand(-1, 6), atol=3e-3, rtol=0)
    plain = perturb(texts[:1], torch.ones(1, 2, 6), torch.zeros(1, 2, 6))
    torch.testing.assert_close(plain.var(2, correction=0), torch.ones(1, 2), atol=1e-3, rtol=0)


def test_codes_of_time() -> None:
    torch.manual_seed(0)
    noisy, waves = (DreamPrvr(replace(SMALL, time_code=code), frame_columns=5, word_columns=5) for code in ("noise", "sinusoids"))
    table = noisy.denoiser.times.weight
    assert 0.01 < table.std().item() < 0.03
    torch.testing.assert_close(waves.denoiser.times.weight.detach(), sinusoids(4, 8).float())
    assert not table.requires_grad


def test_what_a_teacher_says_comes_on_top() -> None:
    model = dream()
    check_taught("dreamprvr", model, toy_batch(model), by=(PROFILE, MATRIX))


def test_settings_that_cannot_be() -> None:
    for setting, value, words in (
        ("registers", 1, "registers is 1; take two or more"),
        ("steps", 0, "steps is 0"),
        ("similarity_temperature", 0.0, "similarity_temperature is 0"),
        ("widths", (), "widths is"),
    ):
        with pytest.raises(SettingError, match=words):
            replace(SMALL, **{setting: value})


@pytest.mark.slow
@pytest.mark.thorough
def test_learns_the_toy_world(tmp_path: Path) -> None:
    student = DreamPrvrConfig(hidden=32, max_frames=32, clips=8, registers=3, dropout=0.0, input_dropout=0.0, hard_from_epoch=100)
    best = check_learns("dreamprvr", student, tmp_path, lr=3e-3, epochs=12)
    assert checkpoints.load(tmp_path).fingerprint == best.fingerprint
