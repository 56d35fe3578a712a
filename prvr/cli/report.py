"""`prvr report`: a page for researchers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.terminal import Annotations, Device, Json, Methods, Resamples, app, command_line, progress, show
from prvr.errors import SettingError


@app.command(epilog="Example: prvr report teacher.npz run --data videos --features features --out report.html")
def report(
    systems: Annotated[
        list[str],
        typer.Argument(
            help="SCORES.npz, a run's folder, a folder of its seeds, or a folder of prvr reproduce; "
            "NAME=RUN,RUN for the seeds of one.",
            metavar="SYSTEMS",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    data: Annotated[Path | None, typer.Option(help="The test data, for scores that are missing and for profiles.")] = None,
    features: Annotated[Path | None, typer.Option(help="Features of that data.")] = None,
    annotations: Annotations = None,
    baseline: Annotated[str, typer.Option(help="System that the others are compared with.", show_default="the first")] = "",
    rival: Annotated[str, typer.Option(help="System compared with it query by query.", show_default="the next")] = "",
    resamples: Resamples = 10_000,
    method: Methods = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write a page about systems: curves, figures with tests, β, moment-to-video ratio, queries, two systems side by side."""
    from prvr.report.scoring import DatasetScorer
    from prvr.report.write import write_report

    if (data is None) != (features is None):
        raise SettingError("--data and --features go together: prvr report RUN --data DATA --features FEATURES")
    scorer = DatasetScorer(data, features, annotations, device) if data is not None and features is not None else None
    with progress() as tell:
        made = write_report(
            systems,
            out,
            scorer=scorer,
            baseline=baseline,
            rival=rival,
            resamples=resamples,
            command=command_line(),
            on_progress=tell,
        )
    count = "1 system" if len(made.systems) == 1 else f"{len(made.systems)} systems"
    show(as_json, made.as_dict(), [*made.missing, f"{out}: {count}, {made.bytes / 1000:.0f} kB"])
