"""First stages tried in an index, by queries of its user: what each finds of the exact best, and how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch

from prvr.index.contract import Found
from prvr.index.disk import DiskIndex
from prvr.index.proven import TOP, Along, Setting, Step
from prvr.index.recall import share_found
from prvr.methods.contract import Embeddings

# docs/index-speed.md has what they find and take in galleries of several sizes.
SETTINGS = tuple(
    Setting((Step(share, 64, first, heaviest), Step(0.45, 96, second), Step(1.0, 128, third)))
    for share, heaviest in ((0.35, True), (0.45, False))
    for first, second, third in ((0.03, 0.008, 0.0015), (0.06, 0.01, 0.002), (0.12, 0.03, 0.006), (0.3, 0.1, 0.03))
)
# Of a share that is a mean over queries.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Measured:
    """The share of the exact ten best that a setting finds, on average over queries, and the median seconds of a query.

    exact_seconds: those of the exact search, asked by turns with this one.
    """

    setting: Setting
    recall: float
    seconds: float
    exact_seconds: float


@dataclass(frozen=True)
class Trial:
    """All settings that were tried, beside the exact search; `kept` is the one that the index keeps."""

    queries: int
    measured: tuple[Measured, ...]
    kept: Measured | None


def try_first_stages(
    index: DiskIndex, queries: Embeddings, *, least_recall: float, on_setting: Callable[[int, int], None] | None = None
) -> Trial:
    """Measures each setting, and has the index keep the `fastest`, or none if none is good enough.

    Exact and approximate searches take turns, so that whatever else the machine does slows both.

    Args:
        on_setting: told how many settings were measured, and of how many.
    """
    asked = [tuple(field[place : place + 1] for field in queries) for place in range(len(queries[0]))]
    # Asked once before any time is taken: what is read and checked the first time is then in memory for all.
    exact = [index.search(query, TOP)[0] for query in asked]
    along = in_common(queries)
    measured: list[Measured] = []
    for setting in SETTINGS:
        turns = [(_timed(index.search, query, TOP), _timed(index.search_by, setting, along, query, TOP)) for query in asked]
        recall = share_found(exact, [found for _, (found, _) in turns])
        exact_seconds, seconds = median(taken for (_, taken), _ in turns), median(taken for _, (_, taken) in turns)
        measured.append(Measured(setting, recall, seconds, exact_seconds))
        if on_setting:
            on_setting(len(measured), len(SETTINGS))
    kept = fastest(measured, least_recall=least_recall)
    if kept is None:
        index.forget_setting()
    else:
        index.keep_setting(kept.setting, along, recall=kept.recall, queries=len(asked))
    return Trial(len(asked), tuple(measured), kept)


def in_common(queries: Embeddings) -> Along:
    """The direction that queries have in common: of each field, the mean of theirs."""
    means = [torch.nn.functional.normalize(field.float(), dim=1).mean(0) for field in queries]
    # As many digits as float32 has.
    return tuple(tuple(float(f"{value:.7g}") for value in mean.tolist()) for mean in means)


def fastest(measured: Sequence[Measured], *, least_recall: float) -> Measured | None:
    """The fastest of those that find enough, beside the exact search, if it is faster than that."""
    enough = [one for one in measured if one.recall >= least_recall - ROUNDING and one.seconds < one.exact_seconds]
    return min(enough, key=lambda one: one.seconds / one.exact_seconds, default=None)


def _timed(search: Callable[..., list[list[Found]]], *arguments: Any) -> tuple[list[Found], float]:
    began = perf_counter()
    (found,) = search(*arguments)
    return found, perf_counter() - began
