"""`prvr reproduce`: the papers' tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prvr.cli.terminal import Device, Json, app, progress, show, typed

if TYPE_CHECKING:
    from prvr.papers.plan import Materials

# What the packages in circulation call a student's frames; others are called i3d.
FRAMES = {"tvr": "i3d_resnet", "charades": "i3d_rgb_lgi", "toy": "toy_frames"}

COMPLEXITY = "complexity"


@app.command(epilog="Example: prvr reproduce decay results --data packages/tvr --seeds 3")
def reproduce(
    table: Annotated[str, typer.Argument(help="Which table; without one, they are listed.")] = "",
    out: Annotated[Path, typer.Argument(help="Folder of the results and runs; what was cut off goes on.")] = Path("reproduced"),
    settings: Annotated[list[str] | None, typer.Argument(help="Changes to every row, key=value.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="A feature package ROOT/COLLECTION; without one, a toy world is made.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="Its packed features (`prvr data convert`); by default the package.")
    ] = None,
    frames: Annotated[str, typer.Option(help="Whose frames the student reads.")] = "",
    words: Annotated[str, typer.Option(help="Caption features with a row per word.")] = "",
    vectors: Annotated[str, typer.Option(help="Caption features for the Bi-GRU: word vectors.")] = "",
    roles: Annotated[str, typer.Option(help="Caption features for the graph: word vectors with roles.")] = "",
    teacher: Annotated[list[str] | None, typer.Option(help="Who teaches; repeatable, the first is the one.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Folder of the original annotation files, for moments.")] = None,
    seeds: Annotated[int, typer.Option(help="How many times each row is trained.")] = 3,
    protocol: Annotated[str, typer.Option(help="honest (dev carved from train) or community (best epoch on test).")] = "honest",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Run a table of the papers on a feature package, or on a toy world: trained, tested, compared, written down."""
    from prvr.papers.costs import SOURCE, TITLE
    from prvr.papers.plan import Plan
    from prvr.papers.run import footprints, score_rows
    from prvr.papers.tables import TABLES
    from prvr.papers.tables import table as find
    from prvr.papers.write import write_table

    if not table:
        known = {name: {"title": its.title, "source": its.source} for name, its in TABLES.items()}
        known[COMPLEXITY] = {"title": TITLE, "source": SOURCE}
        show(as_json, known, [f"{name:14} {its['title']} ({its['source']})" for name, its in known.items()])
        return
    if table == COMPLEXITY:
        _complexity(out, device, as_json)
        return
    wanted = find(table)
    plan = Plan(seeds, protocol, tuple(settings or ()), device)
    texts = {"words": words, "vectors": vectors, "roles": roles}
    if data is None:
        materials = _toy(out, frames, texts, teacher or ["strong", "second"])
    else:
        materials = _package(data, features or data, frames, texts, teacher or ["clip_vit_b32"], annotations)
    with progress() as on_progress:
        scored = score_rows(wanted, out, materials, plan, on_progress=on_progress)
        costs = footprints(scored, materials, plan, on_progress=on_progress) if wanted.costs else None
        counted = write_table(wanted, scored, out, materials=materials, plan=plan, command=typed(), footprints=costs)
    show(as_json, counted.values, [*counted.lines, "", f"written to {out / table}.md and .json"])


def _complexity(out: Path, device: str, as_json: bool) -> None:
    from prvr.papers.complexity import StepSizes
    from prvr.papers.costs import write_costs

    with progress() as on_progress:
        counted = write_costs(out, command=typed(), device=device, sizes=StepSizes(), on_progress=on_progress)
    show(as_json, counted.values, [*counted.lines])


def _toy(out: Path, frames: str, texts: dict[str, str], teachers: list[str]) -> Materials:
    from prvr.extract.convert import convert_package
    from prvr.papers.toy import is_toy, write_toy

    package, packed = out / "toy", out / "toy-packed"
    if not is_toy(package):
        write_toy(out)
    convert_package(package, packed, sampling=None)
    kinds = {kind: name or kind for kind, name in texts.items()}
    return _package(package, packed, frames, kinds, teachers, None)


def _package(
    data: Path, features: Path, frames: str, texts: dict[str, str], teachers: list[str], annotations: Path | None
) -> Materials:
    from prvr.papers.plan import Materials

    named = {**texts, "words": texts["words"] or "roberta"}
    kinds = {kind: name for kind, name in named.items() if name}
    seen = frames or FRAMES.get(data.resolve().name, "i3d")
    return Materials(data, features, seen, kinds, tuple(teachers), annotations)  # type: ignore[arg-type]
