"""Words as numbers in a vocabulary, for methods that learn word vectors themselves: Dual Encoding, DE++, RIVRL.

A vocabulary is a text file with one word a line; the first line is word 4, because 0 to 3 are padding, the start of a
sentence, its end, and a word that the file does not hold. A sentence in lower case is split at everything but letters and
digits. DE++ and RIVRL take the first words of the file as their concepts: `write_vocabulary` puts those that name something
first, in the order of how often they are said.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import final

import numpy as np

from prvr.encoders import name_of
from prvr.errors import DataError, ModelError
from prvr.files import read_bytes, write_whole

SCHEME = "ids:"

PADDING, START, END, UNKNOWN = range(4)
SPECIAL = 4
WORD = re.compile(r"[a-z0-9]+")
# Said more often than other words, and naming nothing: they come last in a vocabulary.
FUNCTION_WORD = re.compile(
    r"a|an|the|and|or|but|if|then|than|as|of|in|on|at|to|from|by|with|without|for|into|onto|over|under|up|down|out|off|about|"
    r"is|are|was|were|be|been|being|am|has|have|had|do|does|did|can|could|will|would|shall|should|may|might|must|not|no|"
    r"i|you|he|she|it|we|they|me|him|her|us|them|my|your|his|its|our|their|this|that|these|those|here|there|who|whom|whose|"
    r"which|what|when|where|while|how|why|some|any|each|other|another|one|two|both|all|more|most|very|just|also|so|s|t"
)


def words_of(text: str) -> list[str]:
    """A sentence's words: "The man doesn't." is the, man, doesn, t."""
    return WORD.findall(text.lower())


def write_vocabulary(path: str | Path, texts: Iterable[str], *, least: int = 5) -> int:
    """Writes the words that are said at least `least` times in these texts, and returns how many there are.

    Raises:
        DataError: no word is said so often.
    """
    counts = Counter(word for text in texts for word in words_of(text))
    kept = [word for word in counts if counts[word] >= least]
    if not kept:
        raise DataError(f"no word is said {least} times in these texts; give more texts, or a smaller least")
    kept.sort(key=lambda word: (FUNCTION_WORD.fullmatch(word) is not None, -counts[word], word))
    write_whole(Path(path), ("\n".join(kept) + "\n").encode())
    return len(kept)


@final
class Vocabulary:
    """Word numbers of a vocabulary file, one column.

    Raises:
        ModelError: the file is not there, is empty, or holds a word twice or something that is not one word.
    """

    word_columns = 1

    def __init__(self, path: Path) -> None:
        try:
            content = read_bytes(path)
            lines = content.decode().split()
        except OSError as problem:
            raise ModelError(f"cannot read the vocabulary {path}: {problem.strerror}; check the path") from problem
        except UnicodeDecodeError:
            raise ModelError(f"the vocabulary {path} is not text; write one word a line") from None
        twice = [word for word, count in Counter(lines).items() if count > 1]
        wrong = [*(word for word in lines if not WORD.fullmatch(word)), *twice]
        if wrong or not lines:
            reason = f"{wrong[0][:40]!r}, of which it needs one each, of a-z and 0-9" if wrong else "no words"
            raise ModelError(f"the vocabulary {path} has {reason}; write one word a line")
        self.name, self.source = name_of(path.stem), f"{SCHEME}{path.absolute()}"
        self.fingerprint = hashlib.sha256(content).hexdigest()[:16]
        self.size = SPECIAL + len(lines)
        self._numbers = {word: SPECIAL + place for place, word in enumerate(lines)}

    def encode_words(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The numbers of each text's words between those of start and end, (W + 2, 1)."""
        return [self._rows(words_of(text)) for text in texts]

    def _rows(self, words: Sequence[str]) -> np.ndarray:
        numbers = [START, *(self._numbers.get(word, UNKNOWN) for word in words), END]
        return np.array(numbers, np.float32)[:, None]
