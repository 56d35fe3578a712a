"""Presets: published settings, and settings for a user's own folder; `prvr train --preset NAME` starts from one.

NAME/tvr, /activitynet, /charades, /msrvtt   what the papers use on the published feature packages
NAME          for a user's own folder
NAME/toy      a small student for the toy world of `prvr reproduce`
NAME/montage  for real photographs and captions strung into videos: 760 to learn from and 250 to test with, 60 frames and 16
              captions a video. All methods have the same size and training there (LOG.md, 2026-11-21).

A preset is data; its recipe is built when it is looked up. The optimiser is the same for all, not each paper's own
(docs/decisions/0041); of the schedules, BGM-Net's alone is a cosine. Figures in comments are R@1/5/10/100/SumR as published.

`prvr-best` is DL-DKD++ with its teacher beside it, which came out best on the dev split of the montage (LOG.md, 2026-11-21): the
student reads its teacher's frames and sentences beside its own features (`--frames NAME+TEACHER --words NAME+TEACHER`) and is
then searched with the teacher beside it (`prvr fuse`). `prvr train` checks the first and prints the second.
"""

from __future__ import annotations

from collections.abc import Iterator

from prvr.errors import PrvrError, SettingError, nearest
from prvr.methods import BUILT_IN, METHODS, open_method, register_method
from prvr.train.presets import baselines, dl_dkd, leaders, ms_sl, teachtext
from prvr.train.recipe import Plain, Preset, Recipe, plugin_preset, with_method

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
# prvr-best is twice as wide there and is trained for twice as long.
BEST: Plain = {**MONTAGE, "hidden": 128, "epochs": 16, "patience": 16, "soft_target_epochs": 16}
OWN: Plain = {"max_frames": 128, "max_words": 30, "patience": 20}


def _derive(name: str, preset: Preset) -> Iterator[tuple[str, Preset]]:
    """The presets that another method or another distillation makes of one."""
    match preset.method:
        case "dl_dkd" if name.startswith("dl-dkd++"):
            yield name.replace("dl-dkd++", "prvr-best"), preset._replace(beside_teacher=True)
        case "ms_sl" if not name.startswith("ms-sl++"):
            # DL-DKD's distillation on another student: not published (docs/decisions/0018).
            yield name.replace("ms-sl", "ms-sl+dynamic"), preset._replace(distillation={"distillation_weight": 0.1})
        case "gmmformer_v2":
            # DL-DKD++'s soft targets on another student: not published.
            yield name.replace("/", "+soft/"), preset._replace(distillation={"soft_targets": "teacher"})


def _every() -> dict[str, Preset]:
    presets = {**dl_dkd.PRESETS, **baselines.PRESETS, **teachtext.PRESETS, **ms_sl.PRESETS, **leaders.PRESETS}
    presets |= dict(pair for name, preset in presets.items() for pair in _derive(name, preset))
    toys = {name.removesuffix("/toy"): preset for name, preset in presets.items() if name.endswith("/toy")}
    own = {name: toy._replace(adapted=OWN) for name, toy in toys.items()}
    montage = {f"{name}/montage": toy._replace(adapted=BEST if name == "prvr-best" else MONTAGE) for name, toy in toys.items()}
    return {**own, **presets, **montage}


PRESETS: dict[str, Preset] = _every()


def preset(name: str, *, method: str | type | None = None) -> Recipe:
    """The recipe of a preset.

    Args:
        method: a method that takes the place of the preset's, as `register_method` takes it. If it is another one, it has its
            default settings, and of the preset only the training remains.

    Raises:
        SettingError: there is no such preset, and the text suggests the nearest name; or no such method.
        ModelError: the method cannot be imported, or lacks a part of the contract.
    """
    if method is not None:
        # First: the method may bring the preset.
        register_method(method)
    recipe = find_preset(name).recipe()
    return recipe if method is None else with_method(recipe, method)


def find_preset(name: str) -> Preset:
    """A preset of this package, or one that an external method brings; errors as `preset`."""
    if name in PRESETS:
        return PRESETS[name]
    brought, problems = plugin_presets()
    if name in brought:
        return brought[name]
    broken = "".join(f"; {problem}" for problem in problems.values())
    raise SettingError(f"unknown preset {name!r}; {nearest(name, {*PRESETS, *brought})}{broken}")


def plugin_presets() -> tuple[dict[str, Preset], dict[str, str]]:
    """The presets of methods that are registered or installed, and what is wrong with such a method, by its name. Imports them.

    A preset of this package precedes one of the same name.
    """
    brought: dict[str, Preset] = {}
    problems: dict[str, str] = {}
    for method in dict.fromkeys(path for name, path in METHODS.items() if name not in BUILT_IN):
        try:
            of_method = {name: plugin_preset(method, changes) for name, changes in open_method(method).presets.items()}
        except PrvrError as problem:
            problems[method] = str(problem)
        else:
            brought = {**of_method, **brought}
    return {name: each for name, each in brought.items() if name not in PRESETS}, problems
