"""`prvr reproduce`: the papers' tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.terminal import Annotations, Device, Json, Methods, Protocol, app, command_line, progress, show


@app.command(epilog="Example: prvr reproduce decay results --data packages/tvr --seeds 3")
def reproduce(
    table: Annotated[str, typer.Argument(help="The table; without a name, all tables are listed.", metavar="TABLE")] = "",
    out: Annotated[Path, typer.Argument(help="Folder of results; an interrupted command continues.", metavar="OUT")] = Path(
        "reproduced"
    ),
    settings: Annotated[
        list[str] | None, typer.Argument(help="Changes to the settings of every row, key=value.", metavar="KEY=VALUE")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A feature package ROOT/COLLECTION.", show_default="a toy world")] = None,
    features: Annotated[Path | None, typer.Option(help="Its packed features.", show_default="the package")] = None,
    frames: Annotated[str, typer.Option(help="Frame features of the student.", show_default="the name in the package")] = "",
    words: Annotated[str, typer.Option(help="Caption features with a row per word.", show_default="roberta")] = "",
    vectors: Annotated[str, typer.Option(help="Caption features for the Bi-GRU: word vectors.")] = "",
    roles: Annotated[str, typer.Option(help="Caption features for the graph: word vectors with roles.")] = "",
    teacher: Annotated[list[str] | None, typer.Option(help="Teacher; repeatable.", show_default="clip_vit_b32")] = None,
    annotations: Annotations = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds with which each row is trained.")] = 3,
    method: Methods = None,
    protocol: Protocol = "honest",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Run a table of the papers on a feature package, or on a toy world: train, test and compare its rows.

    --method adds a row: a class with its default settings and the training of DL-DKD++ there, without a teacher.
    """
    from prvr.device import device_name
    from prvr.papers.plan import Plan
    from prvr.papers.reproduce import TableData, list_tables
    from prvr.papers.reproduce import reproduce as reproduce_table

    if not table:
        tables = list_tables()
        show(as_json, tables, [f"{name:14} {its['title']} ({its['source']})" for name, its in tables.items()])
        return
    plan = Plan(seeds, protocol, tuple(settings or ()), device_name(device), tuple(method or ()))
    texts = {"words": words, "vectors": vectors, "roles": roles}
    given = TableData(data, features, frames, texts, tuple(teacher or ()), annotations)
    with progress() as tell:
        done = reproduce_table(table, out, plan, given, command=command_line(), on_progress=tell)
    show(as_json, done.values, [*done.lines, "", f"written to {out / table}.md and .json"])
