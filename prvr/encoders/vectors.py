"""Encodes words with a text file of word vectors: GloVe, word2vec or fastText.

    the 0.418 0.24968 -0.41242 ...     a line per word; the first line may be the number of words and columns, `400000 300`

Sentences are split as for these files: into runs of letters and digits, the English endings n't, 's, 're, 've, 'll, 'd and 'm,
and single other characters. A word is searched in its own case, then in lower case; the row of an unknown word is zero. The file
is read once when it is opened, for its lines and its fingerprint; the numbers of a word are parsed when they are first needed.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float32

from prvr.encoders import name_of
from prvr.errors import ModelError

SCHEME = "vectors:"

ENDINGS = r"n't\b|'(?:s|re|ve|ll|d|m)\b"
TOKEN = re.compile(rf"\w+(?=n't\b)|{ENDINGS}|\w+|[^\w\s]", re.IGNORECASE)


def tokens_of(text: str) -> list[str]:
    """Splits a sentence into words and other characters: "The man doesn't." is The, man, does, n't and a full stop."""
    return TOKEN.findall(text.replace("’", "'"))


@final
class WordVectors:
    """Word vectors from a text file.

    Raises:
        ModelError: there is no such file, or a line is not a word with its numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name, self.source = path, name_of(path.stem), f"{SCHEME}{path.absolute()}"
        self._table = _scan(path)
        self.fingerprint, self.word_columns = self._table.fingerprint, self._table.columns
        with open(path, "rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._unknown = np.zeros(self.word_columns, np.float32)
        self._read: dict[str, np.ndarray] = {}

    def encode_words(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns a row per word of each text, (W, word_columns)."""
        return [self.rows(tokens_of(text)) for text in texts]

    def rows(self, words: Sequence[str]) -> Float32[np.ndarray, "W C"]:
        """Returns the vectors of words that are already split."""
        return np.stack([self._row(word) for word in words]) if words else np.empty((0, self.word_columns), np.float32)

    def _row(self, word: str) -> Float32[np.ndarray, "C"]:
        if word not in self._read:
            lines = self._table.lines
            line = lines.get(_key(word)) or lines.get(_key(word.lower()))
            self._read[word] = self._numbers(line) if line else self._unknown
        return self._read[word]

    def _numbers(self, line: int) -> Float32[np.ndarray, "C"]:
        text = self._bytes[self._table.starts[line - 1] : self._table.starts[line]]
        try:
            with np.errstate(over="ignore"):
                row = np.array([float(number) for number in text.split()[-self.word_columns :]], np.float32)
        except ValueError:
            row = np.full(1, np.nan, np.float32)
        if not np.isfinite(row).all():
            raise ModelError(f"{self.path}, line {line}: {_quote(text)} is not a word and its numbers; get the file again")
        return row


@dataclass(frozen=True)
class _Table:
    """The line of each word, counted from 1; line n is the bytes from `starts[n - 1]` to `starts[n]`."""

    lines: dict[bytes, int]
    starts: array[int]
    columns: int
    fingerprint: str


def _scan(path: Path) -> _Table:
    digest, starts, lines, columns, expected = hashlib.sha256(), array("Q", [0]), dict[bytes, int](), 0, 0
    if path.exists() and not path.is_file():
        raise ModelError(f"cannot read the word vectors {path}: it is a folder, a pipe or a device; give a file")
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                digest.update(line)
                starts.append(starts[-1] + len(line))
                text = line.rstrip()
                if header := re.fullmatch(rb"(\d+) (\d+)", text) if number == 1 else None:
                    expected, columns = int(header[1]), int(header[2])
                elif text:
                    columns = columns or _columns(path, number, text)
                    lines.setdefault(_word(path, number, text, columns), number)
    except OSError as problem:
        raise ModelError(f"cannot read the word vectors {path}: {problem.strerror}; check the path") from problem
    if not lines or len(starts) - 2 < expected:
        raise ModelError(f"{path} is cut short: it holds {len(lines)} words of {expected or 'any number'}; get the file again")
    return _Table(lines, starts, columns, digest.hexdigest()[:16])


def _columns(path: Path, number: int, text: bytes) -> int:
    fields = text.split()
    try:
        [float(number) for number in fields[1:]]
    except ValueError:
        fields = []
    if len(fields) < 2:
        raise ModelError(
            f"{path}, line {number}: {_quote(text)} is not a word and its numbers; word vectors are a text file such as GloVe's"
        )
    return len(fields) - 1


def _word(path: Path, number: int, text: bytes, columns: int) -> bytes:
    # Spaces are counted, which is faster than splitting hundreds of thousands of lines with hundreds of numbers.
    spaces = text.count(b" ")
    if spaces == columns:
        return text[: text.index(b" ")]
    # A few words of GloVe contain spaces.
    fields = text.rsplit(None, columns)
    if len(fields) <= columns:
        raise ModelError(
            f"{path}, line {number}: {_quote(text)} has {len(fields) - 1} numbers, other lines {columns}; get the file again"
        )
    return fields[0]


def _key(word: str) -> bytes:
    # A lone surrogate is in no file; it is an unknown word, not an error.
    return word.encode(errors="surrogatepass")


def _quote(text: bytes) -> str:
    return repr(text[:40].decode(errors="replace"))
