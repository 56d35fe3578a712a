"""Encoders of every family: what they can do, and the same rows out whatever else is in the batch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_encoders import DUAL, LETTERS, PRETRAINED, TEXT, TEXTS, frames, make_all, make_textual, make_visual, transformers

from prvr.encoders import (
    Encoder,
    ImageEncoder,
    SentenceEncoder,
    WordEncoder,
    image_encoder,
    name_of,
    open_encoder,
    sentence_encoder,
    word_encoder,
)
from prvr.encoders.dual import DualEncoder, TextEncoder
from prvr.encoders.onnx import OnnxDual, OnnxImages, OnnxSentences
from prvr.errors import ModelError, SettingError


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_all(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize(
    ("name", "kind", "abilities"),
    [
        ("clip", DualEncoder, {ImageEncoder, SentenceEncoder, WordEncoder}),
        ("siglip", DualEncoder, {ImageEncoder, SentenceEncoder, WordEncoder}),
        ("siglip2", DualEncoder, {ImageEncoder, SentenceEncoder, WordEncoder}),
        ("roberta", TextEncoder, {WordEncoder}),
        ("bert", TextEncoder, {WordEncoder}),
        ("onnx-both", OnnxDual, {ImageEncoder, SentenceEncoder}),
        ("onnx-eyes", OnnxImages, {ImageEncoder}),
        ("onnx-tongue", OnnxSentences, {SentenceEncoder}),
    ],
)
def test_a_folder_opens_as_what_it_is(models: Path, name: str, kind: type, abilities: set[type]) -> None:
    encoder = open_encoder(models / name)
    assert type(encoder) is kind
    assert isinstance(encoder, Encoder)
    assert {ability for ability in (ImageEncoder, SentenceEncoder, WordEncoder) if isinstance(encoder, ability)} == abilities
    assert (encoder.name, encoder.source) == (name.replace("-", "_"), str(models / name))
    assert len(encoder.fingerprint) == 16
    assert int(encoder.fingerprint, 16) >= 0


def test_an_ability_that_is_not_there_is_refused_by_name(models: Path) -> None:
    with pytest.raises(ModelError, match="'onnx_eyes' has no text side; it can be a student's eyes, not a teacher"):
        sentence_encoder(models / "onnx-eyes")
    with pytest.raises(ModelError, match="'roberta' has no image side"):
        image_encoder(models / "roberta")
    with pytest.raises(ModelError, match="'roberta' gives words, not sentences"):
        sentence_encoder(models / "roberta")
    with pytest.raises(ModelError, match="'onnx_both' gives no rows per word"):
        word_encoder(models / "onnx-both")
    assert image_encoder(models / "clip").image_columns == 20
    assert sentence_encoder(models / "siglip").sentence_columns == 24
    assert word_encoder(models / "clip").word_columns == 16


@pytest.mark.parametrize("name", [*PRETRAINED, "onnx-both"])
def test_the_fingerprint_is_of_the_weights_wherever_they_lie(models: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(models / name, tmp_path / "elsewhere")
    assert open_encoder(models / name).fingerprint == open_encoder(tmp_path / "elsewhere").fingerprint
    shutil.rmtree(tmp_path / "elsewhere")
    if name in PRETRAINED:
        PRETRAINED[name](tmp_path / "elsewhere")
    else:
        make_textual(make_visual(tmp_path / "elsewhere", size=[8, 8]), columns=3 * 8 * 8)
    assert open_encoder(models / name).fingerprint != open_encoder(tmp_path / "elsewhere").fingerprint


@pytest.mark.parametrize("name", ["clip", "onnx-both"])
def test_a_folder_is_remembered_wherever_one_stands(models: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(models)
    assert open_encoder(name).source == str(models / name)


@pytest.mark.parametrize("name", ["clip", "roberta"])
@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_there(models: Path, name: str, device: str) -> None:
    with pytest.raises(SettingError, match=f"cannot run on device '{device}' here"):
        open_encoder(models / name, device=device)


@pytest.mark.parametrize(
    ("source", "name"),
    [("openai/clip-vit-base-patch32", "clip_vit_base_patch32"), ("a/Xy..Z--1", "xy_z_1"), ("roberta-base", "roberta_base")],
)
def test_names(source: str, name: str) -> None:
    assert name_of(source) == name


def test_opening_the_package_loads_no_heavy_library() -> None:
    code = (
        "import sys, prvr.encoders, prvr.video; print({'torch', 'transformers', 'onnxruntime', 'av', 'PIL'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("name", [*DUAL, "onnx-both", "onnx-eyes"])
def test_frames_do_not_depend_on_their_batch(models: Path, name: str) -> None:
    encoder, batch = image_encoder(models / name), frames((40, 60), (64, 33), (32, 32), (90, 30))
    together = encoder.encode_images(batch)
    assert together.dtype == np.float32
    assert together.shape == (4, encoder.image_columns)
    alone = np.concatenate([encoder.encode_images([frame]) for frame in batch])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3
    assert encoder.encode_images([]).shape == (0, encoder.image_columns)


@pytest.mark.parametrize("name", [*DUAL, "onnx-both", "onnx-tongue"])
def test_sentences_do_not_depend_on_their_batch(models: Path, name: str) -> None:
    encoder = sentence_encoder(models / name)
    together = encoder.encode_sentences(TEXTS)
    assert together.dtype == np.float32
    assert together.shape == (4, encoder.sentence_columns)
    alone = np.concatenate([encoder.encode_sentences([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3
    assert encoder.encode_sentences([]).shape == (0, encoder.sentence_columns)


@pytest.mark.parametrize("name", [*DUAL, *TEXT])
def test_words_do_not_depend_on_their_batch(models: Path, name: str) -> None:
    encoder = word_encoder(models / name)
    together = encoder.encode_words(TEXTS)
    tokens = [len(text) + 1 if name == "siglip2" else len(text.split()) + 2 for text in TEXTS]
    assert [rows.shape for rows in together] == [(min(count, 12), 16) for count in tokens]
    for text, rows in zip(TEXTS, together, strict=True):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, encoder.encode_words([text])[0], atol=1e-5)
    assert encoder.encode_words([]) == []


@pytest.mark.parametrize("name", [*DUAL, *TEXT])
def test_long_and_empty_texts_do_not_crash(models: Path, name: str) -> None:
    empty, long = word_encoder(models / name).encode_words(["", "dog " * 100])
    assert len(empty) == (1 if name == "siglip2" else 2)
    assert len(long) == 12
    assert np.isfinite(empty).all()
    if name in DUAL:
        assert np.isfinite(sentence_encoder(models / name).encode_sentences(["", "dog " * 100])).all()


def test_no_token_at_all(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "roberta", tmp_path / "bare")
    file = tmp_path / "bare" / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "post_processor": None}))
    encoder = word_encoder(tmp_path / "bare")
    assert [rows.shape for rows in encoder.encode_words([""])] == [(0, 16)]
    assert [rows.shape for rows in encoder.encode_words(["", "a dog"])] == [(0, 16), (2, 16)]


@pytest.mark.parametrize("name", DUAL)
def test_dual_encoders_give_what_the_model_scores_with(models: Path, name: str) -> None:
    """Cosines of our rows, scaled, are the model's own logits, given inputs made by hand."""
    encoder = DualEncoder(str(models / name))
    model = transformers.AutoModel.from_pretrained(models / name).eval()
    picture = frames((32, 32))[0]
    pixels = (torch.from_numpy(picture).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    if name == "clip":
        mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
        pixels = (pixels * 0.5 + 0.5 - mean[:, None, None]) / std[:, None, None]
        ids, extra = torch.tensor([[1, 4, 6, 10, 2]]), {}
    else:
        ids, extra = torch.tensor([[1, 4, 6, 10, 2, 0, 0, 0, 0, 0, 0, 0]]), {}
    if name == "siglip2":
        ids = torch.tensor([[*(LETTERS.index(letter) for letter in "a▁dog▁runs"), 1, 0]])
        patches = pixels.reshape(1, 3, 4, 8, 4, 8).permute(0, 2, 4, 3, 5, 1).reshape(1, 16, 192)
        pixels, extra = patches, {"pixel_attention_mask": torch.ones(1, 16), "spatial_shapes": torch.tensor([[4, 4]])}
    with torch.inference_mode():
        logits = model(input_ids=ids, pixel_values=pixels, **extra).logits_per_image.item()
        scale = model.logit_scale.exp().item()
        bias = 0.0 if name == "clip" else model.logit_bias.item()
    image, sentence = encoder.encode_images([picture])[0], encoder.encode_sentences(["a dog runs"])[0]
    cosine = float(image @ sentence / np.linalg.norm(image) / np.linalg.norm(sentence))
    assert scale * cosine + bias == pytest.approx(logits, abs=1e-4)


@pytest.mark.parametrize("name", ["siglip", "siglip2"])
def test_siglip_reads_lower_case(models: Path, tmp_path: Path, name: str) -> None:
    """Even where its tokenizer does not see to it, as SigLIP 2's first ones."""
    shutil.copytree(models / name, tmp_path / "cased")
    file = tmp_path / "cased" / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "normalizer": None}))
    encoder = DualEncoder(str(tmp_path / "cased"))
    np.testing.assert_array_equal(encoder.encode_sentences(["A DOG Runs"]), encoder.encode_sentences(["a dog runs"]))


def test_words_are_the_last_states(models: Path) -> None:
    model = transformers.AutoModel.from_pretrained(models / "roberta").eval()
    with torch.inference_mode():
        wanted = model(torch.tensor([[1, 4, 6, 10, 2]])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(word_encoder(models / "roberta").encode_words(["a dog runs"])[0], wanted, atol=1e-6)
