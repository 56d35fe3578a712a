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
from prvr.features.sources import FeatureSources, Source
from prvr.methods import METHODS, open_method
from prvr.methods import checkpoint as checkpoints
from prvr.methods.distiller import Distiller
from prvr.train.experiment import read_recipe
from prvr.train.optimiser import learning_rate
from prvr.train.presets import PRESETS, preset
from prvr.train.recipe import change, check_uses_teacher

READS = FeatureSources(Source("frames", 20), Source("words", 10 + LABEL_COLUMNS))
TOYS = {name: preset(name) for name in PRESETS if name.endswith("/toy")}
ALONE = {recipe.method: name for name, recipe in TOYS.items() if not recipe.uses_teacher}
ALONE["dl_dkd"] = "no-distillation"


def test_every_method_that_learns_can_learn_alone() -> None:
    assert set(ALONE) == {name for name in METHODS if open_method(name).objective is not None}


@pytest.mark.parametrize("method", ALONE)
def test_what_the_refusal_says_to_set_works(method: str) -> None:
    small = {"rivrl": "latent=8", "dual_encoding_hybrid": "latent=8", "embedding_experts": "clusters=2"}
    recipe = change(preset(ALONE[method]), [small.get(method, "hidden=8")])
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
    whole = ("dual_encoding", "dual_encoding_hybrid", "collaborative_experts", "embedding_experts", "rivrl")
    with_frames = method not in whole
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
    return prvr("train", *world, out, *names, "hidden=8", "epochs=1", "batch_videos=8", *more)


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


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (f"seed={10**13}", "seed is 10000000000000; take one from -1000000000000 to 1000000000000"),
        (f"epochs={10**30}", f"epochs is {10**30}; it takes a whole number below 2^63"),
        (f"epochs={10**400}", f"epochs is {str(10**400)[:40]}...; it takes a whole number below 2^63"),
        ("lr=1e39", "lr is 1e+39; it takes a number that float32 holds, up to 3.4e+38"),
        ("weight_decay=-1e300", "weight_decay is -1e+300; it takes a number that float32 holds"),
        ("weight_decay=-1", "weight_decay is -1.0; it is 0 or more"),
        ("patience=-1", "patience is -1; it is 0 or more"),
        ("warmup=2", "warmup is 2.0; it takes a share from 0 to 1"),
        ("warmup=-0.1", "warmup is -0.1; it takes a share from 0 to 1"),
    ],
)
def test_numbers_that_no_training_has(setting: str, words: str) -> None:
    with pytest.raises(SettingError) as no:
        change(preset("dl-dkd++/toy"), [setting])
    assert words in str(no.value)


@pytest.mark.parametrize("setting", [f"hidden={10**14}", f"max_frames={10**13}", f"hidden={2**62}"])
def test_a_model_that_no_memory_holds_is_a_line(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr, setting: str) -> None:
    # The last of two values of a setting is taken.
    names = ("--frames", "toy_frames", "--words", "words", "--teacher", "strong")
    answer = prvr("train", *world, tmp_path / "run", *names, setting)
    says(answer, "dl_dkd cannot be made with these settings", "--debug shows where")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rate", ["lr=1000", "lr=1e30"])
def test_steps_that_are_too_large_are_named_as_the_reason(
    world: tuple[Path, Path], tmp_path: Path, prvr: Prvr, rate: str
) -> None:
    answer = train(prvr, world, tmp_path / "run", rate, "warmup=0", "patience=60", "epochs=60")
    says(answer, f"lower lr (now {float(rate[3:]):g})")


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_rate_that_rises_to_the_end(schedule: str) -> None:
    rates = [learning_rate(step, lr=8.0, total_steps=4, warmup=1.0, schedule=schedule) for step in range(6)]
    assert rates == [0, 2, 4, 6, 0, 0]


def test_a_recipe_by_an_editor_that_marks_utf8(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('words = "été"\n', encoding="utf-8-sig")
    assert read_recipe(tmp_path / "recipe.toml").words == "été"
