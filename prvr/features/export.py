"""Exports packed features to one HDF5 file for other tools: a data set of rows per id."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from prvr.errors import DataError
from prvr.features.packed import ITEMS_AT_ONCE, Packed, is_packed


def export_hdf5(folder: str | Path, file: str | Path, on_progress: Callable[[str, int, int], None]) -> int:
    """Writes the file completely or not at all, and returns the number of items.

    Its attribute `about` is that of the folder: what made the rows, and whether they were sampled and scaled.

    Raises:
        DataError: the folder has no packed features, an id cannot be a key of HDF5, or the file exists already.
    """
    import h5py

    folder, file = Path(folder), Path(file)
    if not is_packed(folder):
        raise DataError(f"no packed features in {folder}; name a folder such as FEATURES/NAME/frames")
    if file.exists():
        raise DataError(f"{file} is there already; delete it, or name another file")
    features, part = Packed(folder), file.with_name(file.name + ".part")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with h5py.File(part, "w") as out:
            out.attrs["about"] = json.dumps(features.about)
            for number, (id, rows) in enumerate(features.items(), start=1):
                try:
                    out.create_dataset(id, data=rows)
                except (ValueError, TypeError) as problem:
                    raise DataError(f"{id!r} in {folder} cannot be a key of an HDF5 file ({problem}); rename it") from None
                if number % ITEMS_AT_ONCE == 0 or number == len(features):
                    on_progress(id, number, len(features))
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    return len(features)
