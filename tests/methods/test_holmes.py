"""Holmes with one query and with two: what padding changes, what its terms are and when, and that it learns.

Its numbers beside the published code's: test_peers_leaders.py; its losses beside slow loops: tests/nn/test_evidence.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from method_checks import MATRIX, PROFILE, build, check_invariants, check_learning, check_learns, check_taught, toy_batch
from toy_world import toy_world

from prvr.errors import SettingError
from prvr.methods import checkpoint as checkpoints
from prvr.methods import open_method
from prvr.methods.contract import embed
from prvr.methods.holmes import HolmesConfig, HolmesDualConfig, transport_of
from prvr.nn.evidence import LEAST_TEMPERATURE

SIZES: dict[str, Any] = {"hidden": 8, "heads": 2, "max_frames": 20, "max_words": 6, "clips": 4, "warmup_epochs": 2}
SMALL: dict[str, HolmesConfig] = {
    "holmes": HolmesConfig(**SIZES, dropout=0.0, input_dropout=0.0),
    "holmes_dual": HolmesDualConfig(**SIZES, dropout=0.0, input_dropout=0.0),
}
TERMS = {"clips_triplet", "clips_nce", "frames_triplet", "frames_nce", "diversity", "transport"}
TERMS |= {"evidence_frames", "evidence_clips", "evidence_both"}
both = pytest.mark.parametrize("method", SMALL)


@both
@pytest.mark.parametrize("counts", [True, False])
def test_padding_and_company_change_no_score(method: str, counts: bool) -> None:
    model = build(method, replace(SMALL[method], padding_counts=counts))
    check_invariants(model)
    assert (model.score_weights is None) == (counts or method == "holmes_dual")
    assert model.embedding_fields == ("clips", "frames")


@both
def test_the_objective_has_all_terms_and_every_parameter_learns(method: str) -> None:
    model = build(method, replace(SMALL[method], dropout=0.3, input_dropout=0.3))
    check_learning(method, model, toy_batch(model), toy_batch(model, most=1))
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["unused_token"]


@both
def test_before_the_warm_up_is_over_nothing_is_transported(method: str) -> None:
    model = build(method, SMALL[method])
    given = embed(model, toy_batch(model))
    terms = []
    for epoch in (0, 1, 2):
        torch.manual_seed(0)
        terms.append(open_method(method).objective(model, *given, epoch))
        assert set(terms[-1]) == TERMS
        assert all(value.isfinite() for value in terms[-1].values())
    assert terms[0]["transport"] == terms[1]["transport"] == 0 < terms[2]["transport"]
    assert {name for name in TERMS if terms[1][name] != terms[2][name]} <= {
        "transport",
        *(name for name in TERMS if "evid" in name),
    }


@both
def test_weights_multiply_their_terms(method: str) -> None:
    settings = SMALL[method]
    doubled = replace(settings, evidence_weight=2 * settings.evidence_weight, transport_weight=2 * settings.transport_weight)
    once, twice = (build(method, each) for each in (settings, doubled))
    given = embed(once, toy_batch(once))
    ours = []
    for model in (once, twice):
        torch.manual_seed(0)
        ours.append(open_method(method).objective(model, *given, 2))
    for name in TERMS:
        times = 2 if name == "transport" or name.startswith("evidence") else 1
        torch.testing.assert_close(ours[1][name], times * ours[0][name])


def test_a_video_with_fewer_captions_is_scaled_by_its_own_where_padding_does_not_count() -> None:
    model = build("holmes", replace(SMALL["holmes"], padding_counts=False))
    queries, videos, batch = embed(model, toy_batch(model))
    together = transport_of(model.config, queries[0], videos[0], batch.target)
    assert torch.bincount(batch.target).unique().numel() > 1
    per_video = [
        transport_of(
            model.config,
            queries[0][batch.target == v],
            videos[0][v : v + 1],
            torch.zeros(int((batch.target == v).sum()), dtype=torch.long),
        )
        for v in range(len(videos[0]))
    ]
    torch.testing.assert_close(together, torch.stack(per_video).mean())


def test_what_a_teacher_says_comes_on_top() -> None:
    data = toy_world(videos=12)
    for method, settings in SMALL.items():
        model = build(method, settings)
        check_taught(method, model, toy_batch(model, data=data), by=(PROFILE, MATRIX))


def test_settings_that_cannot_be() -> None:
    for setting, value, words in (
        ("widths", (), "widths is"),
        ("widths", (-1.0,), "widths is"),
        ("evidence_temperature", 0.0, f"take at least {LEAST_TEMPERATURE}"),
        ("transport_temperature", float("nan"), "transport_temperature is nan"),
        ("evidence_prior", -1.0, "evidence_prior is -1.0"),
        ("coupling_temperature", 0.0, "coupling_temperature is 0"),
        ("transport_rounds", 0, "transport_rounds is 0"),
        ("dustbin_share", 1.5, "dustbin_share"),
    ):
        with pytest.raises(SettingError, match=words):
            replace(SMALL["holmes"], **{setting: value})


@pytest.mark.slow
@pytest.mark.thorough
@both
def test_learns_the_toy_world(method: str, tmp_path: Path) -> None:
    settings = open_method(method).config(
        hidden=32, max_frames=32, clips=8, dropout=0.0, input_dropout=0.0, hard_from_epoch=100, warmup_epochs=4
    )
    best = check_learns(method, settings, tmp_path, lr=3e-3, epochs=12)
    assert checkpoints.load(tmp_path).fingerprint == best.fingerprint
