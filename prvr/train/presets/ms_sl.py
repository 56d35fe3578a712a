"""MS-SL and MS-SL++, with the settings of their released code."""

from __future__ import annotations

from dataclasses import replace

from prvr.methods.ms_sl import MsSlConfig
from prvr.train.loop import Recipe, Training

PUBLISHED = Training(lr=2.5e-4, epochs=100, seed=2018)
TVR = MsSlConfig()
ACTIVITYNET = MsSlConfig(margin=0.2)
CHARADES = MsSlConfig(margin=0.2, frame_weight=0.5)
# MS-SL++ weighs clips and frames alike on all collections: its evaluation ignores the options of its training.
PLUS_PUBLISHED = replace(PUBLISHED, patience=20)
PLUS_TVR = MsSlConfig(reduced_clips=32, frame_nce_weight=0.03)
PLUS_OTHERS = replace(PLUS_TVR, margin=0.2)
TOY = MsSlConfig(hidden=64, max_frames=32, max_words=12, clips=16, hard_from_epoch=5)
TOY_TRAINING = Training(lr=3e-4, epochs=60, batch_videos=32, patience=60)
OWN = replace(TOY, hidden=128, max_frames=128, max_words=30, clips=32)
OWN_TRAINING = replace(TOY_TRAINING, patience=20)

PRESETS: dict[str, Recipe] = {
    # 13.5/32.1/43.4/83.4/172.4
    "ms-sl/tvr": Recipe("ms_sl", TVR, PUBLISHED),
    # 7.1/22.5/34.7/75.8/140.1
    "ms-sl/activitynet": Recipe("ms_sl", ACTIVITYNET, PUBLISHED),
    # 1.8/7.1/11.8/47.7/68.4
    "ms-sl/charades": Recipe("ms_sl", CHARADES, PUBLISHED),
    "ms-sl/toy": Recipe("ms_sl", TOY, TOY_TRAINING),
    "ms-sl": Recipe("ms_sl", OWN, OWN_TRAINING),
    # 13.6/33.1/44.2/83.5/174.5
    "ms-sl++/tvr": Recipe("ms_sl", PLUS_TVR, PLUS_PUBLISHED),
    # 7.0/23.1/35.2/75.8/141.1
    "ms-sl++/activitynet": Recipe("ms_sl", PLUS_OTHERS, PLUS_PUBLISHED),
    # 1.8/7.6/12.0/48.4/69.7
    "ms-sl++/charades": Recipe("ms_sl", PLUS_OTHERS, PLUS_PUBLISHED),
    "ms-sl++/toy": Recipe("ms_sl", replace(TOY, reduced_clips=32, frame_nce_weight=0.03), TOY_TRAINING),
    "ms-sl++": Recipe("ms_sl", replace(OWN, reduced_clips=32, frame_nce_weight=0.03), OWN_TRAINING),
}
