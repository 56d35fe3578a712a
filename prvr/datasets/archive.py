"""Untrusted zip archives, read in memory and never unpacked to disk.

The directory of an archive is checked before a member is read: names that lead out of it, duplicate names, encryption, and
members that are too large when unpacked.
"""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from prvr.errors import DataError

MOST_BYTES = 2**30


def members(path: Path, *, most: int = MOST_BYTES) -> list[str]:
    """The names of an archive's files, after checking that they are safe to read.

    Args:
        most: the largest unpacked size of a file in bytes.

    Raises:
        DataError: the file is not a zip archive, or a member is unsafe.
    """
    with _open_archive(path) as archive:
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
    """The bytes of a file in an archive; `members` must have listed it.

    Raises:
        DataError: the member is broken.
    """
    with _open_archive(path) as archive:
        try:
            return archive.read(name)
        # What a damaged archive raises is not documented: BadZipFile, RuntimeError for an unknown compression or a password,
        # errors of each compression, struct.error and others.
        except Exception as problem:
            raise DataError(
                f"{path}: member {name!r} is broken ({_reason(problem)}); get the file from its source again"
            ) from None


def _fault(member: zipfile.ZipInfo, names: set[str], most: int) -> str:
    # zipfile changes names with a zero byte or another system's separators, so the original name is checked.
    parts = PurePosixPath(member.orig_filename.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in member.orig_filename or "\0" in member.orig_filename:
        return "leads out of the archive"
    if member.filename in names:
        return "occurs twice"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.file_size > most:
        return f"declares {member.file_size} bytes, more than the {most} that one may have"
    return ""


def _open_archive(path: Path) -> zipfile.ZipFile:
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a zip archive")
    try:
        return zipfile.ZipFile(path)
    except Exception as problem:
        raise DataError(
            f"{path} is not a readable zip archive ({_reason(problem)}); get the file from its source again"
        ) from None


def _reason(problem: Exception) -> str:
    return " ".join(str(problem).split())[:200] or type(problem).__name__
