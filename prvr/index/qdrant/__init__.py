"""An index in Qdrant: a point for each video, in which each embedding field is a named multivector.

The server finds the best row of each field (MAX_SIM) without a graph, so exactly, and adds up the fields by their weights,
video by video. An approximate search scans few rows of each video first, in four bits, and scores the best of these so. The
server returns no rows with the scores; those of the hits are read afterwards, and decide.

qdrant://HOST[:PORT]/COLLECTION         over HTTP [default port: 6333]
qdrant+https://HOST[:PORT]/COLLECTION   encrypted; the key for the server is read from QDRANT_API_KEY

collection.py   the index as a collection
points.py       videos to points and back
filters.py      conditions to filters of the server
server.py       connection, creation of a collection, errors
"""

from __future__ import annotations

from prvr.index.contract import Header
from prvr.index.qdrant.collection import QdrantIndex
from prvr.index.qdrant.server import connect
from prvr.methods.contract import Model

__all__ = ["QdrantIndex", "make_index", "open_index"]


def make_index(url: str, model: Model, header: Header) -> QdrantIndex:
    """The index at a URL; created if it does not exist.

    Raises:
        SettingError: the URL has another form.
        MissingExtra: qdrant-client is not installed.
        ModelError, DataError: as `QdrantIndex`.
    """
    client, collection = connect(url)
    return QdrantIndex.make(client, collection, model, header, place=url)


def open_index(url: str, model: Model) -> QdrantIndex:
    """The index at a URL; errors as `make_index`."""
    client, collection = connect(url)
    return QdrantIndex(client, collection, model, place=url)
