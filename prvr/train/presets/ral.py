"""RAL on the students that its paper puts it on, each with the student's own settings (spec/methods 2.13).

Figures are SumR. There are none for Charades; and our RAL has two of the paper's three parts (prvr/methods/ral.py).
"""

from __future__ import annotations

from prvr.config import to_dict
from prvr.methods.ral import RalGmmFormerConfig, RalGmmFormerV2Config, RalMsSlConfig
from prvr.train.loop import Recipe
from prvr.train.presets import follow_ups, ms_sl


def _on(student: Recipe, method: str, config: type) -> Recipe:
    return Recipe(method, config(**to_dict(student.settings)), student.training)


def _every(student: str, recipes: dict[str, Recipe], method: str, config: type) -> dict[str, Recipe]:
    names = ("tvr", "activitynet", "charades", "toy")
    return {f"{student}+ral/{name}": _on(recipes[f"{student}/{name}"], method, config) for name in names}


PRESETS: dict[str, Recipe] = {
    # TVR 179.1, ActivityNet 143.0
    **_every("ms-sl", ms_sl.PRESETS, "ral_ms_sl", RalMsSlConfig),
    # TVR 186.1, ActivityNet 147.7
    **_every("gmmformer", follow_ups.PRESETS, "ral_gmmformer", RalGmmFormerConfig),
    # TVR 198.8, ActivityNet 156.1
    **_every("gmmformer-v2", follow_ups.PRESETS, "ral_gmmformer_v2", RalGmmFormerV2Config),
}
