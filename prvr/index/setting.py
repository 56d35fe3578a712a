"""A setting of approximate search, and its measurement: what an index keeps of both."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from prvr.errors import ModelError
from prvr.files import parse_json

# Recall is measured for this many best videos.
TOP = 10
# A setting is valid for the videos it was measured with and this share of newer ones.
NEWER = 0.25

MeanDirection = tuple[tuple[float, ...], ...]
"""Of each field, the mean direction of the queries."""


@dataclass(frozen=True)
class Step:
    """A sketch of each video, and the share of the videos that it keeps.

    share: of the rows of a video that the sketch has. columns: of each row.
    heaviest: only the field with the largest weight is sketched.
    """

    share: float
    columns: int
    kept: float
    heaviest: bool = False

    @property
    def sketch(self) -> tuple[float, int, bool]:
        """The arguments of the sketch: equal for equal sketches."""
        return self.share, self.columns, self.heaviest

    def __str__(self) -> str:
        return f"{100 * self.share:.3g}% x {self.columns}{' of one field' if self.heaviest else ''}"


@dataclass(frozen=True)
class Setting:
    """Sketches, each finer than the one before and scanned only for the videos that the one before keeps.

    As text: the rows and columns of each sketch, and the share of the videos that each keeps.
    """

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.steps))} keep {', '.join(f'{100 * step.kept:.3g}%' for step in self.steps)}"

    def candidates(self, k: int, videos: int) -> tuple[int, ...]:
        """How many candidates each step keeps out of `videos` where k hits are wanted."""
        return tuple(max(k, math.ceil(step.kept * videos * max(k / TOP, 1))) for step in self.steps)


@dataclass(frozen=True)
class MeasuredSetting:
    """A setting with the recall that was measured for it.

    direction, queries: the mean direction and the number of the queries of the measurement. videos: the number of videos
    then. last: the largest number of a video then; numbers are never used again, so later videos have larger ones.
    model: the fingerprint of the checkpoint.
    """

    setting: Setting
    along: MeanDirection
    recall: float
    queries: int
    videos: int
    last: int
    model: str

    def to_json(self) -> str:
        """All fields as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> MeasuredSetting:
        """The setting that `to_json` wrote.

        Raises:
            ValueError: the text is something else.
        """
        try:
            values = parse_json(text)
            steps = [
                Step(float(step["share"]), int(step["columns"]), float(step["kept"]), bool(step["heaviest"]))
                for step in values["setting"]["steps"]
            ]
            along = tuple(tuple(map(float, of_field)) for of_field in values["along"])
            queries, videos, last = (int(values[name]) for name in ("queries", "videos", "last"))
            recall, model = float(values["recall"]), str(values["model"])
        except (KeyError, TypeError, OverflowError) as problem:
            raise ValueError(f"{type(problem).__name__} {problem}") from problem
        sound = all(0 < step.share <= 1 and step.columns >= 1 and 0 < step.kept <= 1 for step in steps)
        if not (steps and sound and np.isfinite(np.concatenate([[0.0], *along])).all() and videos >= 0):
            raise ValueError(f"{text[:200]!r} is not a setting of approximate search")
        return MeasuredSetting(Setting(tuple(steps)), along, recall, queries, videos, last, model)


def require_valid(text: str | None, path: Path, *, model: str, numbers: Collection[int]) -> MeasuredSetting:
    """The setting that the index in a folder keeps, if it is valid for its model and its videos.

    Args:
        text: as `MeasuredSetting.to_json` wrote it; None if the index keeps no setting.
        numbers: of the videos.

    Raises:
        ModelError: it is not; the line says how to measure one.
    """
    remedy = f"measure one with sentences of your own: prvr index verify {path} --queries FILE --approximate"
    if text is None:
        raise ModelError(f"the index in {path} has no measured setting for an approximate search; {remedy}")
    try:
        measured = MeasuredSetting.from_json(text)
    except ValueError as problem:
        raise ModelError(f"the setting for an approximate search in {path} is damaged: {problem}; {remedy}") from None
    if measured.model != model:
        raise ModelError(
            f"the setting for an approximate search in {path} was measured with checkpoint {measured.model}, not {model}; "
            f"{remedy}"
        )
    newer = sum(number > measured.last for number in numbers)
    if newer > NEWER * measured.videos:
        raise ModelError(
            f"{newer} videos in {path} are newer than the setting for an approximate search, which was measured with "
            f"{measured.videos}; {remedy}"
        )
    return measured
