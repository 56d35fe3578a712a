"""The systems of a report: what is on disk of each seed, and what a page needs to know of it once its scores are put away."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from prvr.errors import DataError, SettingError
from prvr.evaluate.compare import QueryRanks, rank_queries
from prvr.evaluate.figures import BY_RATIO, ScoreFigures, count_figures
from prvr.evaluate.groups import Group
from prvr.evaluate.metrics import MomentRetrieval, Retrieval, retrieval
from prvr.evaluate.reliability import Judged
from prvr.evaluate.saved_scores import SavedScores
from prvr.methods.checkpoint import CONFIG
from prvr.train.run_state import HISTORY

# As `prvr reproduce` keeps them in the folder of a training run.
WHOLE, BRANCHES = "test.npz", ("test-first-branch.npz", "test-second-branch.npz")
WEIGHTS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True)
class Files:
    """What is on disk of one seed: the folder of its run, its answers, and those of each of its two branches alone."""

    label: str
    folder: Path | None = None
    run: Path | None = None
    branches: tuple[Path, Path] | None = None


@dataclass(frozen=True)
class Lot:
    """The files of a system's seeds. prefix: a name that was given to all systems of a folder of `prvr reproduce`, whose
    own names are for folders, so that what its runs call themselves is preferred."""

    name: str
    files: tuple[Files, ...]
    prefix: str = ""
    reproduced: bool = False


@dataclass(frozen=True)
class Trust:
    """What a run's probabilities say of its first hits, and what they were fitted on. itself: which is what is reported."""

    judged: Judged
    fitted: str
    itself: bool


@dataclass(frozen=True)
class Answers:
    """What is left of a run: figures, and of each query, in the order of the ids, what a page shows.

    videos: the query's own. first: the video that was ranked first, "" where none was ranked.
    overlaps, ratios: as in `saved_scores.QueryFacts`; NaN if unknown.
    scores: for its own video. groups: by moment-to-video ratio; None where no ratio is known.
    trust: of its probabilities; None where it has none.
    """

    system: str
    split: str
    ranked: QueryRanks
    figures: Retrieval
    spans: MomentRetrieval | None
    groups: tuple[Group, ...] | None
    texts: tuple[str, ...]
    videos: tuple[str, ...]
    first: tuple[str, ...]
    scores: Float[np.ndarray, "Q"]
    overlaps: Float[np.ndarray, "Q"]
    ratios: Float[np.ndarray, "Q"]
    trust: Trust | None

    @property
    def rank(self) -> Float[np.ndarray, "Q"]:
        """Rank of each query's best correct video."""
        return np.rint(1 / self.ranked.values[:, 2])


@dataclass(frozen=True)
class Seed:
    """One seed of a system; None for what there is not. sweep: SumR at each of `WEIGHTS`, the second branch's share."""

    files: Files
    history: tuple[dict[str, Any], ...] | None
    answers: Answers | None
    sweep: tuple[float, ...] | None


@dataclass(frozen=True)
class Contender:
    """A system with its seeds."""

    name: str
    seeds: tuple[Seed, ...]

    @property
    def answers(self) -> list[Answers]:
        """Of the seeds that have any."""
        return [seed.answers for seed in self.seeds if seed.answers is not None]


def find_systems(given: str) -> list[Lot]:
    """The systems that an argument names: RUN, NAME=RUN, or NAME=RUN,RUN for several seeds.

    A RUN is a file of scores, a training run's folder, or a folder of `prvr reproduce` with as many systems as it holds.

    Raises:
        SettingError: it names nothing, or several runs of which one holds several systems.
        DataError: a RUN is none of the three.
    """
    name, paths = _named(given)
    if not paths:
        raise SettingError(f"{given!r} names no run; it takes RUN, or NAME=RUN,RUN")
    if len(paths) == 1 and not paths[0].is_file() and not _is_run(paths[0]):
        return [Lot(slug, tuple(files), name, True) for slug, files in _reproduced(paths[0]).items()]
    several = next((path for path in paths if not path.is_file() and not _is_run(path)), None)
    if several is not None:
        raise SettingError(f"{several} is neither a SCORES.npz nor a training run's folder; only such can be seeds of {name!r}")
    files = tuple(_seed(path) if path.is_dir() else Files(str(path), run=path) for path in paths)
    return [Lot(name or (paths[0].resolve().name if paths[0].is_dir() else paths[0].stem), files)]


def read_history(path: Path) -> tuple[dict[str, Any], ...]:
    """The epochs of a training run; each with `epoch`, `losses` by name, and `sumr` on the split that chose the epoch.

    Raises:
        DataError: a line is not an epoch.
    """
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            record = json.loads(line)
            values = [record["epoch"], record["dev"]["sumr"], *dict.values(record["losses"])]
            if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
                raise ValueError(f"{values} are not all numbers")
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as problem:
            raise DataError(
                f"{path}:{number} is no epoch of a training run ({type(problem).__name__}: {problem}); "
                "copy the file again, or delete it to leave the curves out"
            ) from None
        losses = {name: float(value) for name, value in record["losses"].items()}
        records.append({"epoch": record["epoch"], "losses": losses, "sumr": float(record["dev"]["sumr"])})
    return tuple(records)


def answers_of(run: SavedScores, *, name: str) -> Answers:
    """What a page needs of a run; ties are counted against the system, as by default everywhere."""
    counted = count_figures(run, groups=run.facts.ratios is not None)
    order = sorted(range(len(run.queries)), key=run.queries.__getitem__)
    unknown = np.full(len(run.queries), math.nan)
    facts = run.facts
    overlaps = unknown if facts.overlaps is None else facts.overlaps
    ratios = unknown if facts.ratios is None else facts.ratios
    texts, best = facts.texts or run.queries, run.scores.argmax(1)
    first = [run.videos[column] if row[column] > -math.inf else "" for row, column in zip(run.scores, best, strict=True)]
    return Answers(
        system=run.system,
        split=run.split,
        ranked=rank_queries(run, name=name),
        figures=counted.retrieval,
        spans=counted.moments,
        groups=None if np.isnan(ratios).all() else tuple(counted.groups[BY_RATIO]),
        texts=tuple(texts[row] for row in order),
        videos=tuple(run.videos[run.target[row]] for row in order),
        first=tuple(first[row] for row in order),
        scores=run.scores[order, run.target[order]],
        overlaps=overlaps[order],
        ratios=ratios[order],
        trust=_trust(counted),
    )


def sweep_of(first: SavedScores, second: SavedScores) -> tuple[float, ...]:
    """SumR at each of `WEIGHTS`, from the answers of each branch alone: S = (1 - beta) S_1 + beta S_2.

    Raises:
        DataError: the two have other queries or videos.
    """
    if (first.queries, first.videos) != (second.queries, second.videos):
        raise DataError("the two branches answered other queries or over another gallery; score them again")
    correct = first.correct
    return tuple(retrieval((1 - weight) * first.scores + weight * second.scores, correct).sumr for weight in WEIGHTS)


def _trust(counted: ScoreFigures) -> Trust | None:
    its = counted.calibration
    if its is None or counted.judged is None:
        return None
    fitted = f"{its.queries} queries of {its.split or 'another run'}"
    return Trust(counted.judged, fitted, itself=its.split == counted.split)


def _named(given: str) -> tuple[str, list[Path]]:
    """What stands before `=`, and the paths behind it; a path of `prvr reproduce` has such signs in it, too."""
    parts = given.split("=")
    ways = [
        ("=".join(parts[:cut]), [Path(path) for path in "=".join(parts[cut:]).split(",") if path]) for cut in range(len(parts))
    ]
    # A path may have a comma, too.
    ways = [("", [Path(given)]), *ways]
    fallback = ways[min(2, len(ways) - 1)]
    return next((way for way in ways if way[1] and all(path.exists() for path in way[1])), fallback)


def _reproduced(path: Path) -> dict[str, list[Files]]:
    found: dict[str, list[Files]] = {}
    for folder in sorted(path.glob("runs/*/seed*"), key=_place):
        if _is_run(folder):
            found.setdefault(_row_name(folder), []).append(_seed(folder))
    if not found:
        raise DataError(
            f"{path} is neither a SCORES.npz of `prvr evaluate --save` nor a folder of `prvr train` ({HISTORY}, {CONFIG}) "
            "or of `prvr reproduce` (runs/*/seed*); name one of these"
        )
    return found


def _is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in (HISTORY, CONFIG, WHOLE))


def _seed(folder: Path) -> Files:
    whole, branches = folder / WHOLE, (folder / BRANCHES[0], folder / BRANCHES[1])
    return Files(
        label=folder.name,
        folder=folder,
        run=whole if whole.is_file() else None,
        branches=branches if all(path.is_file() for path in branches) else None,
    )


def _place(folder: Path) -> tuple[str, int, str]:
    """Rows by name, and seed 10 behind seed 9."""
    number = folder.name.removeprefix("seed")
    return _row_name(folder), int(number) if number.isdecimal() else 0, folder.parent.name


def _row_name(folder: Path) -> str:
    return re.sub(r"-[0-9a-f]{8}$", "", folder.parent.name)
