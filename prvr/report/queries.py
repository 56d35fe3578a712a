"""Query by query: the best and the worst of a system, and who wins where between two; with several seeds, by their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from prvr.datasets import Caption, Dataset
from prvr.errors import DataError
from prvr.evaluate.compare import Ranked
from prvr.evaluate.evaluation import encode_captions
from prvr.evaluate.groups import RATIOS, UNKNOWN
from prvr.features import FeatureSet
from prvr.index.encode import add_videos
from prvr.index.exact import ExactIndex
from prvr.index.moments import relevance
from prvr.methods.checkpoint import Checkpoint
from prvr.report.systems import Answers
from prvr.search.asking import moment


@dataclass(frozen=True)
class Profile:
    """How relevant each stretch of a query's own video is to it, the annotated moments, and the span that is found.

    edges: between the stretches, in seconds if `timed`, else their numbers; without times nothing is found.
    """

    relevance: list[float]
    edges: list[float]
    timed: bool
    moments: tuple[tuple[float, float], ...]
    found: tuple[float, float] | None


@dataclass(frozen=True)
class Duel:
    """Two systems beside each other, the second held against the first.

    difference: in 1 / rank, mean over seeds, of each query; second minus first. order: of the queries, from the second's
    largest gain to the first's.
    """

    difference: Float[np.ndarray, "Q"]
    order: list[int]

    @property
    def gains(self) -> list[int]:
        """Queries that the second ranks better, its largest gain first."""
        return [row for row in self.order if self.difference[row] > 0]

    @property
    def losses(self) -> list[int]:
        """Queries that the first ranks better, the second's largest loss first."""
        return [row for row in reversed(self.order) if self.difference[row] < 0]


@dataclass(frozen=True)
class Share:
    """Who wins in a part of the queries: how many each of the two, and the mean difference in 1 / rank."""

    name: str
    queries: int
    second: int
    first: int
    difference: float


def extremes(answers: Sequence[Answers], count: int) -> tuple[list[int], list[int]]:
    """Places of the best queries and of the worst, by mean rank, then by mean IoU of the found span, then by id."""
    rank = np.mean([one.rank for one in answers], axis=0)
    overlap = np.mean([np.nan_to_num(one.overlaps) for one in answers], axis=0)
    order = sorted(range(len(rank)), key=lambda row: (rank[row], -overlap[row]))
    worst = sorted(range(len(rank)), key=lambda row: (-rank[row], overlap[row]))
    return order[:count], worst[: min(count, len(rank) - count)] if len(rank) > count else []


def duel(first: Sequence[Ranked], second: Sequence[Ranked]) -> Duel:
    """Two systems over the same queries, a run for each seed."""
    ours, theirs = (np.mean([run.values[:, 2] for run in runs], axis=0) for runs in (first, second))
    # Means of equal numbers may differ in their last digits.
    difference = np.round(theirs - ours, 9)
    order = sorted(range(len(difference)), key=lambda row: -difference[row])
    return Duel(difference, order)


def shares(of: Duel, ratios: Float[np.ndarray, "Q"]) -> list[Share]:
    """Who wins by moment-to-video ratio, in the bins of `groups.by_ratio`."""
    known = np.clip(ratios, 0, 1)
    parts = []
    for number, (low, high) in enumerate(pairwise(RATIOS)):
        inside = ((known >= low) if number == 0 else (known > low)) & (known <= high)
        parts.append(_share(f"{'[' if number == 0 else '('}{low:.4g}, {high:.4g}]", of, inside))
    return [*parts, *([_share(UNKNOWN, of, np.isnan(ratios))] if np.isnan(ratios).any() else [])]


def profiles(checkpoint: Checkpoint, dataset: Dataset, features: FeatureSet, queries: Sequence[str]) -> dict[str, Profile]:
    """The profile of each query in its own video; only these videos are encoded.

    Raises:
        DataError: the data set has no such caption, or a feature is missing.
    """
    captions: Mapping[str, Caption] = {caption.id: caption for caption in dataset.captions}
    missing = next((id for id in queries if id not in captions), None)
    if missing is not None:
        raise DataError(
            f"split {dataset.split!r} of {dataset.name!r} has no caption {missing!r}, which the run was asked; "
            "name the data that it was evaluated on"
        )
    index = ExactIndex(checkpoint.model)
    wanted = dict.fromkeys(captions[id].video for id in queries)
    add_videos(index, wanted, features.frames, durations=dataset.durations)
    return {id: _profile(index, features, captions[id]) for id in queries}


def _profile(index: ExactIndex, features: FeatureSet, caption: Caption) -> Profile:
    query = encode_captions(index.model, [caption.id], features.text)
    curve, edges = relevance(index.model, query, index.fetch([caption.video])[caption.video])
    start, end = moment(index, query, caption.video)
    found = (start, end) if start is not None and end is not None else None
    numbers = [float(place) for place in range(len(curve) + 1)]
    return Profile(curve.tolist(), numbers if edges is None else list(edges), edges is not None, caption.moments, found)


def _share(name: str, of: Duel, rows: Bool[np.ndarray, "Q"]) -> Share:
    difference = of.difference[rows]
    mean = float(difference.mean()) if len(difference) else 0.0
    return Share(name, len(difference), int((difference > 0).sum()), int((difference < 0).sum()), mean)
