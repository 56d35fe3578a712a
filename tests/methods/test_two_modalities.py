"""Methods that read subtitles beside the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from method_checks import build, check_learns_subtitles, check_subtitles, terms_of, toy_batch
from toy_world import READS, READS_SUBTITLES

from prvr.errors import SettingError
from prvr.methods import BUILT_IN, open_method
from prvr.methods import checkpoint as checkpoints
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.reloclnet import ReloclnetConfig
from prvr.methods.xml import XmlConfig

SIZES = {"hidden": 32, "heads": 2, "max_frames": 16, "dropout": 0.0, "input_dropout": 0.0}
SETTINGS: dict[str, Any] = {
    "xml": XmlConfig(**SIZES, hard_from_epoch=99),
    "reloclnet": ReloclnetConfig(**SIZES, hard_from_epoch=3),
    "dl_dkd": DlDkdConfig(**SIZES, nce_weight=1.0),
}
each = pytest.mark.parametrize("method", SETTINGS)


def test_all_that_take_subtitles_are_here() -> None:
    assert set(SETTINGS) == {name for name in BUILT_IN if open_method(name).subtitles}


@each
def test_what_is_true_of_both_sides(method: str) -> None:
    check_subtitles(method, SETTINGS[method])


@pytest.mark.thorough
def test_learns_what_is_said(tmp_path: Path) -> None:
    check_learns_subtitles("reloclnet", SETTINGS["reloclnet"], tmp_path)


@each
def test_the_pictures_side_is_that_of_the_model_without(method: str) -> None:
    """Its weights have the same names, and without subtitles there are no others."""
    with_them, without = (set(build(method, SETTINGS[method], reads).state_dict()) for reads in (READS_SUBTITLES, READS))
    assert without < with_them


def test_other_methods_take_no_subtitles() -> None:
    settings = open_method("ms_sl").config()
    with pytest.raises(
        SettingError, match=r"ms_sl takes no subtitles; leave out --subtitles, or take one of dl_dkd, reloclnet, xml"
    ):
        checkpoints.build("ms_sl", settings, READS_SUBTITLES)


def test_the_branch_of_dl_dkd_has_its_share_and_no_teacher() -> None:
    model = build("dl_dkd", DlDkdConfig(**SIZES, subtitle_weight=0.25), READS_SUBTITLES)
    assert model.embedding_fields == ("inheritance", "exploration", "subtitles")
    assert model.score_weights == pytest.approx((0.75 * 0.7, 0.75 * 0.3, 0.25))
    batch = toy_batch(model)
    terms, *_ = terms_of("dl_dkd", model, batch)
    assert [name for name in terms if name.startswith("subtitles")] == ["subtitles_triplet", "subtitles_nce"]
    torch.stack([terms["subtitles_triplet"], terms["subtitles_nce"]]).sum().backward()
    moved = {name.split(".")[1] for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved == {"2"}
    with pytest.raises(SettingError, match=r"subtitle_weight is 2\.0"):
        DlDkdConfig(subtitle_weight=2.0)
