"""Subtitles beside frames: a second view of a video, in more columns of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from prvr.errors import DataError
from prvr.features import Features, columns, place, release, rows_of


class SubtitledFrames(Mapping[str, np.ndarray]):
    """The frames of a video, each followed by what is said then; zeros in a video of which no subtitles are known.

    Rows of both divide a video evenly. Where their numbers differ, a frame has the mean of the rows of subtitles that begin in
    its part of the video, or the one row that it is within.
    """

    def __init__(self, frames: Features, subtitles: Features) -> None:
        self.frames, self.subtitles = frames, subtitles
        self.path, self.subtitle_columns = Path(place(frames)), columns(subtitles)

    def __getitem__(self, id: str) -> np.ndarray:
        frames = rows_of("video", id, self.frames)
        return np.concatenate([frames, self._beside(id, len(frames))], axis=1, dtype=np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __contains__(self, id: object) -> bool:
        return id in self.frames

    def release(self) -> None:
        """As `prvr.features.release`, of both."""
        release(self.frames)
        release(self.subtitles)

    def _beside(self, id: str, count: int) -> np.ndarray:
        if id not in self.subtitles:
            return np.zeros((count, self.subtitle_columns), np.float32)
        rows = rows_of("subtitles of video", id, self.subtitles)
        if rows.shape[1] != self.subtitle_columns:
            raise DataError(
                f"the subtitles of video {id!r} have {rows.shape[1]} columns, the first ones in {place(self.subtitles)} "
                f"{self.subtitle_columns}: they come from different encoders; make them again with one"
            )
        edges = np.arange(count + 1) * len(rows) // count
        sums = np.add.reduceat(rows.astype(np.float64), edges[:-1], axis=0)  # of an empty part the row itself
        means: np.ndarray = sums / np.maximum(np.diff(edges), 1)[:, None]
        return means


def videos_without_subtitles(features: Features, videos: Sequence[str]) -> dict[str, str]:
    """Returns how many videos have no subtitles, by the place of the subtitles; nothing if all have, or no subtitles are read.

    Raises:
        DataError: none of the videos has, so that the subtitles are of others.
    """
    if not isinstance(features, SubtitledFrames):
        return {}
    silent, where = [video for video in videos if video not in features.subtitles], place(features.subtitles)
    if silent and len(silent) == len(videos):
        raise DataError(
            f"{where} has no subtitles of any of the {len(videos)} videos, which are called {silent[0]!r} and so on, and its own "
            f"{next(iter(features.subtitles))!r}; name subtitles of these videos"
        )
    if not silent:
        return {}
    return {where: f"{len(silent)} of {len(videos)} videos have no subtitles, {silent[0]!r} first; zeros are read in their place"}
