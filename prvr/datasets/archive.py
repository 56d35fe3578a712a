"""Zip archives of strangers: what is in them, read in memory only, never unpacked onto the disk.

What an archive declares is seen to before anything of it is read: names that lead out of it, two members of one name,
encryption, and members that would swell beyond what such a file can need.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath

from prvr.errors import DataError

MOST_BYTES = 2**30


def members(path: Path, *, most: int = MOST_BYTES) -> list[str]:
    """The names of an archive's files, none of which is dangerous to read.

    Args:
        most: bytes that one file may have, unpacked.

    Raises:
        DataError: this is no zip archive, or a member is not what an honest one holds.
    """
    with _opened(path) as archive:
        files = [member for member in archive.infolist() if not member.is_dir()]
    names = set[str]()
    for member in files:
        fault = _fault(member, names, most)
        if fault:
            raise DataError(
                f"{path}: member {member.filename[:80]!r} {fault}; nothing was read: get the file from its source again"
            )
        names.add(member.filename)
    return [member.filename for member in files]


def read_member(path: Path, name: str) -> bytes:
    """The bytes of a file in an archive, one that `members` has named.

    Raises:
        DataError: it is broken.
    """
    with _opened(path) as archive:
        try:
            return archive.read(name)
        # What zipfile cannot read, an unknown compression or a password, is a RuntimeError.
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as problem:
            raise DataError(f"{path}: member {name!r} is broken ({problem}); get the file from its source again") from None


def _fault(member: zipfile.ZipInfo, names: set[str], most: int) -> str:
    # What zipfile has made of a name that holds a zero byte or another system's separators is not what was written.
    parts = PurePosixPath(member.orig_filename.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in member.orig_filename or "\0" in member.orig_filename:
        return "leads out of the archive"
    if member.filename in names:
        return "stands twice"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.file_size > most:
        return f"declares {member.file_size} bytes, more than the {most} that one may have"
    return ""


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, RuntimeError) as problem:
        raise DataError(f"{path} is no readable zip archive ({problem}); get the file from its source again") from None
