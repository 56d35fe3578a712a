"""Opens the index at a place: a folder of this machine, or a URL with the scheme of another kind of index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from prvr.errors import SettingError
from prvr.index import cluster, qdrant, shards
from prvr.index.contract import Header, PersistentStore
from prvr.index.disk import DiskIndex
from prvr.methods.contract import Model


@dataclass(frozen=True)
class Kind:
    """How an index of one kind is opened, how it is created if it does not exist, and its folder, if it is in one."""

    make: Callable[[str, Model, Header], PersistentStore]
    open: Callable[[str, Model], PersistentStore]
    folder: Callable[[str], Path] | None = None


KINDS: Mapping[str, Kind] = {
    "qdrant": Kind(qdrant.make_index, qdrant.open_index),
    "qdrant+https": Kind(qdrant.make_index, qdrant.open_index),
    "ray": Kind(cluster.make_index, cluster.open_index, shards.folder_of),
    "shards": Kind(shards.make_index, shards.open_index, shards.folder_of),
}
"""By the scheme of a URL, such as qdrant."""


def open_store(place: str | Path, model: Model) -> PersistentStore:
    """The index at a place.

    Raises:
        ModelError: there is none.
        SettingError: the scheme of the URL is unknown.
    """
    return _kind(place).open(place, model) if isinstance(place, str) and "://" in place else DiskIndex(Path(place), model)


def make_store(place: str | Path, model: Model, header: Header) -> PersistentStore:
    """The index at a place; created if it does not exist.

    Raises:
        SettingError: the scheme of the URL is unknown.
    """
    if isinstance(place, str) and "://" in place:
        return _kind(place).make(place, model, header)
    return DiskIndex.make(Path(place), model, header)


def folder_of(place: str | Path) -> Path | None:
    """The folder that holds an index and its checkpoint; None for an index on a server.

    Raises:
        SettingError: the scheme of the URL is unknown.
    """
    if not (isinstance(place, str) and "://" in place):
        return Path(place)
    folder = _kind(place).folder
    return folder and folder(place)


def _kind(url: str) -> Kind:
    scheme = url.partition("://")[0]
    if scheme not in KINDS:
        close = get_close_matches(scheme.lower(), KINDS, n=1)
        meant = f"did you mean {close[0]}://? " if close else ""
        raise SettingError(f"no index is known by {scheme}://; {meant}known are {', '.join(f'{kind}://' for kind in KINDS)}")
    return KINDS[scheme]
