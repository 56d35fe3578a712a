"""MS-SL and three methods that followed it: GMMFormer, GMMFormer v2 and HLFormer."""

from __future__ import annotations

from prvr.train.recipe import Plain, Preset

# Shared by the three that followed: negatives are hard from epoch 100 on, that is never, on Charades.
TVR: Plain = {
    "margin": 0.1,
    "hard_from_epoch": 30,
    "clip_nce_weight": 0.05,
    "frame_nce_weight": 0.04,
    "diversity_margin": 0.15,
}
ACTIVITYNET: Plain = {
    "margin": 0.2,
    "hard_from_epoch": 20,
    "clip_nce_weight": 0.02,
    "frame_nce_weight": 0.04,
    "diversity_margin": 0.2,
}
CHARADES: Plain = {
    "margin": 0.2,
    "hard_from_epoch": 100,
    "clip_nce_weight": 0.02,
    "frame_nce_weight": 0.02,
    "diversity_margin": 0.2,
}
LATER: Plain = {"consolidation_temperature": 0.6, "diversity_weight": 0.003}
DROPOUT_15: Plain = {"dropout": 0.15, "input_dropout": 0.15}
DROPOUT_20: Plain = {"dropout": 0.2, "input_dropout": 0.2}
DROPOUT_25: Plain = {"dropout": 0.25, "input_dropout": 0.25}
DROPOUT_31: Plain = {"dropout": 0.31, "input_dropout": 0.31}

RATE_20: Plain = {"lr": 2e-4, "epochs": 100}
RATE_25: Plain = {"lr": 2.5e-4, "epochs": 100}
RATE_30: Plain = {"lr": 3e-4, "epochs": 100}
SEED_0: Plain = {"seed": 0}

TOY: Plain = {"hidden": 64, "max_frames": 32, "max_words": 12, "clips": 16, "hard_from_epoch": 5}
TOY_TRAINING: Plain = {"epochs": 60, "batch_videos": 32, "patience": 60}
OWN: Plain = {**TOY, "hidden": 128, "max_frames": 128, "max_words": 30, "clips": 32}
OWN_TRAINING: Plain = {**TOY_TRAINING, "patience": 20}

PRESETS: dict[str, Preset] = {
    # 13.5/32.1/43.4/83.4/172.4
    "ms-sl/tvr": Preset("ms_sl", {}, RATE_25),
    # 7.1/22.5/34.7/75.8/140.1
    "ms-sl/activitynet": Preset("ms_sl", {"margin": 0.2}, RATE_25),
    # 1.8/7.1/11.8/47.7/68.4
    "ms-sl/charades": Preset("ms_sl", {"margin": 0.2, "frame_weight": 0.5}, RATE_25),
    "ms-sl/toy": Preset("ms_sl", TOY, TOY_TRAINING),
    "ms-sl": Preset("ms_sl", OWN, OWN_TRAINING),
    # 13.9/33.3/44.5/84.9/176.6
    "gmmformer/tvr": Preset("gmmformer", {**TVR, **DROPOUT_20, "diversity_weight": 0.001}, RATE_30),
    # 8.3/24.9/36.7/76.1/146.0
    "gmmformer/activitynet": Preset("gmmformer", {**ACTIVITYNET, **DROPOUT_20, "diversity_weight": 0.015}, RATE_25),
    # 2.1/7.8/12.5/50.6/72.9
    "gmmformer/charades": Preset("gmmformer", {**CHARADES, **DROPOUT_15, "diversity_weight": 0.005}, RATE_25),
    "gmmformer/toy": Preset("gmmformer", TOY, TOY_TRAINING),
    # 16.2/37.6/48.8/86.4/189.1
    "gmmformer-v2/tvr": Preset("gmmformer_v2", {**TVR, **DROPOUT_20, "matching_weight": 0.09}, RATE_30),
    # 8.9/27.1/40.2/78.7/154.9
    "gmmformer-v2/activitynet": Preset("gmmformer_v2", {**LATER, **ACTIVITYNET, **DROPOUT_31, "matching_weight": 0.11}, RATE_25),
    # 2.5/8.6/13.9/53.2/78.2
    "gmmformer-v2/charades": Preset("gmmformer_v2", {**LATER, **CHARADES, **DROPOUT_25, "matching_weight": 0.1}, RATE_20),
    "gmmformer-v2/toy": Preset("gmmformer_v2", TOY, TOY_TRAINING),
    # 15.7/37.1/48.5/86.4/187.7
    "hlformer/tvr": Preset("hlformer", {**TVR, **DROPOUT_20}, {**RATE_30, **SEED_0}),
    # 8.7/27.1/40.1/79.0/154.9
    "hlformer/activitynet": Preset("hlformer", {**LATER, **ACTIVITYNET, **DROPOUT_31}, {**RATE_25, **SEED_0}),
    # 2.6/8.5/13.7/54.0/78.7
    "hlformer/charades": Preset("hlformer", {**LATER, **CHARADES, **DROPOUT_25}, {**RATE_20, **SEED_0}),
    "hlformer/toy": Preset("hlformer", TOY, TOY_TRAINING),
}
