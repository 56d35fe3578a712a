"""Encoders that are broken, incomplete or not there: one line that says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_encoders import make_all

from prvr.encoders import open_encoder
from prvr.errors import ModelError


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_all(tmp_path_factory.mktemp("models"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BREAKS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "weights cut short": ("clip", lambda folder: cut(folder / "model.safetensors"), "cannot open the encoder"),
    "no weights": ("roberta", lambda folder: (folder / "model.safetensors").unlink(), "cannot open the encoder"),
    "no tokenizer": ("bert", lambda folder: [path.unlink() for path in folder.glob("token*")], "no tokenizer in"),
    "no processor": ("siglip", lambda folder: (folder / "preprocessor_config.json").unlink(), "cannot open the encoder"),
    "config is no JSON": ("roberta", lambda folder: cut(folder / "config.json"), r"config\.json is broken"),
    "no config": ("roberta", lambda folder: (folder / "config.json").unlink(), "no encoder in"),
    "ONNX cut short": ("onnx-both", lambda folder: (folder / "visual/model.onnx").write_bytes(b"x" * 40), "cannot open"),
    "no preprocessing": ("onnx-eyes", lambda folder: (folder / "visual/preprocess_cfg.json").unlink(), "preprocess_cfg.json"),
    "no ONNX tokenizer": ("onnx-tongue", lambda folder: (folder / "textual/tokenizer.json").unlink(), "tokenizer.json"),
}


@pytest.mark.parametrize("case", BREAKS)
def test_broken_folders_say_so_in_one_line(models: Path, tmp_path: Path, case: str) -> None:
    name, spoil, line = BREAKS[case]
    shutil.copytree(models / name, tmp_path / "broken")
    spoil(tmp_path / "broken")
    with pytest.raises(ModelError, match=line) as problem:
        open_encoder(tmp_path / "broken")
    assert "\n" not in str(problem.value)
    assert str(tmp_path / "broken") in str(problem.value)


@pytest.mark.parametrize("named", ["AutoConfig", "AutoModel", "AutoTokenizer"])
def test_code_in_a_folder_is_not_run(named: str, models: Path, tmp_path: Path) -> None:
    """Left alone, `transformers` asks on the terminal whether to run it."""
    folder, marker = tmp_path / "evil", tmp_path / "marker"
    shutil.copytree(models / "bert", folder)
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: ...\n")
    file = folder / ("tokenizer_config.json" if named == "AutoTokenizer" else "config.json")
    settings = json.loads(file.read_text())
    settings["auto_map"] = {named: ["evil.Evil", None] if named == "AutoTokenizer" else "evil.Evil"}
    if named == "AutoConfig":
        settings["model_type"] = "evil"
    file.write_text(json.dumps(settings))
    if named == "AutoConfig":
        with pytest.raises(ModelError, match=r"cannot open the encoder .*evil") as problem:
            open_encoder(folder)
        assert "\n" not in str(problem.value)
    else:
        open_encoder(folder)  # transformers has a class of its own for this model
    assert not marker.exists()


def test_missing_weights_are_not_drawn_at_random(models: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(models / "clip", tmp_path / "holed")
    weights = load_file(tmp_path / "holed/model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, tmp_path / "holed/model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors, 'text_projection\.weight' first"):
        open_encoder(tmp_path / "holed")


def test_a_name_comes_from_the_cache(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def snapshot(name: str, *, local_files_only: bool = False, **_: object) -> str:
        asked.append(local_files_only)
        return str(models / "clip")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    encoder = open_encoder("some/clip")
    assert (encoder.name, encoder.source, asked) == ("clip", "some/clip", [True, True])


@pytest.mark.parametrize("source", ["/nowhere/clip", "a/b/c"])
def test_a_path_that_is_not_there(source: str) -> None:
    with pytest.raises(ModelError, match="no such folder; check the path"):
        open_encoder(source)
