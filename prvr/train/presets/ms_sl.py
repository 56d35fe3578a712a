"""MS-SL, MS-SL++, and the methods that followed them: GMMFormer, GMMFormer v2, HLFormer, and RAL on GMMFormer v2.

`tvr`, `activitynet` and `charades` have the settings of the released code. `toy`, and what is derived from it for a user's own
data, leaves out the padding and the company of a video where the released code lets its score depend on them
(docs/decisions/0038).

The README beside RAL's code names other settings than the code (`gmmformer-v2+ral-readme`). The published figures are taken to
belong to those of the code, by a note in its configuration.
"""

from __future__ import annotations

from prvr.train.recipe import Plain, Preset

# MS-SL++ has another contrastive loss of frames, and weighs both branches alike on all collections: its evaluation ignores the
# options of its training.
PLUS: Plain = {"reduced_clips": 32, "frame_nce_weight": 0.03}
# BGM-Net.
MATCHED: Plain = {"own_clip": "assigned", "alignment_weight": 1.0}
SEED_2018: Plain = {"lr": 2.5e-4, "epochs": 100, "seed": 2018}
LONGER: Plain = {**SEED_2018, "patience": 20}
# BGM-Net alone of this family lets the rate fall along a cosine.
COSINE: Plain = {"schedule": "cosine"}

# Shared by the methods that followed.
TVR: Plain = {"margin": 0.1, "clip_nce_weight": 0.05, "frame_nce_weight": 0.04, "diversity_margin": 0.15}
ACTIVITYNET: Plain = {"margin": 0.2, "clip_nce_weight": 0.02, "frame_nce_weight": 0.04, "diversity_margin": 0.2}
# GMMFormer on Charades: negatives are hard from epoch 100 on, that is never.
V1_CHARADES: Plain = {**ACTIVITYNET, "frame_nce_weight": 0.02, "diversity_margin": 0.15, "hard_from_epoch": 100}
# GMMFormer v2 and HLFormer on ActivityNet Captions and on Charades.
LATER: Plain = {**ACTIVITYNET, "consolidation_temperature": 0.6, "diversity_weight": 0.003}
DROPOUT_15: Plain = {"dropout": 0.15, "input_dropout": 0.15}
DROPOUT_20: Plain = {"dropout": 0.2, "input_dropout": 0.2}
DROPOUT_25: Plain = {"dropout": 0.25, "input_dropout": 0.25}
DROPOUT_31: Plain = {"dropout": 0.31, "input_dropout": 0.31}
V2_TVR: Plain = {**TVR, **DROPOUT_20, "matching_weight": 0.09}
V2_ACTIVITYNET: Plain = {**LATER, **DROPOUT_31, "matching_weight": 0.11}
V2_CHARADES: Plain = {**LATER, **DROPOUT_25, "matching_weight": 0.1}
README: Plain = {"clip_nce_weight": 0.05, "frame_nce_weight": 0.05, "proxy_weight": 4e-3, "alignment_weight": 1e-3}

RATE_10: Plain = {"lr": 1e-4, "epochs": 100}
RATE_20: Plain = {"lr": 2e-4, "epochs": 100}
RATE_25: Plain = {"lr": 2.5e-4, "epochs": 100}
RATE_30: Plain = {"lr": 3e-4, "epochs": 100}
SEED_0: Plain = {"seed": 0}
MSC: Plain = {**ACTIVITYNET, "consolidation_temperature": 0.6}

TOY: Plain = {"hidden": 64, "max_frames": 32, "max_words": 12, "clips": 16, "hard_from_epoch": 5}
TOY_VIEWS: Plain = {**TOY, "padding_counts": False}
TOY_TRAINING: Plain = {"epochs": 60, "batch_videos": 32, "patience": 60}
MSC_TOY: Plain = {"hidden": 64, "max_words": 12, "clip_inputs": "unit_rows", "hard_from_epoch": 5}
OWN: Plain = {**TOY, "hidden": 128, "max_frames": 128, "max_words": 30, "clips": 32}
OWN_TRAINING: Plain = {**TOY_TRAINING, "patience": 20}

PRESETS: dict[str, Preset] = {
    "ms-sl/tvr": Preset("ms_sl", {}, SEED_2018),
    "ms-sl/activitynet": Preset("ms_sl", {"margin": 0.2}, SEED_2018),
    "ms-sl/charades": Preset("ms_sl", {"margin": 0.2, "frame_weight": 0.5}, SEED_2018),
    "ms-sl/toy": Preset("ms_sl", TOY, TOY_TRAINING),
    "ms-sl": Preset("ms_sl", OWN, OWN_TRAINING),
    "ms-sl++/tvr": Preset("ms_sl", PLUS, LONGER),
    "ms-sl++/activitynet": Preset("ms_sl", {**PLUS, "margin": 0.2}, LONGER),
    "ms-sl++/charades": Preset("ms_sl", {**PLUS, "margin": 0.2}, LONGER),
    "ms-sl++/toy": Preset("ms_sl", {**TOY, **PLUS}, TOY_TRAINING),
    "ms-sl++": Preset("ms_sl", {**OWN, **PLUS}, OWN_TRAINING),
    "ms-sl+matching/tvr": Preset("ms_sl", MATCHED, {**SEED_2018, **COSINE}),
    "ms-sl+matching/activitynet": Preset(
        "ms_sl", {**MATCHED, "margin": 0.2, "clips": 48, "assigned_from_epoch": 20}, {**SEED_2018, **COSINE}
    ),
    "ms-sl+matching/charades": Preset(
        "ms_sl",
        {**MATCHED, "margin": 0.2, "clips": 48, "assigned_from_epoch": 5, "frame_weight": 0.4},
        {**SEED_2018, **COSINE, "batch_videos": 16},
    ),
    "ms-sl+matching/toy": Preset("ms_sl", {**TOY, **MATCHED}, {**TOY_TRAINING, **COSINE}),
    "ms-sl+matching": Preset("ms_sl", {**OWN, **MATCHED}, {**OWN_TRAINING, **COSINE}),
    "gmmformer/tvr": Preset("gmmformer", {**TVR, **DROPOUT_20, "hard_from_epoch": 30, "diversity_weight": 0.001}, RATE_30),
    "gmmformer/activitynet": Preset(
        "gmmformer", {**ACTIVITYNET, **DROPOUT_20, "hard_from_epoch": 20, "diversity_weight": 0.015}, RATE_25
    ),
    "gmmformer/charades": Preset("gmmformer", {**V1_CHARADES, **DROPOUT_15, "diversity_weight": 0.005}, RATE_25),
    "gmmformer/toy": Preset("gmmformer", {**TOY, "window_length": "max_frames"}, TOY_TRAINING),
    "gmmformer-v2/tvr": Preset("gmmformer_v2", V2_TVR, RATE_30),
    "gmmformer-v2/activitynet": Preset("gmmformer_v2", V2_ACTIVITYNET, RATE_25),
    "gmmformer-v2/charades": Preset("gmmformer_v2", V2_CHARADES, RATE_20),
    "gmmformer-v2/toy": Preset("gmmformer_v2", TOY_VIEWS, TOY_TRAINING),
    "msc-prvr/tvr": Preset("msc", {**TVR, **DROPOUT_20}, RATE_30),
    "msc-prvr/activitynet": Preset("msc", {**MSC, **DROPOUT_31}, RATE_25),
    "msc-prvr/charades": Preset("msc", {**MSC, **DROPOUT_25, "similar_from": 0.85}, RATE_20),
    "msc-prvr/qvhighlights": Preset("msc", {**MSC, **DROPOUT_31, "similar_from": 0.7}, RATE_25),
    "msc-prvr/toy": Preset("msc", MSC_TOY, TOY_TRAINING),
    "msc-prvr": Preset("msc", {**MSC_TOY, "hidden": 128, "max_words": 77}, OWN_TRAINING),
    "hlformer/tvr": Preset("hlformer", {**TVR, **DROPOUT_20}, {**RATE_30, **SEED_0}),
    "hlformer/activitynet": Preset("hlformer", {**LATER, **DROPOUT_31}, {**RATE_25, **SEED_0}),
    "hlformer/charades": Preset("hlformer", {**LATER, **DROPOUT_25}, {**RATE_20, **SEED_0}),
    "hlformer/toy": Preset("hlformer", {**TOY_VIEWS, "lorentz_columns": 31}, TOY_TRAINING),
    "gmmformer-v2+ral/tvr": Preset(
        "ral_gmmformer_v2", {**V2_TVR, "frame_weight": 0.5}, {"lr": 3e-4, "epochs": 150, "patience": 15}
    ),
    "gmmformer-v2+ral/activitynet": Preset("ral_gmmformer_v2", {**V2_ACTIVITYNET, "frame_weight": 0.4}, RATE_25),
    # Not published: GMMFormer v2's settings there, and RAL's on TVR.
    "gmmformer-v2+ral/charades": Preset("ral_gmmformer_v2", {**V2_CHARADES, "frame_weight": 0.5}, RATE_20),
    "gmmformer-v2+ral/toy": Preset("ral_gmmformer_v2", TOY_VIEWS, TOY_TRAINING),
    "gmmformer-v2+ral-readme/tvr": Preset("ral_gmmformer_v2", {**V2_TVR, **README, "frame_weight": 0.5}, RATE_10),
    "gmmformer-v2+ral-readme/activitynet": Preset("ral_gmmformer_v2", {**V2_ACTIVITYNET, **README, "frame_weight": 0.4}, RATE_10),
}
