"""Builds the sections of a report from files, one file of scores at a time: of each only the ranks stay in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from prvr.errors import DataError, SettingError, nearest
from prvr.evaluate.compare import RESAMPLES, compare
from prvr.evaluate.saved_scores import SavedScores, load_scores
from prvr.evaluate.sweep import sweep_branches
from prvr.methods.checkpoint import CONFIG
from prvr.report import answers, figures, probabilities, training
from prvr.report.page import GIVE_DATA, SAVE, Section
from prvr.report.queries import Profile
from prvr.report.systems import (
    ReportedSystem,
    Seed,
    SeedFiles,
    SystemFiles,
    read_history,
    summarise_scores,
)
from prvr.train.run_state import HISTORY

Progress = Callable[[str, int, int], None]
NAME_FOLDER = "they need the model: name its training run's folder in place of the scores"
# The tolerance between cosines that are summed in different orders.
NOISE = 1e-4


@runtime_checkable
class Scorer(Protocol):
    """Computes what the files lack from a training run's checkpoint and the data set."""

    def run(self, folder: Path) -> SavedScores: ...

    def branches(self, folder: Path) -> tuple[SavedScores, SavedScores] | None:
        """The scores of each of the model's two branches alone; None if it has not two."""
        ...

    def profiles(self, folder: Path, queries: Sequence[str]) -> dict[str, Profile]: ...

    def teacher_profiles(self, name: str, queries: Sequence[str], *, split: str) -> dict[str, Profile]:
        """The profiles of a teacher alone, from its frames."""
        ...


def read_systems(systems: Sequence[SystemFiles], scorer: Scorer | None, *, on_progress: Progress) -> list[ReportedSystem]:
    """Reads the files of every system, and computes with the scorer what they lack.

    Raises:
        DataError, ModelError: a file is broken, or does not fit the data.
        SettingError: two systems have the same name.
    """
    total, done, seeds = sum(len(system.seeds) for system in systems), 0, list[list[Seed]]()
    for system in systems:
        seeds.append([])
        for files in system.seeds:
            on_progress(f"{system.name}, {files.label}", done, total)
            seeds[-1].append(_read_files(files, scorer))
            done += 1
    names = _choose_names(systems, seeds)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingError(
            f"two systems are called {twice!r}; name them: NAME=RUN, or NAME=RUN,RUN if they are seeds of one system"
        )
    return [ReportedSystem(name, tuple(of_system)) for name, of_system in zip(names, seeds, strict=True)]


def order_systems(systems: Sequence[ReportedSystem], *, baseline: str = "", rival: str = "") -> list[ReportedSystem]:
    """Puts the baseline first and its rival second; each is the first possible system by default.

    Raises:
        SettingError: no system has that name, it has no scores, or the two are the same.
    """
    names = [one.name for one in systems]
    for name in (baseline, rival):
        if name and name not in names:
            raise SettingError(f"no system is called {name!r}; {nearest(name, names)}")
        if name and not systems[names.index(name)].results:
            raise SettingError(f"{name!r} has no scores to compare; save them with {SAVE}, or {GIVE_DATA}")
    if baseline and baseline == rival:
        raise SettingError(f"{baseline!r} cannot be compared with itself; name another system as --rival")
    first = baseline or next(name for name in names if name != rival or len(names) == 1)
    return sorted(systems, key=lambda one: (one.name != first, one.name != rival))


def build(systems: Sequence[ReportedSystem], scorer: Scorer | None = None, *, resamples: int = RESAMPLES) -> list[Section]:
    """Returns all sections about the systems; the first system is the baseline, the second its rival.

    Raises:
        DataError: the systems were scored on different queries or galleries.
    """
    scored = [one for one in systems if one.results]
    rankings = {one.name: [seed.ranked for seed in one.results] for one in scored}
    comparison = compare(rankings, resamples=resamples) if len(scored) > 1 else None
    has_data = scorer is not None
    sections = [
        figures.systems_section(systems, comparison, resamples=resamples, has_data=has_data),
        training.training_section(systems),
        training.sweep_section(systems, has_data=has_data),
        figures.ratio_section(systems),
        *probabilities.probability_sections(systems),
    ]
    if scored:
        shown = scored[min(1, len(scored) - 1)]
        profiles, reason = _profiles(shown, scorer)
        sections.append(answers.extremes_section(shown, profiles, reason=reason))
    learned = [one for one in scored if not one.untrained]
    if len(learned) > 1:
        sections.append(answers.pair_section(learned[0], learned[1]))
    return sections


def _read_files(files: SeedFiles, scorer: Scorer | None) -> Seed:
    folder = files.folder
    history = read_history(folder / HISTORY) if folder is not None and (folder / HISTORY).is_file() else None
    scores = load_scores(files.scores) if files.scores is not None else None
    try:
        sweep = None if files.branches is None else sweep_branches(load_scores(files.branches[0]), load_scores(files.branches[1]))
    except DataError as problem:
        raise DataError(f"{folder}: {problem}") from None
    if scorer is not None and folder is not None and (folder / CONFIG).is_file():
        scores = scorer.run(folder) if scores is None else scores
        branches = scorer.branches(folder) if sweep is None else None
        sweep = sweep_branches(*branches) if branches is not None else sweep
    results = None if scores is None else summarise_scores(scores, name=str(files.scores or folder))
    return Seed(files, history or None, results, sweep)


def _choose_names(systems: Sequence[SystemFiles], seeds: Sequence[Sequence[Seed]]) -> list[str]:
    """The name that the scores of `prvr reproduce` hold, unless two systems have the same one; else the name of the files."""
    own = [
        next((seed.results.system for seed in of_system if seed.results and seed.results.system), system.name)
        if system.reproduced
        else system.name
        for system, of_system in zip(systems, seeds, strict=True)
    ]
    keys = [(system.prefix, name) for system, name in zip(systems, own, strict=True)]
    names = [name if keys.count((system.prefix, name)) == 1 else system.name for system, name in zip(systems, own, strict=True)]
    return [f"{system.prefix}: {name}" if system.prefix else name for system, name in zip(systems, names, strict=True)]


def _profiles(shown: ReportedSystem, scorer: Scorer | None) -> tuple[Mapping[str, Profile] | None, str]:
    """The profiles of the queries that are shown, or the reason why there are none."""
    folders = [seed.files.folder for seed in shown.seeds if seed.files.folder is not None and seed.results is not None]
    folder = next((folder for folder in folders if (folder / CONFIG).is_file()), None)
    if folder is None:
        return _profiles_of_teacher(shown, scorer)
    if scorer is None:
        return None, f"they need the features; {GIVE_DATA}"
    try:
        return scorer.profiles(folder, answers.shown_queries(shown)), ""
    except DataError as problem:
        raise DataError(f"{folder}: {problem}") from None


def _profiles_of_teacher(shown: ReportedSystem, scorer: Scorer | None) -> tuple[Mapping[str, Profile] | None, str]:
    """The same for a file of scores: those of a teacher alone hold its name, from which the profiles can be computed."""
    results = shown.results[0]
    if scorer is None:
        return None, f"{NAME_FOLDER}; for a teacher alone, {GIVE_DATA}"
    if not results.system:
        return None, NAME_FOLDER
    queries = answers.shown_queries(shown)
    try:
        profiles = scorer.teacher_profiles(results.system, queries, split=results.split)
    except (DataError, SettingError) as problem:
        return None, f"{NAME_FOLDER}; they are not the scores of a teacher alone either: {problem}"
    scores = dict(zip(results.ranked.queries, results.scores.tolist(), strict=True))
    if any(abs(max(profiles[id].relevance) - scores[id]) > NOISE for id in queries):
        return None, f"{NAME_FOLDER}; the best frames of the teacher {results.system!r} have other scores"
    return profiles, ""
