"""What the systems of a table cost: counted bytes and parameters, memory and time where something is learned, a picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from packed_toy import packed_toy

from prvr.datasets.splits import open_splits
from prvr.features import open_features
from prvr.methods import checkpoint as checkpoints
from prvr.papers.footprint import Footprint, draw_footprints, footprint_lines
from prvr.papers.plan import Materials, Plan
from prvr.papers.run import footprints, score_rows
from prvr.papers.tables import PLUS, TABLES, Row
from prvr.papers.write import write_table

PLAN = Plan(seeds=2, changes=("hidden=8", "epochs=1", "batch_videos=4"))
ROWS = (
    PLUS,
    Row("one vector", "collaborative-experts", teachers=()),
    Row("teacher", base=""),
    Row("teacher, clips", base="", changes={"parts": "clips_and_frames"}),
    Row("both", "dl-dkd++", experts=(0,), sentences=(0,), fusion="teacher"),
    Row("graph", "hgr", text="roles"),
)


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Materials:
    root = tmp_path_factory.mktemp("footprint")
    package, packed = packed_toy(root, train_videos=16)
    return Materials(package, packed, "toy_frames", {"words": "words"}, ("strong", "second"))


def silent(note: str, done: int, total: int) -> None:
    pass


@pytest.mark.thorough
def test_costs_are_counted(materials: Materials, tmp_path: Path) -> None:
    table = replace(TABLES["peers"], rows=ROWS)
    scored = score_rows(table, tmp_path, materials, PLAN, on_progress=silent)
    costs = footprints(scored, materials, PLAN, on_progress=silent)
    assert list(costs) == ["DL-DKD++", "one vector", "teacher", "teacher, clips", "both"]

    plus, vector, teacher, clips, both = costs.values()
    frames, test = open_features(materials.features / "strong" / "frames"), open_splits(materials.data).test
    lengths, columns = zip(*(frames[id].shape for id in test.video_ids), strict=True)
    assert teacher.index_bytes == round(2 * columns[0] * np.mean(lengths))
    assert clips.index_bytes == round(2 * columns[0] * (np.mean(lengths) + 32))
    assert vector.index_bytes == 2 * 8
    # It keeps what a student of that width keeps, and the teacher's frames, as many as it reads at once.
    assert both.index_bytes == round(plus.index_bytes + 2 * columns[0] * np.mean(np.minimum(lengths, 32)))
    assert both.parameters > plus.parameters
    assert both.training_seconds is not None
    assert checkpoints.load(scored[4].models[0]).sources.frames.name == "toy_frames+strong+strong"
    assert teacher.parameters == 0
    assert teacher.training_bytes is teacher.training_seconds is None
    model = checkpoints.load(scored[0].folders[0]).model
    assert plus.parameters == sum(parameter.numel() for parameter in model.parameters())  # type: ignore[attr-defined]
    histories = [(folder / "history.jsonl").read_text().splitlines() for folder in scored[0].folders]
    assert plus.training_seconds == pytest.approx(np.mean([json.loads(line)["seconds"] for lines in histories for line in lines]))
    assert plus.training_bytes is not None
    assert plus.training_bytes > 4 * plus.parameters
    assert all(cost.query_seconds > 0 for cost in costs.values())

    counted = write_table(table, scored, tmp_path, materials=materials, plan=PLAN, command="c", footprints=costs)
    assert counted.values["costs"]["teacher"]["index_bytes"] == teacher.index_bytes
    text = (tmp_path / "peers.md").read_text()
    assert "graph was left out: it reads caption features of the kind 'roles'" in text
    assert f"| teacher | 0.00 | 0.000 |  |  | {teacher.index_bytes / 1024:.1f} |" in text
    assert "peers.png" in text
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")


def test_figures_have_their_units() -> None:
    cost = Footprint(2_500_000, 3_000_000, 5 * 2**20, 90.0, 2048, 0.004)
    assert footprint_lines({"ours": cost})[-1] == "| ours | 2.50 | 0.003 | 5 | 1.5 | 2.0 | 4.0 |"


def test_systems_that_are_alike_can_be_drawn(tmp_path: Path) -> None:
    cost = Footprint(1, 1, None, None, 100, 0.001)
    draw_footprints({"a": 50.0, "b": 50.0}, {"a": cost, "b": cost}, tmp_path / "p.png", title="t")
    assert (tmp_path / "p.png").stat().st_size > 1000
