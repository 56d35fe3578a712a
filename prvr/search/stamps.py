"""What tells a file from an earlier one of its name: what the file system says of it, and where that differs, its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from prvr.errors import VideoError

Stamp = dict[str, int]


def stamp_of(path: Path) -> Stamp:
    """Size and times of a file.

    The time of its last change is set by the kernel at each write and rename, and no one can set it back: a clock that
    jumps or a copied time of writing does not hide a new content.

    Raises:
        VideoError: there is no such file, or nobody may look at it.
    """
    try:
        file = path.stat()
    except OSError as problem:
        raise VideoError(f"cannot open {path}: {problem.strerror}; check the path and its permissions") from None
    return {"size": file.st_size, "mtime_ns": file.st_mtime_ns, "ctime_ns": file.st_ctime_ns}


def content_of(path: Path) -> str:
    """The SHA-256 of a file's bytes.

    Raises:
        VideoError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise VideoError(f"cannot read {path}: {problem.strerror}; check its permissions and the disk") from None


def stamps_of(files: Mapping[str, Path]) -> tuple[dict[str, Stamp], dict[str, str]]:
    """The stamps of files, and what is wrong with those that have none."""
    stamps: dict[str, Stamp] = {}
    problems: dict[str, str] = {}
    for id, path in files.items():
        try:
            stamps[id] = stamp_of(path)
        except VideoError as problem:
            problems[id] = str(problem)
    return stamps, problems
