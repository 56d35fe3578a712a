"""Presets of MS-SL and what followed it: the settings of the released code, collection by collection."""

from __future__ import annotations

import pytest

from prvr.train.presets import PRESETS, preset

# lr, dropout, margin, hard_from_epoch, weights of the contrastive losses of clips and frames; then what the method has besides:
# weight and margin of diversity, temperature of consolidation, weight of matching.
PUBLISHED: dict[str, tuple[float | None, ...]] = {
    "ms-sl/tvr": (2.5e-4, 0.1, 0.1, 20, 0.02, 0.04),
    "ms-sl/activitynet": (2.5e-4, 0.1, 0.2, 20, 0.02, 0.04),
    "ms-sl/charades": (2.5e-4, 0.1, 0.2, 20, 0.02, 0.04),
    "ms-sl++/tvr": (2.5e-4, 0.1, 0.1, 20, 0.02, 0.03),
    "ms-sl++/activitynet": (2.5e-4, 0.1, 0.2, 20, 0.02, 0.03),
    "ms-sl++/charades": (2.5e-4, 0.1, 0.2, 20, 0.02, 0.03),
    "gmmformer/tvr": (3e-4, 0.2, 0.1, 30, 0.05, 0.04, 0.001, 0.15),
    "gmmformer/activitynet": (2.5e-4, 0.2, 0.2, 20, 0.02, 0.04, 0.015, 0.2),
    "gmmformer/charades": (2.5e-4, 0.15, 0.2, 100, 0.02, 0.02, 0.005, 0.15),
    "gmmformer-v2/tvr": (3e-4, 0.2, 0.1, 20, 0.05, 0.04, 8e-5, 0.15, 0.09, 0.09),
    "gmmformer-v2/activitynet": (2.5e-4, 0.31, 0.2, 20, 0.02, 0.04, 0.003, 0.2, 0.6, 0.11),
    "gmmformer-v2/charades": (2e-4, 0.25, 0.2, 20, 0.02, 0.04, 0.003, 0.2, 0.6, 0.1),
    "hlformer/tvr": (3e-4, 0.2, 0.1, 20, 0.05, 0.04, 8e-5, 0.15, 0.09),
    "hlformer/activitynet": (2.5e-4, 0.31, 0.2, 20, 0.02, 0.04, 0.003, 0.2, 0.6),
    "hlformer/charades": (2e-4, 0.25, 0.2, 20, 0.02, 0.04, 0.003, 0.2, 0.6),
    "holmes/tvr": (3e-4, 0.2, 0.1, 20, 0.05, 0.04, 8e-5, 0.15, 0.09),
    "holmes/activitynet": (2.5e-4, 0.31, 0.2, 20, 0.02, 0.04, 0.003, 0.2, 0.6),
    "holmes/charades": (2e-4, 0.25, 0.2, 20, 0.02, 0.04, 0.003, 0.2, 0.6),
    "holmes-dual/tvr": (3e-4, 0.2, 0.1, 20, 0.05, 0.04, 8e-5, 0.15, 0.09),
    "dreamprvr/tvr": (3e-4, 0.2, 0.1, 20, 0.05, 0.04, 8e-5, 0.15, 0.09),
    "dreamprvr/activitynet": (2.5e-4, 0.31, 0.2, 20, 0.02, 0.04, 0.003, 0.2, 0.6),
    "dreamprvr/charades": (2e-4, 0.25, 0.2, 20, 0.02, 0.04, 0.003, 0.2, 0.6),
    "gmmformer-v2+ral/tvr": (3e-4, 0.2, 0.1, 20, 0.05, 0.04, 8e-5, 0.15, 0.09, 0.09),
    "gmmformer-v2+ral/activitynet": (2.5e-4, 0.31, 0.2, 20, 0.02, 0.04, 0.003, 0.2, 0.6, 0.11),
}
NAMES = (
    "dropout",
    "margin",
    "hard_from_epoch",
    "clip_nce_weight",
    "frame_nce_weight",
    "diversity_weight",
    "diversity_margin",
    "consolidation_temperature",
    "matching_weight",
)
# seed, epochs, patience, weight of the frames' score
TRAINING = {
    "ms-sl/": (2018, 100, 10, 0.3),
    "ms-sl/charades": (2018, 100, 10, 0.5),
    "ms-sl++/": (2018, 100, 20, 0.3),
    "gmmformer/": (9527, 100, 10, 0.3),
    "gmmformer-v2/": (9527, 100, 10, 0.3),
    "hlformer/": (0, 100, 10, 0.3),
    "holmes/tvr": (0, 100, 20, 0.4),
    "holmes/activitynet": (0, 100, 10, 0.4),
    "holmes/charades": (0, 100, 20, 0.4),
    "holmes-dual/tvr": (0, 150, 20, 0.5),
    "dreamprvr/tvr": (0, 150, 20, 0.5),
    "dreamprvr/activitynet": (0, 100, 10, 0.4),
    "dreamprvr/charades": (0, 100, 10, 0.4),
    "gmmformer-v2+ral/tvr": (9527, 150, 15, 0.5),
    "gmmformer-v2+ral/activitynet": (9527, 100, 10, 0.4),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_those_of_the_released_code(name: str) -> None:
    recipe, (lr, *values) = preset(name), PUBLISHED[name]
    settings, training = recipe.settings, recipe.training
    assert (training.lr, training.batch_videos, training.weight_decay, training.warmup) == (lr, 128, 0.01, 0.01)
    assert [getattr(settings, key) for key in NAMES[: len(values)]] == values
    assert settings.input_dropout == settings.dropout
    assert (settings.hidden, settings.heads, settings.max_words, settings.max_frames, settings.clips) == (384, 4, 30, 128, 32)
    assert settings.negative_pool == 20
    usual = TRAINING.get(name) or TRAINING[name.partition("/")[0] + "/"]
    assert (training.seed, training.epochs, training.patience, settings.frame_weight) == usual


OWN_DATA = ("gmmformer", "gmmformer-v2", "hlformer", "holmes", "holmes-dual", "dreamprvr")


@pytest.mark.parametrize("name", [name for name in PRESETS if name.partition("/")[0] in OWN_DATA])
def test_presets_for_own_data_leave_out_padding_and_company(name: str) -> None:
    settings, published = preset(name).settings, name in PUBLISHED
    assert getattr(settings, "padding_counts", published) == published
    assert getattr(settings, "window_length", "batch" if published else "max_frames") == ("batch" if published else "max_frames")


# Weight and temperature of evidence, then of transport; registers, then weight and temperature of query similarity.
HOLMES = {
    "holmes/tvr": (0.2, 0.05, 0.8, 0.06),
    "holmes/activitynet": (0.06, 0.04, 1e-4, 0.08),
    "holmes/charades": (0.06, 0.08, 9e-4, 0.08),
    "holmes-dual/tvr": (0.01, 0.2, 0.1, 0.04),
}
DREAMPRVR = {
    "dreamprvr/tvr": (8, 0.01, 0.09),
    "dreamprvr/activitynet": (4, 0.01, 0.08),
    "dreamprvr/charades": (6, 0.002, 0.01),
}


@pytest.mark.parametrize("name", HOLMES)
def test_what_holmes_has_besides(name: str) -> None:
    ours = preset(name).settings
    weights = (ours.evidence_weight, ours.evidence_temperature, ours.transport_weight, ours.transport_temperature)
    assert weights == HOLMES[name]
    assert (ours.warmup_epochs, ours.partition_share, ours.soft_share, ours.soft_temperature) == (20, 0.3, 0.2, 1.0)
    assert (ours.coupling_temperature, ours.dustbin_share, ours.transport_rounds, ours.evidence_prior) == (0.1, 0.3, 50, 0)
    assert ours.widths == (0, 0.5, 1, 2, 4, 8, 16, 32)


@pytest.mark.parametrize("name", DREAMPRVR)
def test_what_dreamprvr_has_besides(name: str) -> None:
    ours = preset(name).settings
    assert (ours.registers, ours.similarity_weight, ours.similarity_temperature) == DREAMPRVR[name]
    assert (ours.steps, ours.kl_weight, ours.diffusion_weight, ours.time_code) == (10, 1e-4, 1e-3, "noise")
    assert ours.widths == (0, 0.25, 0.5, 1, 2, 4, 8, 16)


def test_the_settings_of_rals_readme_stand_beside_those_of_its_code() -> None:
    readme, code = (preset(f"gmmformer-v2+ral{which}/tvr") for which in ("-readme", ""))
    assert (readme.training.lr, readme.training.epochs) == (1e-4, 100)
    assert (readme.settings.alignment_weight, readme.settings.proxy_weight) == (1e-3, 4e-3)
    assert (code.settings.alignment_weight, code.settings.proxy_weight, code.settings.proxies) == (2.5e-4, 4e-3, 6)
