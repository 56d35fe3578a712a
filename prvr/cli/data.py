"""`prvr data ...`: packages of features and annotations, before anything is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prvr.cli.terminal import Json, app, progress, show

if TYPE_CHECKING:
    from prvr.features.package_check import FileReport, PackageReport, SplitReport

data = typer.Typer(
    name="data",
    help="Feature packages: see that they are whole, and pack them for training.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(data)


@data.command(epilog="Example: prvr data check packages")
def check(
    root: Annotated[Path, typer.Argument(help="Folder of packages, or of one: with FeatureData and TextData.")],
    thorough: Annotated[bool, typer.Option("--thorough", help="Read every item, not a sample of each file.")] = False,
    as_json: Json = False,
) -> None:
    """Say what is in published packages, what does not fit, and what they can be used for.

    Exit status 1 if none of them can be used for anything.
    """
    from prvr.features.package_check import SAMPLE, check_package, find_packages

    with progress() as on_progress:
        reports = [
            check_package(path, most=None if thorough else SAMPLE, on_progress=on_progress) for path in find_packages(root)
        ]
    show(as_json, [report.as_dict() for report in reports], [line for report in reports for line in _lines(report)])
    if not any(use.possible for report in reports for use in report.uses.values()):
        raise typer.Exit(1)


def _lines(report: PackageReport) -> list[str]:
    lines = [f"{report.path.name}  ({report.path})"]
    lines += [f"  {split}: {_split(about)}" for split, about in report.splits.items()]
    for file in report.files:
        lines += [f"  {file.file}: {file.columns} columns, {file.items:,} {file.of}" if file.items else f"  {file.file}"]
        lines += [f"    {remark}" for remark in _remarks(file)]
    return lines + [f"  {name}: {'yes, ' if use.possible else 'no; '}{use.why}" for name, use in report.uses.items()]


def _split(about: SplitReport) -> str:
    if about.problem:
        return about.problem
    counts = f"{about.videos:,} videos, {about.captions:,} captions"
    if about.as_published is None:
        return counts
    return f"{counts}, {'as published: ' if about.as_published else 'NOT as published: '}{about.published}"


def _remarks(file: FileReport) -> list[str]:
    remarks = [file.problem] if file.problem else []
    remarks += [f"lacks {len(ids):,} {file.of} of {split}, {ids[0]} first" for split, ids in (file.lacking or {}).items() if ids]
    if file.unused:
        remarks.append(f"{file.unused:,} {file.of} are in no split")
    if file.repeated:
        remarks.append(f"{len(file.repeated):,} names stand twice, {file.repeated[0]} first; the last one counts")
    if file.looked_at < file.items:
        remarks.append(f"{file.looked_at:,} of {file.items:,} {file.of} were read; --thorough reads all")
    return remarks
