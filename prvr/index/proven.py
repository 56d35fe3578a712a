"""A setting of the first stage, and what it was measured with: what an index keeps of it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import numpy as np

# The number of best videos that recall is measured for.
TOP = 10

# Of each field, the direction that queries have in common.
Along = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Step:
    """A sketch of each video: of a share of its rows, in so many columns. A share of the videos is kept by it.

    heaviest: only the field that counts for most is sketched.
    """

    share: float
    columns: int
    kept: float
    heaviest: bool = False

    @property
    def sketch(self) -> tuple[float, int, bool]:
        """What tells its sketch from others."""
        return self.share, self.columns, self.heaviest

    def __str__(self) -> str:
        return f"{100 * self.share:.3g}% x {self.columns}{' of one field' if self.heaviest else ''}"


@dataclass(frozen=True)
class Setting:
    """What a first stage looks at: sketches, each finer than the one before, of those videos that that one keeps.

    As text: the rows and columns of each sketch, and what each keeps of the videos.
    """

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.steps))} keep {', '.join(f'{100 * step.kept:.3g}%' for step in self.steps)}"

    def keep(self, k: int, videos: int) -> tuple[int, ...]:
        """How many of so many videos each step keeps for the k best: the more, the more are asked for."""
        return tuple(max(k, math.ceil(step.kept * videos * max(k / TOP, 1))) for step in self.steps)


@dataclass(frozen=True)
class Proven:
    """A setting, the share of the exact best that it was found to find, and in what.

    along: of the queries that it was measured with. last: the greatest number of a video then; numbers
    are never used again, so later videos are known by theirs. model: the fingerprint of the checkpoint.
    """

    setting: Setting
    along: Along
    recall: float
    queries: int
    videos: int
    last: int
    model: str

    def as_text(self) -> str:
        """All of it as JSON."""
        return json.dumps(asdict(self))


def read(text: str) -> Proven:
    """What `Proven.as_text` wrote.

    Raises:
        ValueError: something else did.
    """
    try:
        values = json.loads(text)
        steps = [
            Step(float(step["share"]), int(step["columns"]), float(step["kept"]), bool(step["heaviest"]))
            for step in values["setting"]["steps"]
        ]
        along = tuple(tuple(map(float, of_field)) for of_field in values["along"])
        queries, videos, last = (int(values[name]) for name in ("queries", "videos", "last"))
        proven = Proven(Setting(tuple(steps)), along, float(values["recall"]), queries, videos, last, str(values["model"]))
    except (KeyError, TypeError, OverflowError) as problem:
        raise ValueError(f"{type(problem).__name__} {problem}") from problem
    sound = all(0 < step.share <= 1 and step.columns >= 1 and 0 < step.kept <= 1 for step in steps)
    if not (steps and sound and np.isfinite(np.concatenate([[0.0], *along])).all() and proven.videos >= 0):
        raise ValueError(f"{text[:200]!r} is no setting of a first stage")
    return proven
