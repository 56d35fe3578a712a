"""Results query by query: the best and the worst queries of a system, and two systems beside each other; means over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from prvr.datasets import Caption, Dataset
from prvr.errors import DataError
from prvr.evaluate.compare import QueryRanks
from prvr.evaluate.evaluation import encode_captions
from prvr.evaluate.groups import RATIOS, UNKNOWN
from prvr.features import FeatureSet
from prvr.index.encode import add_videos
from prvr.index.exact import ExactIndex
from prvr.index.moments import relevance
from prvr.methods.checkpoint import Checkpoint
from prvr.report.systems import SeedResults
from prvr.search.hits import moment


@dataclass(frozen=True)
class Profile:
    """How relevant each stretch of a query's own video is to it, with the annotated moments and the span that the model finds.

    edges: between the stretches, in seconds if `timed`, else frame numbers; without times no span is found.
    """

    relevance: list[float]
    edges: list[float]
    timed: bool
    moments: tuple[tuple[float, float], ...]
    found: tuple[float, float] | None


@dataclass(frozen=True)
class PairwiseResult:
    """Two systems compared query by query.

    difference: of 1 / rank, mean over seeds, second system minus first. order: the queries, from the second system's largest
    gain to its largest loss.
    """

    difference: Float[np.ndarray, "Q"]
    order: list[int]

    @property
    def gains(self) -> list[int]:
        """Queries that the second system ranks better, its largest gain first."""
        return [row for row in self.order if self.difference[row] > 0]

    @property
    def losses(self) -> list[int]:
        """Queries that the first system ranks better, the second's largest loss first."""
        return [row for row in reversed(self.order) if self.difference[row] < 0]


@dataclass(frozen=True)
class WinCount:
    """On how many queries of a group each of two systems wins, and the mean difference of 1 / rank."""

    group: str
    queries: int
    second: int
    first: int
    difference: float


def find_extremes(results: Sequence[SeedResults], count: int) -> tuple[list[int], list[int]]:
    """Returns the rows of the best and of the worst queries, by mean rank, then by mean IoU of the found span, then by id."""
    rank = np.mean([one.rank for one in results], axis=0)
    overlap = np.mean([np.nan_to_num(one.overlaps) for one in results], axis=0)
    best = sorted(range(len(rank)), key=lambda row: (rank[row], -overlap[row]))
    worst = sorted(range(len(rank)), key=lambda row: (-rank[row], overlap[row]))
    return best[:count], worst[: min(count, len(rank) - count)] if len(rank) > count else []


def compare_queries(first: Sequence[QueryRanks], second: Sequence[QueryRanks]) -> PairwiseResult:
    """Compares two systems over the same queries; each is a sequence of seeds."""
    reference, other = (np.mean([run.values[:, 2] for run in runs], axis=0) for runs in (first, second))
    # Means of equal numbers may differ in their last digits.
    difference = np.round(other - reference, 9)
    order = sorted(range(len(difference)), key=lambda row: -difference[row])
    return PairwiseResult(difference, order)


def count_wins(result: PairwiseResult, ratios: Float[np.ndarray, "Q"]) -> list[WinCount]:
    """Counts wins by moment-to-video ratio, in the bins of `groups.by_ratio`."""
    known = np.clip(ratios, 0, 1)
    groups = []
    for number, (low, high) in enumerate(pairwise(RATIOS)):
        inside = ((known >= low) if number == 0 else (known > low)) & (known <= high)
        groups.append(_count_wins(f"{'[' if number == 0 else '('}{low:.4g}, {high:.4g}]", result, inside))
    return [*groups, *([_count_wins(UNKNOWN, result, np.isnan(ratios))] if np.isnan(ratios).any() else [])]


def read_profiles(checkpoint: Checkpoint, dataset: Dataset, features: FeatureSet, queries: Sequence[str]) -> dict[str, Profile]:
    """Returns the profile of each query in its own video; only these videos are encoded.

    Raises:
        DataError: the data set has no such caption, or a feature is missing.
    """
    captions: Mapping[str, Caption] = {caption.id: caption for caption in dataset.captions}
    missing = next((id for id in queries if id not in captions), None)
    if missing is not None:
        raise DataError(
            f"split {dataset.split!r} of {dataset.name!r} has no caption {missing!r}, which is a query of the scores; "
            "name the data that they were computed on"
        )
    index = ExactIndex(checkpoint.model)
    videos = dict.fromkeys(captions[id].video for id in queries)
    add_videos(index, videos, features.frames, durations=dataset.durations)
    return {id: _read_profile(index, features, captions[id]) for id in queries}


def _read_profile(index: ExactIndex, features: FeatureSet, caption: Caption) -> Profile:
    query = encode_captions(index.model, [caption.id], features.text)
    curve, edges = relevance(index.model, query, index.fetch([caption.video])[caption.video])
    start, end = moment(index, query, caption.video)
    found = (start, end) if start is not None and end is not None else None
    numbers = [float(place) for place in range(len(curve) + 1)]
    return Profile(curve.tolist(), numbers if edges is None else list(edges), edges is not None, caption.moments, found)


def _count_wins(group: str, result: PairwiseResult, rows: Bool[np.ndarray, "Q"]) -> WinCount:
    difference = result.difference[rows]
    mean = float(difference.mean()) if len(difference) else 0.0
    return WinCount(group, len(difference), int((difference > 0).sum()), int((difference < 0).sum()), mean)
