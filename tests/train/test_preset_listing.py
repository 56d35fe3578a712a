"""`prvr presets`: every preset with its paper, its published figures and what it needs."""

from __future__ import annotations

import pytest
from commands import Prvr, says

from prvr.errors import SettingError
from prvr.papers.tables import PEERS, TABLES
from prvr.train.presets import PRESETS, preset
from prvr.train.presets.listing import describe, find_presets
from prvr.train.presets.published import DIFFERENCES, FIGURES, PAPERS, REMARKS, TRAINED_OTHERWISE


def test_every_figure_belongs_to_a_preset_of_a_paper() -> None:
    assert FIGURES.keys() | REMARKS.keys() <= PRESETS.keys()
    bases = {name.partition("/")[0] for name in PRESETS}
    assert PAPERS.keys() <= bases
    assert all(name.partition("/")[0] in PAPERS for name in FIGURES)


@pytest.mark.parametrize("name", [name for name, figures in FIGURES.items() if len(figures) == 5])
def test_recalls_sum_to_sumr(name: str) -> None:
    *recalls, sumr = FIGURES[name].values()
    # Each is rounded to a tenth.
    assert sum(recalls) == pytest.approx(sumr, abs=4 * 0.05 + 0.051)
    assert recalls == sorted(recalls)


def test_presets_that_no_paper_has_stand_without_figures() -> None:
    for name in PRESETS:
        base, _, collection = name.partition("/")
        if base in ("ms-sl+dynamic", "gmmformer-v2+soft", "prvr-best", "no-distillation") or collection in ("", "toy", "montage"):
            assert not describe(name).figures


def test_where_sources_disagree_both_are_presets_and_one_has_the_figure() -> None:
    script, by_name = describe("dl-dkd/activitynet"), describe("dl-dkd-checkpoint/activitynet")
    assert script.figures["SumR"] == 147.6
    assert not by_name.figures
    assert by_name.distillation["distillation_decay"] == "saturating"
    code, readme = describe("gmmformer-v2+ral/tvr"), describe("gmmformer-v2+ral-readme/tvr")
    assert code.figures["SumR"] == 198.8
    assert not readme.figures
    assert code.name in (readme.remark or "")
    assert code.training["lr"] != readme.training["lr"]


def test_a_preset_that_differs_says_so_first_and_has_figures_only_if_it_computes_the_same(prvr: Prvr) -> None:
    bases = {name.partition("/")[0] for name in PRESETS}
    assert DIFFERENCES.keys() <= bases | PRESETS.keys()
    assert TRAINED_OTHERWISE.keys() <= bases
    for name in ("hgr/tvr", "dual-encoding/msrvtt", "dual-encoding++/msrvtt", "rivrl+bert/msrvtt"):
        assert name in FIGURES
        assert not describe(name).figures
        assert describe(name).differs
    for name in ("xml/tvr", "dual-encoding+vocabulary/msrvtt", "teachtext/didemo"):
        assert describe(name).figures
        assert describe(name).differs
    for base in ("dl-dkd", "dl-dkd++", "ms-sl", "ms-sl++", "gmmformer", "gmmformer-v2", "hlformer", "gmmformer-v2+ral"):
        assert describe(f"{base}/tvr").differs is None
    first = prvr("presets", "hgr/tvr").out.splitlines()[0]
    assert first.startswith("hgr/tvr: HGR: Chen et al., CVPR 2020; TVR, but its graphs are of a dependency parse")
    listed = prvr("presets", "tvr").out
    assert "hgr/tvr *" in listed
    assert "35.2" not in listed


def test_a_description_has_the_settings_that_are_trained_with() -> None:
    for name in ("hlformer/charades", "dl-dkd++/tvr", "teachtext/msvd"):
        recipe, described = preset(name), describe(name)
        assert described.settings == vars(recipe.settings)
        assert described.training == vars(recipe.training)
        assert described.distillation == (vars(recipe.distillation) if recipe.distillation.active else {})


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("dl-dkd++/tvr", ["3072", "--teacher clip_vit_b32"]),
        ("dl-dkd", ["captions.jsonl", "--teacher NAME"]),
        ("hgr/tvr", ["roles:"]),
        ("rivrl+bert/msrvtt", ["ids:", "1024 columns beside the words"]),
        ("gmmformer/activitynet", ["--clips 32"]),
        ("teachtext/msrvtt", ["--teacher-run", "7 experts"]),
        ("prvr-best/tvr", ["NAME+TEACHER"]),
    ],
)
def test_what_a_preset_needs_is_said(name: str, needs: list[str]) -> None:
    said = "; ".join(describe(name).needs)
    assert all(need in said for need in needs)


def test_tables_print_the_same_figures() -> None:
    assert PEERS["hlformer"].published["tvr"] == (15.7, 37.1, 48.5, 86.4, 187.7)
    rows = {row.name: row for row in TABLES["main"].rows}
    assert rows["DL-DKD++"].published["charades"] == (1.9, 7.1, 12.3, 49.8, 71.1)
    assert "charades" not in rows["DL-DKD"].published
    assert PEERS["gmmformer-v2+ral"].published.keys() == {"tvr", "activitynet"}


def test_the_command_lists_and_shows(prvr: Prvr) -> None:
    listed = prvr("presets").out
    assert all(name in listed for name in PRESETS)
    tvr = prvr("presets", "tvr").out
    assert "GMMFormer v2: Wang et al., arXiv 2024" in tvr
    assert "16.2/37.6/48.8/86.4 SumR 189.1" in tvr
    assert "/charades" not in tvr
    whole = prvr("presets", "gmmformer-v2/charades").out
    assert "published: 2.5/8.6/13.9/53.2 SumR 78.2" in whole
    assert "matching_weight=0.1\n" in whole
    assert "gmmformer-v2/tvr" in whole
    (value,) = prvr("presets", "ms-sl/tvr", "--json").json
    assert value["training"]["seed"] == 2018
    assert value["remark"] == "the README beside the code prints SumR 172.3"


def test_an_unknown_name_has_a_nearest_one(prvr: Prvr) -> None:
    with pytest.raises(SettingError, match=r"unknown preset 'gmformer'; did you mean 'gmmformer'\?"):
        find_presets("gmformer")
    says(prvr("presets", "tvrr"), "unknown preset 'tvrr'; did you mean 'tvr'?")
