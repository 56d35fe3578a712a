"""Features as published: one HDF5 file, a key per video or per caption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prvr.errors import DataError
from prvr.features.rows import as_rows, check_size


class Hdf5Features(Mapping[str, np.ndarray]):
    """`features[id]` reads (rows, columns) from the file; (1, rows, columns) and a single row count as that, too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _opened(path)
        self._count: int | None = None

    def __getitem__(self, id: str) -> np.ndarray:
        value = self._file[id]
        if isinstance(value, Mapping):
            raise KeyError(id)
        # Such rows would be bytes of any file of this machine.
        if value.external:
            raise DataError(
                f"features of {id!r} in {self.path} lie in another file, which is not opened; copy them into this one"
            )
        check_size(id, self.path, value.shape or (), value.dtype)
        try:
            rows = np.asarray(value) if value.shape is not None else np.empty((), value.dtype)
        except OSError as problem:
            raise DataError(
                f"features of {id!r} in {self.path} cannot be read ({problem}); copy the file from the package again"
            ) from None
        return as_rows(id, self.path, rows)

    def __iter__(self) -> Iterator[str]:
        return _ids(self._file)

    def __len__(self) -> int:
        # Counted once: a file that is open for reading does not grow, and to count is to visit every name.
        if self._count is None:
            self._count = sum(1 for _ in self)
        return self._count

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and _is_data(self._file.get(id, getclass=True))


def _ids(group: Any, inside: str = "") -> Iterator[str]:
    # HDF5 makes groups of an id with slashes, such as that of a video in a folder below. To ask what a name stands for
    # is six times as quick as to open it.
    for name in group:
        if _is_data(group.get(name, getclass=True)):
            yield inside + name
        elif isinstance(below := group.get(name), Mapping):
            yield from _ids(below, f"{inside}{name}/")


def _is_data(kind: Any) -> bool:
    import h5py

    return kind is h5py.Dataset


def _opened(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as problem:
        raise DataError(f"{path} is not a readable HDF5 file ({str(problem).splitlines()[0]}); copy it again") from None
