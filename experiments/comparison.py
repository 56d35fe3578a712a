"""Every method on the montage, with the settings of each chosen on the dev split alone: the runs of `prvr reproduce`.

    python SHARED/tools/make_montage.py ROOT [--variant night]
    prvr data convert ROOT/montage PACKED --whole
    python experiments/comparison.py ROOT/montage PACKED OUT [--rows NAME ...] [--seeds 3]

The rows are those of the tables "peers" and "additions", DL-DKD++ with late interaction (late_interaction.py), and wider; with
other --tables, those of the tables alone. For the first seed each row is trained with its preset for EPOCHS epochs, and then with
one change after the other, of which those that raise SumR on dev are kept: contrastive weights of 1 (docs/decisions/0051), the
--weights of the distillation (1), and the --rates, as multiples of the preset's (none). With --rows and --changes nothing is
tried: a row that adds one thing to another takes what was chosen for that.
With what was kept it is trained for the other seeds, and only then scored on test. OUT/chosen.jsonl has a line for each trial,
OUT/scored.jsonl one for each seed of a row; a run that is there already is not trained again, so that the command can be
interrupted. The package of the night montage must be in a folder that is called montage, as must its files.

With --write, nothing is trained: OUT/comparison.md, .json and .png have the rows whose seeds are all scored, compared with the
first of them, and what they cost.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from prvr.config import to_dict
from prvr.datasets.splits import Splits, open_splits
from prvr.errors import nearest
from prvr.evaluate.metrics import retrieval
from prvr.evaluate.saved_scores import SavedScores
from prvr.papers.plan import Materials, Plan
from prvr.papers.row_run import RowRun, recipe_of
from prvr.papers.run import Scored, footprints
from prvr.papers.tables import Row, Table, table
from prvr.papers.write import write_table
from prvr.train.run_state import HISTORY

EPOCHS = 20
TAUGHT = {"soft_targets": "teacher", "distillation_weight": 0.1, "detach_self_targets": False}
# A class has its own defaults: here it is as wide as the other students (`prvr.train.presets`, NAME/montage).
AS_WIDE = {"hidden": 64, "max_frames": 96, "max_words": 24}
LATE = Row("DL-DKD++ with late interaction", "dl-dkd++", {**TAUGHT, **AS_WIDE}, method="experiments.late_interaction:LateDlDkd")
WIDE = Row("DL-DKD++, 128 columns", "dl-dkd++", {"hidden": 128})
TABLES = ["peers", "additions"]


def of_all(row: Row, collection: str) -> tuple[str, ...]:
    """The changes that all rows have: the same number of epochs, to which what depends on it is adapted."""
    recipe = recipe_of(row, collection, ())
    known = {**to_dict(recipe.settings), **to_dict(recipe.distillation), "epochs": EPOCHS, "patience": EPOCHS}
    names = ("epochs", "patience", "hard_from_epoch", "soft_target_epochs")
    return tuple(f"{name}={EPOCHS}" for name in names if known.get(name) is not None)


def candidates(row: Row, collection: str, distillation: list[float], rates: list[float]) -> list[tuple[str, ...]]:
    """The changes to a row's settings that are tried one after the other."""
    recipe = recipe_of(row, collection, ())
    weights = {name: value for name, value in to_dict(recipe.settings).items() if f"_{name}".endswith("_nce_weight")}
    tried = [tuple(f"{name}=1" for name, value in weights.items() if value and value < 1)]
    if recipe.distillation.distillation_weight:
        tried += [(f"distillation_weight={weight:g}",) for weight in distillation]
    return [*filter(None, tried), *((f"lr={recipe.training.lr * rate:g}",) for rate in rates)]


def dev_curve(folder: Path) -> list[float]:
    """SumR on dev after each epoch of a run."""
    return [json.loads(line)["dev"]["sumr"] for line in (folder / HISTORY).read_text().splitlines()]


def note(path: Path, record: dict[str, Any]) -> None:
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if any(one["row"] == record["row"] and one["curve"] == record["curve"] for one in known):
        return
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(json.dumps({key: value for key, value in record.items() if key != "curve"}), flush=True)


def quiet(note: str, done: int, total: int) -> None:
    pass


def choose(run: RowRun, out: Path, given: argparse.Namespace) -> tuple[str, ...]:
    """Returns the changes that raise SumR on dev, after training with each."""
    best, kept = -1.0, of_all(run.row, run.materials.collection)
    if given.changes:
        return (*kept, *given.changes)
    for changes in [(), *candidates(run.row, run.materials.collection, given.weights, given.rates)]:
        trial = replace(run, plan=replace(run.plan, changes=(*kept, *changes)))
        begun = time.process_time()
        trial._train(quiet)
        curve = dev_curve(trial.folder)
        record = {"row": run.row.name, "changes": trial.plan.changes, "sumr": max(curve), "curve": curve}
        note(out / "chosen.jsonl", {**record, "seconds": round(time.process_time() - begun, 1)})
        if max(curve) > best:
            best, kept = max(curve), trial.plan.changes
    return kept


def sumr(scores: SavedScores) -> float:
    return retrieval(scores.scores, scores.own).sumr


def chosen_rows(tables: list[str], names: list[str]) -> list[Row]:
    """The rows of these names, or all of the tables; LATE and WIDE are in no table, and go with the default ones."""
    rows = [row for name in tables for row in table(name).rows]
    own = [row for row in (LATE, WIDE) if tables == TABLES or row.name in names]
    known = {row.name: row for row in (*rows, *own)}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no row {unknown[0]!r} in {', '.join(tables)}; {nearest(unknown[0], known)}")
    return [known[name] for name in names or known]


def written_changes(out: Path, seeds: int) -> dict[str, tuple[str, ...]]:
    """Of each row whose seeds are all scored, the changes with which it was trained."""
    records = [json.loads(line) for line in (out / "scored.jsonl").read_text().splitlines()]
    needed = {record["row"]: seeds if record["curve"] else 1 for record in records}
    done = {name: len({record["seed"] for record in records if record["row"] == name}) for name in needed}
    return {record["row"]: tuple(record["changes"]) for record in records if done[record["row"]] == needed[record["row"]]}


def write(given: argparse.Namespace, every: list[Row], materials: Materials, splits: list[Splits]) -> None:
    """Writes the table of the rows that are done."""
    done, scored = written_changes(given.out, given.seeds), []
    rows = [row for row in every if row.name in done]
    for row in rows:
        seeds = range(given.seeds if row.base else 1)
        changes = done[row.name]
        runs = [RowRun(row, given.out, materials, Plan(given.seeds, changes=changes), splits[n], n) for n in seeds]
        scores = tuple(run.score(quiet) for run in runs)
        scored.append(Scored(row, scores, tuple(run.folder for run in runs), tuple(run.model for run in runs)))
    title = f"Every method on the montage, {EPOCHS} epochs, settings chosen on dev"
    about = Table("comparison", title, "experiments/comparison.py", "distillation helps", tuple(rows), costs=True)
    plan = Plan(given.seeds)
    costs = footprints(scored, materials, plan, on_progress=quiet)
    write_table(about, scored, given.out, materials=materials, plan=plan, command=" ".join(sys.argv), footprints=costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teachers", nargs="*", default=["clip_vit_b32"])
    parser.add_argument("--roles", default="")
    parser.add_argument("--tables", nargs="*", default=TABLES)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--changes", nargs="*", default=[])
    parser.add_argument("--weights", nargs="*", type=float, default=[1.0])
    parser.add_argument("--rates", nargs="*", type=float, default=[])
    given = parser.parse_args()
    if given.changes and not given.rows:
        raise SystemExit("--changes are those of some rows; name them: --rows NAME ...")
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    texts = {"words": "roberta", **({"roles": given.roles} if given.roles else {})}
    materials = Materials(given.data, given.features, "i3d", texts, tuple(given.teachers))
    splits = [open_splits(given.data, protocol="honest", seed=seed) for seed in range(given.seeds)]
    wanted = chosen_rows(given.tables, given.rows)
    if given.write:
        write(given, wanted, materials, splits)
        return
    for row in wanted:
        if reason := materials.missing_for(row):
            print(f"{row.name}: left out, {reason}", flush=True)
            continue
        first = RowRun(row, given.out, materials, Plan(given.seeds), splits[0], 0)
        changes = choose(first, given.out, given) if row.base else ()
        for seed in range(given.seeds if row.base else 1):
            run = RowRun(row, given.out, materials, Plan(given.seeds, changes=changes), splits[seed], seed)
            scores = run.score(quiet)
            record = {"row": row.name, "changes": changes, "seed": seed, "sumr": sumr(scores)}
            curve = dev_curve(run.folder) if row.base else []
            note(given.out / "scored.jsonl", {**record, "folder": str(run.folder.relative_to(given.out)), "curve": curve})


if __name__ == "__main__":
    main()
