"""Exports packed features to one HDF5 file for other tools: a data set of rows per id."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from prvr.errors import DataError
from prvr.features.packed import ITEMS_AT_ONCE, Packed, is_packed
from prvr.files import new_file


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
    features = Packed(folder)
    with new_file(file) as part, h5py.File(part, "w") as out:
        out.attrs["about"] = json.dumps(features.about)
        for number, (id, rows) in enumerate(features.items(), start=1):
            try:
                out.create_dataset(id, data=rows)
            except (ValueError, TypeError) as problem:
                raise DataError(f"{id!r} in {folder} cannot be a key of an HDF5 file ({problem}); rename it") from None
            if number % ITEMS_AT_ONCE == 0 or number == len(features):
                on_progress(id, number, len(features))
    return len(features)
