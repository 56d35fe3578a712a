"""Distillation losses against loops written from the definitions; and the variants of DL-DKD's branches."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import oracles
import pytest
import torch
from dl_dkd import PLAIN, PLUS, distiller_of, split_changes, taught
from method_checks import toy_batch
from torch.nn.functional import normalize
from toy_world import READS

from prvr.batch import Batch, TeacherBatch
from prvr.errors import SettingError
from prvr.methods import checkpoint as checkpoints
from prvr.methods.contract import embed
from prvr.methods.dl_dkd import DlDkd, DlDkdConfig, field_names, taught_fields
from prvr.nn import distillation, losses, scores
from prvr.nn.distillation import Distillation, FeatureMaps, TeacherScores

MSE = Distillation(distillation_loss="mse")
LENGTHS, TARGET = (4, 1, 3), (0, 0, 1, 2, 2)


def batch(*, teachers: int = 1, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    views = tuple(TeacherBatch(normal(3, 4, 6 + t), normal(5, 6 + t)) for t in range(teachers))
    return Batch(normal(3, 4, 5), mask, normal(5, 2, 3), torch.ones(5, 2, dtype=torch.bool), torch.tensor(TARGET), views)


def loop_cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a @ b) / (a.norm() * b.norm()))


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_profiles_are_compared_frame_by_frame_in_ones_own_video(loss: distillation.Loss) -> None:
    given, cosines = batch(teachers=2), torch.rand(5, 3, 4, dtype=torch.float64)
    guides = [scores.own_video(scores.frame_cosines(t.queries, t.frames, given.frame_mask), given.target) for t in given.teachers]
    own, mask = scores.own_video(cosines, given.target), given.frame_mask[given.target]
    told = distillation.profile_loss(own, guides, mask, settings=Distillation(distillation_loss=loss))
    expected = 0.0
    for teacher in given.teachers:
        for n, v in enumerate(TARGET):
            own = [float(cosines[n, v, f]) for f in range(LENGTHS[v])]
            guide = [loop_cosine(teacher.queries[n], teacher.frames[v, f]) for f in range(LENGTHS[v])]
            if loss == "kl":
                expected += oracles.frame_kl([own], [guide], temperature=0.2) / 2
            else:
                expected += sum((o - g) ** 2 for o, g in zip(own, guide, strict=True)) / len(own) / 2
    assert told.item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_features_are_compared_vector_by_vector(loss: distillation.Loss) -> None:
    given, maps = batch(teachers=2), FeatureMaps(5, (6, 7)).double()
    queries = torch.randn(5, 5, dtype=torch.float64)
    told = distillation.feature_loss(maps, queries, given.frames, given, settings=Distillation(distillation_loss=loss))

    def difference(student: torch.Tensor, teacher: torch.Tensor) -> float:
        s, t = (student / student.norm()).detach(), teacher / teacher.norm()
        if loss == "mse":
            return sum(float(a - b) ** 2 for a, b in zip(s, t, strict=True))
        return oracles.frame_kl([s.tolist()], [t.tolist()], temperature=0.2)

    expected = 0.0
    for place, teacher in enumerate(given.teachers):
        for n in range(5):
            expected += difference(maps.queries[place](queries[n]), teacher.queries[n]) / 2
        for v, frames in enumerate(LENGTHS):
            of_video = [difference(maps.frames[place](given.frames[v, f]), teacher.frames[v, f]) for f in range(frames)]
            expected += sum(of_video) / frames / 2
    assert told.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_a_student_that_is_the_teacher_has_nothing_to_learn(loss: distillation.Loss) -> None:
    given = batch()
    maps = FeatureMaps(6, (6,)).double()
    for layer in (*maps.queries, *maps.frames):
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    teacher = given.teachers[0]
    told = distillation.feature_loss(
        maps, 3 * teacher.queries, teacher.frames, given, settings=Distillation(distillation_loss=loss)
    )
    assert told.item() == pytest.approx(0, abs=1e-12)


def test_what_stands_in_padding_changes_nothing() -> None:
    given, maps = batch(), FeatureMaps(5, (6,)).double()
    queries, other = torch.randn(5, 5, dtype=torch.float64), batch(seed=9).frames
    changed = torch.where(given.frame_mask[..., None], given.frames, other)
    one, two = (distillation.feature_loss(maps, queries, frames, given, settings=MSE) for frames in (given.frames, changed))
    assert torch.equal(one, two)


def test_frame_mse_by_hand() -> None:
    student, teacher = torch.tensor([[0.5, 0.1], [0.3, 9.0]]), torch.tensor([[0.1, 0.3], [0.2, -math.inf]])
    mask = torch.tensor([[True, True], [True, False]])
    assert losses.frame_mse(student, teacher, mask).item() == pytest.approx((0.16 + 0.04) / 2 + 0.01)


def test_gradients_are_numbers_where_frames_are_padded() -> None:
    given = batch()
    frames = given.frames.clone().requires_grad_()
    cosines = torch.einsum("qd,vfd->qvf", normalize(torch.randn(5, 5, dtype=torch.float64), dim=-1), normalize(frames, dim=-1))
    masked = cosines.masked_fill(~given.frame_mask, -math.inf)
    own, mask = scores.own_video(masked, given.target), given.frame_mask[given.target]
    guide = torch.rand(5, 4, dtype=torch.float64).masked_fill(~mask, -math.inf)
    distillation.profile_loss(own, [guide], mask, settings=MSE).backward()
    assert frames.grad is not None
    assert frames.grad.isfinite().all()
    assert frames.grad.abs().sum() > 0


def test_maps_for_other_teachers_are_refused() -> None:
    given = batch()
    with pytest.raises(SettingError, match=r"the maps to the teachers' features have \[9\] columns, the teachers \[6\]"):
        distillation.feature_loss(
            FeatureMaps(5, (9,)).double(), given.frames[:, 0].repeat(2, 1)[:5], given.frames, given, settings=MSE
        )


SMALL = DlDkdConfig(hidden=8, heads=2, dropout=0.0, input_dropout=0.0)
VARIANTS: dict[str, dict[str, Any]] = {
    "inheritance": {"branches": ("inheritance",)},
    "exploration": {"branches": ("exploration",)},
    "dual-inheritance": {"branches": ("inheritance", "inheritance")},
    "dual-exploration": {"branches": ("exploration", "exploration")},
    "features": {"distillation_target": "feature"},
    "two feature branches": {"branches": ("inheritance", "inheritance"), "distillation_target": "feature"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_sends_gradients_to_all_that_it_uses(name: str) -> None:
    changes, settings = split_changes(VARIANTS[name])
    config = replace(SMALL, **changes)
    torch.manual_seed(0)
    model = checkpoints.build("dl_dkd", config, READS).model
    assert isinstance(model, DlDkd)
    given = toy_batch(model)
    distiller = distiller_of(model, given, settings)
    terms = distiller.objective(model, *embed(model, given), 3)
    torch.stack(list(terms.values())).sum().backward()
    silent = [n for n, p in (*model.named_parameters(), *distiller.named_parameters()) if p.grad is None]
    assert silent == []
    distilled = [term for term in terms if term.startswith("distillation")]
    assert len(distilled) == len(taught_fields(config)) == config.branches.count("inheritance")
    assert len(distiller.maps) == (len(distilled) if settings.distillation_target == "feature" else 0)
    assert len(terms) == 2 * len(config.branches) + len(distilled)


@pytest.mark.parametrize("aggregate", ["each", "mean", "min", "max", "learned"])
@pytest.mark.parametrize("target", ["frame_profile", "batch_matrix"])
def test_a_branch_learns_from_teachers_taken_together(target: Any, aggregate: Any) -> None:
    given = batch(teachers=2)
    changes = {"distillation_target": target, "distillation_aggregate": aggregate}
    settings = replace(PLAIN, distillation_loss="huber", distillation_weight=1.0, **changes)
    torch.manual_seed(0)
    model = DlDkd(SMALL, frame_columns=5, word_columns=3).double().eval()
    queries, videos, _ = embed(model, given)
    distiller = distiller_of(model, given, settings).double()
    terms = distiller.objective(model, queries, videos, given, 0)
    ours = scores.compare(queries[0], videos[0], given.frame_mask, given.target)
    guides = [scores.compare(t.queries, t.frames, given.frame_mask, given.target) for t in given.teachers]
    shares = distiller.shares
    assert (shares is not None) == (aggregate == "learned") == ("teacher_shares" in terms)
    if target == "batch_matrix":
        expected = distillation.matrix_loss(ours.cosines, [g.cosines for g in guides], settings=settings, shares=shares)
    else:
        mask = given.frame_mask[given.target]
        expected = distillation.profile_loss(ours.profile, [g.profile for g in guides], mask, settings=settings, shares=shares)
    torch.testing.assert_close(terms["distillation"], expected)
    assert expected.isfinite()


def test_the_scores_of_trained_models_stand_beside_those_of_encoders() -> None:
    given, told = batch(), torch.rand(5, 3, dtype=torch.float64)
    changes: dict[str, Any] = {"distillation_target": "batch_matrix", "distillation_loss": "huber", "distillation_weight": 1.0}
    settings = replace(PLUS, hard_fraction=0.0, hard_fraction_decay="fixed", **changes)
    torch.manual_seed(0)
    model = DlDkd(SMALL, frame_columns=5, word_columns=3).double().eval()
    queries, videos, _ = embed(model, given)
    ours = scores.compare(queries[0], videos[0], given.frame_mask, given.target)
    encoder = TeacherScores.of_batch(given)
    for teachers, kept, matrices, dots in (
        (given.teachers, [told], [*encoder.cosines, told], [*encoder.dots, told]),
        ((), [told], [told], [told]),
    ):
        seen = given._replace(teachers=teachers)
        terms = taught(model, seen, 0, settings, kept=kept)
        expected = distillation.matrix_loss(ours.cosines, matrices, settings=settings)
        torch.testing.assert_close(terms["distillation"], expected)
        soft = distillation.SoftTargets.at(settings, 0, seen)
        nce = soft.info_nce(ours.dots, given.target, relevance=torch.stack(dots))
        torch.testing.assert_close(terms["inheritance_nce"], SMALL.nce_weight * nce)


def test_two_equal_branches_have_names_of_their_own() -> None:
    assert field_names(("inheritance", "inheritance")) == ("inheritance", "inheritance_2")
    assert field_names(("inheritance", "exploration")) == ("inheritance", "exploration")
    weights = [DlDkd(replace(SMALL, **VARIANTS["dual-inheritance"]), frame_columns=4, word_columns=4).score_weights]
    weights.append(DlDkd(replace(SMALL, branches=("exploration", "inheritance")), frame_columns=4, word_columns=4).score_weights)
    assert weights == [(0.7, 0.3), (0.3, 0.7)]
