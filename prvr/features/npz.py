"""Features as moment retrieval keeps them (QVHighlights and its relatives): a folder of npz files, one per item.

The file's name is the id. The rows are in its array `features` (videos) or `last_hidden_state` (words of a query), or in
the one that it has. An npz file is a zip archive of npy files; both are read as strangers' files, without pickles.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from prvr.datasets.archive import members, read_member
from prvr.errors import DataError
from prvr.features.rows import MOST_BYTES, as_rows, check_numbers, check_size

SUFFIX = ".npz"
ARRAYS = ("features", "last_hidden_state")


class NpzFolder(Mapping[str, np.ndarray]):
    """`features[id]` reads (rows, columns) from the file of that item. All items have the width of the first.

    Raises:
        DataError: the folder holds no such file, or the first is broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Only these are opened, whatever an id says.
        self._files = {file.name.removesuffix(SUFFIX): file for file in sorted(path.glob(f"*{SUFFIX}")) if file.is_file()}
        if not self._files:
            raise DataError(f"no features in {path}; a folder of them has a file ID{SUFFIX} for each item")
        self.columns = _read(*next(iter(self._files.items()))).shape[1]

    def __getitem__(self, id: str) -> np.ndarray:
        file = self._files[id]
        rows = _read(id, file)
        if rows.shape[1] != self.columns:
            raise DataError(
                f"{file} has {rows.shape[1]} columns, the first of its folder {self.columns}: they come from different encoders"
            )
        return rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, id: object) -> bool:
        return id in self._files


def is_npz_folder(path: Path) -> bool:
    """Whether a folder is in this format."""
    return any(file.is_file() for file in path.glob(f"*{SUFFIX}"))


def _read(id: str, path: Path) -> np.ndarray:
    arrays = {name.removesuffix(".npy"): name for name in members(path, most=MOST_BYTES)}
    wanted = [name for name in ARRAYS if name in arrays] or (list(arrays) if len(arrays) == 1 else [])
    if not wanted:
        raise DataError(f"{path} holds {', '.join(arrays) or 'no array'}; it takes {' or '.join(ARRAYS)}, or one array alone")
    return as_rows(id, path, _array(id, path, read_member(path, arrays[wanted[0]])))


def _array(id: str, path: Path, data: bytes) -> np.ndarray:
    """An npy file's array; its header says what follows, and is held to it."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(file)
    # What a header may raise is not documented; a recursion or memory error is among it.
    except Exception as problem:
        raise DataError(
            f"{path} holds no readable npy array ({' '.join(str(problem).split())[:80]}); get it from its source again"
        ) from None
    if dtype.hasobject:
        raise DataError(f"{path} holds Python objects, which are not read: they could run anything; save the rows as float32")
    check_numbers(id, path, shape, dtype)
    check_size(id, path, shape, dtype)
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise DataError(
            f"{path} declares {dtype} of shape {shape}, and holds {len(data) - file.tell()} bytes; get it from its source again"
        )
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if by_columns else "C")
