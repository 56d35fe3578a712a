"""The terminal: the command's options that several verbs share, progress on stderr, results on stdout."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from prvr.extract import Extraction

app = typer.Typer(
    name="prvr",
    help="Partially relevant video retrieval: type a sentence, get the video that holds the moment, and where in it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Videos = Annotated[Path, typer.Argument(help="Folder of videos, with captions.jsonl if it is a data set.")]
Data = Annotated[Path, typer.Argument(help="Folder of videos with captions.jsonl, or a feature package ROOT/COLLECTION.")]
Features = Annotated[Path, typer.Argument(help="Folder that `prvr extract` or `prvr data convert` keeps, or a package.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Device = Annotated[str, typer.Option(help="Where networks run: cpu, cuda, cuda:1 ...")]
Parts = Annotated[
    str,
    typer.Option(
        help="With --zero-shot: what of a video a sentence is compared with: frames (if not said), clips, clips_and_frames, "
        "segments, propagated or consensus."
    ),
]
Workers = Annotated[int | None, typer.Option(help="Processes that share the videos; with --ray, on the cluster.", min=1)]
Ray = Annotated[str | None, typer.Option("--ray", help="Ray cluster that encodes: HOST:PORT, auto, or local.", metavar="ADDRESS")]
Rate = Annotated[float, typer.Option(help="Frames per second that are looked at.", min=0.01)]


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr with the time left; what it gives takes a note, how much is done and of how much."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        # Long videos end minutes apart; an estimate from the last 30 s alone would know nothing.
        speed_estimate_period=3600,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None)

        def update(note: str, done: int, total: int) -> None:
            bar.update(task, description=note[:80], completed=done, total=total)

        yield update


def counts(result: Any, names: tuple[str, ...]) -> dict[str, int]:
    """How many there are of each of a result's lists."""
    return {name: len(getattr(result, name)) for name in names}


def show_extractions(
    as_json: bool, features: Path, done: Mapping[str, Extraction], *, verb: Literal["converted", "extracted"]
) -> None:
    """What each folder of features came to, with a line on stderr for each thing that went wrong."""
    for name, extraction in done.items():
        warn({f"{name}: {id}": problem for id, problem in extraction.problems.items()})
    each = {name: counts(extraction, ("done", "kept", "dropped", "problems")) for name, extraction in done.items()}
    lines = [f"{name}: {', '.join(f'{n} {what}' for what, n in numbers.items())}" for name, numbers in each.items()]
    show(as_json, {"features": str(features), verb: each}, lines)


def typed() -> str:
    """The command as it was typed, for tables and pages to name."""
    return shlex.join(["prvr", *sys.argv[1:]])


def clock(seconds: float) -> str:
    """A time as people write it: 1:23.4."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def warn(problems: Mapping[str, str]) -> None:
    """A line on stderr for each thing that went wrong."""
    for id, problem in problems.items():
        typer.echo(f"prvr: {id}: {problem}", err=True)


def show(as_json: bool, value: Any, lines: list[str]) -> None:
    """The result of a command on stdout: for machines or for people."""
    if as_json:
        typer.echo(json.dumps(value, ensure_ascii=False))
    else:
        for line in lines:
            typer.echo(line)
