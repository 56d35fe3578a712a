"""Video files: found in folders, and read as (time, frame) pairs at a given rate.

reader.py       reads a video file
opening.py      opens a file, and finds the stream that a player shows
containers.py   which files may be opened, and what other files are
structures.py   the parts that containers are made of
encryption.py   whether pictures are encrypted
missing.py      what a file lacks: its end, or pictures in its middle
joined.py       recordings that were put together in a stream
places.py       finds a time in a large stream
pictures.py     a decoded frame as a player shows it, in standard dynamic range
picture_file.py reads a picture file
skipping.py     finds the packets that need not be decoded
remote.py       videos in object storage, by URL
tags.py         what a file says of its recording
cutting.py      a stretch of a video as a file; packets.py: its packets with their times
sound.py        the sound of a video, decoded or encoded again; subtitle_streams.py: its subtitles
frame_rate.py   how editing programs count the frames
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import overload

from prvr.errors import DataError
from prvr.video.containers import container_of
from prvr.video.reader import VideoReader
from prvr.video.remote import RemotePath, VideoPath, local_copy, place_of
from prvr.video.skipping import check_rate

__all__ = [
    "SUFFIXES",
    "TYPES",
    "RemotePath",
    "VideoPath",
    "VideoReader",
    "check_rate",
    "find_passed_over",
    "find_videos",
    "is_video",
    "local_copy",
    "name_in",
    "place_of",
]

# Each with the media type of its files. Those without a suffix are videos where they begin like one.
TYPES = {
    "": "application/octet-stream",
    ".3g2": "video/3gpp2",
    ".3gp": "video/3gpp",
    ".asf": "video/x-ms-asf",
    ".avi": "video/x-msvideo",
    ".dv": "video/x-dv",
    ".f4v": "video/mp4",
    ".flv": "video/x-flv",
    ".m2t": "video/mp2t",
    ".m2ts": "video/mp2t",
    ".m2v": "video/mpeg",
    ".m4v": "video/mp4",
    ".mkv": "video/x-matroska",
    ".mod": "video/mpeg",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".mpe": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".mpg": "video/mpeg",
    ".mts": "video/mp2t",
    ".mxf": "application/mxf",
    ".ogv": "video/ogg",
    ".qt": "video/quicktime",
    ".rm": "application/vnd.rn-realmedia",
    ".rmvb": "application/vnd.rn-realmedia-vbr",
    ".tod": "video/mp2t",
    ".ts": "video/mp2t",
    ".vob": "video/mpeg",
    ".webm": "video/webm",
    ".wmv": "video/x-ms-wmv",
}
SUFFIXES = frozenset(TYPES) - {""}


@overload
def find_videos(folder: Path) -> dict[str, Path]: ...
@overload
def find_videos(folder: VideoPath) -> Mapping[str, VideoPath]: ...
def find_videos(folder: VideoPath) -> Mapping[str, VideoPath]:
    """Returns the video files of a folder and its subfolders by id: the path within the folder, with its suffix.

    Videos are known by their suffixes, and files without a suffix by how they begin. A link to a file of the folder is one of its
    videos. A link that leads out of the folder is none (`find_passed_over`), and links to folders are not followed.

    Below a URL, only suffixes count.

    Raises:
        DataError: there is no such folder, no video in it, or a store that cannot be listed.
    """
    if isinstance(folder, RemotePath):
        remote = {id: file for id, file in folder.find().items() if PurePosixPath(id).suffix.lower() in SUFFIXES}
        if not remote:
            raise DataError(f"no video below {folder}; known are {' '.join(sorted(SUFFIXES))}")
        return remote
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; give the folder that holds the videos")
    entries = ((id, path) for id, path in _entries(folder) if path.is_file())
    found = {id: path for id, path in entries if is_video(path) and not leads_out(path, folder)}
    if not found:
        known = f"known are {' '.join(sorted(SUFFIXES))}"
        (problem, *_) = (*(f"{id} {problem}" for id, problem in find_passed_over(folder).items()), known)
        raise DataError(f"no video in {folder}; {problem}")
    return found


def find_passed_over(folder: VideoPath) -> dict[str, str]:
    """Returns what seems to be a video and is not read, by path within the folder, each with the reason.

    These are links that lead out of the folder or nowhere, pipes and devices, and files that begin like videos and have another
    suffix.
    """
    if isinstance(folder, RemotePath):
        return {}
    reasons = {id: _why_passed_over(path, folder) for id, path in _entries(folder)}
    return {id: reason for id, reason in reasons.items() if reason is not None}


def leads_out(path: Path, folder: Path) -> bool:
    """Returns whether a path is a link to a file outside a folder."""
    return path.is_symlink() and not path.resolve().is_relative_to(folder.resolve())


def is_video(path: Path) -> bool:
    """Returns whether a file is a video by its suffix or, without one, by how it begins."""
    return path.suffix.lower() in SUFFIXES or (not path.suffix and container_of(path) is not None)


def name_in(names: Collection[str], name: str) -> str | None:
    """Returns the one of the names that is a name in some normal form of Unicode: é is one character or two."""
    if name in names or name.isascii():
        return name if name in names else None
    wanted = unicodedata.normalize("NFC", name)
    return next((known for known in names if unicodedata.normalize("NFC", known) == wanted), None)


def _why_passed_over(path: Path, folder: Path) -> str | None:
    if path.is_dir():
        return "is a link to a folder outside of this one; give that folder by itself" if leads_out(path, folder) else None
    if not path.is_file():
        # A pipe is not opened, which would wait.
        if path.suffix.lower() not in SUFFIXES:
            return None
        return "is a link to a file that does not exist; mend or delete it" if path.is_symlink() else "is not a file; take it out"
    if leads_out(path, folder):
        where = "put the file itself there, or give the folder that it is in"
        return f"is a link that leads out of the folder; {where}" if is_video(path) else None
    if is_video(path) or (kind := container_of(path)) is None:
        return None
    container, suffix = kind
    return f"is skipped: it begins like {container}, but is not named like a video; rename it to end in {suffix}"


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not any(part.startswith(".") for part in inside.parts):
            yield inside.as_posix(), path
