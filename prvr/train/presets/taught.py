"""Methods with what teachers say on top: their own presets, and a `Distillation` beside (docs/decisions/0018).

Nothing here was published: DL-DKD's teacher, weight, temperature and decays, on other students.

`prvr-best` has the settings of `dl-dkd++`, and is made for what came out best on the dev split of the montage (LOG.md,
2026-11-21): a student that reads its teacher's frames and sentences beside its own features, and is then asked with the teacher
beside it (`prvr fuse`). The first is for the command to say (`--frames NAME+TEACHER --words NAME+TEACHER`), the second is a
command of its own: `prvr train` sees to the one and names the other. `prvr-best/montage` is also twice as wide and trained for
longer than the others there.
"""

from __future__ import annotations

from dataclasses import replace

from prvr.nn.distillation import Distillation
from prvr.train.loop import Recipe
from prvr.train.presets import dl_dkd, follow_ups, ms_sl

# DL-DKD's, and DL-DKD++'s for all contrastive losses of a method.
DYNAMIC = Distillation(distillation_weight=0.1)
SOFT = Distillation(soft_targets="teacher")


def _with(recipe: Recipe, distillation: Distillation) -> Recipe:
    return replace(recipe, distillation=distillation)


COLLECTIONS = ("tvr", "activitynet", "charades", "toy")
PRESETS: dict[str, Recipe] = {
    "ms-sl+dynamic": _with(ms_sl.PRESETS["ms-sl"], DYNAMIC),
    **{f"ms-sl+dynamic/{name}": _with(ms_sl.PRESETS[f"ms-sl/{name}"], DYNAMIC) for name in COLLECTIONS},
    "prvr-best": replace(dl_dkd.PRESETS["dl-dkd++"], beside_teacher=True),
    **{f"prvr-best/{name}": replace(dl_dkd.PRESETS[f"dl-dkd++/{name}"], beside_teacher=True) for name in COLLECTIONS},
    **{f"gmmformer-v2+soft/{name}": _with(follow_ups.PRESETS[f"gmmformer-v2/{name}"], SOFT) for name in COLLECTIONS},
}
