"""Checkpoints: what is saved is what is loaded, what is broken is one line, and no file is ever half written."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prvr.errors import ModelError
from prvr.features.sources import FeatureSources, Source
from prvr.files import write_json, write_whole
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import CONFIG, WEIGHTS, Checkpoint
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.zero_shot import ZeroShotConfig
from tests.features.test_packed import disk_of

READS = FeatureSources(
    Source("eyes", 6, source="somewhere/eyes", fingerprint="00112233aabbccdd", rate=1.0),
    Source("tongue", 6, source="somewhere/tongue", fingerprint="ffeeddcc99887766"),
)
SMALL = DlDkdConfig(hidden=16, heads=2, max_frames=9, max_words=8, branches=("exploration", "inheritance"))
MADE: dict[str, tuple[str, Any]] = {
    "two branches": ("dl_dkd", SMALL),
    "shared projection": ("dl_dkd", dataclasses.replace(SMALL, shared_query_projection=True)),
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
