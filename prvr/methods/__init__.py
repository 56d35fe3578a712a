"""One file, one paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from prvr.methods import dl_dkd, zero_shot


@dataclass(frozen=True)
class Method:
    """A method's settings, its model and, if it learns, its objective.

    `model(config, frame_columns=, word_columns=)` gives a `contract.Model`; `objective(model, queries, videos, batch,
    epoch)` the loss that the paper defines, as `contract.Terms`, of what `contract.embed` gives; `distils(config)` whether
    that loss needs a teacher.
    """

    config: type
    model: Callable[..., nn.Module]
    objective: Callable[..., Any] | None
    distils: Callable[[Any], bool]


METHODS: dict[str, Method] = {
    "dl_dkd": Method(dl_dkd.DlDkdConfig, dl_dkd.DlDkd, dl_dkd.objective, dl_dkd.distils),
    "zero_shot": Method(zero_shot.ZeroShotConfig, zero_shot.ZeroShot, None, lambda config: False),
}
