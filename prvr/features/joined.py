"""Features of several encoders side by side, a block of columns for each; zeros where an encoder has nothing of an item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from prvr.errors import DataError
from prvr.features.packed import Packed


class JoinedFeatures(Mapping[str, np.ndarray]):
    """A row for each row of the encoder that has most of an item; another's rows stand for several where it has fewer.

    Args:
        parts: the features of each encoder, and how many columns they have.

    Raises:
        DataError: some were sampled when they were packed, so that their rows are of no common length.
    """

    def __init__(self, parts: Sequence[tuple[Mapping[str, np.ndarray], int]]) -> None:
        for part, _ in parts:
            if isinstance(part, Packed) and part.about.get("read") is not None:
                raise DataError(f"{part.path} was sampled when it was packed, and cannot be joined; convert it with --whole")
        self.parts = tuple(parts)
        self._ids = list(dict.fromkeys(id for part, _ in self.parts for id in part))

    def __getitem__(self, id: str) -> np.ndarray:
        known = {place: np.asarray(part[id], np.float32) for place, (part, _) in enumerate(self.parts) if id in part}
        if not known:
            raise KeyError(id)
        most = max(map(len, known.values()))
        blocks = []
        for place, (_, columns) in enumerate(self.parts):
            rows = known.get(place, np.zeros((1, columns), np.float32))
            blocks.append(rows[np.arange(most) * len(rows) // most])
        return np.concatenate(blocks, axis=1)

    def __contains__(self, id: object) -> bool:
        return any(id in part for part, _ in self.parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)
