"""How many parameters the baselines have at the published sizes: counted on the published models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from prvr.encoders.roles import LABEL_COLUMNS
from prvr.methods import open_method
from prvr.methods.dual_encoding import DualEncodingConfig
from prvr.methods.dual_encoding_hybrid import DualEncodingHybridConfig
from prvr.methods.hgr import HgrConfig
from prvr.methods.reloclnet import ReloclnetConfig
from prvr.methods.rivrl import RivrlConfig
from prvr.methods.xml import XmlConfig
from prvr.train.presets import preset

VOCABULARY = 7807 + 4


def made(method: str, settings: Any, frames: int, words: int) -> Any:
    """The model without memory for its weights."""
    with torch.device("meta"):
        return open_method(method).model(settings, frame_columns=frames, word_columns=words)


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize(
    ("frames", "words", "hidden", "expected"),
    [(3072, 768, 256, 1_553_152), (3072, 768, 384, 2_719_104), (1024, 1024, 256, 1_090_816), (1024, 1024, 384, 2_027_392)],
)
def test_xml_without_its_span_head(frames: int, words: int, hidden: int, expected: int) -> None:
    assert count(made("xml", XmlConfig(hidden=hidden), frames, words)) == expected


@pytest.mark.parametrize(("frames", "words", "expected"), [(3072, 768, 4_506_240), (1024, 1024, 3_814_528)])
def test_reloclnet(frames: int, words: int, expected: int) -> None:
    assert count(made("reloclnet", ReloclnetConfig(), frames, words)) == expected


def test_dual_encoding() -> None:
    model = made("dual_encoding", DualEncodingConfig(vocabulary=VOCABULARY), 2048, 1)
    assert count(model.frames, model.frame_mapping) == 46_157_824
    assert count(model.words, model.word_mapping) == 32_978_396
    assert count(model.words.table) == 3_905_500


def test_dual_encoding_hybrid() -> None:
    assert count(made("dual_encoding_hybrid", DualEncodingHybridConfig(vocabulary=VOCABULARY), 4096, 1)) == 69_168_604


@pytest.mark.parametrize(("bert", "expected"), [(0, 113_363_420), (1024, 116_509_148)])
def test_rivrl(bert: int, expected: int) -> None:
    settings = RivrlConfig(vocabulary=VOCABULARY, sentence_columns=bert)
    assert count(made("rivrl", settings, 4096, 1 + bert)) == expected


def test_hgr() -> None:
    model = made("hgr", HgrConfig(vocabulary=5000), 2048, 1 + LABEL_COLUMNS)
    assert count(model.event, model.actions, model.entities, model.pooling) == 6_295_553
    assert count(model.table, model.words, model.word_pooling, model.layers) == 10_248_193 + 300 * 5000
    assert count(model.roles) == 16 * 1024


@pytest.mark.parametrize(
    ("collection", "expected"),
    [
        ("msrvtt", (66_715_771, 137_281_279, 262_731_071)),
        ("msvd", (27_778_445, 49_383_197, 87_791_645)),
        ("didemo", (43_509_997, 63_671_437, 99_513_997)),
        ("lsmdc", (87_221_161, 195_588_901, 388_242_661)),
        ("activitynet-paragraphs", (103_000_029, 201_287_049, 376_019_529)),
    ],
)
def test_collaborative_experts(collection: str, expected: tuple[int, ...]) -> None:
    settings = preset(f"collaborative-experts/{collection}").settings
    counts = [count(made("collaborative_experts", settings, sum(settings.experts), words)) for words in (300, 768, 1600)]
    assert tuple(counts) == expected
