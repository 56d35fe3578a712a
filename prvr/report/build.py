"""From the files of runs to the sections of a page: one run at a time, since of each only its ranks are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from prvr.errors import DataError, SettingError, nearest
from prvr.evaluate.compare import RESAMPLES, compare
from prvr.evaluate.saved_scores import SavedScores, load_scores
from prvr.methods.checkpoint import CONFIG
from prvr.report import answers, figures, probabilities, training
from prvr.report.page import GIVE, SAVE, Section
from prvr.report.queries import Profile
from prvr.report.systems import Contender, Files, Lot, Seed, answers_of, read_history, sweep_of
from prvr.train.run_state import HISTORY

Progress = Callable[[str, int, int], None]
NAME_IT = "they need the model: name the folder of its training run in place of the kept answers"
# Of cosines that are summed in another order.
NOISE = 1e-4


@runtime_checkable
class Scorer(Protocol):
    """Asks the student of a training run's folder, where the page is made beside the data."""

    def run(self, folder: Path) -> SavedScores: ...

    def branches(self, folder: Path) -> tuple[SavedScores, SavedScores] | None:
        """The answers of each of its two branches alone; None if it has not two."""
        ...

    def profiles(self, folder: Path, queries: Sequence[str]) -> dict[str, Profile]: ...

    def teacher_profiles(self, name: str, queries: Sequence[str], *, split: str) -> dict[str, Profile]:
        """Those of a teacher alone, by its frames."""
        ...


def read_contenders(lots: Sequence[Lot], scorer: Scorer | None, *, on_progress: Progress) -> list[Contender]:
    """Every system with what its files, or the scorer where these lack it, tell.

    Raises:
        DataError, ModelError: a file is broken, or does not fit the data.
        SettingError: two systems have one name.
    """
    total, done, seeds = sum(len(lot.files) for lot in lots), 0, list[list[Seed]]()
    for lot in lots:
        seeds.append([])
        for files in lot.files:
            on_progress(f"{lot.name}, {files.label}", done, total)
            seeds[-1].append(_read(files, scorer))
            done += 1
    names = _names(lots, seeds)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingError(
            f"two systems are called {twice!r}; tell them apart: NAME=RUN, or NAME=RUN,RUN if they are seeds of one"
        )
    return [Contender(name, tuple(its)) for name, its in zip(names, seeds, strict=True)]


def in_order(contenders: Sequence[Contender], *, baseline: str = "", rival: str = "") -> list[Contender]:
    """The baseline first and its rival next; both are the first ones where they are not named.

    Raises:
        SettingError: no system has that name, it has no answers, or one is to be both.
    """
    names = [one.name for one in contenders]
    for name in (baseline, rival):
        if name and name not in names:
            raise SettingError(f"no system is called {name!r}; {nearest(name, names)}")
        if name and not contenders[names.index(name)].answers:
            raise SettingError(f"{name!r} has no answers to hold beside others; keep them with {SAVE}, or {GIVE}")
    if baseline and baseline == rival:
        raise SettingError(f"{baseline!r} cannot be held against itself; name another as --rival")
    first = baseline or next(name for name in names if name != rival or len(names) == 1)
    return sorted(contenders, key=lambda one: (one.name != first, one.name != rival))


def build(contenders: Sequence[Contender], scorer: Scorer | None = None, *, resamples: int = RESAMPLES) -> list[Section]:
    """All sections about the runs themselves; the first contender is the baseline, the next one its rival.

    Raises:
        DataError: the runs answered other queries, or over other galleries.
    """
    there = [one for one in contenders if one.answers]
    ranked = {one.name: [its.ranked for its in one.answers] for one in there}
    comparison = compare(ranked, resamples=resamples) if len(there) > 1 else None
    sections = [
        figures.systems(contenders, comparison, resamples=resamples, asked=scorer is not None),
        training.curves(contenders),
        training.sweep(contenders, asked=scorer is not None),
        figures.ratios(contenders),
        *probabilities.probabilities(contenders),
    ]
    if there:
        shown = there[min(1, len(there) - 1)]
        profiles, lacking = _profiles(shown, scorer)
        sections.append(answers.best_and_worst(shown, profiles, lacking=lacking))
    if len(there) > 1:
        sections.append(answers.side_by_side(there[0], there[1]))
    return sections


def _read(files: Files, scorer: Scorer | None) -> Seed:
    folder = files.folder
    history = read_history(folder / HISTORY) if folder is not None and (folder / HISTORY).is_file() else None
    asked = scorer if folder is not None and (folder / CONFIG).is_file() else None
    run = load_scores(files.run) if files.run is not None else None
    try:
        sweep = None if files.branches is None else sweep_of(*map(load_scores, files.branches))
    except DataError as problem:
        raise DataError(f"{folder}: {problem}") from None
    if asked is not None and folder is not None:
        run = asked.run(folder) if run is None else run
        branches = asked.branches(folder) if sweep is None else None
        sweep = sweep_of(*branches) if branches is not None else sweep
    return Seed(files, history or None, None if run is None else answers_of(run, name=str(files.run or folder)), sweep)


def _names(lots: Sequence[Lot], seeds: Sequence[Sequence[Seed]]) -> list[str]:
    """What the runs of `prvr reproduce` call themselves, where no other of them has that name; else as they are given."""
    told = [
        next((seed.answers.system for seed in its if seed.answers and seed.answers.system), lot.name)
        if lot.reproduced
        else lot.name
        for lot, its in zip(lots, seeds, strict=True)
    ]
    own = [(lot.prefix, name) for lot, name in zip(lots, told, strict=True)]
    names = [name if own.count((lot.prefix, name)) == 1 else lot.name for lot, name in zip(lots, told, strict=True)]
    return [f"{lot.prefix}: {name}" if lot.prefix else name for lot, name in zip(lots, names, strict=True)]


def _profiles(shown: Contender, scorer: Scorer | None) -> tuple[Mapping[str, Profile] | None, str]:
    """The profiles of the queries that are shown, or why there are none."""
    folders = [seed.files.folder for seed in shown.seeds if seed.files.folder is not None and seed.answers is not None]
    folder = next((folder for folder in folders if (folder / CONFIG).is_file()), None)
    if folder is None:
        return _of_teacher(shown, scorer)
    if scorer is None:
        return None, f"they need the features; {GIVE}"
    try:
        return scorer.profiles(folder, answers.chosen(shown)), ""
    except DataError as problem:
        raise DataError(f"{folder}: {problem}") from None


def _of_teacher(shown: Contender, scorer: Scorer | None) -> tuple[Mapping[str, Profile] | None, str]:
    """The same for kept answers: those of a teacher alone name it, and nothing else is needed to ask it again."""
    its = shown.answers[0]
    if scorer is None:
        return None, f"{NAME_IT}; of a teacher alone, {GIVE}"
    if not its.system:
        return None, NAME_IT
    chosen = answers.chosen(shown)
    try:
        found = scorer.teacher_profiles(its.system, chosen, split=its.split)
    except (DataError, SettingError) as problem:
        return None, f"{NAME_IT}; they are not those of a teacher alone, either: {problem}"
    kept = dict(zip(its.ranked.queries, its.scores.tolist(), strict=True))
    if any(abs(max(found[id].relevance) - kept[id]) > NOISE for id in chosen):
        return None, f"{NAME_IT}; the best frames of the teacher {its.system!r} score otherwise"
    return found, ""
