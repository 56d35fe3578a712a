"""Videos in object storage or on a web server, below the URL of a folder: s3://, gs://, https:// and what else fsspec knows.

A file is compared by the size, time and tag that the store has of it, and copied here while it is read. Credentials come from
where the store's own tools look for them; a URL that holds any is refused, as URLs are stored.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any, final

from prvr.errors import (
    DataError,
    MissingExtra,
    NoSpace,
    SettingError,
    VideoError,
    VideoGone,
    nearest,
    one_line,
    require,
)
from prvr.files import owned_folder, remove_abandoned

# What stores call the time of the last change, and the tag of a content.
TIMES = (
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "Last-Modified",
    "modify",
    "modificationTime",
    "date_time",
    "created",
)
TAGS = ("ETag", "etag", "md5Hash", "Content-MD5", "generation", "CRC")
# The status of web servers for a file that they do not have.
NOT_THERE = (404, 410)
# Of the names of temporary copies: names in a store may be longer than those of files.
COPY = "remote-video"
MAKE_ROOM = "make room, or set TMPDIR to a folder of another disk"


@final
@dataclass(frozen=True)
class RemotePath:
    """A folder or a file of a store.

    listed: what the store said of it when its folder was listed; empty where it was not.

    """

    url: str
    listed: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        protocol, mark, place = self.url.partition("://")
        object.__setattr__(self, "url", protocol + mark + (place.rstrip("/") or place[:1]))

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> RemotePath:
        return self._file(name, {})

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return PurePosixPath(self.url.partition("::")[0]).name

    def absolute(self) -> RemotePath:
        """Returns itself."""
        return self

    def resolve(self) -> RemotePath:
        """Returns itself."""
        return self

    def find(self) -> dict[str, RemotePath]:
        """Returns all files below a folder by their paths in it, hidden ones left out.

        Raises:
            DataError: the folder cannot be listed.
        """
        system, root = self._system()
        try:
            listed = _list(system, root) if _finds_by_walking(system) else system.find(root, detail=True)
        except Exception as problem:  # Each store has exceptions of its own.
            raise DataError(f"cannot list {self}: {_reason(problem)}; check the URL and the credentials") from None
        if not listed:
            raise DataError(f"no files below {self}; check the URL")
        found = {}
        for path, info in sorted(listed.items()):
            id = path.removeprefix(root.rstrip("/")).strip("/")
            if not any(part.startswith(".") for part in id.split("/")):
                found[id] = self._file(id, info)
        return found

    def stamp(self, *, fresh: bool = True) -> dict[str, int]:
        """Returns the size, the time of the last change, and a number for the tag of a file, as far as the store has them.

        Args:
            fresh: asks the store, and does not use what it said in the listing.

        Raises:
            VideoGone: there is no such file.
            VideoError: the store cannot be asked.
        """
        info = self.listed
        # Listings of web servers state no size.
        if fresh or not info.get("size"):
            system, path = self._open()
            try:
                info = system.info(path)
            except Exception as problem:  # As above.
                raise self._error("open", problem, "check the URL and the credentials") from None
        stamp = {"size": int(info.get("size") or 0), "mtime_ns": _nanoseconds(info)}
        tag = next((str(info[key]) for key in TAGS if info.get(key)), None)
        return stamp if tag is None else {**stamp, "tag": int(hashlib.sha256(tag.encode()).hexdigest()[:12], 16)}

    def read_bytes(self) -> bytes:
        """Returns the content of a small file.

        Raises:
            FileNotFoundError: there is none.
            DataError: it cannot be read.
        """
        system, path = self._system()
        try:
            return bytes(system.cat_file(path))
        except FileNotFoundError:
            raise
        except Exception as problem:  # As above.
            raise DataError(f"cannot read {self}: {_reason(problem)}; check the URL and the credentials") from None

    def sizes(self, name: str) -> dict[str, int]:
        """Returns the sizes of the files in a folder below this one, by their names; none if there is no such folder.

        Raises:
            DataError: it cannot be listed.
        """
        system, path = (self / name)._system()
        try:
            return {PurePosixPath(info["name"]).name: int(info["size"] or 0) for info in system.ls(path, detail=True)}
        except FileNotFoundError:
            return {}
        except Exception as problem:  # As above.
            raise DataError(f"cannot list {self}: {_reason(problem)}; check the URL and the credentials") from None

    def write(self, content: Path | bytes) -> None:
        """Writes a file: a copy of one of this machine, or bytes.

        Raises:
            DataError: it cannot be written.
        """
        system, path = self._system()
        try:
            if "file" in system.protocol:
                system.makedirs(system._parent(path), exist_ok=True)
            if isinstance(content, bytes):
                system.pipe_file(path, content)
            else:
                system.put_file(str(content), path)
        except Exception as problem:  # As above.
            why = f"cannot write {self}: {one_line(problem)}"
            raise DataError(f"{why}; check the URL and the credentials, and run again: what was finished is kept") from None

    def delete(self) -> None:
        """Deletes a file; one that cannot be deleted is left."""
        system, path = self._system()
        with suppress(Exception):
            system.rm_file(path)

    def copy_to(self, target: Path, *, on_piece: Callable[[], None] | None = None) -> None:
        """Copies a file here.

        Args:
            on_piece: called after each piece; what it raises ends the copy. Copies between folders of this machine have none.

        Raises:
            VideoGone: there is no such file.
            NoSpace: there is no room for it.
            VideoError: it cannot be read, or the reading breaks off.
        """
        system, path = self._open()
        self._check_space(target.parent)
        options: dict[str, Any] = {}
        if on_piece is not None:
            callback = require("fsspec.callbacks", extra="storage").Callback
            options["callback"] = callback(hooks={"piece": lambda size, done: on_piece()})
        try:
            system.get_file(path, str(target), **options)
        except Exception as problem:  # As above.
            if isinstance(problem, OSError) and problem.errno == errno.ENOSPC:
                raise NoSpace(f"no space for a copy of {self} in {target.parent}; {MAKE_ROOM}") from None
            raise self._error("read", problem, "run again, what was finished is kept") from None
        size, there = self.stamp()["size"], target.stat().st_size
        if size and there != size:
            raise VideoError(f"{self} broke off after {there} of {size} bytes; run again, what was finished is kept")

    def _check_space(self, folder: Path) -> None:
        # Some web servers state no size: 0.
        size = int(self.listed.get("size") or 0) or self.stamp()["size"]
        free = shutil.disk_usage(folder).free
        if size > free:
            raise NoSpace(f"no space for a copy of {self} in {folder}: it has {size} bytes, {free} are free; {MAKE_ROOM}")

    def _error(self, done: str, problem: Exception, remedy: str) -> VideoError:
        kind = VideoGone if _is_gone(problem) else VideoError
        return kind(f"cannot {done} {self}: {_reason(problem)}; {remedy}")

    def _file(self, name: str, listed: Mapping[str, Any]) -> RemotePath:
        inner, mark, outer = self.url.partition("::")
        return RemotePath(f"{inner}{'' if inner.endswith('/') else '/'}{name}{mark}{outer}", listed)

    def _open(self) -> tuple[Any, str]:
        """As `_system`, for one file of several: it raises a VideoError, which costs that one."""
        try:
            return self._system()
        except DataError as problem:
            raise VideoError(str(problem)) from None

    def _system(self) -> tuple[Any, str]:
        fsspec = require("fsspec", extra="storage")
        protocol = self.url.partition("://")[0]
        if protocol not in fsspec.available_protocols():
            raise SettingError(f"unknown protocol {protocol!r} in {self}; {nearest(protocol, fsspec.available_protocols())}")
        try:
            # Without the cache of listings: a file that changes while it is read must be noticed.
            system, path = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except ImportError as problem:
            needed = f"{protocol}:// needs a package ({one_line(problem)})"
            raise MissingExtra(f"{needed}; pip install 'prvr[storage]', or that package") from problem
        except Exception as problem:  # As above.
            raise DataError(f"cannot open {self}: {_reason(problem)}; check the URL and the credentials") from None
        return system, str(path)


VideoPath = Path | RemotePath


def place_of(place: str | VideoPath) -> VideoPath:
    """Returns a URL as a remote path, and anything else as a path of this machine.

    Raises:
        SettingError: the URL holds credentials.
    """
    if isinstance(place, str) and "://" in place:
        # Of a file system within another one, such as zip://::s3://bucket/a.zip, each.
        inner = [part.partition("://")[2] for part in place.split("::")]
        # A secret may have a slash: KEY:SEC/RET@bucket.
        if any("@" in part.partition("/")[0] or "?" in part or re.match(r"[^/]*:(?!\d+/).*@", part) for part in inner):
            raise SettingError(
                f"this {place.partition('://')[0]}:// URL holds credentials or a query, and URLs are stored in indexes; give "
                "credentials in the environment or in the files of the store's own tools"
            )
        return RemotePath(place)
    return Path(place) if isinstance(place, str) else place


@contextmanager
def local_copy(path: VideoPath) -> Iterator[Path]:
    """Yields a path of this machine: a temporary copy of a remote file.

    Raises:
        VideoError: it cannot be read.
    """
    if isinstance(path, Path):
        yield path
        return
    remove_abandoned_copies()
    with owned_folder(Path(tempfile.gettempdir())) as folder:
        copy = folder / (COPY + PurePosixPath(path.name).suffix[:20])
        path.copy_to(copy)
        yield copy


def remove_abandoned_copies() -> None:
    """Deletes the temporary copies of processes that were killed."""
    remove_abandoned(Path(tempfile.gettempdir()))


def _nanoseconds(info: Mapping[str, Any]) -> int:
    """The time of the last change; 0 where the store says none, or in a way that is not known."""
    value = next((info[key] for key in TIMES if info.get(key)), 0)
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value) if value[4:5] == "-" else parsedate_to_datetime(value)
        elif isinstance(value, tuple):
            value = datetime(*value).replace(tzinfo=UTC)
        seconds = value.timestamp() if isinstance(value, datetime) else float(value)
    except (ValueError, TypeError, OverflowError):
        return 0
    # Some count milliseconds.
    return round(seconds * 1e9) if seconds < 1e11 else round(seconds * 1e6)


def _list(system: Any, root: str) -> dict[str, Any]:
    """As `find`, which leaves out a folder that cannot be listed now, as if it had no videos."""
    found, waiting = {}, [root]
    while waiting:
        folder = waiting.pop()
        for info in system.ls(folder, detail=True):
            if info["type"] != "directory":
                found[info["name"]] = info
            elif info["name"].rstrip("/") != folder.rstrip("/") and not info.get("islink"):
                waiting.append(info["name"])
    return found


def _finds_by_walking(system: Any) -> bool:
    kind, plain = type(system), require("fsspec.spec", extra="storage").AbstractFileSystem
    waiting = require("fsspec.asyn", extra="storage").AsyncFileSystem
    if isinstance(system, waiting):
        return bool(kind._find is waiting._find and kind._walk is waiting._walk)
    return bool(kind.find is plain.find and kind.walk is plain.walk)


def _is_gone(problem: Exception) -> bool:
    """Whether an error means that a file is missing; fsspec raises it for every failure of a web server, with the cause."""
    cause = problem.__cause__
    answered = getattr(cause, "status", None) in NOT_THERE if type(cause).__module__.startswith("aiohttp") else True
    return isinstance(problem, FileNotFoundError) and answered and not isinstance(cause, (ConnectionError, TimeoutError))


def _reason(problem: Exception) -> str:
    # Of a file that is not there, most file systems say its path alone.
    if _is_gone(problem):
        return "it is not there"
    reason = problem.__cause__ if isinstance(problem, FileNotFoundError) else problem
    # Queries of signed URLs are credentials.
    return re.sub(r"\?[^\s'\"]+", "?...", one_line(reason or problem))
