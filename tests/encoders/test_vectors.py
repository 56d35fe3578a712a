"""Word vectors from text files as they are published, and as they break."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prvr.encoders import image_encoder, open_encoder, word_encoder
from prvr.encoders.vectors import WordVectors, tokens_of
from prvr.errors import ModelError

GLOVE = "the 0.5 -1 2e-1\nman 1 2 3\n. 0 0 1\nn't 4 4 4\nParis 7 7 7\n"


@pytest.fixture
def glove(tmp_path: Path) -> Path:
    path = tmp_path / "glove.6B.3d.txt"
    path.write_text(GLOVE)
    return path


def test_a_row_per_word(glove: Path) -> None:
    encoder = word_encoder(glove)
    assert isinstance(encoder, WordVectors)
    assert (encoder.name, encoder.source, encoder.word_columns) == ("glove_6b_3d", f"vectors:{glove}", 3)
    first, second, none = encoder.encode_words(["The man.", "PARIS Paris dragon", " "])
    np.testing.assert_array_equal(first, np.array([[0.5, -1, 0.2], [1, 2, 3], [0, 0, 1]], np.float32))
    # As it stands, then in lower case: PARIS is neither; an unknown word is zeros.
    np.testing.assert_array_equal(second, [[0, 0, 0], [7, 7, 7], [0, 0, 0]])
    assert none.shape == (0, 3)
    assert first.dtype == np.float32
    assert encoder.encode_words([]) == []


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The man doesn't  run.", ["The", "man", "does", "n't", "run", "."]),
        ("Castle’s dog, isn't it?", ["Castle", "'s", "dog", ",", "is", "n't", "it", "?"]),
        ("a T-shirt for 3.5 $", ["a", "T", "-", "shirt", "for", "3", ".", "5", "$"]),
        ("they'll say 'hello'", ["they", "'ll", "say", "'", "hello", "'"]),
        ("ein Mädchen läuft", ["ein", "Mädchen", "läuft"]),
        (" \n", []),
    ],
)
def test_how_sentences_are_split(text: str, tokens: list[str]) -> None:
    assert tokens_of(text) == tokens


@pytest.mark.parametrize(
    "text",
    [
        "2 3\nthe 1 2 3\nman 4 5 6\n",
        "the 1 2 3\nman 4 5 6",
        "2 3\nthe 1 2 3 \nman 4 5 6 \n",
        "the 1 2 3\r\nman 4 5 6\r\n\r\n",
        "the 1 2 3\n. . . 9 9 9\nman  4  5  6\nman 0 0 0\n",
    ],
    ids=["header", "no last line end", "spaces at the end", "Windows", "words with spaces, two spaces, a word twice"],
)
def test_formats_in_the_wild(tmp_path: Path, text: str) -> None:
    (tmp_path / "v.txt").write_bytes(text.encode())
    rows = word_encoder(tmp_path / "v.txt").encode_words(["the man ."])[0]
    np.testing.assert_array_equal(rows, [[1, 2, 3], [4, 5, 6], [0, 0, 0]])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", "is cut short: it holds 0 words"),
        (b"3 2\nthe 1 2\nman 4 5\n", "is cut short: it holds 2 words of 3"),
        (b"the 1 2 3\nman 4 5\n", "line 2: 'man 4 5' has 2 numbers, other lines 3"),
        (b"the\nman\n", "line 1: 'the' is not a word and its numbers"),
        (b"\x80\x04model\xff\n\x00", "line 1: .* is not a word and its numbers"),
        (b"the quick brown\n", "line 1: 'the quick brown' is not a word and its numbers"),
    ],
)
def test_broken_files_are_refused_with_the_line(tmp_path: Path, text: bytes, line: str) -> None:
    (tmp_path / "v.txt").write_bytes(text)
    with pytest.raises(ModelError, match=line) as problem:
        open_encoder(tmp_path / "v.txt")
    assert str(tmp_path / "v.txt") in str(problem.value)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("number", ["x", "nan", "inf", "1e999"])
def test_a_broken_number_is_found_when_its_word_is_asked_for(tmp_path: Path, number: str) -> None:
    (tmp_path / "v.txt").write_text(f"the 1 2\nman 1 {number}\n")
    encoder = word_encoder(tmp_path / "v.txt")
    assert encoder.encode_words(["the"])[0].tolist() == [[1, 2]]
    with pytest.raises(ModelError, match=r"line 2: 'man 1 .* is not a word and its numbers"):
        encoder.encode_words(["the man"])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read the word vectors .*gone\.txt: No such file"):
        open_encoder(f"vectors:{tmp_path}/gone.txt")


def test_the_source_holds_wherever_one_stands_and_the_fingerprint_is_of_the_content(
    glove: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = open_encoder(glove.name)
    assert first.source == open_encoder(f"vectors:{glove.name}").source == f"vectors:{glove}"
    (tmp_path / "copy.txt").write_text(GLOVE)
    (tmp_path / "other.txt").write_text(GLOVE.replace("7 7 7", "7 7 8"))
    assert len(first.fingerprint) == 16
    assert open_encoder("copy.txt").fingerprint == first.fingerprint != open_encoder("other.txt").fingerprint
    monkeypatch.chdir("/")
    assert open_encoder(first.source).fingerprint == first.fingerprint


def test_word_vectors_see_no_images(glove: Path) -> None:
    with pytest.raises(ModelError, match="'glove_6b_3d' has no image side"):
        image_encoder(glove)
