"""Video files: found in folders, and read as (time, frame) pairs at a given rate.

reader.py     reads a video file
skipping.py   finds the packets that need not be decoded
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path

from prvr.errors import DataError
from prvr.video.reader import VideoReader, check_rate

__all__ = ["SUFFIXES", "VideoReader", "check_rate", "find_links_out", "find_videos", "name_in"]

SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)


def find_videos(folder: Path) -> dict[str, Path]:
    """Returns the video files of a folder and its subfolders by id: the path within the folder, with its suffix.

    A link to a file of the folder is one of its videos. A link that leads out of the folder is none (`find_links_out`), and links
    to folders are not followed.

    Raises:
        DataError: there is no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; give the folder that holds the videos")
    found = {id: path for id, path in _candidates(folder) if not leads_out(path, folder)}
    if not found:
        (problem, *_) = (*(f"{id} {problem}" for id, problem in find_links_out(folder).items()), f"known are {_known()}")
        raise DataError(f"no video in {folder}; {problem}")
    return found


def find_links_out(folder: Path) -> dict[str, str]:
    """Returns the links in a folder that are named like videos and lead out of it, each with what to do about it."""
    remedy = "is a link that leads out of the folder; put the file itself there, or give the folder that it is in"
    return {id: remedy for id, path in _candidates(folder) if leads_out(path, folder)}


def leads_out(path: Path, folder: Path) -> bool:
    """Returns whether a path is a link to a file outside a folder."""
    return path.is_symlink() and not path.resolve().is_relative_to(folder.resolve())


def name_in(names: Collection[str], name: str) -> str | None:
    """Returns the one of the names that is a name in some normal form of Unicode: é is one character or two."""
    if name in names or name.isascii():
        return name if name in names else None
    wanted = unicodedata.normalize("NFC", name)
    return next((known for known in names if unicodedata.normalize("NFC", known) == wanted), None)


def _candidates(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield inside.as_posix(), path


def _known() -> str:
    return " ".join(sorted(SUFFIXES))
