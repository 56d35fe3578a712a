"""Fields of the user's own: VIDEOS/videos.jsonl, a line for each video that anything is to be said of.

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
# What the index itself knows of every video.
TAKEN = (FOLDER, "date", "duration", "file", "problem", "video")


def own_fields(folder: Path, videos: Collection[str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The fields of each video that has any, and what is wrong with lines about videos that are not there.

    Raises:
        DataError: a line is broken, or gives a name to a field that the index itself has; or the file cannot be read.
    """
    path = folder / FILE
    fields: dict[str, dict[str, Any]] = {}
    strangers: dict[str, str] = {}
    try:
        # A line ends at a line feed alone: within a string, JSON leaves other separators as they are.
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
        video, about = _read(line, f"{path}, line {number}")
        if video in videos:
            fields[video] = fields.get(video, {}) | about
        else:
            strangers[f"{FILE}, line {number}"] = f"no video {video!r} in {folder}"
    return fields, strangers


def _read(line: str, where: str) -> tuple[str, dict[str, Any]]:
    try:
        about = json.loads(line)
        video = about.pop("video")
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        raise DataError(f"""{where} is not a JSON object with a "video": {line[:60]!r}; mend or delete the line""") from None
    if not isinstance(video, str):
        raise DataError(f"{where}: video is {video!r}; it takes a path below the folder")
    taken = [name for name in about if name in TAKEN]
    if taken:
        raise DataError(f"{where}: the index itself has a field {taken[0]!r}; choose another name")
    return video, about
