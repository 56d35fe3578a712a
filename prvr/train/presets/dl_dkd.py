"""DL-DKD and DL-DKD++."""

from __future__ import annotations

from prvr.train.recipe import Plain, Preset

DL_DKD: Plain = {"distillation_weight": 0.1, "detach_self_targets": False}
PLUS: Plain = {**DL_DKD, "soft_targets": "teacher"}

# What the name says that the README gives to the conference version's checkpoint on ActivityNet (docs/decisions/0011).
BY_NAME: Plain = {**DL_DKD, "distillation_weight": 1.0, "distillation_decay": "saturating"}

CONFERENCE: Plain = {"dropout": 0.1, "input_dropout": 0.1, "shared_query_projection": True}
CONFERENCE_TRAINING: Plain = {"lr": 2.5e-4, "epochs": 100, "seed": 2018}

# With the published contrastive weight, .04, a branch without a teacher often learns nothing (docs/decisions/0051).
LEARNS_ALONE: Plain = {"nce_weight": 1.0}

# A user's own folder is small and its captions few: a smaller student, smaller batches, fewer epochs, more patience.
# How these were chosen: LOG.md, 2026-11-21 and 2026-11-29.
OWN: Plain = {"hidden": 128, **LEARNS_ALONE}
OWN_TRAINING: Plain = {"epochs": 60, "batch_videos": 32, "patience": 20}
SHORT: Plain = {"soft_target_epochs": 60}

TOY: Plain = {"hidden": 64, "max_frames": 32, "max_words": 12, **LEARNS_ALONE}
TOY_TRAINING: Plain = {**OWN_TRAINING, "patience": 60}
SHARED: Plain = {"shared_query_projection": True}

PRESETS: dict[str, Preset] = {
    "dl-dkd/tvr": Preset("dl_dkd", {**CONFERENCE, "margin": 0.1}, CONFERENCE_TRAINING, DL_DKD),
    "dl-dkd/activitynet": Preset("dl_dkd", {**CONFERENCE, "margin": 0.2}, CONFERENCE_TRAINING, DL_DKD),
    "dl-dkd-checkpoint/activitynet": Preset("dl_dkd", {**CONFERENCE, "margin": 0.2}, CONFERENCE_TRAINING, BY_NAME),
    # Not published for the conference version: its settings with the margin of the dataset.
    "dl-dkd/charades": Preset("dl_dkd", {**CONFERENCE, "margin": 0.2}, CONFERENCE_TRAINING, DL_DKD),
    "dl-dkd++/tvr": Preset("dl_dkd", {"margin": 0.1, "dropout": 0.2, "input_dropout": 0.2}, {"lr": 3e-4}, PLUS),
    "dl-dkd++/activitynet": Preset("dl_dkd", {"margin": 0.2, "dropout": 0.25, "input_dropout": 0.25}, {"lr": 2.5e-4}, PLUS),
    "dl-dkd++/charades": Preset("dl_dkd", {"margin": 0.2, "dropout": 0.15, "input_dropout": 0.15}, {"lr": 2.4e-4}, PLUS),
    "dl-dkd/toy": Preset("dl_dkd", {**TOY, **SHARED}, TOY_TRAINING, {**DL_DKD, **SHORT}),
    "dl-dkd++/toy": Preset("dl_dkd", TOY, TOY_TRAINING, {**PLUS, **SHORT}),
    "dl-dkd++": Preset("dl_dkd", OWN, OWN_TRAINING, {**PLUS, **SHORT}),
    "dl-dkd": Preset("dl_dkd", {**OWN, **SHARED}, OWN_TRAINING, {**DL_DKD, **SHORT}),
    "no-distillation": Preset("dl_dkd", OWN, OWN_TRAINING, {**DL_DKD, **SHORT, "distillation_weight": 0.0}),
}
