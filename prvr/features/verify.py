"""Packed features seen to be what was written, by the checksum of each item."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prvr.errors import DataError
from prvr.features.packed import HEADER, ITEMS_AT_ONCE, Packed

# What is looked at, how many items are done, and of how many.
Progress = Callable[[str, int, int], None]


def unsound(features: Packed, on_progress: Progress) -> list[str]:
    """Items whose rows on disk are not those that were written."""
    found = []
    for number, id in enumerate(features, start=1):
        if features.is_sound(id) is False:
            found.append(id)
        if number % ITEMS_AT_ONCE == 0 or number == len(features):
            on_progress(f"verifying {features.path.parent.name} {features.path.name}", number, len(features))
    return found


def verify(root: str | Path, on_progress: Progress) -> dict[str, int]:
    """The number of items in each packed folder at or below a folder, all of them as they were written.

    Raises:
        DataError: there are no packed features, or some are broken; the text names the first.
    """
    root = Path(root)
    counts, broken = dict[str, int](), list[str]()
    for header in sorted(root.rglob(HEADER)):
        features = Packed(header.parent)
        counts[header.parent.relative_to(root).as_posix()] = len(features)
        broken += [f"{id!r} in {header.parent}" for id in unsound(features, on_progress)]
    if broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise DataError(
            f"the rows of {broken[0]}{more} are not those that were written; run again the command that made them, "
            "or delete the folder and make it anew"
        )
    if not counts:
        raise DataError(f"no packed features in {root}; make some with: prvr data convert ROOT/COLLECTION {root}")
    return counts
