"""The papers' tables and figures: what each compares, and what was published.

A row is a change to the settings of DL-DKD or DL-DKD++ on a data set. Published figures are R@1/5/10/100/SumR, or SumR
alone, by collection; their sources are the supplementary material of DL-DKD (ICCV 2023) and the README of its authors'
repository (spec/published-numbers 1.1, spec/methods 2.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from prvr.errors import SettingError, nearest

Figures = tuple[float, ...]
Text = Literal["words", "vectors", "roles"]


@dataclass(frozen=True)
class Row:
    """One system of a table.

    base: the preset that it starts from, `dl-dkd` or `dl-dkd++`; "" for the teacher alone, which learns nothing.
    changes: to the settings of that preset. text: which of the caption features it reads.
    teachers: places of its teachers among those given; None for the first.
    published: what the paper reports for it, by collection.
    """

    name: str
    base: str = "dl-dkd"
    changes: Mapping[str, Any] = field(default_factory=dict)
    text: Text = "words"
    teachers: tuple[int, ...] = (0,)
    published: Mapping[str, Figures] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Rows side by side, each compared with the first one, the reference.

    source: where the paper has it. claim: what the paper reads from it.
    sweep: values of beta at which every row is scored, for the figures; without it a row is scored as it was trained.
    """

    name: str
    title: str
    source: str
    claim: str
    rows: tuple[Row, ...]
    sweep: tuple[float, ...] = ()


NONE = {"soft_targets": False, "distillation_weight": 0.0}
PLAIN = Row("DL-DKD", published={"tvr": (14.4, 34.9, 45.8, 84.9, 179.9), "activitynet": (8.0, 25.0, 37.5, 77.1, 147.6)})
PLUS = Row(
    "DL-DKD++",
    "dl-dkd++",
    published={
        "tvr": (15.3, 36.0, 47.5, 86.0, 184.8),
        "activitynet": (8.3, 25.5, 38.3, 77.8, 149.9),
        "charades": (1.9, 7.1, 12.3, 49.8, 71.1),
    },
)
HYBRID = Row("hybrid", published=PLAIN.published)
TWO_BRANCHES = (
    HYBRID,
    Row("Dual-inheritance", changes={"branches": ("inheritance", "inheritance")}),
    Row("Dual-exploration", changes={"branches": ("exploration", "exploration")}),
)


def _distilled(name: str, target: str, loss: str, tvr: Figures, activitynet: Figures) -> Row:
    changes = {"distillation_target": target, "distillation_loss": loss}
    return Row(name, changes=changes, published={"tvr": tvr, "activitynet": activitynet})


_ALL = (
    Table(
        "main",
        "DL-DKD, DL-DKD++ and what they are measured against",
        "DL-DKD, main results; README of HuiGuanLab/DL-DKD",
        "distillation helps, and soft targets add to it",
        (PLUS, PLAIN, Row("without distillation", changes=NONE), Row("teacher, zero-shot", base="")),
    ),
    Table(
        "decay",
        "Decay of the teacher's weight",
        "DL-DKD, decay strategies (the paper prints no figures that we have; spec/methods 2.1)",
        "a weight that decays beats a fixed one where the teacher is mediocre; exponential is slightly best",
        (
            Row("exponential"),
            *(Row(name, changes={"distillation_decay": name}) for name in ("fixed", "linear", "sigmoid")),
        ),
    ),
    Table(
        "distillation",
        "What is distilled, and with which loss",
        "DL-DKD, supplementary Tables 2 and 3",
        "similarities beat features, KL beats MSE",
        (
            _distilled("similarity, KL", "frame_profile", "kl", *(PLAIN.published[name] for name in ("tvr", "activitynet"))),
            _distilled(
                "similarity, MSE", "frame_profile", "mse", (13.7, 33.4, 44.6, 83.6, 175.4), (6.9, 22.5, 35.3, 77.1, 142.1)
            ),
            _distilled("feature, KL", "feature", "kl", (14.0, 33.3, 44.2, 83.6, 175.0), (6.8, 22.3, 34.6, 75.6, 139.2)),
            _distilled("feature, MSE", "feature", "mse", (13.6, 32.7, 43.9, 83.2, 173.4), (6.6, 22.2, 34.5, 75.7, 138.9)),
        ),
    ),
    Table(
        "branches",
        "One branch, the same twice, or one of each",
        "DL-DKD, branches (no figures that we have) and supplementary Figure 2",
        "hybrid beats two of the same, which beat one; inheritance beats exploration",
        (
            *TWO_BRANCHES,
            Row("inheritance alone", changes={"branches": ("inheritance",)}),
            Row("exploration alone", changes={"branches": ("exploration",)}),
        ),
    ),
    Table(
        "beta",
        "The weight of the second branch at search time",
        "DL-DKD, supplementary Figures 1 and 2",
        "0.3 is best, and the hybrid is ahead of both pairs of equal branches at every weight",
        TWO_BRANCHES,
        sweep=tuple(step / 10 for step in range(11)),
    ),
    Table(
        "soft-targets",
        "One-hot and soft targets",
        "DL-DKD++, abstract (its tables were not at hand)",
        "soft targets that evolve add to distillation",
        (
            PLUS,
            Row("soft, not evolving", "dl-dkd++", {"hard_fraction_decay": "fixed", "mixing_decay": "fixed"}),
            Row("one-hot", "dl-dkd++", {"soft_targets": False}),
            Row("soft, random hard part, detached", "dl-dkd++", {"hard_part": "random", "detach_self_targets": True}),
        ),
    ),
    Table(
        "teachers",
        "One teacher and several",
        "DL-DKD, introduction: single- and multiple-teacher distillation (no figures that we have)",
        "two teachers beat one",
        (
            Row("both teachers", teachers=(0, 1)),
            Row("first teacher", teachers=(0,)),
            Row("second teacher", teachers=(1,)),
            Row("first teacher, zero-shot", base="", teachers=(0,)),
            Row("second teacher, zero-shot", base="", teachers=(1,)),
        ),
    ),
    Table(
        "text",
        "Text backbone",
        "DL-DKD, supplementary Table 4 (SumR)",
        "RoBERTa beats Bi-GRU, which beats the graph",
        (
            Row("RoBERTa", published={"tvr": (179.9,), "activitynet": (147.6,)}),
            Row(
                "Bi-GRU",
                changes={"text_backbone": "bi_gru"},
                text="vectors",
                published={"tvr": (145.1,), "activitynet": (137.3,)},
            ),
            Row("graph", changes={"text_backbone": "graph"}, text="roles", published={"tvr": (103.6,), "activitynet": (125.4,)}),
        ),
    ),
)
TABLES: dict[str, Table] = {table.name: table for table in _ALL}


def table(name: str) -> Table:
    """A table by name.

    Raises:
        SettingError: there is none of that name; the nearest is suggested.
    """
    if name not in TABLES:
        raise SettingError(f"unknown table {name!r}; {nearest(name, TABLES)}")
    return TABLES[name]
