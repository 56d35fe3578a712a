"""Video files: found in folders, and read as (time, frame) pairs at a given rate.

reader.py     reads a video file
skipping.py   finds the packets that need not be decoded
"""

from __future__ import annotations

from pathlib import Path

from prvr.errors import DataError
from prvr.video.reader import VideoReader, check_rate

__all__ = ["SUFFIXES", "VideoReader", "check_rate", "find_videos"]

SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)


def find_videos(folder: Path) -> dict[str, Path]:
    """Returns the video files of a folder and its subfolders by id: the path within the folder, with its suffix.

    Raises:
        DataError: there is no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; give the folder that holds the videos")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            found[inside.as_posix()] = path
    if not found:
        raise DataError(f"no video in {folder}; known are {' '.join(sorted(SUFFIXES))}")
    return found
