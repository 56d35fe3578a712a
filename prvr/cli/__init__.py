"""The command line: one function per verb. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import os
import sys

import typer

# Each of these adds its verbs.
from prvr.cli import (
    checkpoint,  # noqa: F401
    compare,  # noqa: F401
    convert,  # noqa: F401
    evaluate,  # noqa: F401
    folder,  # noqa: F401
    fuse,  # noqa: F401
    index,  # noqa: F401
    report,  # noqa: F401
    reproduce,  # noqa: F401
    serve,  # noqa: F401
    train,  # noqa: F401
)
from prvr.cli.terminal import app
from prvr.errors import PrvrError


def main() -> None:
    """The `prvr` command: one line and exit status 1 for what a user can mend, a traceback only with --debug."""
    debug = "--debug" in sys.argv
    arguments = _named([argument for argument in sys.argv[1:] if argument != "--debug"])
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Threads that wait for work by spinning starve whatever else runs: on two busy cores training took ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(args=arguments)
    except SystemExit as ended:
        if ended.code == 130:  # what typer makes of an interrupt
            typer.echo("prvr: interrupted; what was finished is kept: run the same command to go on", err=True)
        raise
    except (PrvrError, OSError) as problem:
        if debug:
            raise
        text = str(problem)
        if isinstance(problem, OSError):
            text = f"{problem.strerror or problem}{f': {problem.filename}' if problem.filename else ''}; nothing finished is lost"
        _fail(text, status=1)


def _named(arguments: list[str]) -> list[str]:
    """The arguments, the first two being one where these are the name of a verb: `index copy`."""
    two = " ".join(arguments[:2])
    return [two, *arguments[2:]] if any(command.name == two for command in app.registered_commands) else arguments


def _fail(text: str, *, status: int) -> None:
    typer.echo(f"prvr: {' '.join(text.split())}", err=True)
    raise SystemExit(status)
