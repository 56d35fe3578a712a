"""Timed texts, what is said and written in a video, and the interface of what reads them.

subtitles.py    subtitle files beside a video, and subtitle streams in it
speech.py       recognises speech
screen_text.py  recognises what is written in the picture
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

KINDS = ("subtitle", "speech", "screen")


@dataclass(frozen=True)
class TimedText:
    """A text of a video, and when it is said or shown.

    start, end: in seconds of a player. kind: one of `KINDS`. confidence: of its recognition, from 0 to 1; 1 where it was written.
    language: a code such as "en" or "pt-BR"; empty if it is not known.
    """

    start: float
    end: float
    text: str
    kind: str
    confidence: float = 1.0
    language: str = ""

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class TextSource:
    """What the texts of one kind of a video were made of, up to which second they were read, and what could not be read."""

    made_of: str
    seconds: float
    is_complete: bool
    problems: tuple[str, ...]


class TextsPart(NamedTuple):
    """What was read of a video: all texts that begin since the part before, and before a time in seconds.

    problems: what could not be read, a line each.
    """

    seconds: float
    texts: tuple[TimedText, ...]
    problems: tuple[str, ...] = ()


class TextReader(Protocol):
    """Reads the texts of one kind from a video."""

    @property
    def kind(self) -> str: ...

    @property
    def setting(self) -> str:
        """What `prvr.encoders.text_readers.open_reader` opens it by."""
        ...

    def made_of(self, paths: Sequence[Path]) -> str:
        """What the texts depend on beside the content of the video: with another value, they are read again.

        Args:
            paths: the files of the video; all have the same content.
        """
        ...

    def read(self, paths: Sequence[Path], *, after: float) -> Iterator[TextsPart]:
        """Yields the texts that begin at a time or later, part by part, so that a long video is not in memory.

        Raises:
            VideoError: the video cannot be read.
        """
        ...


class TextSink(Protocol):
    """Keeps the texts of videos."""

    def sources(self) -> Mapping[str, Mapping[str, TextSource]]:
        """What has been read, by video and kind."""
        ...

    def extend(self, video: str, kind: str, part: TextsPart, *, made_of: str, is_complete: bool, after: float = 0.0) -> None:
        """Adds the next texts of a kind to a video, in one transaction; texts that were made of something else are removed.

        Does nothing if the video is not there.

        Args:
            after: the second that the part before reached.

        Raises:
            VideoError: the texts up to that second are gone.
        """
        ...

    def readers(self) -> Mapping[str, str | None]:
        """The setting of the reader of each kind, as of `keep_readers`; None for a kind that is not read."""
        ...

    def keep_readers(self, readers: Mapping[str, str | None]) -> None:
        """Notes what is read from now on, and removes the texts of kinds that are not."""
        ...
