"""Features of several encoders side by side, a block of columns for each; zeros if an encoder has no rows of an item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from prvr.errors import DataError
from prvr.features.packed import Packed


class JoinedFeatures(Mapping[str, np.ndarray]):
    """An item has as many rows as in the encoder that has most of it; the rows of an encoder with fewer are repeated.

    Args:
        parts: the features of each encoder, and the number of their columns.

    Raises:
        DataError: some features were sampled when they were packed, so that their rows cannot be matched.
    """

    def __init__(self, parts: Sequence[tuple[Mapping[str, np.ndarray], int]]) -> None:
        for part, _ in parts:
            if isinstance(part, Packed) and part.about.get("read") is not None:
                raise DataError(f"{part.path} was sampled when it was packed, and cannot be joined; convert it with --whole")
        self.parts = tuple(parts)
        self._ids = list(dict.fromkeys(id for part, _ in self.parts for id in part))

    def __getitem__(self, id: str) -> np.ndarray:
        rows_of_part = {number: np.asarray(part[id], np.float32) for number, (part, _) in enumerate(self.parts) if id in part}
        if not rows_of_part:
            raise KeyError(id)
        count = max(map(len, rows_of_part.values()))
        blocks = []
        for number, (_, columns) in enumerate(self.parts):
            rows = rows_of_part.get(number, np.zeros((1, columns), np.float32))
            blocks.append(rows[np.arange(count) * len(rows) // count])
        return np.concatenate(blocks, axis=1)

    def __contains__(self, id: object) -> bool:
        return any(id in part for part, _ in self.parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)
