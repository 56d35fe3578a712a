"""Methods of one's own: what is imported and what never is, the parts of the contract, entry points, what a checkpoint names."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_world import READS, toy_world

import prvr
from prvr.errors import ModelError, SettingError
from prvr.methods import BUILT_IN, METHODS, open_method, register_method
from prvr.methods import checkpoint as checkpoints
from prvr.methods.distiller import Distiller
from prvr.methods.plugins import import_method
from prvr.nn.distillation import Distillation
from prvr.train.loop import Recipe, Training, train_student
from prvr.train.presets import preset
from prvr.train.presets.listing import describe, find_presets
from prvr.train.recipe import change

TEMPLATE = Path(__file__).parents[2] / "docs" / "tutorials" / "mymethod.py"

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the template, with changes, as a module of its own that can be imported; returns the reference to its class."""
    monkeypatch.setattr(METHODS, "_registered", {})
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, *changes: tuple[str, str]) -> str:
        text = TEMPLATE.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / f"{name}.py").write_text(text)
        return f"{name}:Mine"

    yield write
    import_method.cache_clear()
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def refused(method: str) -> str:
    with pytest.raises((ModelError, SettingError)) as no:
        register_method(method)
    line = str(no.value)
    assert "\n" not in line
    return line


def saved(method: str, out: Path) -> Path:
    """A checkpoint of a registered method."""
    torch.manual_seed(0)
    checkpoints.save(checkpoints.build(method, open_method(method).config(), READS), out)
    return out


def renamed(folder: Path, method: object, **settings: object) -> Path:
    """The checkpoint, with another method in its file."""
    text = json.loads((folder / "config.json").read_text())
    text["method"] = method
    text["settings"] |= settings
    (folder / "config.json").write_text(json.dumps(text))
    return folder


@pytest.mark.parametrize("failure", ["RuntimeError('weights.pt is not there')", "ValueError('weights.pt is not there')"])
def test_a_model_whose_own_code_fails_is_named_and_not_its_settings(write: Write, tmp_path: Path, failure: str) -> None:
    line = "        super().__init__()\n"
    reference = write("fails_later", (line, f"{line}        if config.width == 7:\n            raise {failure}\n"))
    register_method(reference)
    told = re.escape(f"{reference} fails when its model is made ({failure.partition('(')[0]}: weights.pt is not there)")
    with pytest.raises(ModelError, match=told):
        checkpoints.build(reference, open_method(reference).config(width=7), READS)
    with pytest.raises(ModelError, match=told):
        checkpoints.load(renamed(saved(reference, tmp_path / "run"), reference, width=7))


def test_only_a_model_that_no_memory_holds_asks_for_smaller_settings(write: Write) -> None:
    line = "        super().__init__()\n"
    reference = write("too_large", (line, f"{line}        if config.width == 7:\n            nn.Linear(2**55, 8)\n"))
    register_method(reference)
    with pytest.raises(SettingError, match=r"cannot be made with these settings .*; take smaller ones"):
        checkpoints.build(reference, open_method(reference).config(width=7), READS)


# What is imported


def test_a_class_by_its_name_and_by_itself(write: Write, tmp_path: Path) -> None:
    reference = write("by_name")
    assert register_method(reference) == reference
    assert METHODS[reference] == reference
    kind = open_method(reference).model
    assert isinstance(kind, type)
    assert register_method(kind) == reference
    loaded = checkpoints.load(saved(reference, tmp_path / "run"))
    assert type(loaded.model) is kind
    assert json.loads((tmp_path / "run" / "config.json").read_text())["method"] == reference


def test_a_built_in_method_keeps_its_name() -> None:
    assert register_method("xml") == "xml"
    assert register_method("prvr.methods.xml:METHOD") == "xml"
    assert METHODS["xml"] == BUILT_IN["xml"]


WICKED = ["os:system", "__main__:x", "wicked:Mine", "subprocess:Popen", "prvr.methods.plugins:import_method"]


@pytest.mark.parametrize("method", WICKED)
@pytest.mark.parametrize("beside", [False, True])
def test_no_file_chooses_what_is_imported(write: Write, tmp_path: Path, method: str, beside: bool) -> None:
    (tmp_path / "wicked.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    if beside:
        about = {"student": method, "student_settings": {}, "teacher_columns": 4, "teacher_weight": 0.5}
        run = renamed(saved("xml", tmp_path / "run"), "beside_teacher", **about)
        text = json.loads((run / "config.json").read_text())
        (run / "config.json").write_text(json.dumps({**text, "settings": about}))
    else:
        run = renamed(saved("xml", tmp_path / "run"), method)
    with pytest.raises(ModelError) as no:
        checkpoints.load(run)
    line = str(no.value)
    assert "\n" not in line
    assert f"--method {method}" in line
    assert "wicked" not in sys.modules
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("method", ["os:system; rm -rf ~", "a b:c", "", ":", "os.system", "x" * 300, "../x:y", None, 3, ["xml"]])
def test_a_name_that_is_no_name_is_a_line_without_advice(write: Write, tmp_path: Path, method: object) -> None:
    run = renamed(saved("xml", tmp_path / "run"), method)
    with pytest.raises(ModelError) as no:
        checkpoints.load(run)
    assert "\n" not in str(no.value)
    assert "--method" not in str(no.value)


def test_another_class_than_the_checkpoints_is_a_line(write: Write, tmp_path: Path) -> None:
    one, two = register_method(write("one")), register_method(write("two"))
    run = saved(one, tmp_path / "run")
    with pytest.raises(ModelError, match=f"is of the method '{one}', and '{two}' is named"):
        checkpoints.load(run, method=two)
    with pytest.raises(ModelError, match=f"is of the method 'xml', and '{two}' is named"):
        checkpoints.load(saved("xml", tmp_path / "xml"), method=two)
    assert checkpoints.load(run, method=one).method == one


def test_a_class_that_no_checkpoint_can_name() -> None:
    class Local(nn.Module):
        pass

    with pytest.raises(SettingError, match=r"a checkpoint cannot name the class .*Local"):
        register_method(Local)
    assert "is not in a module of its own" in refused("__main__:Mine")


def test_a_module_that_cannot_be_imported_is_a_line(write: Write, tmp_path: Path) -> None:
    assert "there is no module 'nowhere' for nowhere:Mine" in refused("nowhere:Mine")
    assert "there is no module 'prvr.nowhere' for" in refused("prvr.nowhere:Mine")
    (tmp_path / "broken.py").write_text("def (:\n")
    assert re.search(r"broken:Mine cannot be imported \(SyntaxError: .*broken.py, line 1", refused("broken:Mine"))
    (tmp_path / "needs.py").write_text("import no_such_library\n")
    assert "No module named 'no_such_library'" in refused("needs:Mine")
    (tmp_path / "exits.py").write_text("raise SystemExit(3)\n")
    assert "exits:Mine cannot be imported (SystemExit: 3)" in refused("exits:Mine")
    write("spelling")
    assert "has no class 'Mien'; did you mean 'Mine'?" in refused("spelling:Mien")
    assert "names no method; write package.module:Class, or the name of one: did you mean 'dl_dkd'?" in refused("dl_dk")


# The parts of the contract

LACKS: dict[str, tuple[str, str, str]] = {
    "queries": ("def encode_queries", "def encode", "encode_queries(words, mask, places=None)"),
    "videos": ("def encode_videos", "def encode", "encode_videos(frames, mask, places=None)"),
    "score": ("def score", "def scores", "score(queries, videos, mask)"),
    "relevance": ("def relevance", "def curve", "relevance(query, video)"),
    "objective": ("def objective", "def loss", "objective(queries, videos, batch, epoch)"),
    "config class": ("Config = MineConfig", "", "Config (the dataclass of its settings)"),
    "plain config": ("@dataclass(frozen=True)\n", "", "Config (the dataclass of its settings)"),
    "default": ("width: int = 128", "width: int", "defaults in Config for width"),
    "places": (
        "encode_videos(self, frames, mask, places=None)",
        "encode_videos(self, frames, mask)",
        "encode_videos(frames, mask, pl",
    ),
    "columns": ("*, frame_columns, word_columns", "columns=3", "__init__(config, *, frame_columns, word_columns)"),
    "module": ("class Mine(nn.Module)", "class Mine", "torch.nn.Module as its base"),
    "config": ("        self.config = config\n", "        self.settings = config\n", "config"),
    "reading": ("self.reading = Reading(", "self.reads = Reading(", "reading"),
    "other reading": ("self.reading = Reading(", "self.reading = tuple((", "a prvr.batch.Reading as its reading"),
    "fields": ('embedding_fields = ("frames",)', "", "embedding_fields"),
    "frame fields": ('    frame_fields = ("frames",)', "", "frame_fields"),
    "weights": ("score_weights = (1.0,)", "", "score_weights"),
    "presets": (
        "Config = MineConfig",
        "Config = MineConfig\n    presets = ['mine']",
        "a mapping of settings for each name in its presets",
    ),
}


@pytest.mark.parametrize("case", LACKS)
def test_a_part_that_is_missing_is_named(write: Write, case: str) -> None:
    old, new, part = LACKS[case]
    extra = [('unit=True, text="words")', 'unit=True, text="words"))')] if case == "other reading" else []
    extra += [("(frame_columns, word_columns, config", "((frame_columns, word_columns, config")] if case == "never" else []
    if case == "other reading":
        old, new = (
            'self.reading = Reading(frame_columns, word_columns, config.max_frames, config.max_words, unit=True, text="words")',
            "self.reading = (1, 2)",
        )
        extra = []
    reference = write(f"lacks_{case.replace(' ', '_')}", (old, new), *extra)
    line = refused(reference)
    assert line.startswith(f"{reference} lacks {part}")
    assert reference not in METHODS


def test_all_missing_parts_stand_in_one_line(write: Write) -> None:
    line = refused(write("lacks_much", ("def score", "def s"), ("def relevance", "def r"), ("def objective", "def o")))
    assert "lacks score(queries, videos, mask), relevance(query, video), objective(queries, videos, batch, epoch)" in line


UNKEPT: dict[str, tuple[str, str]] = {
    "dict": ("width: int = 128", "width: dict = field(default_factory=dict)"),
    "set": ("width: int = 128", "width: tuple[set, ...] = ({1},)"),
    "text as number": ("width: int = 128", "width: int = '128'"),
}


@pytest.mark.parametrize("case", UNKEPT)
def test_settings_that_no_checkpoint_keeps_are_refused(write: Write, case: str) -> None:
    reference = write(
        f"unkept_{case.replace(' ', '_')}",
        ("import dataclass\n", "import dataclass, field\n"),
        UNKEPT[case],
        ("nn.Linear(frame_columns, config.width)", "nn.Linear(frame_columns, 8)"),
        ("nn.Linear(word_columns, config.width)", "nn.Linear(word_columns, 8)"),
    )
    assert f"the Config of {reference} cannot be kept in a checkpoint" in refused(reference)


def test_a_setting_that_every_run_has_is_refused(write: Write) -> None:
    for number, name in enumerate(("lr", "distillation_weight", "frames", "seed")):
        reference = write(f"taken_{number}", ("max_words: int = 30", f"max_words: int = 30\n    {name}: float = 1.0"))
        with pytest.raises(SettingError, match=f"the Config of {reference} has {name}, which every run has by itself"):
            preset("dl-dkd++", method=reference)


ANSWERS: dict[str, tuple[str, str, str]] = {
    "no tuple": (
        "return (self.frames(frames) * mask[..., None],)",
        "return self.frames(frames)",
        "encode_videos returns a tensor of sh",
    ),
    "two fields": (
        "mask[..., None],)\n\n    def score",
        "mask[..., None],) * 2\n\n    def score",
        "encode_videos returns 2 fields, and emb",
    ),
    "one row": (
        "return (self.frames(frames) * mask[..., None],)",
        "return (self.frames(frames)[:, :1],)",
        "has 1 rows for two frames",
    ),
    "flat": (
        "return (self.frames(frames) * mask[..., None],)",
        "return (self.frames(frames)[:, 0],)",
        "has shape (1, 128); it is (V, P,",
    ),
    "unknown field": (
        'frame_fields = ("frames",)',
        'frame_fields = ("frame",)',
        "frame_fields has 'frame', which embedding_fields has not",
    ),
    "weights": ("score_weights = (1.0,)", "score_weights = (0.5, 0.5)", "score_weights has 2 weights for 1 fields"),
    "score": (
        "return scores.best_cosines(queries[0], videos[0], mask)",
        "return queries[0].sum()",
        "score returns a tensor of shape ()",
    ),
    "curve": (
        "scores.every_row(video[0]))[0, 0]",
        "scores.every_row(video[0]))",
        "relevance returns a tensor of shape (1, 1, 2)",
    ),
    "fails": ("hidden = self.words(words)", "hidden = self.wrds(words)", "has no attribute 'wrds'"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_a_model_returns_is_checked_before_it_is_trained(write: Write, tmp_path: Path, case: str) -> None:
    old, new, part = ANSWERS[case]
    if case == "unknown field":
        old, new = '    frame_fields = ("frames",)', '    frame_fields = ("frame",)'
    reference = register_method(write(f"answers_{case.replace(' ', '_')}", (old, new)))
    with pytest.raises(ModelError, match=re.escape(part)) as no:
        train(reference, tmp_path / "run")
    assert "\n" not in str(no.value)
    assert str(no.value).startswith(reference)
    assert not (tmp_path / "run").exists()


TERMS: dict[str, tuple[str, str]] = {
    "no mapping": ('return {"contrast": contrast(cosines', "return (contrast(cosines"),
    "vector": ("contrast(cosines / self.config.temperature, batch.target)}", "cosines}"),
    "number": ("contrast(cosines / self.config.temperature, batch.target)}", "1.0}"),
    "none": ('return {"contrast"', 'return {} if True else {"contrast"'),
}


@pytest.mark.parametrize("case", TERMS)
def test_loss_terms_are_scalars_by_name(write: Write, tmp_path: Path, case: str) -> None:
    changes = [TERMS[case]]
    if case == "no mapping":
        changes.append(("batch.target)}", "batch.target))"))
    reference = register_method(write(f"terms_{case.replace(' ', '_')}", *changes))
    with pytest.raises(ModelError, match=f"of {reference}") as no:
        train(reference, tmp_path / "run")
    assert "\n" not in str(no.value)


FAILS: dict[str, tuple[str, str]] = {
    "objective": ('return {"contrast"', 'return {batch.targets: 0, "contrast"'),
    "training": ("return (self.frames(frames)", "return (self.frames(frames if len(mask) == 1 else frames[..., 1:])"),
    "evaluation": (
        "return (self.frames(frames)",
        "return (self.frames(frames if self.training or len(mask) == 1 else frames[..., 1:])",
    ),
}


@pytest.mark.parametrize("case", FAILS)
def test_a_class_that_fails_on_its_data_is_a_line(write: Write, tmp_path: Path, case: str) -> None:
    reference = register_method(write(f"fails_in_{case}", FAILS[case]))
    with pytest.raises(ModelError, match=rf"{reference} fails .*\(\w+Error: .*\); --debug shows where") as no:
        train(reference, tmp_path / "run")
    assert "\n" not in str(no.value)
    assert no.value.__cause__ is not None


def test_a_term_with_the_name_of_one_that_is_added_is_refused(write: Write) -> None:
    reference = register_method(write("same_term", ('"contrast":', '"distillation":')))
    model = checkpoints.build(reference, open_method(reference).config(), READS).model
    distiller = Distiller(Distillation(distillation_weight=0.1), method=reference, student=model, teacher_columns=[12])
    from method_checks import toy_batch

    from prvr.methods.contract import embed

    with pytest.raises(SettingError, match=f"{reference} has a loss term 'distillation'"):
        distiller.objective(model, *embed(model, toy_batch(model)), 0)


# Training


def train(reference: str, out: Path, *, epochs: int = 2, **settings: object) -> checkpoints.Checkpoint:
    config = open_method(reference).config(**settings)
    return train_student(
        out, Recipe(reference, config, Training(epochs=epochs, batch_videos=16, lr=2e-3)), data=toy_world(videos=30)
    )


@pytest.mark.usefixtures("painted_curves")
def test_terms_of_any_name_and_of_some_epochs_alone(write: Write, tmp_path: Path) -> None:
    names = 'return {"total": loss, "a wéird/name": loss * 0} | ({"late_ranking": loss} if epoch else {"early": loss})'
    reference = write("any_names", ('return {"contrast": contrast(cosines / self.config.temperature, batch.target)}', ""))
    (tmp_path / "any_names.py").write_text(
        (tmp_path / "any_names.py").read_text() + f"        loss = contrast(cosines, batch.target)\n        {names}\n"
    )
    train(register_method(reference), tmp_path / "run")
    first, second = (json.loads(line)["losses"] for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines())
    assert first.keys() == {"total", "a wéird/name", "early"}
    assert second.keys() == {"total", "a wéird/name", "late_ranking"}
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000


def test_a_run_continues_to_the_same_numbers(write: Write, tmp_path: Path) -> None:
    reference = register_method(write("resumes"))
    whole = train(reference, tmp_path / "whole", epochs=3)

    class Stop(Exception):
        pass

    def stop(note: str, done: int, total: int) -> None:
        if note.startswith("epoch 2"):
            raise Stop

    recipe = Recipe(reference, open_method(reference).config(), Training(epochs=3, batch_videos=16, lr=2e-3))
    with pytest.raises(Stop):
        train_student(tmp_path / "cut", recipe, data=toy_world(videos=30), on_progress=stop)
    assert train(reference, tmp_path / "cut", epochs=3).fingerprint == whole.fingerprint
    with pytest.raises(SettingError, match="holds a run with width 128 "):
        train(reference, tmp_path / "cut", epochs=3, width=64)


def test_tied_weights_are_kept(write: Write, tmp_path: Path) -> None:
    reference = register_method(
        write(
            "tied",
            ("nn.Linear(word_columns, config.width)", "nn.Linear(word_columns, config.width)\n        self.again = self.words"),
        )
    )
    best = train(reference, tmp_path / "run")
    again = checkpoints.load(tmp_path / "run")
    assert again.fingerprint == best.fingerprint
    assert again.model.again is again.model.words  # type: ignore[attr-defined]


# Presets

BRINGS = (
    "Config = MineConfig",
    'Config = MineConfig\n    presets = {"mine/tvr": {"width": 7, "lr": 0.5, "distillation_weight": 0.2}}',
)


def test_the_preset_gives_the_training_and_the_class_its_settings(write: Write) -> None:
    reference = write("plain")
    recipe = preset("gmmformer/tvr", method=reference)
    assert recipe.method == reference
    assert recipe.settings == open_method(reference).config()
    assert recipe.training == preset("gmmformer/tvr").training
    assert not recipe.distillation.active
    changed = change(recipe, ["width=9", "lr=0.25", "distillation_weight=0.5"])
    assert (changed.settings.width, changed.training.lr, changed.distillation.distillation_weight) == (9, 0.25, 0.5)
    with pytest.raises(SettingError, match="unknown setting 'widht'; did you mean 'width'"):
        change(recipe, ["widht=9"])
    assert preset("gmmformer/tvr", method="gmmformer") == preset("gmmformer/tvr")


def test_a_class_brings_presets(write: Write) -> None:
    reference = write("brings", BRINGS)
    with pytest.raises(SettingError, match="unknown preset 'mine/tvr'"):
        preset("mine/tvr")
    recipe = preset("mine/tvr", method=reference)
    assert (recipe.settings.width, recipe.training.lr, recipe.distillation.distillation_weight) == (7, 0.5, 0.2)
    assert find_presets(method=reference) == ["mine/tvr"]
    assert "mine/tvr" in find_presets("tvr")
    described = describe("mine/tvr")
    assert (described.method, described.collection, described.paper, described.figures) == (reference, "TVR", None, {})
    # The figures of a paper are not those of another method.
    assert describe("dl-dkd++/tvr").figures
    assert not describe("dl-dkd++/tvr", method=reference).figures
    assert describe("dl-dkd++/tvr", method=reference).settings["width"] == 128


def test_a_preset_with_an_unknown_setting_is_a_line(write: Write) -> None:
    reference = write("brings_wrong", (BRINGS[0], BRINGS[1].replace("width", "widht")))
    with pytest.raises(SettingError, match="has a preset with an unknown setting 'widht'; did you mean 'width'"):
        preset("mine/tvr", method=reference)


# Entry points


def install(site: Path, text: str, *, module: str = "installed_method") -> Path:
    """A distribution as pip leaves it: a module, and its metadata with an entry point."""
    about = site / "my_method-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-method\nVersion: 1\n")
    (about / "entry_points.txt").write_text(text)
    if module:
        source = TEMPLATE.read_text().replace(*BRINGS)
        (site / f"{module}.py").write_text(f"{source}\n\nprint('imported')\n")
    return site


def python(site: Path, code: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), str(Path(prvr.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


def test_an_installed_method_is_in_the_registry_and_its_checkpoint_opens(write: Write, tmp_path: Path) -> None:
    site = install(tmp_path / "site", "[prvr.methods]\nmine = installed_method:Mine\nxml = installed_method:Mine\nbad = a b\n")
    shutil.copy(site / "installed_method.py", tmp_path / "installed_method.py")
    run = saved(register_method("installed_method:Mine"), tmp_path / "run")
    done = python(
        site,
        f"""
from prvr.methods import METHODS, open_method, register_method
assert METHODS["mine"] == "installed_method:Mine" and "mine" in METHODS and "mine" in list(METHODS)
assert "bad" not in METHODS and METHODS["xml"] == "prvr.methods.xml:METHOD"
print("nothing yet")
from prvr.methods import checkpoint
loaded = checkpoint.load({str(run)!r})
assert loaded.method == "installed_method:Mine" == register_method("mine")
assert type(loaded.model) is open_method("mine").model
from prvr.train.presets import preset
from prvr.train.presets.listing import find_presets
assert preset("mine/tvr").settings.width == 7 and preset("dl-dkd++", method="mine").method == loaded.method
assert "mine/tvr" in find_presets()
""",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["nothing yet", "imported"]


def test_a_broken_installed_method_does_not_hide_the_others(tmp_path: Path) -> None:
    site = install(tmp_path / "site", "[prvr.methods]\nmine = no_such_module:Mine\n", module="")
    done = python(
        site,
        """
import sys
sys.argv = ["prvr", "presets", "tvr"]
from prvr.cli import main
main()
""",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "prvr: no_such_module:Mine: there is no module 'no_such_module' for no_such_module:Mine; run prvr in the folder that "
        "has it, or install it"
    ]
    assert "dl-dkd++/tvr" in done.stdout
