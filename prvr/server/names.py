"""Names of videos as strangers give them: which are shown, which may be written, and which file is behind one."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from fastapi import HTTPException

from prvr.video import SUFFIXES

MOST_CHARACTERS = 500
# Of a part of a path, in bytes: what common file systems take.
MOST_BYTES = 255


def shown_name(id: str) -> str:
    """An id as text that JSON and addresses can carry: bytes that are no UTF-8 are written as \\udc.. in it."""
    return id.encode(errors="backslashreplace").decode()


def title_of(id: str) -> str:
    """What a person reads as a video's title: the file's name without suffix and underscores."""
    return " ".join(PurePosixPath(shown_name(id)).stem.replace("_", " ").split()) or shown_name(id)


def file_of(id: str, folder: Path) -> Path:
    """The file of a video of the index; a refusal where it is gone, or a link leads out of the folder."""
    try:
        path = (folder / id).resolve(strict=True)
        inside = path.is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise HTTPException(404, f"the file of {shown_name(id)!r} is no longer in the folder of the videos; index again")
    return path


def place_for(name: str, folder: Path) -> Path:
    """Where an upload of that name goes; a refusal where the name is no plain path of a video within the folder."""
    parts = name.split("/")
    plain = all(part.isprintable() and 0 < len(part.encode(errors="replace")) <= MOST_BYTES for part in parts)
    if not plain or len(name) > MOST_CHARACTERS or any(part[0] in ". " or "\\" in part or ":" in part for part in parts):
        raise HTTPException(422, f"{name[:200]!r} is not a name for a video; write FOLDER/NAME.mp4, without dots before names")
    if PurePosixPath(name).suffix.lower() not in SUFFIXES:
        raise HTTPException(422, f"{name[:200]!r} does not end as videos do; known are {' '.join(sorted(SUFFIXES))}")
    path = folder.joinpath(*parts)
    try:
        inside = path.parent.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        inside = False
    if not inside:
        raise HTTPException(422, f"{name[:200]!r} leads out of the folder of the videos; give another name")
    return path
