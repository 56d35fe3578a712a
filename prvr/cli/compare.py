"""`prvr compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.evaluate import Gallery, Queries, Ties, Truth, warn_of_extra_videos
from prvr.cli.terminal import Json, Resamples, app, show
from prvr.errors import SettingError


@app.command(epilog="Example: prvr compare baseline.npz ours=seed1.npz,seed2.npz,seed3.npz")
def compare(
    systems: Annotated[
        list[str],
        typer.Argument(
            help="SCORES of each system, the baseline first; SCORES,SCORES for its seeds, NAME=SCORES to name it.",
            metavar="SYSTEMS",
        ),
    ],
    truth: Truth = None,
    queries: Queries = None,
    gallery: Gallery = None,
    ties: Ties = "pessimistic",
    resamples: Resamples = 10_000,
    as_json: Json = False,
) -> None:
    """Test whether systems differ: paired tests, clustered by video, on scores as prvr score takes them."""
    from prvr.evaluate.compare import QueryRanks, rank_queries
    from prvr.evaluate.compare import compare as compare_ranks
    from prvr.evaluate.saved_scores.forms import open_scores

    named = _by_name(systems)
    if len(named) < 2:
        raise SettingError(f"there is one system to compare, {systems[0]}; add another: prvr compare A.npz B.npz")

    def read(path: Path) -> QueryRanks:
        saved, added = open_scores(path, truth=truth, queries=queries, gallery=gallery)
        warn_of_extra_videos(path, added)
        return rank_queries(saved, name=str(path), ties=ties)

    # One file at a time is in memory; the ranks are kept.
    ranks = {name: [read(path) for path in paths] for name, paths in named.items()}
    result = compare_ranks(ranks, resamples=resamples)
    show(as_json, result.as_dict(), str(result).split("\n"))


def _by_name(systems: list[str]) -> dict[str, list[Path]]:
    """The files of each system; its name precedes `=`, or is the first file without its suffix."""
    from prvr.evaluate.compare import check_seeds_differ

    named: dict[str, list[Path]] = {}
    for argument in systems:
        name, mark, files = argument.partition("=")
        if not mark or "/" in name or Path(argument).exists():
            # Folders of runs have settings in their names.
            name, files = "", argument
        paths = [Path(file) for file in files.split(",") if file]
        if not paths:
            raise SettingError(f"{argument!r} names no scores; expected SCORES.npz, or NAME=SEED1.npz,SEED2.npz")
        check_seeds_differ(argument, paths)
        name = name or paths[0].stem
        if name in named:
            raise SettingError(f"two systems are called {name!r}; name one: NAME={files}")
        named[name] = paths
    return named
