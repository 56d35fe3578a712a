"""`python -m benchmarks`: measures speed and memory beside baselines that work as the published code is described to."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.measure import SIZES, table, write_table
from benchmarks.run import BENCHMARKS, LARGE, MEMORY, VECTORS, benchmark, run_in_child
from prvr.cli.terminal import Device, Json, progress, show
from prvr.device import open_device
from prvr.errors import PrvrError, SettingError, nearest

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(epilog="Example: python -m benchmarks losses step --size small")
def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names, or `all` (without index-large, index-vectors); without names, the benchmarks are listed."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the tables.")] = Path("benchmarked"),
    size: Annotated[str, typer.Option(help="tvr (videos as long as TVR's), full (all of 128 frames) or small.")] = "tvr",
    runs: Annotated[int, typer.Option(help="Runs of each contender.", min=1)] = 3,
    memory: Annotated[str, typer.Option(help="default, kept (freed memory stays with the process) or both.")] = "both",
    threads: Annotated[int, typer.Option(help="Threads of each contender.", min=1)] = 1,
    device: Device = "cpu",
    vectors: Annotated[str, typer.Option(help="Folder with packed frames and sentences, for index-vectors.")] = "",
    as_json: Json = False,
) -> None:
    """Measure loading, losses, training steps and evaluation beside baselines that run in the same process."""
    if not names:
        show(as_json, {name: its.title for name, its in BENCHMARKS.items()}, [f"{n:12} {b.title}" for n, b in BENCHMARKS.items()])
        return
    for value, known in ((size, SIZES), (memory, [*MEMORY, "both"])):
        if value not in known:
            raise SettingError(f"unknown size or memory {value!r}; {nearest(value, known)}")
    chosen = [name for name in BENCHMARKS if name not in (LARGE, VECTORS)] if names == ["all"] else names
    wanted = {name: benchmark(name) for name in chosen}
    sizes = replace(SIZES[size], runs=runs, device=device, vectors=vectors)
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    open_device(device)
    shown, values = [], {}
    with progress() as on_progress:
        for place, (name, its) in enumerate(wanted.items()):
            settings = [m for m in its.memory if memory in (m, "both")] or ["default"]
            measured = []
            for setting in settings:
                on_progress(f"{name}, memory {setting}", place, len(wanted))
                measured += [(setting, line) for line in run_in_child(name, sizes, memory=setting, threads=threads)]
            write_table(out, name, measured, size=sizes, threads=threads, command=command)
            if its.draw:
                its.draw([line for _, line in measured], out / f"{name}.png")
            shown += [*table(measured), ""]
            values[name] = [{"memory": m, "part": line.part, "ratio": line.ratio} for m, line in measured]
    show(as_json, values, [*shown, f"written to {out}"])


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; an error is one line and exit status 1."""
    try:
        app(args=arguments)
    except PrvrError as problem:
        typer.echo(f"benchmarks: {problem}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
