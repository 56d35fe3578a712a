"""Where an index lies: in a folder of this machine, or elsewhere by a URL whose scheme says in what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from prvr.errors import SettingError, nearest
from prvr.index import cluster, qdrant, shards
from prvr.index.contract import Header, Kept
from prvr.index.disk import DiskIndex
from prvr.methods.contract import Model


@dataclass(frozen=True)
class Kind:
    """How an index of one kind is made, or the one opened that is there, and how one is opened."""

    make: Callable[[str, Model, Header], Kept]
    open: Callable[[str, Model], Kept]


KINDS: Mapping[str, Kind] = {
    "qdrant": Kind(qdrant.make_index, qdrant.open_index),
    "qdrant+https": Kind(qdrant.make_index, qdrant.open_index),
    "ray": Kind(cluster.make_index, cluster.open_index),
    "shards": Kind(shards.make_index, shards.open_index),
}
"""By the scheme of a URL, such as qdrant."""


def is_remote(place: str | Path) -> bool:
    """Whether a place is a URL and not a folder."""
    return isinstance(place, str) and "://" in place


def open_store(place: str | Path, model: Model) -> Kept:
    """The index that is there.

    Raises:
        ModelError: there is none.
        SettingError: a URL of a scheme that nobody knows.
    """
    return _kind(place).open(place, model) if isinstance(place, str) and is_remote(place) else DiskIndex(Path(place), model)


def make_store(place: str | Path, model: Model, header: Header) -> Kept:
    """The index that is there, or a new one.

    Raises:
        SettingError: a URL of a scheme that nobody knows.
    """
    if isinstance(place, str) and is_remote(place):
        return _kind(place).make(place, model, header)
    return DiskIndex.make(Path(place), model, header)


def _kind(place: str) -> Kind:
    scheme = place.partition("://")[0]
    if scheme not in KINDS:
        raise SettingError(f"no index is known by {scheme}://; {nearest(scheme, KINDS)}")
    return KINDS[scheme]
