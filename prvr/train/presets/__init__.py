"""Published settings, and settings for a folder of one's own: what `prvr train --preset NAME` starts from.

A file for each method or family of methods. The optimiser is one for all, and not each paper's own (docs/decisions/0021).
Figures in comments are R@1/5/10/100/SumR as published (spec/published-numbers); NAME/toy is a small student for the toy world
of `prvr reproduce`, NAME/montage one for real photographs strung into videos.
"""

from __future__ import annotations

from prvr.errors import SettingError, nearest
from prvr.train.loop import Recipe
from prvr.train.presets import baselines, derived, dl_dkd, follow_ups, ms_sl, ral, taught, teachtext

_WRITTEN: dict[str, Recipe] = {
    **dl_dkd.PRESETS,
    **baselines.PRESETS,
    **follow_ups.PRESETS,
    **ms_sl.PRESETS,
    **ral.PRESETS,
    **taught.PRESETS,
    **teachtext.PRESETS,
}
PRESETS: dict[str, Recipe] = {**_WRITTEN, **derived.derived(_WRITTEN)}


def preset(name: str) -> Recipe:
    """A preset by name.

    Raises:
        SettingError: there is none of that name; the nearest is suggested.
    """
    if name not in PRESETS:
        raise SettingError(f"unknown preset {name!r}; {nearest(name, PRESETS)}")
    return PRESETS[name]
