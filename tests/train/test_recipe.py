"""A recipe and its teachers: a teacher that a recipe does not use is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Answer, Prvr, says
from packed_toy import packed_toy

from prvr.encoders.roles import LABEL_COLUMNS
from prvr.errors import SettingError
from prvr.features.sources import Reads, Source
from prvr.methods import METHODS, open_method
from prvr.methods import checkpoint as checkpoints
from prvr.methods.distiller import Distiller
from prvr.train.presets import PRESETS, preset
from prvr.train.recipe import change, check_uses_teacher

READS = Reads(Source("frames", 20), Source("words", 10 + LABEL_COLUMNS))
TOYS = {name: preset(name) for name in PRESETS if name.endswith("/toy")}
ALONE = {recipe.method: name for name, recipe in TOYS.items() if not recipe.uses_teacher}
ALONE["dl_dkd"] = "no-distillation"


def test_every_method_that_learns_can_learn_alone() -> None:
    assert set(ALONE) == {name for name in METHODS if open_method(name).objective is not None}


@pytest.mark.parametrize("method", ALONE)
def test_what_the_refusal_says_to_set_works(method: str) -> None:
    recipe = change(preset(ALONE[method]), ["hidden=8"] if method not in ("rivrl", "dual_encoding_hybrid") else ["latent=8"])
    with pytest.raises(
        SettingError, match=r"learns nothing from a teacher, and one was named; set .*, or leave out --teacher$"
    ) as no:
        check_uses_teacher(recipe, READS)
    ways = re.findall("set ((?:[a-z_]+=[a-z_0-9.]+ ?)+)", str(no.value))
    assert "distillation_target=batch_matrix distillation_weight=1" in ways
    student = checkpoints.build(method, recipe.settings, READS).model
    for way in ways:
        changed = change(recipe, way.split())
        check_uses_teacher(changed, READS)
        Distiller(changed.distillation, method=method, student=student, teacher_columns=[12])
    with_frames = method not in ("dual_encoding", "dual_encoding_hybrid", "collaborative_experts", "rivrl")
    assert ("distillation_weight=0.1" in ways) == with_frames
    assert ("soft_targets=teacher" in ways) == open_method(method).contrasts


def test_a_student_that_teaches_itself_does_not_use_a_teacher() -> None:
    assert not change(preset("ms-sl/toy"), ["soft_targets=self"]).uses_teacher
    assert not change(preset("dl-dkd++/toy"), ["branches=exploration"]).uses_teacher
    assert change(preset("ms-sl/toy"), ["distillation_offset=0.1"]).uses_teacher


def test_importing_the_presets_imports_no_method() -> None:
    code = "import sys, prvr.train.presets as presets; presets.preset('xml/toy'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own = {path.partition(":")[0] for path in METHODS.values()}
    assert own & set(done.stdout.split()) == {"prvr.methods.xml"}


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
        (("no-distillation",), ("dl_dkd with these settings learns nothing", "set soft_targets=teacher, or leave out --teacher")),
    ],
)
def test_a_teacher_that_nothing_is_learned_from_is_refused(
    world: tuple[Path, Path], tmp_path: Path, prvr: Prvr, settings: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    says(train(prvr, world, tmp_path / "run", "--preset", *settings), *parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", ["distillation_aggregate=learned", "distillation_target=feature"])
def test_dl_dkd_learns_what_depends_on_its_teachers(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr, setting: str) -> None:
    answer = train(prvr, world, tmp_path / "run", "--preset", "dl-dkd/toy", "--teacher", "second", setting)
    assert answer.status == 0, answer.err
    name, _, value = setting.partition("=")
    best = checkpoints.load(tmp_path / "run")
    assert best.about["distillation"][name] == value
    # The checkpoint is the student's alone.
    assert {name.partition(".")[0] for name in best.model.state_dict()} == {"branches"}  # type: ignore[attr-defined]
