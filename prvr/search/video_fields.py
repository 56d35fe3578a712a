"""The user's own fields of videos, from VIDEOS/videos.jsonl: one line for each video that has any.

{"video": "trips/alps.mp4", "camera": "north", "tags": ["snow", "2025"]}
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from prvr.errors import DataError
from prvr.index.conditions import FOLDER

FILE = "videos.jsonl"
# Fields that the index itself has of every video.
RESERVED = (FOLDER, "date", "duration", "file", "problem", "video")


def read_video_fields(folder: Path, videos: Collection[str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Returns the fields of each video that has any, and the problems of lines about videos that are not in the folder.

    Raises:
        DataError: a line is broken, or uses the name of a field that the index itself has; or the file cannot be read.
    """
    path = folder / FILE
    fields: dict[str, dict[str, Any]] = {}
    problems: dict[str, str] = {}
    try:
        # Only a line feed ends a line: JSON allows other separators within a string.
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return {}, {}
    except OSError as problem:
        raise DataError(f"cannot read {path}: {problem.strerror}; check its permissions and the disk") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; write it again as UTF-8") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        video, about = _read_line(line, f"{path}, line {number}")
        if video in videos:
            fields[video] = fields.get(video, {}) | about
        else:
            problems[f"{FILE}, line {number}"] = f"no video {video!r} in {folder}"
    return fields, problems


def _read_line(line: str, where: str) -> tuple[str, dict[str, Any]]:
    try:
        about = json.loads(line)
        video = about.pop("video")
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        raise DataError(f"""{where} is not a JSON object with a "video": {line[:60]!r}; mend or delete the line""") from None
    if not isinstance(video, str):
        raise DataError(f"{where}: video is {video!r}; it takes a path below the folder")
    reserved = [name for name in about if name in RESERVED]
    if reserved:
        raise DataError(f"{where}: the index itself has a field {reserved[0]!r}; choose another name")
    return video, about
