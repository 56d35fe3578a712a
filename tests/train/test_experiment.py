"""`prvr train` with a recipe file, with several seeds and for TensorBoard."""

from __future__ import annotations

import json
import math
import statistics
import tomllib
from pathlib import Path

import pytest
import safetensors.torch
import torch
from commands import Answer, Prvr, says
from packed_toy import packed_toy

from prvr.datasets.splits import open_splits
from prvr.errors import MissingExtra, SettingError
from prvr.evaluate.metrics import format_mean, over_seeds
from prvr.train.denoising import out_of_fold_ranks
from prvr.train.event_files import event_files
from prvr.train.experiment import Experiment, open_data, read_recipe, recipe_text
from prvr.train.presets import PRESETS

NAMES = ("--frames", "toy_frames", "--words", "words", "--teacher", "strong")
SMALL = ("hidden=8", "epochs=2", "batch_videos=8")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return packed_toy(tmp_path_factory.mktemp("experiment"), train_videos=16)


def train(prvr: Prvr, world: tuple[Path, Path], out: Path, *more: str) -> Answer:
    return prvr("train", *world, out, *NAMES, *SMALL, *more)


def worked(answer: Answer) -> Answer:
    assert answer.status == 0, answer.err
    return answer


def weights(run: Path, *, state: bool = False) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / ("state.safetensors" if state else "model.safetensors"))


def check_same(one: Path, other: Path) -> None:
    for state in (False, True):
        first, second = weights(one, state=state), weights(other, state=state)
        assert sorted(first) == sorted(second)
        assert all(torch.equal(first[name], second[name]) for name in first)


# A recipe file


def test_a_runs_recipe_repeats_it_to_the_bit(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr) -> None:
    everything = ("optimiser=adamw", "schedule=cosine", "clip_norm=0.5", "ema_decay=0.9", "hard_part=random")
    worked(train(prvr, world, tmp_path / "run", "--preset", "dl-dkd++/toy", "--split-seed", "3", *everything))
    worked(prvr("train", tmp_path / "again", "--recipe", tmp_path / "run" / "recipe.toml"))
    check_same(tmp_path / "run", tmp_path / "again")
    # It says the same of itself, but for the folder; and from there the run is there already.
    texts = [tomllib.loads((tmp_path / name / "recipe.toml").read_text()) for name in ("run", "again")]
    assert texts[1].pop("out") == str(tmp_path / "again")
    assert texts[0].pop("out") == str(tmp_path / "run")
    assert texts[0] == texts[1]
    before = (tmp_path / "run" / "state.safetensors").stat().st_mtime_ns
    worked(prvr("train", "--recipe", tmp_path / "run" / "recipe.toml"))
    assert (tmp_path / "run" / "state.safetensors").stat().st_mtime_ns == before


def test_the_command_line_overrides_the_file(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        f'data = "nowhere"\nfeatures = "{world[1]}"\nout = "nowhere"\nwords = "words"\nframes = "toy_frames"\n'
        'teacher = ["strong"]\npreset = "dl-dkd/toy"\nsplit_seed = 1\n'
        "[settings]\nhidden = 8\n[training]\nepochs = 1\nbatch_videos = 8\nlr = 0.1\n[distillation]\ndistillation_weight = 0.3\n"
    )
    more = ("--teacher", "second", "--split-seed", "2", "lr=0.002")
    worked(prvr("train", *world, tmp_path / "run", *more, "--recipe", file))
    done = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text())
    assert (done["data"], done["out"]) == (str(world[0]), str(tmp_path / "run"))
    assert (done["teacher"], done["split_seed"], done["preset"]) == (["second"], 2, "dl-dkd/toy")
    assert (done["training"]["lr"], done["training"]["epochs"]) == (0.002, 1)
    assert done["distillation"]["distillation_weight"] == 0.3
    # Neither names a device: the default is that of the option.
    assert done["device"] == "auto"
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["settings"]["hidden"], config["about"]["training"]["lr"], config["about"]["split_seed"]) == (8, 0.002, 2)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_written_and_read(name: str, tmp_path: Path) -> None:
    whole = Experiment(data="a", features='b"\\', out="c\x7f", words="é", frames="f", preset=name, split_seed=4)
    assert whole.recipe() == Experiment(preset=name).recipe()
    complete = whole.complete(["clip_norm=none", "epochs=7"])
    (tmp_path / "recipe.toml").write_text(recipe_text(complete))
    back = read_recipe(tmp_path / "recipe.toml")
    assert back.recipe() == complete.recipe()
    assert back.recipe().training.epochs == 7
    assert (Path(back.features).name, Path(back.out).name, back.words, back.split_seed) == ('b"\\', "c\x7f", "é", 4)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('data = "a"\nwords = \n', ("is not a TOML file", "line 2")),
        (b"\xff\xfe", ("is not a TOML file", "utf-8")),
        ("a = " + "[" * 100_000, ("is not a TOML file",)),
        ("x = " + "1" * 5000, ("is not a TOML file",)),
        ('wrods = "words"', ("recipe.toml: unknown setting 'wrods'; did you mean 'words'?",)),
        ("split_seed = 'three'", ("split_seed is 'three'; it takes a whole number",)),
        ("split_seed = 1979-05-27", ("split_seed is datetime.date(1979, 5, 27); it takes a whole number",)),
        ("tensorboard = 1", ("tensorboard is 1; it takes true or false",)),
        ("teacher = [1]", ("teacher is 1; it takes text",)),
        ("settings = 3", ("settings is 3; it takes a table of settings",)),
        ("[[training]]\nlr = 1", ("training is [{'lr': 1}]; it takes a table of settings",)),
        ("seeds = 0", ("seeds is 0; take 1 or more",)),
        ('preset = "dl-dkd+++"', ("unknown preset 'dl-dkd+++'; did you mean 'dl-dkd++'?",)),
        ("[settings]\nmarign = 0.1", ("unknown setting 'marign' in [settings]; did you mean 'margin'?",)),
        ("[settings]\nlr = 0.1", ("unknown setting 'lr' in [settings]; it belongs in [training]",)),
        ("[training]\nlr = 'fast'", ("lr is 'fast'; it takes a number",)),
        ("[training]\nlr = nan", ("lr is nan; it takes a number",)),
        (f"[training]\nlr = {10**400}", ("lr is 1000", "...; it takes a number that float32 holds")),
        ("[training]\nepochs = 1.5", ("epochs is 1.5; it takes a whole number",)),
        ("[training]\noptimiser = 'sgd'", ("optimiser is 'sgd'; it takes bert_adam or adamw",)),
        ("[training]\nema_decay = 1", ("ema_decay is 1.0",)),
        ("[distillation]\nsoft_targets = true", ("soft_targets is True",)),
    ],
)
def test_a_file_that_is_refused(text: str | bytes, parts: tuple[str, ...], tmp_path: Path, prvr: Prvr) -> None:
    file = tmp_path / "recipe.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    says(prvr("train", "--recipe", file), *parts)


def test_a_file_that_is_none(tmp_path: Path, prvr: Prvr) -> None:
    says(prvr("train", "--recipe", tmp_path / "nothing.toml"), "No such file", "nothing.toml")
    says(prvr("train", "--recipe", tmp_path), "is a folder")


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ((), ("no DATA, FEATURES, OUT named",)),
        (("a", "b"), ("no OUT named",)),
        (("a", "b", "c"), ("--words NAME",)),
        (("a", "b", "c", "--words", "words"), ("--teacher NAME, or --frames NAME",)),
    ],
)
def test_what_is_not_named(given: tuple[str, ...], parts: tuple[str, ...], prvr: Prvr) -> None:
    says(prvr("train", *given), *parts)


def test_a_path_that_no_recipe_can_name(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr) -> None:
    out = tmp_path / "caf\udce9"
    says(train(prvr, world, out), "caf\\udce9", "is not UTF-8", "rename it")
    assert not out.exists()


def test_two_paths_beside_a_recipe(tmp_path: Path, prvr: Prvr) -> None:
    (tmp_path / "recipe.toml").write_text('words = "words"')
    says(prvr("train", "a", "b", "lr=1", "--recipe", tmp_path / "recipe.toml"), "a b: with --recipe name OUT alone")


def test_a_refused_run_keeps_its_recipe(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr) -> None:
    worked(train(prvr, world, tmp_path / "run"))
    before = (tmp_path / "run" / "recipe.toml").read_bytes()
    says(train(prvr, world, tmp_path / "run", "lr=0.5"), "holds a run with lr")
    assert (tmp_path / "run" / "recipe.toml").read_bytes() == before


# Several seeds


def test_mean_and_deviation_by_hand() -> None:
    # 1, 2 and 6: mean 3, squares of the deviations 4 + 1 + 9 = 14, over two of them 7.
    mean, deviation = over_seeds([{"a": 1.0}, {"a": 2.0}, {"a": 6.0}])
    assert mean == {"a": 3.0}
    assert deviation is not None
    assert deviation["a"] == pytest.approx(math.sqrt(7))
    assert over_seeds([{"a": 5.0}]) == ({"a": 5.0}, None)
    assert format_mean(3.0, math.sqrt(7)) == "3.0 ± 2.6"
    assert format_mean(3.0, None) == "3.0"


@pytest.mark.slow
def test_seeds_have_a_folder_each_and_their_mean(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr) -> None:
    answer = worked(train(prvr, world, tmp_path / "all", "--seeds", "3", "seed=5"))
    for place in range(3):
        worked(train(prvr, world, tmp_path / f"alone{place}", f"seed={5 + place}"))
        check_same(tmp_path / "all" / f"seed{place}", tmp_path / f"alone{place}")
    written = json.loads((tmp_path / "all" / "seeds.json").read_text())
    assert [run["seed"] for run in written["seeds"]] == [5, 6, 7]
    sums = [run["dev"]["sumr"] for run in written["seeds"]]
    assert len(set(sums)) > 1
    assert written["mean"]["sumr"] == pytest.approx(statistics.mean(sums))
    assert written["std"]["sumr"] == pytest.approx(statistics.stdev(sums))
    assert f"SumR {statistics.mean(sums):.1f} ± {statistics.stdev(sums):.1f} on dev" in answer.out.splitlines()[-1]
    # The recipe of the folder repeats all of them, that of a run the run alone.
    worked(prvr("train", tmp_path / "again", "--recipe", tmp_path / "all" / "recipe.toml"))
    for place in range(3):
        check_same(tmp_path / "again" / f"seed{place}", tmp_path / "all" / f"seed{place}")
    worked(prvr("train", tmp_path / "one", "--recipe", tmp_path / "all" / "seed1" / "recipe.toml"))
    check_same(tmp_path / "one", tmp_path / "all" / "seed1")


@pytest.mark.slow
def test_finished_seeds_are_not_trained_again(
    world: tuple[Path, Path], tmp_path: Path, prvr: Prvr, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prvr.train import loop

    worked(train(prvr, world, tmp_path / "whole", "--seeds", "2"))
    steps, real = [], loop._Loop._finish_epoch

    def stop(self: loop._Loop, *rest: object) -> object:
        steps.append(self.out.name)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return real(self, *rest)

    monkeypatch.setattr(loop._Loop, "_finish_epoch", stop)
    assert train(prvr, world, tmp_path / "cut", "--seeds", "2").status == 130
    assert steps == ["seed0", "seed0", "seed1", "seed1"]
    assert not (tmp_path / "cut" / "seeds.json").exists()
    worked(train(prvr, world, tmp_path / "cut", "--seeds", "2"))
    assert steps[4:] == ["seed1"]
    for place in range(2):
        check_same(tmp_path / "whole" / f"seed{place}", tmp_path / "cut" / f"seed{place}")
    worked(train(prvr, world, tmp_path / "cut", "--seeds", "3"))
    assert steps[5:] == ["seed2", "seed2"]
    assert len(json.loads((tmp_path / "cut" / "seeds.json").read_text())["seeds"]) == 3


@pytest.mark.parametrize("seeds", ["0", "-2"])
def test_fewer_seeds_than_one(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr, seeds: str) -> None:
    says(train(prvr, world, tmp_path / "run", "--seeds", seeds), f"seeds is {seeds}; take 1 or more")
    assert not (tmp_path / "run").exists()


def test_seeds_in_the_folder_of_a_run(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr) -> None:
    worked(train(prvr, world, tmp_path / "run"))
    says(train(prvr, world, tmp_path / "run", "--seeds", "2"), "holds a run itself; name another folder")


# TensorBoard


def test_without_tensorboard_the_line_names_the_extra(
    world: tuple[Path, Path], tmp_path: Path, prvr: Prvr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    says(train(prvr, world, tmp_path / "run", "--tensorboard"), "tensorboard is not installed; pip install 'prvr[tensorboard]'")
    assert not (tmp_path / "run" / "state.safetensors").exists()
    with pytest.raises(MissingExtra), event_files(tmp_path):
        pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_each_epoch_once(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):
        worked(train(prvr, world, tmp_path / "run", "--tensorboard"))
        seen = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
        seen.Reload()
        history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
        expected = {"loss/total": [record["loss"] for record in history], "lr": [record["lr"] for record in history]}
        expected |= {f"loss/{name}": [record["losses"][name] for record in history] for name in history[0]["losses"]}
        expected |= {f"dev/{name}": [record["dev"][name] for record in history] for name in history[0]["dev"]}
        assert sorted(seen.Tags()["scalars"]) == sorted(expected)
        for name, values in expected.items():
            assert [event.step for event in seen.Scalars(name)] == [1, 2]
            assert [event.value for event in seen.Scalars(name)] == pytest.approx(values, rel=1e-6)


def test_a_method_that_takes_another_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("[distillation]\nmargin = 0.1")
    with pytest.raises(SettingError, match=r"unknown setting 'margin' in \[distillation\]; it belongs in \[settings\]"):
        read_recipe(tmp_path / "recipe.toml").recipe()


def test_no_file_chooses_what_is_imported(tmp_path: Path, prvr: Prvr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('imported', 'w').close()")
    (tmp_path / "recipe.toml").write_text('method = "evil:Mine"\nwords = "words"')
    says(prvr("train", "a", "b", "c", "--recipe", "recipe.toml"), "evil:Mine is not installed", "--method evil:Mine")
    assert not (tmp_path / "imported").exists()


# Some training captions alone


def test_a_student_learns_from_the_captions_that_teachers_find(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr) -> None:
    worked(train(prvr, world, tmp_path / "run"))
    denoise = ("data", "denoise", tmp_path / "denoised", "--recipe", tmp_path / "run" / "recipe.toml", "--folds", "2")
    found = json.loads(worked(prvr(*denoise, "--below", "8", "--json")).out)
    ids = json.loads(Path(found["captions"]).read_text())
    assert 0 < len(ids) == found["kept"] < found["of"]
    splits = open_splits(world[0], protocol="honest", seed=0)
    teacher = read_recipe(tmp_path / "run" / "recipe.toml")
    folder = tmp_path / "denoised" / "teacher0"
    expected = out_of_fold_ranks(folder, teacher.recipe(), data=open_data(teacher).data, folds=2)
    assert ids == [caption.id for caption in splits.train.captions if expected[caption.id] < 8]
    everything = worked(prvr(*denoise, "--below", "1000"))
    assert f"{found['of']} of {found['of']} captions are kept" in everything.out

    (some := tmp_path / "some.json").write_text(json.dumps(ids))
    worked(train(prvr, world, tmp_path / "some", "--captions", some))
    with pytest.raises(AssertionError):
        check_same(tmp_path / "run", tmp_path / "some")
    worked(prvr("train", tmp_path / "again", "--recipe", tmp_path / "some" / "recipe.toml"))
    check_same(tmp_path / "some", tmp_path / "again")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[", ("is not JSON", "leave out --captions")),
        ("[" * 100_000, ("is not JSON",)),
        ("{}", ("holds no list of caption ids", "prvr data denoise")),
        ("[]", ("holds no list of caption ids",)),
        ('["nobody#0", 1]', ("holds no list of caption ids",)),
        ('["nobody#0"]', ("names 1 captions that are not in the training split, such as 'nobody#0'", "same data")),
    ],
)
def test_a_list_of_captions_that_is_none(
    world: tuple[Path, Path], tmp_path: Path, prvr: Prvr, text: str, parts: tuple[str, ...]
) -> None:
    (tmp_path / "some.json").write_text(text)
    says(train(prvr, world, tmp_path / "run", "--captions", str(tmp_path / "some.json")), *parts)
    assert not (tmp_path / "run").exists()


def test_denoising_that_cannot_be(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr) -> None:
    recipe = tmp_path / "recipe.toml"
    given = Experiment(*map(str, world), str(tmp_path / "run"), frames="toy_frames", words="words", teacher=("strong",))
    recipe.write_text(recipe_text(given.complete(SMALL)))
    denoise = ("data", "denoise", tmp_path / "out", "--recipe", recipe, "--below", "8")
    says(prvr(*denoise, "--combine", "sum"), "ranks are not combined by 'sum'", "mean")
    says(prvr(*denoise, "--folds", "1"), "folds is 1; take from 2")
    assert not list(tmp_path.rglob("history.jsonl"))
