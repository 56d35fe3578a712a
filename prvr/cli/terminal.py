"""The terminal: options that several commands share, progress on stderr, results on stdout."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from prvr.cli.groups import CommandGroups, first_page
from prvr.errors import SettingError

if TYPE_CHECKING:
    from prvr.extract import Extraction

app = typer.Typer(
    name="prvr",
    cls=CommandGroups,
    callback=first_page,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _place(text: str) -> Any:
    # A Path of a URL would lose a slash.
    from prvr.video.remote import place_of

    return place_of(text)


Videos = Annotated[
    Path,
    typer.Argument(
        help="Folder of videos, with captions.jsonl if it is a data set; or the URL of one, such as s3://bucket/videos.",
        parser=_place,
        metavar="VIDEOS",
    ),
]
Data = Annotated[
    Path, typer.Argument(help="Folder of videos with captions.jsonl, or a feature package ROOT/COLLECTION.", metavar="DATA")
]
Features = Annotated[
    Path, typer.Argument(help="Folder that prvr extract or prvr data convert wrote, or a package.", metavar="FEATURES")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Device = Annotated[str, typer.Option(help="Device of the networks: auto (cuda, else mps, else cpu), cpu, cuda, cuda:1, mps ...")]
Parts = Annotated[
    str,
    typer.Option(
        help="With an encoder alone: the parts of a video that a sentence is compared with: frames, clips, clips_and_frames, "
        "segments, propagated or consensus."
    ),
]
Annotations = Annotated[Path | None, typer.Option(help="For a package: folder of the original annotation files.")]
Protocol = Annotated[
    str,
    typer.Option(
        help="What the best epoch is chosen on: honest (a part of train), validation (a package's val), or community (test, as "
        "in the field)."
    ),
]
Resamples = Annotated[int, typer.Option(help="Number of draws of the bootstrap and of the randomisation test.", min=1)]
Rate = Annotated[float, typer.Option(help="Frames read per second of video.", min=0.01)]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Number of processes that share the videos; a file that ends one costs that file alone. With --ray, on the cluster.",
        min=1,
    ),
]
Ray = Annotated[str | None, typer.Option("--ray", help="Ray cluster that encodes: HOST:PORT, auto, or local.", metavar="ADDRESS")]


def _register(method: str) -> str:
    """Registers the method that an option names: a class in the working folder, or in an installed module."""
    if method:
        from prvr.methods import register_method

        # Last, so that no file of the folder takes the place of an installed module; the command `prvr` has it nowhere.
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        return register_method(method)
    return method


def register_each(methods: list[str] | None) -> list[str]:
    """Registers the methods that a repeatable option names."""
    return [_register(method) for method in methods or []]


Method = Annotated[
    str,
    typer.Option(
        help="The model's method, if it is external: package.module:Class, imported from here or from the working folder.",
        metavar="MODULE:CLASS",
        callback=_register,
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="External method among the models: package.module:Class; repeatable.",
        metavar="MODULE:CLASS",
        callback=register_each,
    ),
]

# Seconds between two lines of progress where stderr is no terminal.
LINE_EVERY = 30.0


@contextmanager
def progress() -> Iterator[Callable[[str, float, float], None]]:
    """Progress on stderr: a bar, or a line every half a minute where that is no terminal.

    Yields a function of the item at work, the amount done and the total: numbers of items as int, seconds of video as float.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, text="")
        meter, last_line = Meter(time.monotonic()), time.monotonic()

        def update(note: str, done: float, total: float) -> None:
            nonlocal last_line
            now = time.monotonic()
            text = meter.text(done, total, now=now)
            bar.update(task, description=printable(note)[:80], completed=done, total=total or None, text=text)
            if bar.disable and now - last_line >= LINE_EVERY:
                last_line = now
                echo(f"{note}: {text}", err=True)

        yield update


class Meter:
    """Says in words how far a piece of work is, how fast it is, and how long it will take.

    Args:
        start: a time in seconds, as in `text`.
    """

    def __init__(self, start: float) -> None:
        self._start, self._done, self._is_video = start, 0.0, False

    def text(self, done: float, total: float, *, now: float) -> str:
        """The progress at a time; work in another unit, or that starts again, is measured from there on."""
        is_video = isinstance(total, float)
        if is_video != self._is_video or done < self._done:
            self._start, self._is_video = now, is_video
        self._done = done
        elapsed = now - self._start
        amounts = f"{clock(done)} of {clock(total)} of video" if is_video else f"{done} of {total}"
        if elapsed <= 0 or done <= 0:
            return amounts
        speed = f", {done / elapsed:.1f} times real time" if is_video else ""
        left = f", {clock(elapsed * (total - done) / done)} left" if total > done else ""
        return f"{amounts}{speed}{left}"


def rescores(value: str) -> bool:
    """Whether `--rescore` is set; the only way is "anchors"."""
    if value not in ("", "anchors"):
        raise SettingError(f"--rescore is {value!r}; take --rescore anchors, or leave it out")
    return value == "anchors"


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
        echo(f"prvr: {id}: {problem}", err=True)


def echo(line: object, *, err: bool = False) -> None:
    """Writes a line to stdout or stderr, as `printable` text."""
    typer.echo(printable(str(line)), err=err)


def printable(text: str) -> str:
    """A text in one line that a terminal only shows: what would control it, or forge a line, is escaped as in Python.

    Those are control characters, separators of lines, marks that turn the direction of writing, and bytes that are not UTF-8.
    """
    return "".join(repr(one)[1:-1] if is_escaped(one) else one for one in text)


def is_escaped(one: str) -> bool:
    """Whether `printable` escapes a character."""
    return (
        unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp")
        or one in "\u061c\u200e\u200f"
        or "\u202a" <= one <= "\u202e"
        or ("\u2066" <= one <= "\u2069")
    )


def show(as_json: bool, value: Any, lines: Iterable[object]) -> None:
    """Writes the result of a command to stdout, as JSON or as lines."""
    if as_json:
        text = json.dumps(value, ensure_ascii=False)
        typer.echo("".join(f"\\u{ord(one):04x}" if is_escaped(one) else one for one in text))
    else:
        for line in lines:
            echo(line)


def hit_lines(hit: dict[str, Any]) -> list[str]:
    """A hit as a line, and a line for each of its parts."""
    spans = [f"{clock(span['start'])} - {clock(span['end'])}" for span in hit["spans"]]
    number = f"{hit['score']:7.4f}" if hit["probability"] is None else f"{hit['probability']:6.1%}"
    more = f"  also {', '.join(spans[1:])}" if spans[1:] else ""
    if hit["near_identical"]:
        more += f"  near-identical: {', '.join(hit['near_identical'])}"
    lines = [f"{number}  {spans[0] if spans else '':>19}  {' = '.join((hit['video'], *hit['copies']))}{more}"]
    lines += [f"{'':>9}{clock(one['start']):>9} - {clock(one['end'])}  {one['kind']}: “{one['text']}”" for one in hit["quotes"]]
    return lines + [
        f"{part['score']:9.4f}  {clock(part['start']):>9} - {clock(part['end'])}  {part['said']}" for part in hit["parts"]
    ]
