"""The terminal: options that several commands share, progress on stderr, results on stdout."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from prvr.extract import Extraction

app = typer.Typer(
    name="prvr",
    help="Partially relevant video retrieval: type a sentence, get the video that contains the moment, and where in it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Videos = Annotated[Path, typer.Argument(help="Folder of videos, with captions.jsonl if it is a data set.")]
Data = Annotated[Path, typer.Argument(help="Folder of videos with captions.jsonl, or a feature package ROOT/COLLECTION.")]
Features = Annotated[Path, typer.Argument(help="Folder that prvr extract or prvr data convert wrote, or a package.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Device = Annotated[str, typer.Option(help="Device of the networks: cpu, cuda, cuda:1 ...")]
Parts = Annotated[
    str,
    typer.Option(
        help="With --zero-shot: the parts of a video that a sentence is compared with: frames, clips, clips_and_frames, "
        "segments, propagated or consensus."
    ),
]
Annotations = Annotated[Path | None, typer.Option(help="For a package: folder of the original annotation files.")]
Protocol = Annotated[
    str,
    typer.Option(
        help="It chooses the epoch: honest (a part of train), validation (a package's val), or community (test, as in the field)."
    ),
]
Resamples = Annotated[int, typer.Option(help="Of the bootstrap and of the randomisation test.", min=1)]
Rate = Annotated[float, typer.Option(help="Frames read per second of video.", min=0.01)]
Workers = Annotated[int | None, typer.Option(help="Processes that share the videos; with --ray, on the cluster.", min=1)]
Ray = Annotated[str | None, typer.Option("--ray", help="Ray cluster that encodes: HOST:PORT, auto, or local.", metavar="ADDRESS")]


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr; yields a function of a note, the amount done and the total."""
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
        # Long videos end minutes apart: the default estimate, from the last 30 s, would often have no data.
        speed_estimate_period=3600,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None)

        def update(note: str, done: int, total: int) -> None:
            bar.update(task, description=note[:80], completed=done, total=total)

        yield update


def counts(result: Any, names: tuple[str, ...]) -> dict[str, int]:
    """The length of each of a result's lists."""
    return {name: len(getattr(result, name)) for name in names}


def in_words(numbers: Mapping[str, int]) -> str:
    """Counts as a phrase: 3 added, 9 kept."""
    return ", ".join(f"{number} {what}" for what, number in numbers.items())


def show_extractions(
    as_json: bool, features: Path, done: Mapping[str, Extraction], *, verb: Literal["converted", "extracted"]
) -> None:
    """Shows the result of each folder of features, with a line on stderr for each problem."""
    for name, extraction in done.items():
        warn({f"{name}: {id}": problem for id, problem in extraction.problems.items()})
    each = {name: counts(extraction, ("done", "kept", "dropped", "problems")) for name, extraction in done.items()}
    lines = [f"{name}: {in_words(numbers)}" for name, numbers in each.items()]
    show(as_json, {"features": str(features), verb: each}, lines)


def command_line() -> str:
    """The command line, for tables and pages."""
    return shlex.join(["prvr", *sys.argv[1:]])


def clock(seconds: float) -> str:
    """A time in minutes and seconds, such as 1:23.4, with hours before it if there are any."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def warn(problems: Mapping[str, str]) -> None:
    """Writes a line to stderr for each problem."""
    for id, problem in problems.items():
        typer.echo(f"prvr: {id}: {problem}", err=True)


def show(as_json: bool, value: Any, lines: Iterable[object]) -> None:
    """Writes the result of a command to stdout, as JSON or as lines."""
    if as_json:
        typer.echo(json.dumps(value, ensure_ascii=False))
    else:
        for line in lines:
            typer.echo(line)
