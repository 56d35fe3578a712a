"""Runs a table of the papers: what `prvr reproduce` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prvr.errors import SettingError
from prvr.extract.convert import convert_package
from prvr.papers import toy
from prvr.papers.complexity import StepSizes
from prvr.papers.costs import SOURCE, TITLE, write_costs
from prvr.papers.plan import Materials, Plan
from prvr.papers.row_run import Progress
from prvr.papers.run import footprints, score_rows
from prvr.papers.tables import COMPLEXITY, TABLES, table, with_methods
from prvr.papers.write import WrittenTable, write_table

# The frames of a student in the packages in circulation; in other packages they are called i3d.
FRAMES = {"tvr": "i3d_resnet", "charades": "i3d_rgb_lgi", "toy": "toy_frames"}


def list_tables() -> dict[str, dict[str, str]]:
    """The title and the source of every table, by name."""
    tables = {name: {"title": its.title, "source": its.source} for name, its in TABLES.items()}
    return {**tables, COMPLEXITY: {"title": TITLE, "source": SOURCE}}


@dataclass(frozen=True)
class TableData:
    """The data of a table, as the user names it.

    data: a feature package ROOT/COLLECTION; without it a toy world is written below OUT.
    features: its packed features; without them the package.
    frames, texts, teachers: names of features, texts by kind; without them those of the packages in circulation.
    """

    data: Path | None = None
    features: Path | None = None
    frames: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    teachers: tuple[str, ...] = ()
    annotations: Path | None = None


def reproduce(
    name: str, out: Path, plan: Plan, given: TableData, *, command: str = "", on_progress: Progress | None = None
) -> WrittenTable:
    """Trains and scores the rows of a table, compares them, and writes OUT/<name>.md and .json.

    Args:
        command: is named in the table.

    Raises:
        SettingError: no table has that name, or as `score_rows`.
        DataError, ModelError: as `score_rows`.
    """
    on_progress = on_progress or _show_nothing
    if name == COMPLEXITY and plan.methods:
        raise SettingError(f"--method is not for {COMPLEXITY}, which has no training; take another table, such as peers")
    if name == COMPLEXITY:
        return write_costs(out, command=command, device=plan.device, sizes=StepSizes(), on_progress=on_progress)
    wanted = with_methods(table(name), plan.methods)
    materials = _materials(out, given)
    scored = score_rows(wanted, out, materials, plan, on_progress=on_progress)
    costs = footprints(scored, materials, plan, on_progress=on_progress) if wanted.costs else None
    return write_table(wanted, scored, out, materials=materials, plan=plan, command=command, footprints=costs)


def _materials(out: Path, given: TableData) -> Materials:
    data, features, teachers = given.data, given.features, given.teachers or ("clip_vit_b32",)
    texts = {"words": "roberta"}
    if data is None:
        data, features = _write_toy(out)
        texts, teachers = {kind: kind for kind in ("words", "vectors", "roles")}, given.teachers or ("strong", "second")
    texts |= {kind: name for kind, name in given.texts.items() if name}
    frames = given.frames or FRAMES.get(data.resolve().name, "i3d")
    return Materials(data, features or data, frames, texts, teachers, given.annotations)  # type: ignore[arg-type]


def _write_toy(out: Path) -> tuple[Path, Path]:
    """The package of a toy world and its packed features, written if they are not there."""
    package, packed = out / "toy", out / "toy-packed"
    if not toy.is_toy(package):
        toy.write_toy(out)
    convert_package(package, packed, sampling=None)
    return package, packed


def _show_nothing(note: str, done: int, total: int) -> None:
    """Shows no progress."""
