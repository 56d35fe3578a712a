"""Packed features in object storage: copied there from a folder, and back before they are read.

URL/objects/SHA256           the files of the packed folders, by their content
URL/prvr-features.json       which file has which content; it is written last

So features that were not copied to the end are never taken for whole, those of before stay until then, and a call that was
interrupted goes on: an object of the right size is there already.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from prvr.errors import DataError, NoSpace, SettingError, VideoGone
from prvr.features.packed import HEADER, ITEMS, ROWS
from prvr.files import lock_for_writing, parse_json
from prvr.video.remote import RemotePath, place_of

MANIFEST, OBJECTS, FORMAT = "prvr-features.json", "objects", 1
# What is copied, how many bytes are done, and how many there are.
Progress = Callable[[str, int, int], None]
Files = Mapping[str, tuple[str, int]]
"""The SHA-256 and the size of each file, by its path below the folder of features."""


def require_folder(path: str | Path) -> None:
    """Checks that features are in a folder of this machine.

    Raises:
        SettingError: it is a URL.
    """
    # A URL as a path has lost one of its slashes.
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise SettingError(
            f"{path} is the URL of a store, and features are written and read in folders of this machine; copy a folder there "
            "and back: prvr data upload FEATURES URL, prvr data download URL FEATURES"
        )


def upload_features(features: Path, url: str, on_progress: Progress) -> int:
    """Copies the packed features in a folder to a store, in place of those that are there; returns the number of files.

    One process at a time may write to a URL.

    Raises:
        DataError: there are no packed features, another process writes to them, or the store cannot be read or written.
        SettingError: it is no URL, or holds credentials.
    """
    place = _store(url)
    folders = sorted(header.parent for header in features.rglob(HEADER))
    if not folders:
        raise DataError(f"no packed features in {features}; make some with: prvr extract VIDEOS {features} --encoder ENCODER")
    with ExitStack() as stack:
        for folder in folders:
            # Where this user cannot make the lock's file, no process of this user writes.
            with suppress(OSError):
                stack.callback(lock_for_writing(folder).release)
        paths = {path.relative_to(features).as_posix(): path for folder in folders for path in _files_of(folder)}
        for name, path in paths.items():
            if not _is_plain(name):
                raise DataError(f"{path} has : or a backslash in its path below {features}, and no download takes it; rename it")
        files = {name: (_sha256(path), path.stat().st_size) for name, path in paths.items()}
        before = _listed_objects(place)
        # Twice: another upload to this URL may have deleted some meanwhile.
        for _ in range(2):
            _write_missing(place, files, paths, on_progress)
        manifest = {
            "format": FORMAT,
            "files": {name: {"sha256": content, "size": size} for name, (content, size) in files.items()},
        }
        (place / MANIFEST).write(json.dumps(manifest, indent=1).encode())
    for content in before - {content for content, _ in files.values()}:
        (place / OBJECTS / content).delete()
    return len(files)


def _write_missing(place: RemotePath, files: Files, paths: Mapping[str, Path], on_progress: Progress) -> None:
    there = place.sizes(OBJECTS)
    done, total = 0, sum(size for _, size in files.values())
    for name, (content, size) in files.items():
        if there.get(content) != size:
            on_progress(f"copying {name}", done, total)
            (place / OBJECTS / content).write(paths[name])
            there[content] = size
        done += size


def download_features(url: str, features: Path, on_progress: Progress) -> int:
    """Copies packed features from a store to a new folder; returns the number of files.

    An interrupted call goes on. Each file is compared with its checksum.

    Raises:
        DataError: the folder exists, another process writes to it, there are no whole features at the URL, or a file is damaged
            or cannot be read.
        NoSpace: there is no room for them.
        SettingError: it is no URL, or holds credentials.
    """
    place = _store(url)
    require_folder(features)
    _check_new(features)
    files = _read_manifest(place)
    features.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_for_writing(features)
    try:
        # Another process may have made it since.
        _check_new(features)
        _copy_here(place, files, features, on_progress)
    finally:
        lock.release()
    return len(files)


def _check_new(folder: Path) -> None:
    if folder.exists():
        raise DataError(f"{folder} is there already; delete it, or name another folder")


def _copy_here(place: RemotePath, files: Files, features: Path, on_progress: Progress) -> None:
    part = features.with_name(f"{features.name}.part")
    part.mkdir(exist_ok=True)
    _delete_others(part, files)
    missing = {name: of for name, of in files.items() if not _is_there(part / name, *of)}
    total = sum(size for _, size in files.values())
    needed, free = sum(size for _, size in missing.values()), shutil.disk_usage(part).free
    if needed > free:
        raise NoSpace(f"no space for {place} in {features.parent}: {needed} bytes are needed, {free} are free; make room")
    done, upload = total - needed, f"prvr data upload FEATURES {place}"
    for name, (content, size) in missing.items():
        on_progress(f"copying {name}", done, total)
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            (place / OBJECTS / content).copy_to(part / name)
        except VideoGone:
            raise DataError(
                f"{name} is no longer in {place}; run again, and if it is still missing, copy it there again: {upload}"
            ) from None
        if not _is_there(part / name, content, size):
            # An upload takes an object of the right size for whole.
            damaged = place / OBJECTS / content
            raise DataError(f"{name} in {place} is not what was written; delete {damaged} and copy it there again: {upload}")
        done += size
    os.replace(part, features)


def _store(url: str) -> RemotePath:
    place = place_of(url)
    if isinstance(place, Path):
        raise SettingError(f"{url} is no URL of a store; write s3://BUCKET/FOLDER or the like")
    return place


def _files_of(folder: Path) -> list[Path]:
    return [folder / name for name in (HEADER, ROWS, ITEMS) if (folder / name).is_file()]


def _read_manifest(place: RemotePath) -> Files:
    try:
        manifest = parse_json((place / MANIFEST).read_bytes())
        if (format := manifest["format"]) != FORMAT:
            raise DataError(f"{place}/{MANIFEST} has format {format!r}, and this prvr reads format {FORMAT}; install a later one")
        files = {str(name): (str(file["sha256"]), int(file["size"])) for name, file in manifest["files"].items()}
    except FileNotFoundError:
        files = {}
    except (ValueError, KeyError, TypeError, AttributeError):
        files = {"": ("", 0)}
    if not files:
        raise DataError(f"no features in {place}, or not all of them; copy them there: prvr data upload FEATURES {place}")
    # Anybody may have written it: no file leads out of the folder, and none is anything but a file of packed features.
    if not all(_is_plain(name) and re.fullmatch(r"[0-9a-f]{64}", content) for name, (content, _) in files.items()):
        raise DataError(f"{place}/{MANIFEST} is damaged; copy the features there again: prvr data upload FEATURES {place}")
    return files


def _listed_objects(place: RemotePath) -> set[str]:
    """The objects that the list at a URL names: no other file there is known to be ours."""
    with suppress(DataError):
        return {content for content, _ in _read_manifest(place).values()}
    return set()


def _is_plain(name: str) -> bool:
    *folders, last = name.split("/")
    return last in (HEADER, ROWS, ITEMS) and all(part not in ("", ".", "..") and not set(part) & set("\\:\0") for part in folders)


def _delete_others(folder: Path, files: Files) -> None:
    """Deletes what an earlier copy, of other features, left in the folder."""
    # The files of a folder come before it, so that it is empty if none of them stays.
    for path in sorted(folder.rglob("*"), reverse=True):
        if not path.is_dir() or path.is_symlink():
            if path.relative_to(folder).as_posix() not in files:
                path.unlink()
        elif not any(path.iterdir()):
            path.rmdir()


def _is_there(path: Path, content: str, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size and _sha256(path) == content


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
