"""The papers' tables and figures: what each compares, and the published figures.

A row is a change to the settings of DL-DKD or DL-DKD++ on a data set. Published figures are R@1/5/10/100/SumR, or SumR alone, by
collection: a whole method's from `prvr.train.presets.published`, those of ablations from the supplementary material of DL-DKD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from prvr.errors import SettingError, nearest
from prvr.train.presets.baselines import DYNAMIC, FIXED
from prvr.train.presets.published import figures_of

Figures = tuple[float, ...]
Text = Literal["words", "vectors", "roles"]


@dataclass(frozen=True)
class Row:
    """One system of a table.

    base: the preset that it starts from, such as `dl-dkd` or `dl-dkd++`; "" for the teacher alone, which learns nothing.
    changes: to the settings of that preset, or to its distillation. text: the kind of caption features that it reads.
    teachers: positions of its teachers in the list of teachers. taught_by: rows that are trained first; their scores teach it.
    experts: positions of teachers whose frames it reads beside its own. sentences: the same for their sentences.
    published: the paper's figures for it, by collection.
    fusion: how the test split is scored: "own", by the model; "test_matrix", for a model of two spaces, normalised by minimum and
        maximum of the whole test split; "teacher", with its first teacher beside it (`prvr.train.fusion`); "anchors", re-scored
        as was best on dev (`prvr.evaluate.rescoring`).
    method: a method that takes the place of the preset's, with its default settings (`prvr.train.recipe.with_method`).
    """

    name: str
    base: str = "dl-dkd"
    changes: Mapping[str, Any] = field(default_factory=dict)
    text: Text = "words"
    teachers: tuple[int, ...] = (0,)
    taught_by: tuple[Row, ...] = ()
    experts: tuple[int, ...] = ()
    sentences: tuple[int, ...] = ()
    published: Mapping[str, Figures] = field(default_factory=dict)
    fusion: Literal["own", "test_matrix", "teacher", "anchors"] = "own"
    method: str = ""


@dataclass(frozen=True)
class Table:
    """Rows, each compared with the first one.

    source: its place in the paper. claim: the paper's conclusion from it.
    sweep: values of β at which every row is scored too, for a figure. costs: whether each row's costs are measured and drawn.
    ratios: whether SumR is counted by moment-to-video ratio and drawn.
    """

    name: str
    title: str
    source: str
    claim: str
    rows: tuple[Row, ...]
    sweep: tuple[float, ...] = ()
    costs: bool = False
    ratios: bool = False


_EXPERTS = Row("collaborative experts, no teacher", "collaborative-experts", teachers=())
_OTHER_TEXT = Row("teacher: word vectors", "collaborative-experts", text="vectors", teachers=())
_MORE_EXPERTS = Row("teacher: one expert more", "collaborative-experts", teachers=(), experts=(0,))

NONE = {"soft_targets": "none", "distillation_weight": 0.0}
PLAIN = Row("DL-DKD", published=figures_of("dl-dkd"))
PLUS = Row("DL-DKD++", "dl-dkd++", published=figures_of("dl-dkd++"))
HYBRID = Row("hybrid", published=PLAIN.published)
TWO_BRANCHES = (
    HYBRID,
    Row("Dual-inheritance", changes={"branches": ("inheritance", "inheritance")}),
    Row("Dual-exploration", changes={"branches": ("exploration", "exploration")}),
)


def _distillation_row(name: str, target: str, loss: str, tvr: Figures, activitynet: Figures) -> Row:
    changes = {"distillation_target": target, "distillation_loss": loss}
    return Row(name, changes=changes, published={"tvr": tvr, "activitynet": activitynet})


# The baselines and what followed them, by preset.
_PEERS = {
    "hgr": "HGR",
    "dual-encoding": "Dual Encoding",
    "dual-encoding++": "DE++",
    "rivrl": "RIVRL",
    "xml": "XML",
    "reloclnet": "ReLoCLNet",
    "ms-sl": "MS-SL",
    "ms-sl++": "MS-SL++",
    "gmmformer": "GMMFormer",
    "gmmformer-v2": "GMMFormer v2",
    "hlformer": "HLFormer",
    "holmes": "Holmes",
    "holmes-dual": "Holmes with two queries",
    "dreamprvr": "DreamPRVR",
    "gmmformer-v2+ral": "GMMFormer v2 with RAL",
}
PEERS = {
    base: Row(name, base, text="roles" if base == "hgr" else "words", published=figures_of(base)) for base, name in _PEERS.items()
}


_MAIN = (PLUS, PLAIN, Row("without distillation", changes=NONE), Row("teacher, zero-shot", base=""))
_ALL = (
    Table(
        "main",
        "DL-DKD, DL-DKD++ and their baselines",
        "DL-DKD, main results; README of HuiGuanLab/DL-DKD",
        "distillation helps, and soft targets help further",
        _MAIN,
    ),
    Table(
        "ratio",
        "SumR by moment-to-video ratio",
        "a plot in MS-SL, DL-DKD and their follow-ups (its figures were not available to us)",
        "not available; the plot shows how each system does if a moment is a small part of its video",
        _MAIN,
        ratios=True,
    ),
    Table(
        "decay",
        "Decay of the teacher's weight",
        "DL-DKD, decay strategies (its figures were not available to us)",
        "a weight that decays is better than a fixed one if the teacher is mediocre; exponential is slightly best",
        (
            Row("exponential"),
            *(Row(name, changes={"distillation_decay": name}) for name in ("fixed", "linear", "sigmoid")),
        ),
    ),
    Table(
        "distillation",
        "What is distilled, and with which loss",
        "DL-DKD, supplementary Tables 2 and 3",
        "similarities are better than features, KL is better than MSE",
        (
            _distillation_row(
                "similarity, KL", "frame_profile", "kl", *(PLAIN.published[name] for name in ("tvr", "activitynet"))
            ),
            _distillation_row(
                "similarity, MSE", "frame_profile", "mse", (13.7, 33.4, 44.6, 83.6, 175.4), (6.9, 22.5, 35.3, 77.1, 142.1)
            ),
            _distillation_row("feature, KL", "feature", "kl", (14.0, 33.3, 44.2, 83.6, 175.0), (6.8, 22.3, 34.6, 75.6, 139.2)),
            _distillation_row("feature, MSE", "feature", "mse", (13.6, 32.7, 43.9, 83.2, 173.4), (6.6, 22.2, 34.5, 75.7, 138.9)),
        ),
    ),
    Table(
        "branches",
        "One branch, the same twice, or one of each",
        "DL-DKD, branches (figures not available to us) and supplementary Figure 2",
        "one branch of each kind is better than two of one, which are better than one; inheritance is better than exploration",
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
        "0.3 is best, and the hybrid is better than both pairs of equal branches at every weight",
        TWO_BRANCHES,
        sweep=tuple(step / 10 for step in range(11)),
    ),
    Table(
        "soft-targets",
        "One-hot and soft targets",
        "DL-DKD++, abstract (its tables were not available to us)",
        "soft targets that evolve improve on distillation alone",
        (
            PLUS,
            Row("soft, not evolving", "dl-dkd++", {"hard_fraction_decay": "fixed", "mixing_decay": "fixed"}),
            Row("one-hot", "dl-dkd++", {"soft_targets": "none"}),
            Row("soft, random hard part, detached", "dl-dkd++", {"hard_part": "random", "detach_self_targets": True}),
        ),
    ),
    Table(
        "teachers",
        "One teacher and several",
        "DL-DKD, introduction: single- and multiple-teacher distillation (no figures available to us)",
        "two teachers are better than one",
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
        "RoBERTa is better than Bi-GRU, which is better than the graph",
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
    Table(
        "msrvtt",
        "Dual Encoding with distillation, whole videos",
        "DL-DKD, supplementary Table 1 (MSR-VTT)",
        "distillation also helps whole-video retrieval, and a decaying weight helps more than a fixed one",
        (
            Row("Dual Encoding", "dual-encoding", published=figures_of("dual-encoding")),
            Row("fixed distillation", "dual-encoding", FIXED, published=figures_of("dual-encoding+fixed")),
            Row("dynamic distillation", "dual-encoding", DYNAMIC, published=figures_of("dual-encoding+dynamic")),
        ),
    ),
    Table(
        "teachtext",
        "Teachers with other text features, or with more experts",
        "TeachText (ICCV 2021), main table and more modalities (on its data sets; its tables were not available to us)",
        "teachers with other text encoders improve the student, teachers with more experts too, at no cost at search time",
        (
            _EXPERTS,
            Row("TeachText, two texts", "teachtext", teachers=(), taught_by=(_EXPERTS, _OTHER_TEXT)),
            Row("TeachText, one expert more", "teachtext", teachers=(), taught_by=(_MORE_EXPERTS,)),
            Row("TeachText, both", "teachtext", teachers=(), taught_by=(_EXPERTS, _OTHER_TEXT, _MORE_EXPERTS)),
            _OTHER_TEXT,
            _MORE_EXPERTS,
        ),
    ),
    Table(
        "peers",
        "Every method, its figures and its costs",
        "DL-DKD, Table 4 of each data set, and later papers",
        "a distilled student is better than students that learn alone, and the follow-ups of MS-SL are better than MS-SL",
        (
            PLUS,
            PLAIN,
            Row("DL-DKD without distillation", changes=NONE),
            *PEERS.values(),
            Row("collaborative experts", "collaborative-experts", teachers=()),
            Row("TeachText, one expert more", "teachtext", teachers=(), taught_by=(_MORE_EXPERTS,)),
            Row("MS-SL with dynamic distillation", "ms-sl+dynamic"),
            Row("GMMFormer v2 with soft targets", "gmmformer-v2+soft"),
            Row("DL-DKD++ beside its teacher", "dl-dkd++", fusion="teacher"),
            Row("DL-DKD++, the teacher's features beside its own", "dl-dkd++", experts=(0,), sentences=(0,)),
            Row("prvr-best", "prvr-best", experts=(0,), sentences=(0,), fusion="teacher"),
            Row("zero-shot, best frame", base=""),
            Row("zero-shot, best clip", base="", changes={"parts": "clips"}),
            Row("zero-shot, clips and frames", base="", changes={"parts": "clips_and_frames"}),
            Row("zero-shot, best segment", base="", changes={"parts": "segments"}),
            Row("zero-shot, best segment, propagated", base="", changes={"parts": "propagated"}),
            Row("zero-shot, consensus of segments (TF-PRVR)", base="", changes={"parts": "consensus"}),
        ),
        costs=True,
    ),
    Table(
        "additions",
        "What DL-DKD++ gains by other papers' parts, and other students by dynamic distillation",
        "in no paper",
        "none; a row that is no better than the one it adds to gains nothing",
        (
            PLUS,
            Row(
                "DL-DKD++ with diversity and matching losses",
                "dl-dkd++",
                {"query_diversity_weight": 8e-5, "clip_matching_weight": 0.09},
            ),
            Row("DL-DKD++ with query relations", "dl-dkd++", {"query_relations_weight": 0.1}),
            Row("DL-DKD++ re-scored by anchors", "dl-dkd++", fusion="anchors"),
            PEERS["ms-sl"],
            Row("MS-SL with dynamic distillation", "ms-sl+dynamic"),
            PEERS["gmmformer-v2"],
            Row("GMMFormer v2 with dynamic distillation", "gmmformer-v2", {"distillation_weight": 0.1}),
        ),
    ),
    Table(
        "fusion",
        "How DE++ fuses its two spaces",
        "DE++ (TPAMI 2021), with the figures that the papers of this field report for their data sets",
        "scores of the latent space and of concepts are normalised by minimum and maximum of the whole test split, then added",
        (
            Row("each query calibrated by itself", "dual-encoding++"),
            Row(
                "over the whole test, as published",
                "dual-encoding++",
                published=PEERS["dual-encoding++"].published,
                fusion="test_matrix",
            ),
            Row("latent space alone", "dual-encoding++", {"latent_weight": 1.0}),
        ),
    ),
)
TABLES: dict[str, Table] = {table.name: table for table in _ALL}
# The table without rows that are trained (`papers.costs`).
COMPLEXITY = "complexity"


def table(name: str) -> Table:
    """Returns a table by name.

    Raises:
        SettingError: no table has that name; the nearest name is suggested.
    """
    if name not in TABLES:
        raise SettingError(f"unknown table {name!r}; {nearest(name, (*TABLES, COMPLEXITY))}")
    return TABLES[name]


def with_methods(table: Table, methods: Sequence[str]) -> Table:
    """Returns a table with a row for each of these methods, as registered: the training of DL-DKD++ there, without a teacher.

    Raises:
        SettingError: the table's rows are drawn by the weight of a second branch.
    """
    if methods and table.sweep:
        raise SettingError(f"--method is not for {table.name}, which compares weights of a second branch; take another table")
    own = (Row(method, "dl-dkd++", teachers=(), method=method) for method in dict.fromkeys(methods))
    return replace(table, rows=(*table.rows, *own))
