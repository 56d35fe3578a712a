"""A setting of the first stage, and what it was measured with: what an index keeps of it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

# The number of best videos that recall is measured for.
TOP = 10


@dataclass(frozen=True)
class Setting:
    """How much a first stage looks at.

    share: of a video's rows that its sketch has, in so many `columns`. kept: the share of the videos that are then scored.
    """

    share: float
    columns: int
    kept: float

    def __str__(self) -> str:
        return f"{self.share:.0%} of the rows, {self.columns} columns, {self.kept:.0%} of the videos kept"

    def keep(self, k: int, videos: int) -> int:
        """How many of so many videos are scored for the k best: the more, the more are asked for."""
        return max(k, math.ceil(self.kept * videos * max(k / TOP, 1)))


@dataclass(frozen=True)
class Proven:
    """A setting, the share of the exact best that it was found to find, and in what.

    last: the greatest number of a video then; numbers are never used again, so later videos are known by theirs.
    model: the fingerprint of the checkpoint.
    """

    setting: Setting
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
        asked = values["setting"]
        setting = Setting(float(asked["share"]), int(asked["columns"]), float(asked["kept"]))
        queries, videos, last = (int(values[name]) for name in ("queries", "videos", "last"))
        proven = Proven(setting, float(values["recall"]), queries, videos, last, str(values["model"]))
    except (KeyError, TypeError, OverflowError) as problem:
        raise ValueError(f"{type(problem).__name__} {problem}") from problem
    if not (0 < setting.share <= 1 and setting.columns >= 1 and 0 < setting.kept <= 1 and proven.videos >= 0):
        raise ValueError(f"{text[:200]!r} is no setting of a first stage")
    return proven
