"""DL-DKD and DL-DKD++ (spec/dl-dkd 2.9).

`tvr`, `activitynet` and `charades` are what the papers used on the published feature packages; the others are for
features made with `prvr extract`.
"""

from __future__ import annotations

from dataclasses import replace

from prvr.methods.dl_dkd import DlDkdConfig
from prvr.train.loop import Recipe, Training

# One's own folder is small and its captions few: a smaller student, smaller batches, fewer epochs, more patience.
# How these were chosen: LOG.md, 2026-11-21.
OWN = DlDkdConfig(hidden=128, dropout=0.2, input_dropout=0.2, margin=0.1, soft_target_epochs=60)
OWN_TRAINING = Training(lr=3e-4, epochs=60, batch_videos=32, patience=20)

CONFERENCE = DlDkdConfig(dropout=0.1, input_dropout=0.1, soft_targets=False, shared_query_projection=True)
CONFERENCE_TRAINING = Training(lr=2.5e-4, epochs=100, seed=2018)

TOY = replace(OWN, hidden=64, max_frames=32, max_words=12)
TOY_TRAINING = replace(OWN_TRAINING, patience=60)

PRESETS: dict[str, Recipe] = {
    # 14.4/34.9/45.8/84.9/179.9
    "dl-dkd/tvr": Recipe("dl_dkd", replace(CONFERENCE, margin=0.1), CONFERENCE_TRAINING),
    # 8.0/25.0/37.5/77.1/147.6
    "dl-dkd/activitynet": Recipe("dl_dkd", replace(CONFERENCE, margin=0.2), CONFERENCE_TRAINING),
    # Not published for the conference version: its settings with the margin of the dataset.
    "dl-dkd/charades": Recipe("dl_dkd", replace(CONFERENCE, margin=0.2), CONFERENCE_TRAINING),
    # 15.3/36.0/47.5/86.0/184.8
    "dl-dkd++/tvr": Recipe("dl_dkd", DlDkdConfig(margin=0.1, dropout=0.2, input_dropout=0.2), Training(lr=3e-4)),
    # 8.3/25.5/38.3/77.8/149.9
    "dl-dkd++/activitynet": Recipe("dl_dkd", DlDkdConfig(margin=0.2, dropout=0.25, input_dropout=0.25), Training(lr=2.5e-4)),
    # 1.9/7.1/12.3/49.8/71.1
    "dl-dkd++/charades": Recipe("dl_dkd", DlDkdConfig(margin=0.2, dropout=0.15, input_dropout=0.15), Training(lr=2.4e-4)),
    # The toy world of `prvr reproduce`: a small student for small features.
    "dl-dkd/toy": Recipe("dl_dkd", replace(TOY, soft_targets=False, shared_query_projection=True), TOY_TRAINING),
    "dl-dkd++/toy": Recipe("dl_dkd", TOY, TOY_TRAINING),
    "dl-dkd++": Recipe("dl_dkd", OWN, OWN_TRAINING),
    "dl-dkd": Recipe("dl_dkd", replace(OWN, soft_targets=False, shared_query_projection=True), OWN_TRAINING),
    "no-distillation": Recipe("dl_dkd", replace(OWN, soft_targets=False, distillation_weight=0.0), OWN_TRAINING),
}
