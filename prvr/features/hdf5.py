"""Features as published: one HDF5 file, a key per video or per caption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prvr.errors import DataError


class Hdf5Features(Mapping[str, np.ndarray]):
    """`features[id]` reads (rows, columns) from the file; (1, rows, columns) and a single row count as that, too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _opened(path)

    def __getitem__(self, id: str) -> np.ndarray:
        value: np.ndarray = np.asarray(self._file[id])
        if value.ndim == 3 and len(value) == 1:
            value = value[0]
        if value.ndim == 1:
            value = value[None]
        if value.ndim != 2 or not np.issubdtype(value.dtype, np.floating):
            raise DataError(f"features of {id!r} in {self.path} are {value.dtype} of shape {value.shape}, not rows of numbers")
        return value

    def __iter__(self) -> Iterator[str]:
        return _ids(self._file)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, id: object) -> bool:
        return id in self._file


def _ids(group: Any, inside: str = "") -> Iterator[str]:
    # HDF5 makes groups of an id with slashes, such as that of a video in a folder below.
    for name, value in group.items():
        if isinstance(value, Mapping):
            yield from _ids(value, f"{inside}{name}/")
        else:
            yield inside + name


def _opened(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as problem:
        raise DataError(f"{path} is not a readable HDF5 file ({str(problem).splitlines()[0]})") from None
