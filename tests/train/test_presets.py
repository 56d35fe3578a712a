"""Presets: the settings of the released code, collection by collection."""

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


# lr, epochs, batch, seed, patience, weight decay (None: not published), then settings of the method.
BASELINES: dict[str, tuple[tuple[float | None, ...], dict[str, object]]] = {
    "xml": (
        (1e-4, 100, 128, 2018, 10, 0.01),
        {"hidden": 256, "heads": 4, "dropout": 0.1, "input_dropout": 0.1, "margin": 0.1, "max_frames": 100, "max_words": 30}
        | {"sampling": "first", "hard_from_epoch": 20, "negative_pool": 20, "ranking_loss": "hinge"},
    ),
    "reloclnet": (
        (1e-4, 100, 128, 2018, 10, 0.01),
        {"hidden": 384, "heads": 8, "dropout": 0.1, "input_dropout": 0.1, "margin": 0.1, "max_frames": 128, "max_words": 30}
        | {"sampling": "mean", "hard_from_epoch": 20, "negative_pool": 20, "video_contrast_weight": 0.03},
    ),
    "dual-encoding": (
        (1e-4, 50, 128, None, 10, 0.0),
        {"hidden": 2048, "frame_gru": 1024, "word_gru": 512, "filters": 512, "dropout": 0.2, "margin": 0.2, "word_vectors": 500}
        | {"frame_kernels": (2, 3, 4, 5), "word_kernels": (2, 3, 4)},
    ),
    "dual-encoding++": (
        (1e-4, 50, 128, None, 10, 0.0),
        {"latent": 1536, "concepts": 512, "latent_weight": 0.6, "frame_gru": 512, "word_gru": 512, "filters": 512, "dropout": 0.2}
        | {"margin": 0.2, "concept_margin": 0.2, "least_said": 2, "frame_kernels": (2, 3, 4, 5), "word_kernels": (2, 3, 4)},
    ),
    "rivrl": (
        (1e-4, 50, 128, None, 10, 0.0),
        {"latent": 1024, "concepts": 512, "latent_weight": 0.6, "frame_gru": 512, "word_gru": 512, "filters": 512, "dropout": 0.2}
        | {"feed_forward_dropout": 0.1, "segment_widths": (3,), "segment_strides": (2,), "segment_filters": 2048}
        | {"attention": 512, "word_kernels": (2, 3, 4), "margin": 0.2, "concept_margin": 0.2, "least_said": 2},
    ),
    "hgr": (
        (1e-4, 50, 64, None, 50, 0.0),
        {"hidden": 1024, "layers": 1, "max_frames": 20, "max_words": 30, "dropout": 0.5, "word_dropout": 0.2}
        | {"frame_dropout": 0.2, "sharpness": 4.0, "margin": 0.2, "hardest": 1},
    ),
}
# Experts, clusters and ghosts of words, clusters of sound and of speech, their tokens, words, margin, batch, epochs.
TEACHTEXT = {
    "msrvtt": (7, 28, 1, 8, 19, 29, 32, 37, 0.09381161988446174, 64, 100),
    "msvd": (5, 12, 0, None, None, None, None, 30, 0.30764700456522676, 16, 300),
    "didemo": (7, 8, 0, 16, 55, 23, 48, 48, 0.16642835966287484, 64, 30),
    "lsmdc": (7, 43, 0, 3, 5, 11, 35, 36, 0.12132983763957966, 256, 15),
    "activitynet-paragraphs": (7, 39, 0, 6, 100, 4, 29, 49, 0.060496613740311816, 32, 150),
}
# lr, margin, dropout, epochs, seed.
DL_DKD = {
    "dl-dkd++/tvr": (3e-4, 0.1, 0.2, 120, 9527),
    "dl-dkd++/activitynet": (2.5e-4, 0.2, 0.25, 120, 9527),
    "dl-dkd++/charades": (2.4e-4, 0.2, 0.15, 120, 9527),
    "dl-dkd/tvr": (2.5e-4, 0.1, 0.1, 100, 2018),
    "dl-dkd/activitynet": (2.5e-4, 0.2, 0.1, 100, 2018),
    "dl-dkd-checkpoint/activitynet": (2.5e-4, 0.2, 0.1, 100, 2018),
}
PUBLISHED_FOR = [
    name for name in PRESETS if name.partition("/")[0] in BASELINES and name.partition("/")[2] not in ("", "toy", "montage")
]


@pytest.mark.parametrize("name", PUBLISHED_FOR)
def test_settings_of_the_baselines(name: str) -> None:
    (lr, epochs, batch, seed, patience, decay), settings = BASELINES[name.partition("/")[0]]
    recipe = preset(name)
    training = recipe.training
    assert (training.lr, training.epochs, training.batch_videos) == (lr, epochs, batch)
    assert (training.patience, training.weight_decay) == (patience, decay)
    assert seed is None or training.seed == seed
    assert {key: getattr(recipe.settings, key) for key in settings} == settings


@pytest.mark.parametrize("name", ["dual-encoding+vocabulary/msrvtt", "dual-encoding++/msrvtt", "rivrl/msrvtt"])
def test_what_the_authors_report_on_msrvtt_was_read_as_it_is(name: str) -> None:
    settings = preset(name).settings
    assert (settings.unit, settings.max_frames, settings.sequence_frames, settings.vocabulary) == (False, None, 64, 7811)


@pytest.mark.parametrize("collection", TEACHTEXT)
def test_settings_of_teachtext(collection: str) -> None:
    experts, clusters, ghosts, sound, speech, first, second, words, margin, batch, epochs = TEACHTEXT[collection]
    student, taught = preset(f"collaborative-experts/{collection}"), preset(f"teachtext/{collection}")
    settings, training = student.settings, student.training
    assert (taught.settings, taught.training) == (settings, training)
    assert (len(settings.experts), settings.clusters, settings.ghost_clusters) == (experts, clusters, ghosts)
    assert (settings.max_words, settings.margin, settings.hidden, settings.reads_padding) == (words, margin, 768, True)
    if sound is not None:
        assert settings.expert_clusters == (sound, 0, 0, 0, 0, 0, speech)
        assert settings.expert_tokens == (first, 0, 0, 0, 0, 0, second)
    assert (training.batch_videos, training.epochs, training.lr, training.weight_decay) == (batch, epochs, 1e-3, 1e-5)
    assert training.patience >= epochs
    distilled = taught.distillation
    assert (distilled.distillation_loss, distilled.distillation_target) == ("huber", "batch_matrix")
    assert (distilled.distillation_weight, distilled.distillation_decay) == (1.0, "fixed")


@pytest.mark.parametrize("name", DL_DKD)
def test_settings_of_dl_dkd(name: str) -> None:
    recipe, (lr, margin, dropout, epochs, seed) = preset(name), DL_DKD[name]
    settings, training, distillation = recipe.settings, recipe.training, recipe.distillation
    assert (training.lr, training.epochs, training.seed, training.patience) == (lr, epochs, seed, 10)
    assert (settings.margin, settings.dropout, settings.input_dropout) == (margin, dropout, dropout)
    assert settings.shared_query_projection == (not name.startswith("dl-dkd++"))
    assert (distillation.soft_targets == "teacher") == name.startswith("dl-dkd++")
    by_name = name.startswith("dl-dkd-checkpoint")
    assert (distillation.distillation_weight, distillation.distillation_decay) == (
        (1.0, "saturating") if by_name else (0.1, "exponential")
    )
