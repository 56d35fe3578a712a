"""Embeddings of sentences: by sentence encoders, and by word encoders that say how words become a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_encoders import TEXTS, make_all

from prvr.encoders import JoinedWordEncoder, open_encoder
from prvr.encoders.sentence_embeddings import sentence_embedder
from prvr.errors import ModelError


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_all(tmp_path_factory.mktemp("models"))
    pool(made / "bert", '{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}')
    return made


def pool(folder: Path, text: str) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(text)


def test_a_sentence_encoder_gives_its_rows_at_unit_length(models: Path) -> None:
    encoder = open_encoder(models / "onnx-tongue")
    rows = encoder.encode_sentences(TEXTS)
    np.testing.assert_allclose(sentence_embedder(encoder)(TEXTS), rows / np.linalg.norm(rows, axis=1, keepdims=True), rtol=1e-5)


def test_the_mean_of_words_where_the_folder_says_so(models: Path) -> None:
    encoder = open_encoder(models / "bert")
    means = np.stack([rows.mean(0) for rows in encoder.encode_words(TEXTS)])
    wanted = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(sentence_embedder(encoder)(TEXTS), wanted, rtol=1e-5, atol=1e-6)
    joined = JoinedWordEncoder(encoder, [])
    np.testing.assert_allclose(sentence_embedder(joined)(TEXTS), wanted, rtol=1e-5, atol=1e-6)


def test_words_alone_give_none(models: Path, tmp_path: Path) -> None:
    assert sentence_embedder(open_encoder(models / "roberta")) is None
    (tmp_path / "words.txt").write_text("dog 1 0\ncat 0 1\n")
    assert sentence_embedder(open_encoder(f"vectors:{tmp_path / 'words.txt'}")) is None


def test_other_and_broken_ways_of_pooling(models: Path) -> None:
    pool(models / "roberta", '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}')
    assert sentence_embedder(open_encoder(models / "roberta")) is None
    pool(models / "roberta", "[")
    with pytest.raises(ModelError, match=r"1_Pooling/config.json is broken; get its files again"):
        open_encoder(models / "roberta")
