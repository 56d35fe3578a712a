"""The options of `prvr index` about what is said and written in videos."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from prvr.errors import SettingError

Subtitles = Annotated[
    bool | None,
    typer.Option("--subtitles/--no-subtitles", help="Read subtitles beside and in the videos.", show_default="as before; yes"),
]
Speech = Annotated[
    str,
    typer.Option(
        help="Recognise speech: a Whisper model by name (tiny, base, small, ...) or folder; none to stop.",
        metavar="MODEL",
        show_default="as before; none",
    ),
]
SpeechGate = Annotated[
    float | None, typer.Option(help="With --speech: the least mean log probability of a text.", show_default="-0.5")
]
ScreenText = Annotated[
    bool | None,
    typer.Option(
        "--screen-text/--no-screen-text", help="Recognise what is written in the picture.", show_default="as before; no"
    ),
]
ScreenGate = Annotated[float | None, typer.Option(help="With --screen-text: the least confidence of a line.", show_default="0.8")]


def text_settings(
    subtitles: bool | None, speech: str, screen_text: bool | None, *, speech_gate: float | None, screen_gate: float | None
) -> dict[str, str | None]:
    """By kind of texts what the options say of it."""
    if speech_gate is not None and speech in ("", "none"):
        raise SettingError("--speech-gate is for --speech; name the model, too")
    if screen_gate is not None and not screen_text:
        raise SettingError("--screen-gate is for --screen-text; give both")
    texts: dict[str, str | None] = {}
    if subtitles is not None:
        texts["subtitle"] = "" if subtitles else None
    if speech:
        least = {} if speech_gate is None else {"least": speech_gate}
        texts["speech"] = None if speech == "none" else json.dumps({"model": speech, **least})
    if screen_text is not None:
        texts["screen"] = json.dumps({} if screen_gate is None else {"least": screen_gate}) if screen_text else None
    return texts
