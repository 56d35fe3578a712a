"""A setting of approximate search, and its measurement: what an index keeps of both."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from prvr.errors import ModelError
from prvr.files import parse_json

# Recall is measured for this many best videos.
TOP = 10
# A setting is valid for the videos it was measured with and this share of newer ones.
NEWER = 0.25
# Numbers of videos are below it, in SQLite.
LIMIT = 1 << 63


@dataclass(frozen=True)
class Setting:
    """The share of the videos that the first stage keeps; these are scored by all their rows."""

    kept: float

    def __str__(self) -> str:
        return f"{100 * self.kept:.3g}% of the videos"

    def candidates(self, k: int, videos: int) -> int:
        """How many out of `videos` are kept where k hits are wanted."""
        return k if k >= videos else max(k, math.ceil(self.kept * videos * max(k / TOP, 1)))


@dataclass(frozen=True)
class MeasuredSetting:
    """A setting with the recall that was measured for it.

    queries: their number. videos: the number of videos then. last: the largest number of a video then; numbers are never used
    again, so later videos have larger ones. model: the fingerprint of the checkpoint.
    """

    setting: Setting
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
            kept, recall, model = float(values["setting"]["kept"]), float(values["recall"]), str(values["model"])
            queries, videos, last = (int(values[name]) for name in ("queries", "videos", "last"))
        except (KeyError, TypeError, OverflowError, RecursionError) as problem:
            raise ValueError(f"{type(problem).__name__} {problem}") from problem
        if not (0 < kept <= 1 and 0 <= videos < LIMIT and 0 <= last < LIMIT):
            raise ValueError(f"{text[:200]!r} is not a setting of approximate search")
        return MeasuredSetting(Setting(kept), recall, queries, videos, last, model)


def measure_again(place: Path | str) -> str:
    """What to do where the index at a place has no valid setting."""
    model = " --model RUN" if "://" in str(place) else ""
    return f"measure one with sentences of your own: prvr index verify {place} --queries FILE --approximate{model}"


def require_valid(text: str | None, path: Path | str, *, model: str, numbers: Collection[int]) -> MeasuredSetting:
    """The setting that the index in a folder or at a URL keeps, if it is valid for its model and its videos.

    Args:
        text: as `MeasuredSetting.to_json` wrote it; None if the index keeps no setting.
        numbers: of the videos.

    Raises:
        ModelError: it is not; the line says how to measure one.
    """
    remedy = measure_again(path)
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
