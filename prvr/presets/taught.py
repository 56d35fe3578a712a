"""Methods with what teachers say on top: their own presets, and a `Distillation` beside (docs/decisions/0018).

Nothing here was published: DL-DKD's teacher, weight, temperature and decays, on other students. `prvr-best` is what came out
best on the dev split of the montage (LOG.md, 2026-11-21): GMMFormer v2's blocks, wider, with the teacher's frame profile at its
full weight to the end; `prvr fuse` then puts the teacher beside it.
"""

from __future__ import annotations

from dataclasses import replace

from prvr.distillation import Distillation
from prvr.presets import follow_ups, ms_sl
from prvr.train import Recipe

# DL-DKD's, and DL-DKD++'s for all contrastive losses of a method.
DYNAMIC = Distillation(distillation_weight=0.1)
SOFT = Distillation(soft_targets="teacher")


STEADY = replace(DYNAMIC, distillation_decay="fixed")


def _with(recipe: Recipe, distillation: Distillation) -> Recipe:
    return replace(recipe, distillation=distillation)


def _wider(recipe: Recipe) -> Recipe:
    return replace(recipe, settings=replace(recipe.settings, hidden=128))


COLLECTIONS = ("tvr", "activitynet", "charades", "toy")
PRESETS: dict[str, Recipe] = {
    "ms-sl+dynamic": _with(ms_sl.PRESETS["ms-sl"], DYNAMIC),
    **{f"ms-sl+dynamic/{name}": _with(ms_sl.PRESETS[f"ms-sl/{name}"], DYNAMIC) for name in COLLECTIONS},
    **{f"prvr-best/{name}": _with(follow_ups.PRESETS[f"gmmformer-v2/{name}"], STEADY) for name in COLLECTIONS[:-1]},
    "prvr-best/toy": _with(_wider(follow_ups.PRESETS["gmmformer-v2/toy"]), STEADY),
    **{f"gmmformer-v2+soft/{name}": _with(follow_ups.PRESETS[f"gmmformer-v2/{name}"], SOFT) for name in COLLECTIONS},
}
