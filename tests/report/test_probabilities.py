"""The section of a report about probabilities, beside what `prvr evaluate` says of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prvr.evaluate.reliability import Judged, judge, reliability
from prvr.evaluate.saved_scores import save_scores
from prvr.methods.calibration import Calibration
from prvr.report.build import build
from prvr.report.page import write_page
from prvr.report.probabilities import _risk, _share_right
from tests.report.test_build import Page, a_run, systems_of


def test_probabilities_are_judged_as_evaluate_judges_them(tmp_path: Path) -> None:
    calibration = Calibration(-4.0, 2.0, 1.0, 0.1, "dev", 60, 12)
    seeds = [a_run(1, calibration=calibration), a_run(2, calibration=calibration)]
    itself = a_run(3, calibration=replace(calibration, split="test"))
    for name, run in {"a": seeds[0], "b": seeds[1], "none": a_run(0), "itself": itself}.items():
        save_scores(run, tmp_path / f"{name}.npz")
    given = [f"ours={tmp_path / 'a.npz'},{tmp_path / 'b.npz'}", *(str(tmp_path / f"{name}.npz") for name in ("none", "itself"))]
    sections = build(systems_of(*given), resamples=50)
    page, (section,) = Page(write_page("", sections)), [one for one in sections if one.id == "probabilities"]
    lacking, known = section.missing
    assert "No probabilities of “none”" in lacking
    assert "--calibrate DEV.npz" in lacking
    assert known == "Fitted on the split that is reported, so too good: “itself”."
    (head, ours, last) = page.tables["probabilities"][0]
    assert (ours[:3], last[:3]) == (["ours", "2", "60 queries of dev"], ["itself", "1", "60 queries of test"])
    found = [reliability(judge(calibration, run.scores, run.correct)) for run in seeds]
    for label, values, digits in (
        ("ECE %", [100 * of.ece for of in found], 1),
        ("Brier", [of.brier for of in found], 3),
        ("AURC", [of.aurc for of in found], 3),
        ("best order", [of.aurc_best for of in found], 3),
        ("no order", [of.wrong for of in found], 3),
    ):
        mean, half = sum(values) / 2, abs(values[0] - values[1]) / math.sqrt(2)
        assert ours[head.index(label)] == f"{mean:.{digits}f} ± {half:.{digits}f}"
    assert {"share right over probability", "share wrong over coverage"} <= {a.get("aria-label") for _, a in page.tags}
    assert all(one.id != "probabilities" for one in build(systems_of(str(tmp_path / "none.npz")), resamples=50))


def test_the_risk_of_answers_worked_by_hand() -> None:
    # Two right first hits at 0.9 and 0.6, and two wrong ones at 0.8 and 0.1: of the surest n, 0, 1/2, 1/3 and 2/4 are wrong.
    judged = Judged(np.array([0.9, 0.8, 0.6, 0.1]), np.array([True, False, True, False]), np.array([True, True, True, False]))
    drawn = _risk("x", judged, 0)
    assert list(drawn.x) == [0.25, 0.5, 0.75, 1]
    assert list(drawn.y) == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    # Equal probabilities are one point, which gets a dot to be seen.
    assert _share_right("x", replace(judged, probability=np.full(4, 0.5)), 0).marked == 0
