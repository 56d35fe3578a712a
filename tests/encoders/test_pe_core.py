"""PE-Core in OpenCLIP's files: the numbers of `open_clip` 3.3.0 and `timm` 1.0.31, and broken files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_encoders import TEXTS, frames, make_pe_core

from prvr.encoders import ImageEncoder, LimitedText, SentenceEncoder, WordEncoder, count_words_read, open_encoder
from prvr.encoders.pe_core import PeCore
from prvr.encoders.prompts import Prompted
from prvr.errors import ModelError

# The first four columns of `timm.create_model("vit_pe_core_tiny_patch16_384", img_size=48, embed_dim=24, depth=2,
# num_classes=20)` and of `open_clip.transformer.TextTransformer(12, 32, width=16, heads=2, layers=2, output_dim=20)` with the
# weights of `pe_core_weights`, for three frames and the four texts; the second text has more tokens than the model reads.
IMAGES = [
    [-0.9309892654418945, 2.3421692848205566, -0.49452656507492065, 2.6703920364379883],
    [-0.9562907218933105, 2.277578115463257, -0.6203135251998901, 2.7632455825805664],
    [-1.1230872869491577, 2.221282482147217, -0.5867642164230347, 2.82600736618042],
]
SENTENCES = [
    [-0.4012937843799591, -0.2920769453048706, 0.7910051345825195, -0.05182921141386032],
    [-0.4512787461280823, -0.3125661611557007, 0.8972516655921936, -0.034580349922180176],
    [-0.44337552785873413, -0.36495813727378845, 0.8410046696662903, -0.1863245666027069],
    [-0.715826153755188, -0.5259045362472534, 0.8647892475128174, 0.06279712170362473],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_pe_core(tmp_path / "pe-core")
    return tmp_path / "pe-core"


def test_rows_are_those_of_open_clip_and_timm(folder: Path) -> None:
    encoder = open_encoder(folder)
    assert isinstance(encoder, PeCore)
    assert isinstance(encoder, ImageEncoder | SentenceEncoder)
    images = encoder.encode_images(frames((40, 60), (64, 33), (48, 48)))
    assert images.shape == (3, encoder.image_columns) == (3, 20)
    np.testing.assert_allclose(images[:, :4], IMAGES, atol=1e-5)
    sentences = encoder.encode_sentences(TEXTS)
    assert sentences.shape == (4, encoder.sentence_columns) == (4, 20)
    np.testing.assert_allclose(sentences[:, :4], SENTENCES, atol=1e-5)


def test_rows_do_not_depend_on_their_batch(folder: Path) -> None:
    encoder = open_encoder(folder)
    assert isinstance(encoder, PeCore)
    batch = frames((40, 60), (64, 33))
    np.testing.assert_allclose(encoder.encode_images(batch)[1], encoder.encode_images(batch[1:])[0], atol=1e-5)
    for text, row, words in zip(TEXTS, encoder.encode_sentences(TEXTS), encoder.encode_words(TEXTS), strict=True):
        np.testing.assert_allclose(row, encoder.encode_sentences([text])[0], atol=1e-5)
        np.testing.assert_allclose(words, encoder.encode_words([text])[0], atol=1e-5)
        assert words.shape == (min(12, len(text.split()) + 2), 16)
    assert encoder.encode_images([]).shape == encoder.encode_sentences([]).shape == (0, 20)
    assert encoder.encode_words([]) == []


def test_what_it_can_do(folder: Path) -> None:
    encoder = open_encoder(folder)
    for ability in (WordEncoder, LimitedText, Prompted):
        assert isinstance(encoder, ability)
    assert (encoder.name, len(encoder.fingerprint)) == ("pe_core", 16)
    # Twelve tokens, a start and an end among them.
    assert count_words_read(encoder, " ".join(["dog"] * 30)) == (10, 30)
    other = folder.with_name("other")
    make_pe_core(other, draw=1)
    assert open_encoder(other).fingerprint != encoder.fingerprint


def _change(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda c: c["model_cfg"]["vision_cfg"].update(timm_model_name="vit_base_patch32_clip_224"),
            "PE-Core is read: did you mean|known",
        ),
        (
            lambda c: c["model_cfg"]["vision_cfg"].update(image_size=64),
            "the weights have 10 positions, and pictures .4, 4. patches",
        ),
        (lambda c: c["preprocess_cfg"].update(std=[0, 1, 1]), "three numbers above 0"),
        (lambda c: c["preprocess_cfg"].pop("mean"), "missing or broken"),
        (lambda c: c.pop("model_cfg"), "cannot open the encoder"),
        (lambda c: c["model_cfg"]["text_cfg"].update(heads=0), "cannot open the encoder|cannot run the encoder"),
    ],
)
def test_configurations_that_do_not_fit(folder: Path, change: Callable[[dict], object], said: str) -> None:
    _change(folder, change)
    with pytest.raises(ModelError, match=said):
        open_encoder(folder).encode_sentences(["a dog"])  # type: ignore[attr-defined]


def test_weights_that_lack_a_tensor(folder: Path) -> None:
    path = folder / "open_clip_model.safetensors"
    weights = load_file(path)
    del weights["visual.trunk.blocks.1.norm1.bias"]
    save_file(weights, path)
    with pytest.raises(ModelError, match=r"Missing key.*blocks\.1\.norm1\.bias.*get its files again"):
        open_encoder(folder)
    path.write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot open the encoder"):
        open_encoder(folder)
