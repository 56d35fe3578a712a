"""Features of several encoders side by side, a block of columns for each; zeros where an encoder has nothing of an item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from prvr.errors import DataError
from prvr.features import Timed, release
from prvr.features.packed import Packed


class JoinedFeatures(Mapping[str, np.ndarray]):
    """A row for each row of the encoder that has most of an item; another's rows are repeated where it has fewer.

    Args:
        parts: the features of each encoder, and how many columns they have.
        aligned: whether shorter parts are repeated, so that a row is one moment of the video; else zeros follow their rows.

    Raises:
        DataError: some were sampled when they were packed, so that their rows are of no common length.
    """

    def __init__(self, parts: Sequence[tuple[Mapping[str, np.ndarray], int]], *, aligned: bool = True) -> None:
        for part, _ in parts:
            if isinstance(part, Packed) and part.about.get("read") is not None:
                raise DataError(f"{part.path} was sampled when it was packed, and cannot be joined; convert it with --whole")
        self.parts, self._aligned = tuple(parts), aligned
        self._ids = list(dict.fromkeys(id for part, _ in self.parts for id in part))

    def __getitem__(self, id: str) -> np.ndarray:
        known = {place: np.asarray(part[id], np.float32) for place, (part, _) in enumerate(self.parts) if id in part}
        if not known:
            raise KeyError(id)
        most = max(map(len, known.values()))
        joined = np.zeros((most, sum(columns for _, columns in self.parts)), np.float32)
        start = 0
        for place, (_, columns) in enumerate(self.parts):
            rows = known.get(place, joined[:0, :columns])
            if self._aligned and len(rows):
                rows = rows[np.arange(most) * len(rows) // most]
            joined[: len(rows), start : start + columns] = rows
            start += columns
        return joined

    def stack(self) -> JoinedFeatures:
        """The same parts, each with rows of its own and zeros below them."""
        return JoinedFeatures(self.parts, aligned=False)

    def info(self, id: str) -> dict[str, Any]:
        """The facts of an item, by the encoder that its times are of; its duration by any encoder that knows it."""
        most = self._most(id)
        own = most.info(id) if isinstance(most, Timed) else {}
        facts = [own, *(part.info(id) for part, _ in self.parts if isinstance(part, Timed) and id in part)]
        duration = next((of_one["duration"] for of_one in facts if of_one.get("duration") is not None), None)
        return own if duration is None else {**own, "duration": duration}

    def times(self, id: str) -> list[float] | None:
        """The time of each row in seconds, by the encoder that has most of the item; None where it has none."""
        most = self._most(id)
        return most.times(id) if isinstance(most, Timed) else None

    def _most(self, id: str) -> Mapping[str, np.ndarray]:
        """The encoder that has most rows of an item; of several, one that knows their times."""
        return max(
            (part for part, _ in self.parts if id in part),
            key=lambda part: (len(part[id]), isinstance(part, Timed) and part.times(id) is not None),
        )

    def release(self) -> None:
        """As `prvr.features.release`, of each part."""
        for part, _ in self.parts:
            release(part)

    def __contains__(self, id: object) -> bool:
        return any(id in part for part, _ in self.parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)
