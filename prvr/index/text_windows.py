"""Windows of timed texts: a line of subtitles is seldom a sentence, so lines are embedded together up to the end of one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from prvr.encoders.timed_texts import TimedText

# Seconds of a window, of one that a sentence may end, and between two lines of one.
LONGEST, LEAST, PAUSE = 8.0, 3.0, 2.0
SENTENCE_END = re.compile(r"[.?!…。？！।][\"'”’»)\]]*$")
# Windows of another rule are embedded again.
RULE = "windows 1"


class TextWindow(NamedTuple):
    """Texts of one kind and language that follow each other, as one text; start and end in seconds."""

    kind: str
    start: float
    end: float
    text: str

    def key(self, embedded_by: str) -> str:
        """What its embedding (`embedded_by`) is made of, as 16 hex digits."""
        parts = [embedded_by, self.kind, repr(float(self.start)), repr(float(self.end)), self.text]
        return hashlib.sha256("\n".join(parts).encode(errors="surrogatepass")).hexdigest()[:16]


def embedded_by(fingerprint: str) -> str:
    """Returns what all embeddings of texts by an encoder of that fingerprint are made by: it, and the rule of windows."""
    return f"{RULE}, {fingerprint}"


def windows_of(texts: Sequence[TimedText]) -> list[TextWindow]:
    """Returns the windows of a video's texts. One that is full within a sentence is followed by one from its middle on."""
    by_language: dict[tuple[str, str], list[TimedText]] = {}
    for text in sorted(texts, key=lambda text: text.start):
        by_language.setdefault((text.kind, text.language), []).append(text)
    return [window for lines in by_language.values() for window in _windows(lines)]


def _windows(lines: Sequence[TimedText]) -> Iterator[TextWindow]:
    first = 0
    while first < len(lines):
        start, last = lines[first].start, first
        while last + 1 < len(lines) and _goes_on(lines[last], lines[last + 1], start) and lines[last + 1].end - start <= LONGEST:
            last += 1
        chosen = lines[first : last + 1]
        end = max(line.end for line in chosen)
        yield TextWindow(chosen[0].kind, start, end, " ".join(line.text for line in chosen))
        is_full = last + 1 < len(lines) and _goes_on(lines[last], lines[last + 1], start)
        later = range(first + 1, last + 1) if is_full else ()
        first = next((place for place in later if lines[place].start >= (start + end) / 2), last + 1)


def _goes_on(line: TimedText, following: TimedText, start: float) -> bool:
    """Whether a sentence that began at a time goes on after a line."""
    is_ended = line.end - start >= LEAST and SENTENCE_END.search(line.text) is not None
    return not is_ended and following.start - line.end <= PAUSE
