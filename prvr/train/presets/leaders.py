"""The methods of 2026 on GMMFormer v2's trunk: Holmes, with one query and with two, and DreamPRVR.

`tvr`, `activitynet` and `charades` have the settings of the released code. `toy`, and what is derived from it for a user's own
data, leaves out the padding and the company of a video, as for the methods of `ms_sl`. Holmes with two queries is published for
TVR alone.
"""

from __future__ import annotations

from prvr.train.presets.ms_sl import (
    DROPOUT_20,
    DROPOUT_25,
    DROPOUT_31,
    LATER,
    RATE_20,
    RATE_25,
    RATE_30,
    SEED_0,
    TOY_TRAINING,
    TOY_VIEWS,
    TVR,
)
from prvr.train.recipe import Plain, Preset

PATIENT: Plain = {**SEED_0, "patience": 20}
LONG: Plain = {**PATIENT, "epochs": 150}
HOLMES_TVR: Plain = {
    "evidence_weight": 0.2,
    "evidence_temperature": 0.05,
    "transport_weight": 0.8,
    "transport_temperature": 0.06,
}
HOLMES_LATER: Plain = {**LATER, "evidence_weight": 0.06, "transport_temperature": 0.08}
HOLMES_ACTIVITYNET: Plain = {**HOLMES_LATER, "evidence_temperature": 0.04, "transport_weight": 1e-4}
HOLMES_CHARADES: Plain = {**HOLMES_LATER, "evidence_temperature": 0.08, "transport_weight": 9e-4}
DUAL_TVR: Plain = {
    "evidence_weight": 0.01,
    "evidence_temperature": 0.2,
    "transport_weight": 0.1,
    "transport_temperature": 0.04,
}
DREAM_TVR: Plain = {"registers": 8, "similarity_weight": 0.01, "similarity_temperature": 0.09, "frame_weight": 0.5}
DREAM_ACTIVITYNET: Plain = {"registers": 4, "similarity_weight": 0.01, "similarity_temperature": 0.08, "frame_weight": 0.4}
DREAM_CHARADES: Plain = {"registers": 6, "similarity_weight": 0.002, "similarity_temperature": 0.01, "frame_weight": 0.4}
TOY_HOLMES: Plain = {**TOY_VIEWS, "warmup_epochs": 5}

PRESETS: dict[str, Preset] = {
    "holmes/tvr": Preset("holmes", {**TVR, **DROPOUT_20, **HOLMES_TVR, "frame_weight": 0.4}, {**RATE_30, **PATIENT}),
    "holmes/activitynet": Preset("holmes", {**HOLMES_ACTIVITYNET, **DROPOUT_31, "frame_weight": 0.4}, {**RATE_25, **SEED_0}),
    "holmes/charades": Preset("holmes", {**HOLMES_CHARADES, **DROPOUT_25, "frame_weight": 0.4}, {**RATE_20, **PATIENT}),
    "holmes/toy": Preset("holmes", TOY_HOLMES, TOY_TRAINING),
    "holmes-dual/tvr": Preset("holmes_dual", {**TVR, **DROPOUT_20, **DUAL_TVR, "frame_weight": 0.5}, {**RATE_30, **LONG}),
    "holmes-dual/toy": Preset("holmes_dual", TOY_HOLMES, TOY_TRAINING),
    "dreamprvr/tvr": Preset("dreamprvr", {**TVR, **DROPOUT_20, **DREAM_TVR}, {**RATE_30, **LONG}),
    "dreamprvr/activitynet": Preset("dreamprvr", {**LATER, **DROPOUT_31, **DREAM_ACTIVITYNET}, {**RATE_25, **SEED_0}),
    "dreamprvr/charades": Preset("dreamprvr", {**LATER, **DROPOUT_25, **DREAM_CHARADES}, {**RATE_20, **SEED_0}),
    "dreamprvr/toy": Preset("dreamprvr", {**TOY_VIEWS, "registers": 4}, TOY_TRAINING),
}
