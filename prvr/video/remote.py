"""Videos in object storage or on a web server, below the URL of a folder: s3://, gs://, https:// and what else fsspec knows.

A file is compared by the size, time and tag that the store has of it, and copied here while it is read. Credentials come from
where the store's own tools look for them; a URL that holds any is refused, as URLs are stored.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any, final

from prvr.errors import DataError, MissingExtra, SettingError, VideoError, nearest, one_line, require

# What stores call the time of the last change, and the tag of a content.
TIMES = ("mtime", "LastModified", "last_modified", "updated", "Last-Modified", "created")
TAGS = ("ETag", "etag", "md5Hash", "Content-MD5", "generation")


@final
@dataclass(frozen=True)
class RemotePath:
    """A folder or a file of a store.

    listed: what the store said of it when its folder was listed; empty where it was not.

    Raises:
        SettingError: the URL holds credentials.
    """

    url: str
    listed: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        protocol = self.url.partition("://")[0]
        # Of a file system within another one, such as zip://::s3://bucket/a.zip, each.
        places = [place.partition("://")[2] for place in self.url.split("::")]
        if any("@" in place.partition("/")[0] or "?" in place for place in places):
            raise SettingError(
                f"this {protocol}:// URL holds credentials or a query, and URLs are stored in indexes; give credentials in the "
                "environment or in the files of the store's own tools"
            )
        if not self.url.endswith("://"):
            object.__setattr__(self, "url", self.url.rstrip("/"))

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
            listed = system.find(root, detail=True)
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
            VideoError: there is no such file, or the store cannot be asked.
        """
        info = self.listed
        if fresh or not info:
            system, path = self._system()
            try:
                info = system.info(path)
            except Exception as problem:  # As above.
                raise VideoError(f"cannot open {self}: {_reason(problem)}; check the URL and the credentials") from None
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

    def copy_to(self, target: Path) -> None:
        """Copies a file here.

        Raises:
            VideoError: it cannot be read, or the reading breaks off.
        """
        system, path = self._system()
        try:
            system.get_file(path, str(target))
        except Exception as problem:  # As above.
            raise VideoError(f"cannot read {self}: {_reason(problem)}; run again, what was finished is kept") from None
        size, there = self.stamp()["size"], target.stat().st_size
        if size and there != size:
            raise VideoError(f"{self} broke off after {there} of {size} bytes; run again, what was finished is kept")

    def _file(self, name: str, listed: Mapping[str, Any]) -> RemotePath:
        inner, mark, outer = self.url.partition("::")
        return RemotePath(f"{inner}{'' if inner.endswith('/') else '/'}{name}{mark}{outer}", listed)

    def _system(self) -> tuple[Any, str]:
        fsspec = require("fsspec", extra="storage")
        protocol = self.url.partition("://")[0]
        if protocol not in fsspec.available_protocols():
            raise SettingError(f"unknown protocol {protocol!r} in {self}; {nearest(protocol, fsspec.available_protocols())}")
        try:
            # Without the cache of listings: a file that changes while it is read must be noticed.
            system, path = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except ImportError as problem:
            raise MissingExtra(f"{protocol}:// needs a package ({one_line(problem)}); pip install 'prvr[storage]'") from problem
        except Exception as problem:  # As above.
            raise DataError(f"cannot open {self}: {_reason(problem)}; check the URL and the credentials") from None
        return system, str(path)


VideoPath = Path | RemotePath


def place_of(place: str | VideoPath) -> VideoPath:
    """Returns a URL as a remote path, and anything else as a path of this machine."""
    if isinstance(place, str):
        return RemotePath(place) if "://" in place else Path(place)
    return place


@contextmanager
def local_copy(path: VideoPath) -> Iterator[Path]:
    """Yields a path of this machine: a temporary copy of a remote file.

    Raises:
        VideoError: it cannot be read.
    """
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="prvr-") as folder:
        copy = Path(folder) / path.name
        path.copy_to(copy)
        yield copy


def _nanoseconds(info: Mapping[str, Any]) -> int:
    value = next((info[key] for key in TIMES if info.get(key)), 0)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = parsedate_to_datetime(str(value))
    return round((value.timestamp() if isinstance(value, datetime) else float(value)) * 1e9)


def _reason(problem: Exception) -> str:
    # Of a file that is not there, most file systems say its path alone.
    return "it is not there" if isinstance(problem, FileNotFoundError) else one_line(problem)
