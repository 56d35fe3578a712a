"""Opens the readers of timed texts by kind and setting."""

from __future__ import annotations

from prvr.encoders.subtitles import SubtitleReader
from prvr.encoders.timed_texts import KINDS, TextReader
from prvr.errors import SettingError, nearest

# What is read of a new index: subtitles cost next to nothing.
DEFAULT_READERS = {"subtitle": ""}


def open_reader(kind: str, setting: str) -> TextReader:
    """Opens the reader of a kind of texts.

    Args:
        kind: one of `KINDS`. setting: `TextReader.setting` of such a reader.

    Raises:
        SettingError: there is no such kind, or the setting is wrong.
        MissingExtra: what it needs is not installed.
    """
    if kind == "subtitle":
        return SubtitleReader()
    raise SettingError(f"no texts are known by {kind!r}; {nearest(kind, KINDS)}")
