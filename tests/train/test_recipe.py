"""A recipe and its teachers: one that nothing is learned from is refused, and what depends on them is filled in."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from commands import Answer, Prvr, says
from packed_toy import packed_toy

from prvr.encoders.roles import LABEL_COLUMNS
from prvr.errors import SettingError
from prvr.features.sources import Reads, Source
from prvr.methods import METHODS
from prvr.methods import checkpoint as checkpoints
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.taught import Guidance
from prvr.train.presets import PRESETS, preset
from prvr.train.recipe import Recipe, Training, changed, check_heeded, fitted, heeds_teachers

READS = Reads(Source("frames", 20), Source("words", 10 + LABEL_COLUMNS))
ALONE = {recipe.method: name for name, recipe in PRESETS.items() if name.endswith("/toy") and not heeds_teachers(recipe)}
ALONE["dl_dkd"] = "no-distillation"


def test_every_method_that_learns_can_learn_alone() -> None:
    assert set(ALONE) == {name for name, method in METHODS.items() if method.objective is not None}


@pytest.mark.parametrize("method", ALONE)
def test_what_the_refusal_says_to_set_works(method: str) -> None:
    small = {"rivrl": "latent=8", "dual_encoding_hybrid": "latent=8", "embedding_experts": "clusters=2"}
    recipe = changed(preset(ALONE[method]), [small.get(method, "hidden=8")])
    with pytest.raises(
        SettingError, match=r"learns nothing from a teacher, and one was named; set .*, or leave out --teacher$"
    ) as no:
        check_heeded(recipe, READS)
    ways = re.findall("set ((?:[a-z_]+=[a-z_0-9.]+ ?)+)", str(no.value))
    assert "distillation_target=batch_matrix distillation_weight=1" in ways
    student = checkpoints.build(method, recipe.settings, READS).model
    for way in ways:
        told = changed(recipe, way.split())
        check_heeded(told, READS)
        if told.distillation is not None:
            Guidance(told.distillation, method=method, student=student, teacher_columns=[12])
    whole = ("dual_encoding", "dual_encoding_hybrid", "collaborative_experts", "embedding_experts", "rivrl")
    with_frames = method not in whole
    assert ("distillation_weight=0.1" in ways) == with_frames
    assert ("soft_targets=teacher" in ways) == METHODS[method].contrasts


def test_a_student_that_teaches_itself_does_not_heed_a_teacher() -> None:
    assert not heeds_teachers(changed(preset("ms-sl/toy"), ["soft_targets=self"]))
    assert not heeds_teachers(changed(preset("dl-dkd++/toy"), ["branches=exploration"]))
    assert heeds_teachers(changed(preset("ms-sl/toy"), ["distillation_offset=0.1"]))


def test_widths_are_filled_in_only_where_they_are_needed_and_were_left_out() -> None:
    recipe = Recipe("dl_dkd", DlDkdConfig(), Training())
    assert fitted(recipe, [12]) == recipe
    learned = replace(recipe, settings=DlDkdConfig(distillation_aggregate="learned"))
    assert fitted(learned, [12, 0]).settings.teacher_columns == (12, 0)
    given = replace(recipe, settings=DlDkdConfig(distillation_target="feature", teacher_columns=(9,)))
    assert fitted(given, [12]) == given
    with pytest.raises(SettingError, match="teacher_columns has 1 numbers, and there are 2 teachers; leave teacher_columns out"):
        fitted(given, [12, 7])
    assert fitted(preset("ms-sl/toy"), [12]) == preset("ms-sl/toy")


# The command line


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return packed_toy(tmp_path_factory.mktemp("recipe"), train_videos=16)


def train(prvr: Prvr, world: tuple[Path, Path], out: Path, *more: str) -> Answer:
    names = ("--frames", "toy_frames", "--words", "words", "--teacher", "strong")
    return prvr("train", *world, out, *names, *more, "hidden=8", "epochs=1", "batch_videos=8")


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (("ms-sl/toy",), ("ms_sl with these settings learns nothing from a teacher", "set distillation_weight=0.1, or set")),
        (("ms-sl/toy", "distillation_target=batch_matrix"), ("set distillation_weight=0.1,", "set soft_targets=teacher")),
        (("no-distillation",), ("dl_dkd with these settings learns nothing", "set soft_targets=true, or leave out --teacher")),
    ],
)
def test_a_teacher_that_nothing_is_learned_from_is_refused(
    world: tuple[Path, Path], tmp_path: Path, prvr: Prvr, settings: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    says(train(prvr, world, tmp_path / "run", "--preset", *settings), *parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", ["distillation_aggregate=learned", "distillation_target=feature"])
def test_dl_dkd_takes_the_widths_from_its_teachers(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr, setting: str) -> None:
    answer = train(prvr, world, tmp_path / "run", "--preset", "dl-dkd/toy", "--teacher", "second", setting)
    assert answer.status == 0, answer.err
    assert checkpoints.load(tmp_path / "run").settings.teacher_columns == (32, 32)
