"""The toy world's package, packed as training reads it."""

from __future__ import annotations

from pathlib import Path

from prvr.extract.convert import convert_package
from prvr.papers.toy import write_toy


def packed_toy(root: Path, *, train_videos: int) -> tuple[Path, Path]:
    """A package of so many train videos and eight test videos, and its features."""
    package = write_toy(root, train_videos=train_videos, test_videos=8)
    convert_package(package, root / "packed", sampling=None)
    return package, root / "packed"
