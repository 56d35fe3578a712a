"""Plays a moment with a player of this machine: mpv or VLC, otherwise the browser."""

from __future__ import annotations

import shutil
import subprocess
import webbrowser
from collections.abc import Callable
from pathlib import Path

# How each is started at a time; the path of a file is absolute, so that none is taken for an option.
PLAYERS: dict[str, Callable[[float], list[str]]] = {
    "mpv": lambda seconds: [f"--start={seconds:.3f}", "--"],
    "vlc": lambda seconds: [f"--start-time={seconds:.3f}"],
}


def player_command(file: Path, seconds: float) -> list[str] | None:
    """The command that plays a file from a time on, in seconds; None if neither mpv nor VLC is on the PATH."""
    for name, options in PLAYERS.items():
        program = shutil.which(name)
        if program is not None:
            return [program, *options(seconds), str(file.absolute())]
    return None


def page_of(file: Path, seconds: float) -> str:
    """The URL of a file at a time (W3C Media Fragments)."""
    return f"{file.absolute().as_uri()}#t={seconds:.3f}"


def play(file: Path, seconds: float) -> tuple[str, subprocess.Popen[bytes] | None]:
    """Starts a player at a moment, without a shell; returns the program and its process at once, or the URL for the browser."""
    command = player_command(file, seconds)
    if command is None:
        url = page_of(file, seconds)
        webbrowser.open(url)
        return url, None
    nothing = subprocess.DEVNULL
    return command[0], subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
