"""What followed MS-SL without a teacher: GMMFormer, GMMFormer v2 and HLFormer, with the settings of their released code.

`tvr`, `activitynet` and `charades` are for the published feature packages. `toy`, and what is derived from it for one's own data,
leaves out padding and batches where the released code lets a video's score depend on them.
"""

from __future__ import annotations

from typing import Any

from prvr.methods.gmmformer import GmmFormerConfig
from prvr.methods.gmmformer_v2 import GmmFormerV2Config
from prvr.methods.hlformer import HlFormerConfig
from prvr.train.loop import Recipe, Training

Settings = dict[str, Any]

# What all versions share.
TVR: Settings = {"margin": 0.1, "clip_nce_weight": 0.05, "frame_nce_weight": 0.04, "diversity_margin": 0.15}
ACTIVITYNET: Settings = {"margin": 0.2, "clip_nce_weight": 0.02, "frame_nce_weight": 0.04, "diversity_margin": 0.2}
# GMMFormer on Charades: negatives are hard from epoch 100 on, that is never.
V1_CHARADES: Settings = {**ACTIVITYNET, "hard_from_epoch": 100, "frame_nce_weight": 0.02, "diversity_margin": 0.15}
# GMMFormer v2 and HLFormer share their settings on both other collections.
LATER: Settings = {**ACTIVITYNET, "consolidation_temperature": 0.6, "diversity_weight": 0.003}
TOY: Settings = {"hidden": 64, "max_frames": 32, "max_words": 12, "clips": 16, "hard_from_epoch": 5}

V1 = GmmFormerConfig
V2 = GmmFormerV2Config
HL = HlFormerConfig


def _dropout(share: float) -> Settings:
    return {"dropout": share, "input_dropout": share}


def _training(lr: float, seed: int = 9527) -> Training:
    return Training(lr=lr, epochs=100, seed=seed)


TOY_TRAINING = Training(lr=3e-4, epochs=60, batch_videos=32, patience=60)

V2_TVR = V2(**TVR, **_dropout(0.2), matching_weight=0.09)
V2_ACTIVITYNET = V2(**LATER, **_dropout(0.31), matching_weight=0.11)
V2_CHARADES = V2(**LATER, **_dropout(0.25), matching_weight=0.1)
V2_TOY = V2(**TOY, padding_counts=False)

PRESETS: dict[str, Recipe] = {
    # 13.9/33.3/44.5/84.9/176.6
    "gmmformer/tvr": Recipe("gmmformer", V1(**TVR, **_dropout(0.2), hard_from_epoch=30, diversity_weight=0.001), _training(3e-4)),
    # 8.3/24.9/36.7/76.1/146.0
    "gmmformer/activitynet": Recipe(
        "gmmformer", V1(**ACTIVITYNET, **_dropout(0.2), hard_from_epoch=20, diversity_weight=0.015), _training(2.5e-4)
    ),
    # 2.1/7.8/12.5/50.6/72.9
    "gmmformer/charades": Recipe("gmmformer", V1(**V1_CHARADES, **_dropout(0.15), diversity_weight=0.005), _training(2.5e-4)),
    "gmmformer/toy": Recipe("gmmformer", V1(**TOY, window_length="max_frames"), TOY_TRAINING),
    # 16.2/37.6/48.8/86.4/189.1
    "gmmformer-v2/tvr": Recipe("gmmformer_v2", V2_TVR, _training(3e-4)),
    # 8.9/27.1/40.2/78.7/154.9
    "gmmformer-v2/activitynet": Recipe("gmmformer_v2", V2_ACTIVITYNET, _training(2.5e-4)),
    # 2.5/8.6/13.9/53.2/78.2
    "gmmformer-v2/charades": Recipe("gmmformer_v2", V2_CHARADES, _training(2e-4)),
    "gmmformer-v2/toy": Recipe("gmmformer_v2", V2_TOY, TOY_TRAINING),
    # 15.7/37.1/48.5/86.4/187.7
    "hlformer/tvr": Recipe("hlformer", HL(**TVR, **_dropout(0.2)), _training(3e-4, seed=0)),
    # 8.7/27.1/40.1/79.0/154.9
    "hlformer/activitynet": Recipe("hlformer", HL(**LATER, **_dropout(0.31)), _training(2.5e-4, seed=0)),
    # 2.6/8.5/13.7/54.0/78.7
    "hlformer/charades": Recipe("hlformer", HL(**LATER, **_dropout(0.25)), _training(2e-4, seed=0)),
    "hlformer/toy": Recipe("hlformer", HL(**TOY, padding_counts=False, lorentz_columns=31), TOY_TRAINING),
}
