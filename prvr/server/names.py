"""Names of videos in requests: the shown name of an id, the file of a video, the path of an upload."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from fastapi import HTTPException
from starlette.convertors import PathConvertor, register_url_convertor

from prvr.video import SUFFIXES, is_video

MOST_CHARACTERS = 500
# Of a part of a path, in bytes: the limit of common file systems.
MOST_BYTES = 255
# The folders that an absolute path begins with; not those of a URL. Names of folders may hold blanks: in quotes all do, and
# elsewhere up to a word with a dot or another sign that ends a name.
FOLDERS = re.compile(
    r"(?<=['\"])(?:/|[A-Za-z]:[\\/])[^'\"]*[\\/](?=[^'\"])"
    r"|(?<![\w.:/\\-])(?:/|[A-Za-z]:[\\/])(?:(?:(?:[^\s'\"\\/.,:;]+ )*[^\s'\"\\/]+)?[\\/])*(?=[^\s'\"])"
)


class AnyPathConvertor(PathConvertor):
    """The rest of a path in a route, line feeds included: the name of a file may hold one."""

    regex = "(?s:.*)"


register_url_convertor("name", AnyPathConvertor())


def shown_name(id: str) -> str:
    """An id as text for JSON and URLs: bytes that are not UTF-8 become \\udc.. in it."""
    return id.encode(errors="backslashreplace").decode()


def title_of(id: str) -> str:
    """The title of a video: the name of its file without suffix and underscores."""
    return " ".join(PurePosixPath(shown_name(id)).stem.replace("_", " ").split()) or shown_name(id)


def alike(names: Collection[str]) -> frozenset[str]:
    """The names of videos that share a title though their files have different names, such as a.mp4 and a.mov."""
    files: dict[str, set[str]] = {}
    for name in names:
        files.setdefault(title_of(name).casefold(), set()).add(PurePosixPath(name).name)
    return frozenset(name for name in names if len(files[title_of(name).casefold()]) > 1)


def file_of(id: str, folder: Path) -> Path:
    """The file of a video. Raises HTTPException 404 if it does not exist, or a link leads out of the folder."""
    try:
        path = (folder / id).resolve(strict=True)
        inside = path.is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, ValueError, RuntimeError):
        inside = False
    # A link within the folder may lead to a file that is no video.
    if not inside or not is_video(path):
        raise HTTPException(404, f"the file of {shown_name(id)!r} is no longer in the folder of the videos; index again")
    return path


def place_for(name: str, folder: Path) -> Path:
    """The path of an upload. Raises HTTPException 422 if the name is not a plain path of a video within the folder."""
    parts = name.split("/")
    plain = all(part.isprintable() and 0 < len(part.encode(errors="replace")) <= MOST_BYTES for part in parts)
    if not plain or len(name) > MOST_CHARACTERS or any(part[0] in ". " or "\\" in part or ":" in part for part in parts):
        raise HTTPException(422, f"{name[:200]!r} is not a name for a video; write FOLDER/NAME.mp4, without dots before names")
    if PurePosixPath(name).suffix.lower() not in SUFFIXES:
        raise HTTPException(422, f"{name[:200]!r} does not have the suffix of a video; known are {' '.join(sorted(SUFFIXES))}")
    path = folder.joinpath(*parts)
    try:
        # Not even to another folder within it: two names would be one video.
        inside = path.parent.resolve() == folder.resolve().joinpath(*parts[:-1])
    except (OSError, RuntimeError):
        inside = False
    if not inside:
        raise HTTPException(422, f"{name[:200]!r} leads through a link or out of the folder of the videos; give another name")
    return path


def without_paths(text: str, *, videos: Path, index: Path) -> str:
    """A message as one line that names no path of this machine; clients see names within the two folders, and last parts."""
    text = text.replace(str(index), "INDEX").replace(f"{videos}/", "")
    text = re.sub(rf"{re.escape(str(videos))}(?![\w.-])", "the folder of the videos", text)
    return " ".join(FOLDERS.sub("", text).split())
