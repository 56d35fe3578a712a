"""The words of texts and of queries: folded, so that case and accents do not matter, and one by one in scripts without spaces.

a dog on a skate*        any of these words; `skate*` begins a word
"on a skateboard" dog    these words side by side, which a text must have; and "dog"
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

# Marks that a word is found without: accents of Latin, Greek and Cyrillic, points of Hebrew, Arabic and Syriac; and variants.
FOLDED = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0730-\u074a"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\U000e0100-\U000e01ef]"
)
# All others belong to their letter: vowels of Indian scripts and of Thai, the sound of Kana.
MARKS = "".join(one for one in map(chr, range(0x300, 0x20000)) if unicodedata.category(one) in ("Mn", "Mc"))
WORD = re.compile(rf"[^\W_](?:[^\W_]|[{MARKS}])*")
QUOTED = re.compile(r'"([^"]*)"|“([^”]*)”')
# Han, Kana, Thai, Lao, Khmer and Burmese are written without spaces: each letter is a word there, a word a phrase.
UNSPACED = re.compile(
    rf"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff][{MARKS}]*)"
)
MOST_TERMS = 64
# Words of another rule are folded again (`prvr.index.text_tables`).
RULE = f"words 2, Unicode {unicodedata.unidata_version}"


@dataclass(frozen=True)
class Term:
    """Words side by side that are looked for. is_prefix: the last one begins a word. is_required: a text must have them."""

    words: tuple[str, ...]
    is_prefix: bool = False
    is_required: bool = False

    def is_in(self, words: Sequence[str]) -> bool:
        """Whether words contain it."""
        *whole, last = self.words
        if not whole and not self.is_prefix:
            return last in words
        for place in range(len(words) - len(whole)):
            found = words[place + len(whole)]
            if (found.startswith(last) if self.is_prefix else found == last) and [*words[place : place + len(whole)]] == whole:
                return True
        return False

    @property
    def match(self) -> str:
        """It in the language of SQLite's FTS5."""
        return f'"{" ".join(self.words)}"{" *" if self.is_prefix else ""}'


def words_of(text: str) -> list[str]:
    """The words of a text, without case and accents."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(one for one in FOLDED.sub("", folded) if unicodedata.category(one) != "Cf")
    return WORD.findall(UNSPACED.sub(r" \1 ", plain))


def terms_of(query: str) -> list[Term]:
    """What a query looks for, each term once, at most MOST_TERMS."""
    terms = [Term(tuple(words), is_required=True) for one in QUOTED.findall(query) if (words := words_of("".join(one)))]
    for piece in QUOTED.sub(" ", query).split():
        words = words_of(piece)
        is_prefix = piece.endswith("*") and bool(words)
        # Of "it's" both; of Han all characters of the piece, side by side.
        parts = [tuple(words)] if UNSPACED.search(piece) and words else [(word,) for word in words]
        terms += [Term(part, is_prefix=is_prefix and place == len(parts) - 1) for place, part in enumerate(parts)]
    return list(dict.fromkeys(terms))[:MOST_TERMS]
