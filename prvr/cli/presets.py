"""`prvr presets`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from prvr.cli.terminal import Json, Method, app, show, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prvr.train.presets.listing import PresetDescription

NO_PAPER = "of no paper"


@app.command(epilog="Example: prvr presets gmmformer-v2/tvr")
def presets(
    name: Annotated[str, typer.Argument(help="A preset, to show it whole, or a collection, such as tvr.", metavar="NAME")] = "",
    method: Method = "",
    as_json: Json = False,
) -> None:
    """List the presets of prvr train: collection, paper, published figures, and what each needs.

    With --method, the presets that this class brings, or a preset as prvr train --method takes it.
    """
    from prvr.train.presets import PRESETS, plugin_presets
    from prvr.train.presets.listing import describe, find_presets, siblings

    names = find_presets(name, method=method or None)
    if name not in PRESETS:
        warn(plugin_presets()[1])
    found = [describe(each, method=method or None) for each in names]
    also = f"also: {', '.join(siblings(name)) or 'none'}"
    lines = [*_whole(found[0], method), also] if names == [name] else _table(found)
    show(as_json, [vars(each) for each in found], lines)


def _by_paper(each: PresetDescription) -> tuple[str, str]:
    return each.paper or NO_PAPER, each.name


def _table(found: list[PresetDescription]) -> Iterator[str]:
    wide, paper = max(len(each.name) for each in found), ""
    for each in sorted(found, key=_by_paper):
        if paper != (each.paper or NO_PAPER):
            paper = each.paper or NO_PAPER
            yield paper
        needs = "; ".join(need.partition(" (")[0] for need in each.needs[1:])
        name = f"{each.name} *" if each.differs else each.name
        yield f"  {name:{wide + 2}}  {each.collection:20}  {each.printed_figures or '-':30}  {needs}".rstrip()
    yield "Figures: R@1/5/10/100 and SumR in per cent, or the median rank (MedR), as published. * differs from its paper's code"
    yield "in what it computes (then without figures) or in how it is trained: prvr presets NAME says how, and shows one whole."


def _whole(each: PresetDescription, method: str) -> Iterator[str]:
    but = f", but {each.differs}" if each.differs else ""
    yield f"{each.name}: {each.paper or NO_PAPER}; {each.collection}{but}"
    if each.figures:
        yield f"published: {each.printed_figures}"
    if each.remark:
        yield f"remark: {each.remark}"
    for need in each.needs:
        yield f"needs: {need}"
    for part in ("settings", "training", "distillation"):
        changed = getattr(each, part)
        yield f"{part}: {' '.join(f'{key}={_written(value)}' for key, value in changed.items()) or 'none'}"
    own = f" --method {method}" if method else ""
    yield f"train: prvr train DATA FEATURES RUN --preset {each.name}{own} --frames NAME --words NAME"


def _written(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
