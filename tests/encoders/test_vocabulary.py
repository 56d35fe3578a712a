"""Words as numbers in a vocabulary: splitting, writing one from captions, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prvr.encoders import WordEncoder, open_encoder, word_encoder
from prvr.encoders.vocabulary import Vocabulary, words_of, write_vocabulary
from prvr.errors import DataError, ModelError

TEXTS = ["A man opens the door.", "The man's dog opens a door!", "a man and a dog"]


def test_words_are_runs_of_letters_and_digits_in_lower_case() -> None:
    assert words_of("The man doesn't run 10-km, naïve.") == ["the", "man", "doesn", "t", "run", "10", "km", "na", "ve"]


def test_a_vocabulary_of_captions(tmp_path: Path) -> None:
    path = tmp_path / "toy.txt"
    assert write_vocabulary(path, TEXTS, least=2) == 6
    # What names something comes first, in the order of how often it is said; then a and the.
    assert path.read_text().split() == ["man", "dog", "door", "opens", "a", "the"]
    with pytest.raises(DataError, match="no word is said 9 times in these texts"):
        write_vocabulary(path, TEXTS, least=9)
    encoder = word_encoder(f"ids:{path}")
    assert isinstance(encoder, Vocabulary)
    assert isinstance(encoder, WordEncoder)
    assert (encoder.name, encoder.word_columns, encoder.size) == ("toy", 1, 10)
    ids, unknown = encoder.encode_words([TEXTS[0], "?"])
    assert ids.tolist() == [[1], [8], [4], [7], [9], [6], [2]]
    assert unknown.tolist() == [[1], [2]]
    assert encoder.encode_words(["xyz dog"])[0].dtype == np.float32
    assert encoder.encode_words(["xyz dog"])[0][:, 0].tolist() == [1, 3, 5, 2]
    other = tmp_path / "other.txt"
    other.write_text("dog\nman\n")
    assert open_encoder(f"ids:{other}").fingerprint != encoder.fingerprint


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"dog\nDog\n", "has 'Dog', of which it needs one each"),
        (b"dog\ncat\ndog\n", "has 'dog', of which it needs one each"),
        (b"", "has no words"),
        (b"\xff\xfe\x00", "is not text"),
        (None, "cannot read the vocabulary"),
    ],
)
def test_files_that_are_no_vocabulary(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=reason):
        Vocabulary(path)
