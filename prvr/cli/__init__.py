"""The command line: one function for each command. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import logging
import os
import sys

# Each of these adds its commands.
from prvr.cli import (  # noqa: F401
    checkpoint,
    compare,
    data,
    evaluate,
    folder,
    fuse,
    index,
    leaderboard,
    machine,
    presets,
    report,
    reproduce,
    serve,
    take,
    train,
)
from prvr.cli.terminal import app, echo
from prvr.errors import PrvrError, is_out_of_memory, one_line


def main() -> None:
    """Runs the `prvr` command. Errors that a user can fix are one line with exit status 1; --debug shows the traceback."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Threads that spin while they wait take the cores from other work: on two busy cores training took ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    notices, shown = logging.getLogger("prvr"), _Notices(logging.INFO)
    notices.addHandler(shown)
    notices.setLevel(logging.INFO)
    try:
        app(args=arguments)
    except SystemExit as ended:
        if ended.code == 130:  # typer's exit status after an interrupt
            echo("prvr: interrupted; completed work is kept: repeat the command to continue", err=True)
        raise
    except (PrvrError, OSError) as problem:
        if debug:
            raise
        text = str(problem)
        if isinstance(problem, OSError):
            text = f"{problem.strerror or problem}{f': {problem.filename}' if problem.filename else ''}; completed work is kept"
        _fail(text, status=1)
    except Exception as problem:
        if debug or not is_out_of_memory(problem):
            raise
        _fail(
            f"too little memory ({one_line(problem)}); take a smaller batch (batch_videos=... of prvr train), a smaller model or "
            "--device cpu; completed work is kept",
            status=1,
        )
    finally:
        notices.removeHandler(shown)


class _Notices(logging.Handler):
    """Writes what the package logs, such as a download before it begins, to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        echo(f"prvr: {record.getMessage()}", err=True)


def _fail(text: str, *, status: int) -> None:
    echo(f"prvr: {text}", err=True)
    raise SystemExit(status)
