"""The systems of a report: which files each seed has, and the results that a page shows, without the score matrices."""

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
from prvr.evaluate.compare import QueryRanks, check_seeds_differ, rank_queries
from prvr.evaluate.figures import BY_RATIO, ScoreFigures, count_figures
from prvr.evaluate.groups import Group
from prvr.evaluate.metrics import MomentRetrieval, Retrieval
from prvr.evaluate.reliability import Judged
from prvr.evaluate.saved_scores import SavedScores
from prvr.methods.checkpoint import CONFIG
from prvr.train.run_state import BRANCH_SCORES, HISTORY, TEST_SCORES


@dataclass(frozen=True)
class SeedFiles:
    """The files of one seed: its training run's folder, its scores, and the scores of each of its two branches alone."""

    label: str
    folder: Path | None = None
    scores: Path | None = None
    branches: tuple[Path, Path] | None = None


@dataclass(frozen=True)
class SystemFiles:
    """The files of a system, one entry for each seed.

    prefix: a name that the user gave to all systems of a folder of `prvr reproduce`. reproduced: the system is from such a
    folder; its own name is a folder's name, so the name that its scores hold is preferred.
    """

    name: str
    seeds: tuple[SeedFiles, ...]
    prefix: str = ""
    reproduced: bool = False


@dataclass(frozen=True)
class CalibrationReport:
    """First hits with their probabilities, and the split that the probabilities were fitted on.

    on_same_split: they were fitted on the split that is reported.
    """

    judged: Judged
    fitted_on: str
    on_same_split: bool


@dataclass(frozen=True)
class SeedResults:
    """The figures of one seed, and what a page shows of each query, in the order of the query ids.

    videos: each query's own video. first: the video at rank 1; "" if no video was ranked.
    overlaps, ratios: as in `saved_scores.QueryFacts`; NaN if unknown. scores: of each query's own video.
    groups: figures by moment-to-video ratio; None if no ratio is known. calibration: None if there are no probabilities.
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
    calibration: CalibrationReport | None

    @property
    def rank(self) -> Float[np.ndarray, "Q"]:
        """Rank of each query's best correct video."""
        return np.rint(1 / self.ranked.values[:, 2])


@dataclass(frozen=True)
class Seed:
    """One seed of a system; None for each part that is not in its files. sweep: SumR at each of `papers.sweep.WEIGHTS`."""

    files: SeedFiles
    history: tuple[dict[str, Any], ...] | None
    results: SeedResults | None
    sweep: tuple[float, ...] | None


@dataclass(frozen=True)
class ReportedSystem:
    """A system with its seeds."""

    name: str
    seeds: tuple[Seed, ...]

    @property
    def results(self) -> list[SeedResults]:
        """The results of the seeds that have scores."""
        return [seed.results for seed in self.seeds if seed.results is not None]

    @property
    def untrained(self) -> list[str]:
        """The branches that had learned nothing with any of the seeds."""
        return list(dict.fromkeys(branch for seed in self.results for branch in seed.ranked.untrained))


def find_systems(argument: str) -> list[SystemFiles]:
    """Returns the systems that an argument of `prvr report` names: RUN, NAME=RUN, or NAME=RUN,RUN for several seeds.

    A RUN is a file of scores, a training run's folder, a folder with such a folder for each seed (seed*), or a folder of
    `prvr reproduce` with any number of systems.

    Raises:
        SettingError: the argument names nothing, joins several RUNs of which one holds several systems, or names one twice.
        DataError: a RUN is none of these.
    """
    name, paths = _split_argument(argument)
    if not paths:
        raise SettingError(f"{argument!r} names no run; expected RUN, or NAME=RUN,RUN")
    if len(paths) == 1 and not paths[0].is_file() and not _is_run(paths[0]):
        own = [_seed_files(folder) for folder in sorted(paths[0].glob("seed*"), key=_sort_key) if _is_run(folder)]
        if own:
            return [SystemFiles(name or paths[0].resolve().name, tuple(own))]
        return [SystemFiles(slug, tuple(seeds), name, True) for slug, seeds in _find_reproduced_systems(paths[0]).items()]
    several = next((path for path in paths if not path.is_file() and not _is_run(path)), None)
    if several is not None:
        raise SettingError(f"{several} is neither a SCORES.npz nor a training run's folder; only these can be seeds of {name!r}")
    check_seeds_differ(argument, paths)
    seeds = tuple(_seed_files(path) if path.is_dir() else SeedFiles(str(path), scores=path) for path in paths)
    return [SystemFiles(name or (paths[0].resolve().name if paths[0].is_dir() else paths[0].stem), seeds)]


def read_history(path: Path) -> tuple[dict[str, Any], ...]:
    """Returns the epochs of a training run; each has `epoch`, `losses` by name, and `sumr` on the split that chose the epoch.

    Raises:
        DataError: a line does not describe an epoch.
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
                f"{path}:{number} does not describe an epoch of a training run ({type(problem).__name__}: {problem}); "
                "copy the file again, or delete it to leave the curves out"
            ) from None
        losses = {name: float(value) for name, value in record["losses"].items()}
        records.append({"epoch": record["epoch"], "losses": losses, "sumr": float(record["dev"]["sumr"])})
    return tuple(records)


def summarise_scores(saved: SavedScores, *, name: str) -> SeedResults:
    """Returns the results that a page shows of a file of scores; ties count against the system, as by default everywhere."""
    counted = count_figures(saved, groups=saved.facts.ratios is not None)
    order = sorted(range(len(saved.queries)), key=saved.queries.__getitem__)
    unknown = np.full(len(saved.queries), math.nan)
    facts = saved.facts
    overlaps = unknown if facts.overlaps is None else facts.overlaps
    ratios = unknown if facts.ratios is None else facts.ratios
    texts, best = facts.texts or saved.queries, saved.scores.argmax(1)
    first = [saved.videos[column] if row[column] > -math.inf else "" for row, column in zip(saved.scores, best, strict=True)]
    return SeedResults(
        system=saved.system,
        split=saved.split,
        ranked=rank_queries(saved, name=name),
        figures=counted.retrieval,
        spans=counted.moments,
        groups=None if np.isnan(ratios).all() else tuple(counted.groups[BY_RATIO]),
        texts=tuple(texts[row] for row in order),
        videos=tuple(saved.videos[saved.target[row]] for row in order),
        first=tuple(first[row] for row in order),
        scores=saved.scores[order, saved.target[order]],
        overlaps=overlaps[order],
        ratios=ratios[order],
        calibration=_report_calibration(counted),
    )


def _report_calibration(counted: ScoreFigures) -> CalibrationReport | None:
    calibration = counted.calibration
    if calibration is None or counted.judged is None:
        return None
    fitted_on = f"{calibration.queries} queries of {calibration.split or 'an unknown split'}"
    return CalibrationReport(counted.judged, fitted_on, calibration.split == counted.split)


def _split_argument(argument: str) -> tuple[str, list[Path]]:
    """The name before `=` and the paths after it; a path may itself contain `=` and commas."""
    parts = argument.split("=")
    readings = [
        ("=".join(parts[:cut]), [Path(path) for path in "=".join(parts[cut:]).split(",") if path]) for cut in range(len(parts))
    ]
    readings = [("", [Path(argument)]), *readings]
    fallback = readings[min(2, len(readings) - 1)]
    return next((reading for reading in readings if reading[1] and all(path.exists() for path in reading[1])), fallback)


def _find_reproduced_systems(path: Path) -> dict[str, list[SeedFiles]]:
    found: dict[str, list[SeedFiles]] = {}
    for folder in sorted(path.glob("runs/*/seed*"), key=_sort_key):
        if _is_run(folder):
            found.setdefault(_row_name(folder), []).append(_seed_files(folder))
    if not found:
        raise DataError(
            f"{path} is neither a SCORES.npz of `prvr evaluate --save` nor a folder of `prvr train` ({HISTORY}, {CONFIG}) "
            "or of its seeds (seed*), nor one of `prvr reproduce` (runs/*/seed*); name one of these"
        )
    return found


def _is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in (HISTORY, CONFIG, TEST_SCORES))


def _seed_files(folder: Path) -> SeedFiles:
    scores, branches = folder / TEST_SCORES, (folder / BRANCH_SCORES[0], folder / BRANCH_SCORES[1])
    return SeedFiles(
        label=folder.name,
        folder=folder,
        scores=scores if scores.is_file() else None,
        branches=branches if all(path.is_file() for path in branches) else None,
    )


def _sort_key(folder: Path) -> tuple[str, int, str]:
    """Rows by name, seed 10 after seed 9."""
    number = folder.name.removeprefix("seed")
    return _row_name(folder), int(number) if number.isdecimal() else 0, folder.parent.name


def _row_name(folder: Path) -> str:
    return re.sub(r"-[0-9a-f]{8}$", "", folder.parent.name)
