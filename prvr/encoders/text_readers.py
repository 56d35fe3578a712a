"""Opens the readers of timed texts by kind and setting."""

from __future__ import annotations

from typing import Any

from prvr.encoders.screen_text import ScreenTextReader
from prvr.encoders.speech import SpeechReader
from prvr.encoders.subtitles import SubtitleReader
from prvr.encoders.timed_texts import KINDS, TextReader
from prvr.errors import SettingError, nearest
from prvr.files import parse_json

# What is read of a new index: subtitles cost next to nothing.
DEFAULT_READERS = {"subtitle": ""}


def open_reader(kind: str, setting: str) -> TextReader:
    """Opens the reader of a kind of texts.

    Args:
        kind: one of `KINDS`. setting: its arguments as JSON, `TextReader.setting` of such a reader; for speech also the model
            alone; empty for those that need none.

    Raises:
        SettingError: there is no such kind, or the setting is wrong.
        ModelError: there is no such model.
        MissingExtra: what it needs is not installed.
    """
    if kind == "subtitle":
        return SubtitleReader()
    if kind not in KINDS:
        raise SettingError(f"no texts are known by {kind!r}; {nearest(kind, KINDS)}")
    try:
        values: dict[str, Any] = parse_json(setting) if setting.startswith("{") else {"model": setting} if setting else {}
        arguments = {name: float(value) if name == "least" else str(value) for name, value in values.items()}
        return SpeechReader(**arguments) if kind == "speech" else ScreenTextReader(**arguments)  # type: ignore[arg-type]
    except (ValueError, TypeError, AttributeError):
        raise SettingError(
            f"{setting!r:.200} is no setting of {kind}; index again with --speech MODEL or --screen-text"
        ) from None
