"""`prvr compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prvr.cli.evaluate import Gallery, Queries, Ties, Truth, warn_of_joined
from prvr.cli.terminal import Json, app, show
from prvr.errors import SettingError

if TYPE_CHECKING:
    from prvr.evaluate.compare import Comparison, System

LABELS = {"sumr": ("SumR", 1), "r1": ("R@1", 1), "mrr": ("MRR", 4)}


@app.command(epilog="Example: prvr compare baseline.npz ours=seed1.npz,seed2.npz,seed3.npz")
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Systems, the baseline first: a run each, or several seeds with commas; NAME= before it names it."),
    ],
    truth: Truth = None,
    queries: Queries = None,
    gallery: Gallery = None,
    ties: Ties = "pessimistic",
    resamples: Annotated[int, typer.Option(help="Of the bootstrap and of the randomisation test.", min=1)] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the resamples.")] = 0,
    as_json: Json = False,
) -> None:
    """Say whether systems differ: paired tests, clustered by video. Runs are those that `prvr evaluate` takes."""
    from prvr.evaluate.compare import Ranked, ranked
    from prvr.evaluate.compare import compare as run
    from prvr.evaluate.runs.forms import read_run

    named = _named(runs)
    if len(named) < 2:
        raise SettingError(f"there is one system to compare, {runs[0]}; name another: prvr compare A.npz B.npz")

    def read(path: Path) -> Ranked:
        found = read_run(path, truth=truth, queries=queries, gallery=gallery)
        warn_of_joined(path, found.joined)
        return ranked(found.run, name=str(path), ties=ties)

    # One run at a time: of each only the ranks are kept.
    systems = {name: [read(path) for path in paths] for name, paths in named.items()}
    result = run(systems, resamples=resamples, seed=seed)
    show(as_json, _value(result, ties, resamples), _lines(result, ties, resamples))


def _named(runs: list[str]) -> dict[str, list[Path]]:
    """Systems by name: what stands before `=`, or the first file without its suffix."""
    named: dict[str, list[Path]] = {}
    for given in runs:
        name, _, files = given.rpartition("=")
        paths = [Path(file) for file in files.split(",") if file]
        if not paths:
            raise SettingError(f"{given!r} names no run; it takes RUN.npz, or NAME=SEED1.npz,SEED2.npz")
        name = name or paths[0].stem
        if name in named:
            raise SettingError(f"two systems are called {name!r}; tell them apart: NAME={files}")
        named[name] = paths
    return named


def _value(result: Comparison, ties: str, resamples: int) -> dict[str, Any]:
    return {
        "ties": ties,
        "resamples": resamples,
        "queries": result.queries,
        "videos": result.videos,
        "systems": [vars(system) for system in result.systems],
        "baseline": result.systems[0].name,
        "effects": {
            name: {measure: vars(effect) for measure, effect in measures.items()} for name, measures in result.effects.items()
        },
    }


def _lines(result: Comparison, ties: str, resamples: int) -> list[str]:
    baseline = result.systems[0].name
    lines = [f"{system.name}: {_figures(system)}" for system in result.systems]
    for name, measures in result.effects.items():
        for measure, of in measures.items():
            label, digits = LABELS[measure]
            interval = f"[{of.low:+.{digits}f}, {of.high:+.{digits}f}]"
            lines.append(
                f"{name} - {baseline}: {label} {of.difference:+.{digits}f} {interval}  p {of.p:.2g}  Holm {of.p_holm:.2g}"
            )
    lines.append(
        f"{result.queries} queries of {result.videos} videos, drawn by video; 95 % intervals by bootstrap, p by randomisation, "
        f"{resamples} resamples; ties {ties}"
    )
    protocols = {system.name: " and ".join(system.protocols) for system in result.systems}
    if len(set(protocols.values())) == 1:
        return [*lines, f"protocol: {protocols[baseline]}"]
    return [*lines, f"protocols differ: {', '.join(f'{name} {protocol}' for name, protocol in protocols.items())}"]


def _figures(system: System) -> str:
    shown = []
    for measure, (label, digits) in LABELS.items():
        deviation = f" ± {system.deviation[measure]:.{digits}f}" if system.deviation else ""
        shown.append(f"{label} {system.mean[measure]:.{digits}f}{deviation}")
    return f"{'  '.join(shown)}  ({system.seeds} seed{'s' if system.seeds > 1 else ''})"
