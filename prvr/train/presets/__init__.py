"""Presets: published settings, and settings for a user's own folder; `prvr train --preset NAME` starts from one.

NAME/tvr, /activitynet, /charades, /msrvtt   what the papers use on the published feature packages
NAME          for a user's own folder
NAME/toy      a small student for the toy world of `prvr reproduce`
NAME/montage  for real photographs and captions strung into videos: 760 to learn from and 250 to test with, 60 frames and 16
              captions a video. All methods have the same size and training there (LOG.md, 2026-11-21).

A preset is data; its recipe is built when it is looked up. The optimiser is the same for all, not each paper's own
(docs/decisions/0021). Figures in comments are R@1/5/10/100/SumR as published.
"""

from __future__ import annotations

from prvr.errors import SettingError, nearest
from prvr.train.presets import baselines, dl_dkd, ms_sl
from prvr.train.recipe import Plain, Preset, Recipe

MONTAGE_EPOCHS = 8
# Each method takes those of these settings that it has. Nearly all videos and sentences of the montage are shorter; negatives
# are never the hardest there, as on Charades.
MONTAGE: Plain = {
    "max_frames": 96,
    "max_words": 24,
    "hard_from_epoch": MONTAGE_EPOCHS,
    "soft_target_epochs": MONTAGE_EPOCHS,
    "epochs": MONTAGE_EPOCHS,
    "patience": MONTAGE_EPOCHS,
    "batch_videos": 8,
}
# prvr-best is twice as wide and is trained for twice as long.
BEST: Plain = {**MONTAGE, "hidden": 128, "epochs": 16, "patience": 16, "soft_target_epochs": 16}
OWN: Plain = {"max_frames": 128, "max_words": 30, "patience": 20}

PRESETS: dict[str, Preset] = {**dl_dkd.PRESETS, **baselines.PRESETS, **ms_sl.PRESETS}
_TOYS = {name.removesuffix("/toy"): toy for name, toy in PRESETS.items() if name.endswith("/toy")}
PRESETS |= {name: toy._replace(adapted=OWN) for name, toy in _TOYS.items() if name not in PRESETS}
PRESETS |= {f"{name}/montage": toy._replace(adapted=BEST if name == "prvr-best" else MONTAGE) for name, toy in _TOYS.items()}


def preset(name: str) -> Recipe:
    """The recipe of a preset.

    Raises:
        SettingError: there is no such preset; the text suggests the nearest name.
    """
    if name not in PRESETS:
        raise SettingError(f"unknown preset {name!r}; {nearest(name, PRESETS)}")
    return PRESETS[name].recipe()
