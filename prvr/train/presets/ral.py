"""RAL on GMMFormer v2, with GMMFormer v2's settings and those of RAL's released code.

The README beside that code names other settings (`gmmformer-v2+ral-readme`); the published figures are taken to belong to those
in the code, by a note in its configuration. On MS-SL and on GMMFormer RAL is published in figures alone: nothing says how it is
put on them.
"""

from __future__ import annotations

from typing import Any

from prvr.config import to_dict
from prvr.methods.ral import RalGmmFormerV2Config
from prvr.train.loop import Recipe, Training
from prvr.train.presets import follow_ups

METHOD = "ral_gmmformer_v2"
README: dict[str, Any] = {"clip_nce_weight": 0.05, "frame_nce_weight": 0.05, "proxy_weight": 4e-3, "alignment_weight": 1e-3}


def _on(student: Any, **changes: Any) -> RalGmmFormerV2Config:
    return RalGmmFormerV2Config(**{**to_dict(student), **changes})


TVR, ACTIVITYNET = (_on(follow_ups.V2_TVR, frame_weight=0.5), _on(follow_ups.V2_ACTIVITYNET, frame_weight=0.4))

PRESETS: dict[str, Recipe] = {
    # 18.2/40.4/52.1/88.0/198.8
    "gmmformer-v2+ral/tvr": Recipe(METHOD, TVR, Training(lr=3e-4, epochs=150, patience=15)),
    # 8.9/27.7/40.4/79.1/156.1
    "gmmformer-v2+ral/activitynet": Recipe(METHOD, ACTIVITYNET, Training(lr=2.5e-4, epochs=100)),
    # Not published: GMMFormer v2's settings there, and RAL's on TVR.
    "gmmformer-v2+ral/charades": Recipe(METHOD, _on(follow_ups.V2_CHARADES, frame_weight=0.5), Training(lr=2e-4, epochs=100)),
    "gmmformer-v2+ral-readme/tvr": Recipe(METHOD, _on(TVR, **README), Training(lr=1e-4, epochs=100)),
    "gmmformer-v2+ral-readme/activitynet": Recipe(METHOD, _on(ACTIVITYNET, **README), Training(lr=1e-4, epochs=100)),
    "gmmformer-v2+ral/toy": Recipe(METHOD, _on(follow_ups.V2_TOY, frame_weight=0.5), follow_ups.TOY_TRAINING),
}
