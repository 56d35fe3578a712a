"""Trains and scores the rows of a table, each over several seeds; a run that was interrupted resumes.

OUT/runs/<row>/seed<n>/ is a training run's folder with the scores of the test split in it: the test split is scored once for each
run, and rows that two tables share are trained once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prvr.datasets.splits import open_splits
from prvr.errors import DataError
from prvr.evaluate.saved_scores import SavedScores
from prvr.papers.footprint import Footprint, footprint
from prvr.papers.plan import Materials, Plan, split_seed
from prvr.papers.row_run import Progress, RowRun
from prvr.papers.tables import Row, Table


@dataclass(frozen=True)
class Scored:
    """A row with its scores on the test split, one file for each seed; or the reason why it was left out.

    folders: of the training runs. models: folders of the checkpoints that were tested.
    branches: for a sweep, the scores of the first branch alone and of the second, one pair for each seed.
    """

    row: Row
    runs: tuple[SavedScores, ...] = ()
    folders: tuple[Path, ...] = ()
    models: tuple[Path, ...] = ()
    branches: tuple[tuple[SavedScores, SavedScores], ...] = ()
    left_out: str = ""


def score_rows(table: Table, out: Path, materials: Materials, plan: Plan, *, on_progress: Progress) -> list[Scored]:
    """Trains and scores every row of a table that is not on disk already.

    Raises:
        DataError, SettingError, ModelError: as `train_student`; or a table by ratio, and no moment is annotated.
    """
    division = [split_seed(materials.data, seed) for seed in range(plan.seeds)]
    splits = [
        open_splits(materials.data, protocol=plan.protocol, seed=seed, annotations=materials.annotations) for seed in division
    ]
    if table.ratios and not any(caption.moments for caption in splits[0].test.captions):
        raise DataError(
            f"{table.name!r} needs the moments of the test captions, and {materials.collection} has none; "
            "name the original annotation files: --annotations DIR"
        )
    scored = []
    for place, row in enumerate(table.rows):
        reason = materials.missing_for(row)
        if reason:
            scored.append(Scored(row, left_out=reason))
            continue
        # The teacher alone learns nothing, so all seeds have the same scores.
        seeds = [RowRun(row, out, materials, plan, its, seed) for seed, its in enumerate(splits if row.base else splits[:1])]
        runs, branches = [], []
        for of_seed in seeds:
            label = f"{place + 1}/{len(table.rows)} {row.name}, seed {of_seed.seed + 1}/{plan.seeds}: "
            runs.append(of_seed.score(_with_prefix(on_progress, label)))
            if table.sweep:
                branches.append(of_seed.score_branches())
        folders, models = tuple(one.folder for one in seeds), tuple(one.model for one in seeds)
        scored.append(Scored(row, tuple(runs), folders, models, tuple(branches)))
    if all(one.left_out for one in scored):
        raise DataError(f"no row of {table.name!r} can be run: {scored[0].left_out}")
    return scored


def footprints(scored: Sequence[Scored], materials: Materials, plan: Plan, *, on_progress: Progress) -> dict[str, Footprint]:
    """Measures the costs of each row that was run.

    Raises:
        DataError, SettingError: as `footprint`.
    """
    splits = open_splits(materials.data, protocol=plan.protocol, seed=0, annotations=materials.annotations)
    found = {}
    for place, one in enumerate(scored):
        if one.left_out:
            continue
        on_progress(f"costs of {one.row.name}", place, len(scored))
        features = materials.features if one.row.base else materials.whole
        found[one.row.name] = footprint(one.models[0], one.folders, features=features, test=splits.test, train=splits.train)
    return found


def _with_prefix(on_progress: Progress, label: str) -> Progress:
    return lambda note, done, total: on_progress(label + note, done, total)
