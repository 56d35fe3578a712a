"""What identifies the content of a file: its size and times for a quick look, its SHA-256 where these differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from prvr.errors import VideoError
from prvr.video.remote import RemotePath, VideoPath, local_copy

Stamp = dict[str, int]


def stamp_of(path: VideoPath) -> Stamp:
    """Returns the size and the times of a file.

    The kernel sets the time of the last change (ctime) at each write and rename, and no program can set it back: a clock
    that jumps or a copied modification time does not hide new content. On Windows that field is the time of creation, so
    that a file replaced by one of the same size and modification time goes unnoticed there.

    Raises:
        VideoError: there is no such file, or this process may not look at it.
    """
    if isinstance(path, RemotePath):
        return path.stamp()
    try:
        file = path.stat()
    except OSError as problem:
        raise VideoError(f"cannot open {path}: {problem.strerror}; check the path and its permissions") from None
    return {"size": file.st_size, "mtime_ns": file.st_mtime_ns, "ctime_ns": file.st_ctime_ns}


def ends_of(path: VideoPath) -> str:
    """Returns the SHA-256 of the first and the last MiB of a file, which says quickly that it is another one.

    Of a remote file it is that of what its store says of it.

    Raises:
        VideoError: the file cannot be read.
    """
    if isinstance(path, RemotePath):
        return hashlib.sha256(repr(sorted(path.stamp().items())).encode()).hexdigest()
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 20)
            file.seek(max(0, file.seek(0, 2) - (1 << 20)))
            return hashlib.sha256(head + file.read()).hexdigest()
    except OSError as problem:
        raise VideoError(f"cannot read {path}: {problem.strerror}; check its permissions and the disk") from None


def sha256_of(path: VideoPath) -> str:
    """Returns the SHA-256 of a file's bytes; a remote file is copied here for that.

    Raises:
        VideoError: the file cannot be read.
    """
    try:
        with local_copy(path) as copy, open(copy, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise VideoError(f"cannot read {path}: {problem.strerror}; check its permissions and the disk") from None


def stamps_of(files: Mapping[str, VideoPath]) -> tuple[dict[str, Stamp], dict[str, str]]:
    """Returns the stamps of files by id, and the problems of those that have none."""
    stamps: dict[str, Stamp] = {}
    problems: dict[str, str] = {}
    for id, path in files.items():
        try:
            # One listing instead of a request for each file.
            stamps[id] = path.stamp(fresh=False) if isinstance(path, RemotePath) else stamp_of(path)
        except VideoError as problem:
            problems[id] = str(problem)
    return stamps, problems


def recorded_file(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns what was recorded of a video's file: its stamp and SHA-256, or size and modification time in older folders."""
    if "file" in info:
        file: Mapping[str, Any] = info["file"]
        return file
    return {key: info[key] for key in ("size", "mtime_ns") if key in info}


def has_same_stamp(recorded: Mapping[str, Any], stamp: Stamp) -> bool:
    """Returns whether a file is the recorded one without reading it: size and all recorded times are the same."""
    return "size" in recorded and all(stamp[key] == recorded[key] for key in stamp if key in recorded)


def has_same_content(recorded: Mapping[str, Any], stamp: Stamp, path: VideoPath) -> bool:
    """Returns whether a file with another stamp has the recorded content; reads all of it if the size is the same."""
    if "sha256" not in recorded or stamp["size"] != recorded["size"]:
        return False
    try:
        return sha256_of(path) == recorded["sha256"]
    except VideoError:
        return False
