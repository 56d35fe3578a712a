"""`prvr leaderboard`: published figures beside one's own runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.terminal import Json, app, show


@app.command(epilog="Example: prvr leaderboard tvr --runs run --runs ours=seed1.npz,seed2.npz,seed3.npz")
def leaderboard(
    collection: Annotated[
        str, typer.Argument(help="tvr, activitynet ...; without a name, all collections are listed.", metavar="COLLECTION")
    ] = "",
    runs: Annotated[
        list[str] | None,
        typer.Option(
            help="A run's folder, a folder of its seeds, SCORES.npz, the JSON of prvr evaluate, or a folder of prvr reproduce; "
            "NAME=RUN,RUN for the seeds of one; repeatable."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the board as Markdown: FILE.md.")] = None,
    as_json: Json = False,
) -> None:
    """Show the published figures on a collection beside your runs, in groups of what can be compared."""
    from prvr.files import write_whole
    from prvr.report.leaderboard import list_boards, make_leaderboard
    from prvr.train.presets.listing import COLLECTIONS

    if not collection:
        boards = list_boards()
        show(as_json, boards, [f"{name:24} {COLLECTIONS[name][0]}: {count} published rows" for name, count in boards.items()])
        return
    board = make_leaderboard(collection, runs or ())
    if out is not None:
        write_whole(out, f"{board}\n".encode())
    show(as_json, board.as_dict(), str(board).splitlines())
