"""What followed MS-SL without a teacher: GMMFormer, GMMFormer v2 and HLFormer (spec/methods 2.10 to 2.12).

`tvr`, `activitynet` and `charades` are for the published feature packages.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prvr.methods.gmmformer import GmmFormerConfig
from prvr.methods.gmmformer_v2 import GmmFormerV2Config
from prvr.methods.hlformer import HlFormerConfig
from prvr.train.loop import Recipe, Training

Settings = dict[str, Any]

# What all versions share: negatives are hard from epoch 100 on, that is never, on Charades.
TVR: Settings = {
    "margin": 0.1,
    "hard_from_epoch": 30,
    "clip_nce_weight": 0.05,
    "frame_nce_weight": 0.04,
    "diversity_margin": 0.15,
}
ACTIVITYNET: Settings = {
    "margin": 0.2,
    "hard_from_epoch": 20,
    "clip_nce_weight": 0.02,
    "frame_nce_weight": 0.04,
    "diversity_margin": 0.2,
}
CHARADES: Settings = {
    "margin": 0.2,
    "hard_from_epoch": 100,
    "clip_nce_weight": 0.02,
    "frame_nce_weight": 0.02,
    "diversity_margin": 0.2,
}
TOY: Settings = {"hidden": 64, "max_frames": 32, "max_words": 12, "clips": 16, "hard_from_epoch": 5}

V1 = GmmFormerConfig
V2 = GmmFormerV2Config
HL = HlFormerConfig
V2_LATER = replace(V2(), consolidation_temperature=0.6, diversity_weight=0.003)
HL_LATER = replace(HL(), consolidation_temperature=0.6, diversity_weight=0.003)


def _dropout(share: float) -> Settings:
    return {"dropout": share, "input_dropout": share}


def _training(lr: float, seed: int = 9527) -> Training:
    return Training(lr=lr, epochs=100, seed=seed)


TOY_TRAINING = Training(lr=3e-4, epochs=60, batch_videos=32, patience=60)

PRESETS: dict[str, Recipe] = {
    # 13.9/33.3/44.5/84.9/176.6
    "gmmformer/tvr": Recipe("gmmformer", V1(**TVR, **_dropout(0.2), diversity_weight=0.001), _training(3e-4)),
    # 8.3/24.9/36.7/76.1/146.0
    "gmmformer/activitynet": Recipe("gmmformer", V1(**ACTIVITYNET, **_dropout(0.2), diversity_weight=0.015), _training(2.5e-4)),
    # 2.1/7.8/12.5/50.6/72.9
    "gmmformer/charades": Recipe("gmmformer", V1(**CHARADES, **_dropout(0.15), diversity_weight=0.005), _training(2.5e-4)),
    "gmmformer/toy": Recipe("gmmformer", V1(**TOY), TOY_TRAINING),
    # 16.2/37.6/48.8/86.4/189.1
    "gmmformer-v2/tvr": Recipe("gmmformer_v2", V2(**TVR, **_dropout(0.2), matching_weight=0.09), _training(3e-4)),
    # 8.9/27.1/40.2/78.7/154.9
    "gmmformer-v2/activitynet": Recipe(
        "gmmformer_v2", replace(V2_LATER, **ACTIVITYNET, **_dropout(0.31), matching_weight=0.11), _training(2.5e-4)
    ),
    # 2.5/8.6/13.9/53.2/78.2
    "gmmformer-v2/charades": Recipe(
        "gmmformer_v2", replace(V2_LATER, **CHARADES, **_dropout(0.25), matching_weight=0.1), _training(2e-4)
    ),
    "gmmformer-v2/toy": Recipe("gmmformer_v2", V2(**TOY), TOY_TRAINING),
    # 15.7/37.1/48.5/86.4/187.7
    "hlformer/tvr": Recipe("hlformer", HL(**TVR, **_dropout(0.2)), _training(3e-4, seed=0)),
    # 8.7/27.1/40.1/79.0/154.9
    "hlformer/activitynet": Recipe("hlformer", replace(HL_LATER, **ACTIVITYNET, **_dropout(0.31)), _training(2.5e-4, seed=0)),
    # 2.6/8.5/13.7/54.0/78.7
    "hlformer/charades": Recipe("hlformer", replace(HL_LATER, **CHARADES, **_dropout(0.25)), _training(2e-4, seed=0)),
    "hlformer/toy": Recipe("hlformer", HL(**TOY), TOY_TRAINING),
}
