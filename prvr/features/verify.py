"""Compares packed features with the checksums of their items."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prvr.errors import DataError
from prvr.features.packed import HEADER, ITEMS_AT_ONCE, Packed

# What is compared, how many items are done, and how many there are.
Progress = Callable[[str, int, int], None]


def damaged_items(features: Packed, on_progress: Progress) -> list[str]:
    """Returns the ids of items that do not match their checksum on disk."""
    damaged = []
    for number, id in enumerate(features, start=1):
        if features.is_sound(id) is False:
            damaged.append(id)
        if number % ITEMS_AT_ONCE == 0 or number == len(features):
            on_progress(f"verifying {features.path.parent.name} {features.path.name}", number, len(features))
    return damaged


def verify(root: str | Path, on_progress: Progress) -> dict[str, int]:
    """Reads every packed folder at or below a folder, and returns the number of items of each.

    Raises:
        DataError: there are no packed features, or some are damaged; the text names the first.
    """
    root = Path(root)
    counts, damaged = dict[str, int](), list[str]()
    for header in sorted(root.rglob(HEADER)):
        features = Packed(header.parent)
        counts[header.parent.relative_to(root).as_posix()] = len(features)
        damaged += [f"{id!r} in {header.parent}" for id in damaged_items(features, on_progress)]
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise DataError(
            f"the rows of {damaged[0]}{more} are not those that were written; run again the command that made them, "
            "or delete the folder and make it anew"
        )
    if not counts:
        raise DataError(f"no packed features in {root}; make some with: prvr data convert ROOT/COLLECTION {root}")
    return counts
