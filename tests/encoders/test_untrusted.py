"""Encoder folders from strangers: settings out of range, names that lead out, code, models that do not do what they state."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_encoders import frames, make_all, make_textual, make_visual, onnx, save_graph

from prvr.encoders import count_words_read, image_encoder, open_encoder, sentence_encoder
from prvr.encoders.vectors import WordVectors
from prvr.encoders.vocabulary import Vocabulary
from prvr.errors import DataError, ModelError


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_all(tmp_path_factory.mktemp("models"))


SETTINGS: dict[str, tuple[str, str]] = {
    "std 0": ('"std": [0, 1, 1]', "'std' is .*three numbers above 0"),
    "std negative": ('"std": [1, -1, 1]', "'std' is .*three numbers above 0"),
    "std nearly 0": ('"std": [1e-300, 1, 1]', "'std' is .*three numbers above 0"),
    "std NaN": ('"std": [NaN, 1, 1]', "NaN is not a number"),
    "mean infinite": ('"mean": [1e400, 1, 1]', "too large"),
    "mean huge": ('"mean": [1e39, 1, 1]', "'mean' is .*three numbers"),
    "mean of two": ('"mean": [1, 1]', "'mean' is .*three numbers"),
    "mean text": ('"mean": ["0.5", "0.5", "0.5"]', "'mean' is .*three numbers"),
    "mean nested": ('"mean": [[1], [1], [1]]', "'mean' is .*three numbers"),
    "mean one number": ('"mean": 0.5', "'mean' is .*three numbers"),
    "size 0": ('"size": 0', "'size' is 0; it takes a whole number from 1"),
    "size negative": ('"size": [-8, 12]', "'size' is"),
    "size huge": ('"size": 10000000', "'size' is"),
    "size beyond all": ('"size": [8, 1e300]', "'size' is"),
    "size a fraction": ('"size": 8.5', "'size' is"),
    "size text": ('"size": "8"', "'size' is"),
    "size true": ('"size": true', "'size' is"),
    "size of three": ('"size": [8, 12, 3]', "'size' is"),
    "size an object": ('"size": {"height": 8}', "'size' is"),
    "size none": ('"size": null', "'size' is None"),
    "size of another model": ('"size": [8, 8]', "they are of different models"),
    "interpolation a list": ('"interpolation": []', "unknown"),
    "resize mode a number": ('"resize_mode": 5', "unknown 5"),
    "deep": ('"size": ' + "[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize(("setting", "said"), SETTINGS.values(), ids=list(SETTINGS))
def test_preprocessing_out_of_range(tmp_path: Path, setting: str, said: str) -> None:
    path = make_visual(tmp_path, size=[8, 12]) / "visual/preprocess_cfg.json"
    # The last of two equal keys counts.
    path.write_text(f"{path.read_text()[:-1]}, {setting}}}")
    with pytest.raises(ModelError, match=said) as problem:
        open_encoder(tmp_path)
    assert str(path.parent) in str(problem.value)
    assert "preprocess_cfg.json" in str(problem.value)
    assert "\n" not in str(problem.value)


def test_preprocessing_that_is_no_object(tmp_path: Path) -> None:
    path = make_visual(tmp_path, size=[8, 12]) / "visual/preprocess_cfg.json"
    path.write_text("[1]")
    with pytest.raises(ModelError, match="missing or broken"):
        open_encoder(tmp_path)


@pytest.mark.parametrize("name", ["visual/preprocess_cfg.json", "textual/tokenizer.json"])
def test_pipes_in_a_model_folder_are_not_opened(models: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(models / "onnx-both", tmp_path / "pipe")
    (tmp_path / "pipe" / name).unlink()
    os.mkfifo(tmp_path / "pipe" / name)
    with pytest.raises((ModelError, DataError), match="a pipe or a device"):
        open_encoder(tmp_path / "pipe")


def test_pipes_as_words(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "words.txt")
    with pytest.raises(ModelError, match="a pipe"):
        WordVectors(tmp_path / "words.txt")
    with pytest.raises(DataError, match="a pipe"):
        Vocabulary(tmp_path / "words.txt")


@pytest.mark.parametrize("text", ["{}", "[]", "", "{", '{"model": {"type": "Nothing"}}', "\x00", "[" * 100_000])
def test_tokenizers_that_are_none(tmp_path: Path, text: str) -> None:
    (make_textual(tmp_path) / "textual/tokenizer.json").write_text(text)
    with pytest.raises(ModelError, match=r"cannot open .*tokenizer\.json") as problem:
        open_encoder(tmp_path)
    assert "\n" not in str(problem.value)


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    path = make_textual(tmp_path) / "textual/tokenizer.json"
    tokens = json.loads(path.read_text())
    tokens["model"]["vocab"] = {word: 1000 + place for word, place in tokens["model"]["vocab"].items()}
    path.write_text(json.dumps(tokens))
    with pytest.raises(ModelError, match="cannot run the encoder") as problem:
        sentence_encoder(tmp_path).encode_sentences(["a dog"])
    assert "\n" not in str(problem.value)


def widths(folder: Path, half: str, columns: int, *, real: int) -> None:
    """A model that states `columns`, and returns `real`."""
    name, shape = ("pixel_values", ["batch", 3, 8, 12]) if half == "visual" else ("input_ids", ["batch", "tokens"])
    kind = onnx.TensorProto.FLOAT if half == "visual" else onnx.TensorProto.INT64
    nodes = [
        onnx.helper.make_node("Shape", [name], ["shape"]),
        onnx.helper.make_node("Gather", ["shape", "zero"], ["count"]),
        onnx.helper.make_node("Concat", ["count", "columns"], ["whole"], axis=0),
        onnx.helper.make_node("ConstantOfShape", ["whole"], ["embedding"]),
    ]
    constants = {"zero": np.array([0]), "columns": np.array([real])}
    (folder / half / "model.onnx").unlink()
    moved = [path.rename(folder / path.name) for path in (folder / half).iterdir()]
    (folder / half).rmdir()
    save_graph(folder / half / "model.onnx", nodes, [onnx.helper.make_tensor_value_info(name, kind, shape)], columns, constants)
    for path in moved:
        path.rename(folder / half / path.name)


def test_outputs_of_another_width_than_stated(tmp_path: Path) -> None:
    widths(make_visual(tmp_path / "eyes", size=[8, 12]), "visual", 7, real=5)
    with pytest.raises(ModelError, match=r"gave float32 of shape \(1, 5\) for 1 inputs, and states 7 columns"):
        image_encoder(tmp_path / "eyes").encode_images(frames((8, 12)))
    widths(make_textual(tmp_path / "tongue"), "textual", 7, real=9)
    with pytest.raises(ModelError, match=r"shape \(1, 9\).* states 7 columns"):
        sentence_encoder(tmp_path / "tongue").encode_sentences(["a dog"])


def test_text_that_becomes_nan(tmp_path: Path) -> None:
    path = make_textual(tmp_path) / "textual/model.onnx"
    model = onnx.load(str(path))
    table = onnx.numpy_helper.to_array(model.graph.initializer[0]) * np.nan
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(table.astype(np.float32), "table"))
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match="NaN or infinite values for a text"):
        sentence_encoder(tmp_path).encode_sentences(["a dog"])


@pytest.mark.parametrize("place", ["../../secret.bin", "/etc/hostname", "link.bin"])
def test_weights_outside_of_an_onnx_folder_are_not_read(tmp_path: Path, place: str) -> None:
    path = make_textual(tmp_path / "models/tiny") / "textual/model.onnx"
    model = onnx.load(str(path))
    table = model.graph.initializer[0]
    (tmp_path / "models/secret.bin").write_bytes(table.raw_data)
    (path.parent / "link.bin").symlink_to(tmp_path / "models/secret.bin")
    length = len(table.raw_data)
    table.ClearField("raw_data")
    table.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", place), ("offset", "0"), ("length", str(length))):
        entry = table.external_data.add()
        entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="cannot open"):
        open_encoder(tmp_path / "models/tiny")


@pytest.mark.parametrize("name", ["../clip/model.safetensors", "/etc/passwd", "..", "a\\b", "below/x.safetensors"])
def test_shards_outside_of_the_folder_are_not_read(models: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(models / "bert", tmp_path / "sharded")
    (tmp_path / "sharded/model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": name}}
    (tmp_path / "sharded/model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"names the file .* which is not in the folder"):
        open_encoder(tmp_path / "sharded")


@pytest.mark.parametrize("change", [{"_attn_implementation": "evil/kernel"}, {"attn_implementation": "evil/kernel@main:x"}])
def test_code_of_the_hub_is_not_named(models: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    shutil.copytree(models / "bert", tmp_path / "kernel")
    config = tmp_path / "kernel/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(ModelError, match=r"names code of the hub \('evil/kernel"):
        open_encoder(tmp_path / "kernel")


def test_pickled_weights_are_not_opened(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "bert", tmp_path / "pickled")
    (tmp_path / "pickled/model.safetensors").rename(tmp_path / "pickled/pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot open the encoder") as problem:
        open_encoder(tmp_path / "pickled")
    assert "\n" not in str(problem.value)


def test_code_in_a_folder_is_refused_without_a_question(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "bert", tmp_path / "evil")
    config = tmp_path / "evil/config.json"
    evil = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoTokenizer": ["evil.T", None]}}
    config.write_text(json.dumps({**json.loads(config.read_text()), **evil}))
    (tmp_path / "evil/evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    command = [sys.executable, "-m", "prvr", "extract", str(tmp_path), str(tmp_path / "out"), "--encoder", str(tmp_path / "evil")]
    (tmp_path / "a.mp4").write_bytes(b"")
    # A terminal would answer yes to every question.
    done = subprocess.run(command, input="y\n" * 9, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2])
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "names code of its own" in line
    assert "[y/N]" not in done.stdout + line
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", ["[]", "5", "[" * 100_000, '{"model_type": NaN}', '{"model_type": []}'])
def test_configs_that_are_none(models: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(models / "bert", tmp_path / "broken")
    (tmp_path / "broken/config.json").write_text(text)
    with pytest.raises(ModelError) as problem:
        open_encoder(tmp_path / "broken")
    assert "\n" not in str(problem.value)


def test_how_many_words_are_read(models: Path, tmp_path: Path) -> None:
    """A limit of 12 tokens, of which a start and an end are two: ten words."""
    for name in ("clip", "siglip", "bert", "roberta"):
        encoder = open_encoder(models / name)
        assert count_words_read(encoder, "a dog runs") == (3, 3)
        assert count_words_read(encoder, "a dog " * 5) == (10, 10)
        assert count_words_read(encoder, "a dog " * 5 + "runs") == (10, 11)
        # The model reads six tokens: the start and five words.
        assert count_words_read(encoder, "a dog " * 3, most=6) == (5, 6)
        assert count_words_read(encoder, "a dog " * 2, most=6) == (4, 4)
    cut = open_encoder(make_textual(tmp_path, tokens=7))
    assert count_words_read(cut, "a dog runs in a kitchen") == (5, 6)
    assert count_words_read(cut, "a dog runs in a") == (5, 5)
    assert count_words_read(open_encoder(models / "onnx-tongue"), "a " * 500) == (500, 500)


@pytest.mark.shared
def test_the_words_that_a_real_encoder_reads(shared: Path) -> None:
    encoder = sentence_encoder(shared / "data/models/mobilenet-minilm")
    sentence = "the " * 126 + "green"
    assert count_words_read(encoder, sentence) == (126, 127)
    other = "the " * 126 + "car"
    np.testing.assert_array_equal(*encoder.encode_sentences([sentence, other])[:, None])
