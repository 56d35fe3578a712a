"""Checkpoints: what is saved is what is loaded, what is broken is one line, and no file is ever half written."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from prvr.config import from_dict, settings_to_compare
from prvr.errors import ModelError
from prvr.features.sources import FeatureSources, Source
from prvr.files import write_json, write_whole
from prvr.methods import METHODS, open_method
from prvr.methods import checkpoint as checkpoints
from prvr.methods.beside_teacher import BesideTeacherConfig
from prvr.methods.checkpoint import CONFIG, WEIGHTS, Checkpoint
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.gmmformer import GmmFormerConfig
from prvr.methods.xml import XmlConfig
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.nn.distillation import Distillation
from tests.features.test_packed import disk_of

READS = FeatureSources(
    Source("eyes", 6, source="somewhere/eyes", fingerprint="00112233aabbccdd", rate=1.0),
    Source("tongue", 6, source="somewhere/tongue", fingerprint="ffeeddcc99887766"),
)
SMALL = DlDkdConfig(hidden=16, heads=2, max_frames=9, max_words=8, branches=("exploration", "inheritance"))
MADE: dict[str, tuple[str, Any]] = {
    "two branches": ("dl_dkd", SMALL),
    "shared projection": ("dl_dkd", dataclasses.replace(SMALL, shared_query_projection=True)),
    "branches of two widths": ("dl_dkd", dataclasses.replace(SMALL, exploration_hidden=6)),
    "one branch": ("dl_dkd", dataclasses.replace(SMALL, branches=("inheritance",))),
    "zero-shot": ("zero_shot", ZeroShotConfig()),
}
every_model = pytest.mark.parametrize(("method", "settings"), MADE.values(), ids=list(MADE))


def build(method: str = "dl_dkd", settings: Any = SMALL, *, sources: FeatureSources = READS, seed: int = 0) -> Checkpoint:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return checkpoints.build(method, settings, sources)


def scores(checkpoint: Checkpoint) -> torch.Tensor:
    generator, model = torch.Generator().manual_seed(3), checkpoint.model
    words, frames = (torch.randn(3, length, 6, generator=generator) for length in (1, 7))
    mask = torch.arange(7) < torch.tensor([7, 1, 4])[:, None]
    with torch.inference_mode():
        queries = model.encode_queries(words, torch.ones(3, 1, dtype=torch.bool))
        return model.score(queries, model.encode_videos(frames, mask), mask)


# What is saved is what is loaded


@every_model
def test_a_loaded_checkpoint_scores_the_same(method: str, settings: Any, tmp_path: Path) -> None:
    made = dataclasses.replace(build(method, settings), about={"epoch": 3, "dev": {"sumr": 12.5}})
    assert isinstance(made.model, torch.nn.Module)
    made.model.eval()
    checkpoints.save(made, tmp_path / "in" / "run")
    loaded = checkpoints.load(tmp_path / "in" / "run")
    assert torch.equal(scores(loaded), scores(made))
    assert (loaded.method, loaded.settings, loaded.sources, loaded.about) == (method, settings, READS, made.about)
    assert loaded.fingerprint == made.fingerprint
    assert loaded.model.embedding_fields == made.model.embedding_fields
    assert isinstance(loaded.model, torch.nn.Module)
    assert not loaded.model.training
    assert (tmp_path / "in" / "run" / WEIGHTS).exists() is bool(made.model.state_dict())


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    checkpoints.save(build(), tmp_path)
    before = torch.random.get_rng_state()
    checkpoints.load(tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_second_checkpoint_takes_the_place_of_the_first(tmp_path: Path) -> None:
    first, second = build(seed=0), build(seed=1)
    checkpoints.save(first, tmp_path)
    checkpoints.save(second, tmp_path)
    assert checkpoints.load(tmp_path).fingerprint == second.fingerprint != first.fingerprint
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG, WEIGHTS}


# Fingerprints


def test_the_fingerprint_is_of_what_scores_depend_on() -> None:
    changed_weight = build()
    assert isinstance(changed_weight.model, torch.nn.Module)
    with torch.no_grad():
        next(changed_weight.model.parameters()).view(-1)[3] += 1e-6

    def seen(**changes: Any) -> Checkpoint:
        return build(sources=dataclasses.replace(READS, frames=dataclasses.replace(READS.frames, **changes)))

    others = {
        "a weight": changed_weight,
        "all weights": build(seed=1),
        "a setting that no weight shows": build(settings=dataclasses.replace(SMALL, exploration_weight=0.31)),
        "encoder": seen(name="other"),
        "its weights": seen(fingerprint="00112233aabbccde"),
        "rate": seen(rate=2.0),
        "text encoder": build(sources=dataclasses.replace(READS, text=dataclasses.replace(READS.text, fingerprint=None))),
        "method": build("zero_shot", ZeroShotConfig()),
    }
    fingerprints = {name: checkpoint.fingerprint for name, checkpoint in others.items()}
    assert len({build().fingerprint, *fingerprints.values()}) == len(others) + 1, fingerprints
    assert all(len(f) == 16 and set(f) <= set("0123456789abcdef") for f in fingerprints.values())


def test_the_fingerprint_is_not_of_where_things_lie_or_how_they_came_to_be() -> None:
    moved = build(sources=dataclasses.replace(READS, frames=dataclasses.replace(READS.frames, source="elsewhere")))
    assert moved.fingerprint == build().fingerprint
    assert dataclasses.replace(build(), about={"epoch": 9}).fingerprint == build().fingerprint


# What is broken


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as problem:
        checkpoints.load(path)
    assert "\n" not in str(problem.value)
    assert str(path) in str(problem.value)
    return str(problem.value)


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    text = json.loads((path / CONFIG).read_text())
    change(text)
    (path / CONFIG).write_text(json.dumps(text))


def remove(*keys: str) -> Callable[[dict[str, Any]], Any]:
    def change(text: dict[str, Any]) -> None:
        for key in keys[:-1]:
            text = text[key]
        del text[keys[-1]]

    return change


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b'{"format": 1}', b'{"method": "dl_dkd"}', b"[" * 100_000],
    ids=["empty", "cut off", "a list", "null", "a number", "not UTF-8", "no method", "the method alone", "too deep"],
)
def test_a_broken_config(tmp_path: Path, data: bytes) -> None:
    checkpoints.save(build(), tmp_path)
    (tmp_path / CONFIG).write_bytes(data)
    assert f"{tmp_path / CONFIG} is broken" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.update(method="dl_dkdd"), "unknown method 'dl_dkdd'; did you mean 'dl_dkd'?"),
        (lambda text: text.update(method=["dl_dkd"]), "is broken"),
        (lambda text: text["settings"].update(marign=0.1), "unknown setting 'marign'; did you mean 'margin'?"),
        (lambda text: text["settings"].update(margin="wide"), "margin is 'wide'; it takes a number"),
        (lambda text: text["settings"].update(hidden=15), "hidden 15 is not a multiple of heads 2"),
        (lambda text: text.update(settings=[]), "is broken"),
        (lambda text: text["reads"]["frames"].update(colour="red"), "is broken"),
        (lambda text: text["reads"]["frames"].update(columns="six"), "is broken"),
        (lambda text: text["reads"]["text"].update(source=5), "is broken (TypeError: source of a source is 5)"),
        (lambda text: text["reads"]["text"].update(fingerprint=["a"]), "fingerprint of a source is ['a']"),
        (lambda text: text.update(about=[3]), "about is [3]"),
        (lambda text: text.update(fingerprint=3), "fingerprint 3"),
        (lambda text: text.update(about={"epoch": float("nan")}), "NaN is not a number in JSON"),
        (remove("settings"), "is broken"),
        (remove("reads"), "is broken"),
        (remove("reads", "text"), "is broken"),
        (remove("reads", "text", "columns"), "is broken"),
    ],
)
def test_a_config_that_says_something_else(tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str) -> None:
    checkpoints.save(build(), tmp_path)
    changed(tmp_path, change)
    text = refusal(tmp_path)
    assert words in text
    assert CONFIG in text


def test_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    for path in (tmp_path / "nowhere", tmp_path, file):
        assert refusal(path) == f"no checkpoint in {path} ({CONFIG} is missing); train one: prvr train"


def test_missing_weights(tmp_path: Path) -> None:
    checkpoints.save(build(), tmp_path)
    (tmp_path / WEIGHTS).unlink()
    assert refusal(tmp_path) == f"no checkpoint in {tmp_path} ({WEIGHTS} is missing); train one: prvr train"


@pytest.mark.parametrize("kept", [0, 4, 8, 200, -1])
def test_weights_that_are_cut_off(tmp_path: Path, kept: int) -> None:
    checkpoints.save(build(), tmp_path)
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:kept])
    assert f"{tmp_path / WEIGHTS} does not hold this model's weights" in refusal(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(SMALL, hidden=32),
        dataclasses.replace(SMALL, branches=("inheritance",)),
        dataclasses.replace(SMALL, shared_query_projection=True),
    ],
    ids=["wider", "one branch", "shared projection"],
)
def test_the_weights_of_another_model(tmp_path: Path, other: DlDkdConfig) -> None:
    checkpoints.save(build(), tmp_path / "run")
    checkpoints.save(build(settings=other), tmp_path / "other")
    (tmp_path / "run" / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    assert "does not hold this model's weights" in refusal(tmp_path / "run")


def test_a_checkpoint_of_a_method_that_has_changed_since(tmp_path: Path) -> None:
    made = checkpoints.build("gmmformer", GmmFormerConfig(hidden=8, heads=2), build().sources)
    checkpoints.save(made, tmp_path)
    assert checkpoints.load(tmp_path).fingerprint == made.fingerprint
    text = json.loads((tmp_path / CONFIG).read_text())
    del text["revision"]  # as older versions wrote it
    (tmp_path / CONFIG).write_text(json.dumps(text))
    assert refusal(tmp_path) == (
        f"{tmp_path / CONFIG}: trained with revision 1 of gmmformer, which computes something else since revision 2; train again"
    )
    (tmp_path / CONFIG).write_text(json.dumps({**text, "method": "ral_ms_sl"}))
    assert "ral_ms_sl is no longer here: RAL is published on GMMFormer v2 alone" in refusal(tmp_path)


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["torch", "pickle", "torch, old"])
def test_nothing_is_unpickled(tmp_path: Path, kind: str) -> None:
    sprung = tmp_path / "sprung"
    checkpoints.save(build(), tmp_path / "run")
    if kind == "pickle":
        (tmp_path / "run" / WEIGHTS).write_bytes(pickle.dumps(Trap(sprung)))
    else:
        torch.save({"weight": Trap(sprung)}, tmp_path / "run" / WEIGHTS, _use_new_zipfile_serialization=kind == "torch")
    assert "does not hold this model's weights" in refusal(tmp_path / "run")
    assert not sprung.exists()


def test_an_unknown_method_cannot_be_built() -> None:
    with pytest.raises(ModelError, match="unknown method 'zeroshot'; did you mean 'zero_shot'"):
        checkpoints.build("zeroshot", ZeroShotConfig(), READS)


# Whole files


class Killed(BaseException):
    """Nothing may catch this."""


@pytest.mark.parametrize("there", [None, b"old"])
@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), Killed()], ids=["full", "killed"])
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, there: bytes | None, call: str, problem: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "file.json"
    if there is not None:
        write_whole(path, there)

    def fail(*_: object) -> None:
        raise problem

    monkeypatch.setattr(f"prvr.files.os.{call}", fail)
    with pytest.raises(type(problem)):
        write_whole(path, b"new")
    monkeypatch.undo()
    assert [p.name for p in path.parent.iterdir()] == ([] if there is None else [path.name])
    assert there is None or path.read_bytes() == there
    write_whole(path, b"newer")
    assert path.read_bytes() == b"newer"


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    with disk_of(1000), pytest.raises(OSError, match="large"):
        write_whole(path, b"x" * 5000)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_value_that_is_no_json_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"name": "Mädchen", "parts": (1, 2.5, None)})
    assert json.loads(path.read_bytes()) == {"name": "Mädchen", "parts": [1, 2.5, None]}
    with pytest.raises(TypeError):
        write_json(path, {"path": path})
    assert json.loads(path.read_bytes())["name"] == "Mädchen"


def test_a_name_that_is_not_utf8_can_be_written(tmp_path: Path) -> None:
    # A folder of videos may have such a name, and an index notes where its videos are.
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "file.json", {"videos": name})
    assert json.loads((tmp_path / "file.json").read_text()) == {"videos": name}


# What older versions wrote

# DL-DKD's settings held those of its distillation.
OLD_SETTINGS: dict[str, Any] = {
    **{"hidden": 8, "heads": 2, "max_frames": 9, "max_words": 8, "dropout": 0.2, "input_dropout": 0.2},
    **{"branches": ["inheritance", "exploration"], "text_backbone": "words", "shared_query_projection": False},
    **{"exploration_weight": 0.3, "margin": 0.1, "negative_pool": 20, "nce_weight": 0.04, "distillation_weight": 0.1},
    **{"distillation_offset": 0.0, "distillation_decay": "exponential", "distillation_temperature": 0.2},
    **{"distillation_target": "feature", "distillation_loss": "kl", "distillation_aggregate": "each"},
    **{"teacher_columns": [5], "soft_targets": True, "soft_target_epochs": 60, "hard_fraction": 0.8},
    **{"hard_fraction_decay": "sigmoid", "mixing": 0.8, "mixing_decay": "sigmoid", "hard_part": "first"},
    **{"detach_self_targets": False, "teacher_temperature": 1.0},
}
NEW_SETTINGS = DlDkdConfig(hidden=8, heads=2, max_frames=9, max_words=8)


def write_old(path: Path, method: str, settings: dict[str, Any], weights: dict[str, torch.Tensor]) -> str:
    """A checkpoint as an older version wrote it, and the fingerprint that it had there."""
    sources = [[s.name, s.columns, s.fingerprint, s.rate] for s in (READS.frames, READS.text)]
    digest = hashlib.sha256(json.dumps([method, settings, sources], sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    text = {"format": 1, "method": method, "settings": settings, "reads": dataclasses.asdict(READS), "about": {"epoch": 3}}
    write_json(path / CONFIG, text)
    write_whole(path / WEIGHTS, safetensors.torch.save(weights))
    return digest.hexdigest()[:16]


def old_weights(made: Checkpoint, prefix: str = "") -> dict[str, torch.Tensor]:
    """A student's weights beside those of the maps to its teacher's features, which were part of the student."""
    assert isinstance(made.model, torch.nn.Module)
    made.model.eval()
    maps = {f"feature_maps.0.{side}.0.{kind}": torch.ones(5) for side in ("queries", "frames") for kind in ("weight", "bias")}
    return {**made.model.state_dict(), **{prefix + name: value for name, value in maps.items()}}


def test_a_checkpoint_of_dl_dkd_with_the_settings_of_its_distillation(tmp_path: Path) -> None:
    made = build(settings=NEW_SETTINGS)
    fingerprint = write_old(tmp_path / "old", "dl_dkd", OLD_SETTINGS, old_weights(made))
    loaded = checkpoints.load(tmp_path / "old")
    assert loaded.settings == NEW_SETTINGS
    assert torch.equal(scores(loaded), scores(made))
    assert loaded.about["epoch"] == 3
    distillation = Distillation(
        distillation_target="feature",
        distillation_weight=0.1,
        soft_targets="teacher",
        soft_target_epochs=60,
        detach_self_targets=False,
    )
    assert from_dict(Distillation, loaded.about["distillation"]) == distillation
    # Indexes hold the fingerprint; it stays when the checkpoint is saved again.
    assert loaded.fingerprint == fingerprint
    checkpoints.save(loaded, tmp_path / "new")
    again = checkpoints.load(tmp_path / "new")
    assert again.fingerprint == fingerprint
    assert (again.settings, again.about) == (loaded.settings, loaded.about)
    assert json.loads((tmp_path / "new" / CONFIG).read_text())["settings"].keys() == vars(NEW_SETTINGS).keys()


def test_settings_that_an_older_version_left_at_their_defaults(tmp_path: Path) -> None:
    made, few = build(settings=NEW_SETTINGS), {**vars(NEW_SETTINGS), "soft_targets": False}
    assert isinstance(made.model, torch.nn.Module)
    write_old(tmp_path, "dl_dkd", few, made.model.state_dict())
    loaded = checkpoints.load(tmp_path)
    assert from_dict(Distillation, loaded.about["distillation"]) == Distillation(
        distillation_weight=0.1, detach_self_targets=False
    )
    every = {**OLD_SETTINGS, "distillation_target": "frame_profile", "teacher_columns": [], "soft_target_epochs": 120}
    whole = write_old(tmp_path, "dl_dkd", {**every, "soft_targets": False}, made.model.state_dict())
    assert loaded.fingerprint == whole


def test_a_student_beside_its_teacher_with_its_settings_as_text(tmp_path: Path) -> None:
    settings = BesideTeacherConfig("dl_dkd", vars(NEW_SETTINGS), 2, 0.4)
    made = build("beside_teacher", settings)
    old = {**vars(settings), "student_settings": json.dumps(OLD_SETTINGS)}
    fingerprint = write_old(tmp_path, "beside_teacher", old, old_weights(made, "student."))
    loaded = checkpoints.load(tmp_path)
    assert loaded.settings.student_settings.keys() == settings_to_compare(NEW_SETTINGS).keys()
    assert torch.equal(scores(loaded), scores(made))
    assert loaded.fingerprint == fingerprint
    assert loaded.about["distillation"]["soft_targets"] == "teacher"


@pytest.mark.parametrize("text", ["{", "[1]", '"dl_dkd"', "3"])
def test_text_that_is_no_settings_of_a_student(tmp_path: Path, text: str) -> None:
    made = build("beside_teacher", BesideTeacherConfig("dl_dkd", vars(NEW_SETTINGS), 2, 0.4))
    old = {"student": "dl_dkd", "student_settings": text, "teacher_columns": 2, "teacher_weight": 0.4}
    write_old(tmp_path, "beside_teacher", old, old_weights(made, "student."))
    with pytest.raises(ModelError, match=CONFIG) as refused:
        checkpoints.load(tmp_path)
    assert "\n" not in str(refused.value)


# Methods that compute something else than they did

CHANGED = sorted(name for name in METHODS if open_method(name).revision > 1)


@pytest.mark.parametrize("method", CHANGED)
def test_a_checkpoint_of_a_method_that_has_changed(method: str, tmp_path: Path) -> None:
    revision = open_method(method).revision
    write_json(tmp_path / CONFIG, {"format": 1, "method": method, "settings": {"hidden": 3}, "reads": dataclasses.asdict(READS)})
    wanted = f"trained with revision 1 of {method}, which computes something else since revision {revision}; train again"
    with pytest.raises(ModelError, match=wanted) as refused:
        checkpoints.load(tmp_path)
    assert "\n" not in str(refused.value)
    beside = {"student": method, "student_settings": {"hidden": 3}, "teacher_columns": 2, "teacher_weight": 0.4}
    text = {"format": 1, "method": "beside_teacher", "settings": beside, "reads": dataclasses.asdict(READS)}
    write_json(tmp_path / CONFIG, text)
    with pytest.raises(ModelError, match=wanted):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize(("method", "config", "added"), [("xml", XmlConfig, {"sampling", "ranking_loss"})])
def test_a_setting_that_was_added_later_changes_no_fingerprint(method: str, config: Any, added: set[str], tmp_path: Path) -> None:
    made = build(method, config(hidden=8, heads=2))
    checkpoints.save(made, tmp_path)
    text = json.loads((tmp_path / CONFIG).read_text())
    text["settings"] = {name: value for name, value in text["settings"].items() if name not in added}
    write_json(tmp_path / CONFIG, {name: value for name, value in text.items() if name != "revision"})
    assert made.fingerprint == checkpoints.load(tmp_path).fingerprint
    sources = [[s.name, s.columns, s.fingerprint, s.rate] for s in (READS.frames, READS.text)]
    digest = hashlib.sha256(json.dumps([method, text["settings"], sources], sort_keys=True).encode())
    assert isinstance(made.model, torch.nn.Module)
    for name, tensor in sorted(made.model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    assert made.fingerprint == digest.hexdigest()[:16]
    assert build(method, config(hidden=8, heads=2, sampling="first")).fingerprint != made.fingerprint
