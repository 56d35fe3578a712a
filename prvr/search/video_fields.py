"""The fields of videos: those that their files give, and the user's own, from VIDEOS/videos.jsonl, a line for each video.

{"video": "trips/alps.mp4", "camera": "north", "tags": ["snow", "2025"]}
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from prvr.errors import DataError
from prvr.files import parse_json, read_bytes
from prvr.index.conditions import FOLDER
from prvr.video import RemotePath, VideoPath, name_in

FILE = "videos.jsonl"
# Fields that the index itself has of every video.
RESERVED = (FOLDER, "copies", "date", "duration", "file", "problem", "recorded", "video")
# Levels of lists and objects in a field; more are a mistake, and too deep for the programs that read the index.
MOST_LEVELS = 32


def read_video_fields(folder: VideoPath, videos: Collection[str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Returns the fields of each video that has any, and the problems of lines about videos that are not in the folder.

    Raises:
        DataError: a line is broken, or uses the name of a field that the index itself has; or the file cannot be read.
    """
    path = folder / FILE
    fields: dict[str, dict[str, Any]] = {}
    problems: dict[str, str] = {}
    try:
        # Only a line feed ends a line: JSON allows other separators within a string.
        lines = (path.read_bytes() if isinstance(path, RemotePath) else read_bytes(path)).decode().split("\n")
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
        video = name_in(videos, video) or video
        if video in videos:
            fields[video] = fields.get(video, {}) | about
        else:
            problems[f"{FILE}, line {number}"] = f"no video {video!r} in {folder}"
    return fields, problems


def fields_of_file(file: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that a file gives: `date`, `modified`, and the facts of its recording (`prvr.video.tags`).

    `date` is when the camera took it (`captured`), in UTC, else when the file was last written (`modified`).

    Args:
        file: its stamp.
        recorded: what it says, as extraction records it; a field of its own, because the user's own fields go before.
    """
    # Some stores state no time; a file of this machine may be of 1970, and has a `ctime_ns`.
    known = file["mtime_ns"] or "ctime_ns" in file
    modified = known and datetime.fromtimestamp(file["mtime_ns"] / 1e9, UTC).isoformat(timespec="seconds")
    captured = recorded.get("captured")
    date = datetime.fromisoformat(captured).astimezone(UTC).isoformat(timespec="seconds") if captured else modified
    dates = {"date": date, "modified": modified}
    return {**{name: value for name, value in dates.items() if value}, "recorded": dict(recorded), **recorded}


def _read_line(line: str, where: str) -> tuple[str, dict[str, Any]]:
    try:
        about = parse_json(line)
        video = about.pop("video")
    except (AttributeError, KeyError, TypeError):
        raise DataError(f"""{where} is not a JSON object with a "video": {line[:60]!r}; mend or delete the line""") from None
    except ValueError as problem:
        raise DataError(f"{where} is not JSON ({problem}): {line[:60]!r}; mend or delete the line") from None
    if not isinstance(video, str):
        raise DataError(f"{where}: video is {video!r}; it takes a path below the folder")
    reserved = [name for name in about if name in RESERVED]
    if reserved:
        raise DataError(f"{where}: the index itself has a field {reserved[0]!r}; choose another name")
    if _levels(about) > MOST_LEVELS:
        raise DataError(f"{where}: a field is nested deeper than {MOST_LEVELS} levels; write it flatter")
    try:
        json.dumps(about, ensure_ascii=False).encode()
    except UnicodeEncodeError as problem:
        raise DataError(f"{where}: {problem.object[problem.start]!r} is half a character; write the character as UTF-8") from None
    return video, about


def _levels(value: Any) -> int:
    count, level = 0, [value]
    while level := [
        below for one in level if isinstance(one, list | dict) for below in (one.values() if isinstance(one, dict) else one)
    ]:
        count += 1
        if count > MOST_LEVELS:
            break
    return count
