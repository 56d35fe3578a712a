"""An index in Qdrant: a point for each video, in which each embedding field is a named multivector.

The server finds the best row of each field (MAX_SIM) without a graph, so exactly, and adds the fields up by their weights:
the fusion is for each video. Rows of hits are read again for what a hit says of its moments.

qdrant://HOST[:PORT]/COLLECTION         over HTTP; port 6333 if not said
qdrant+https://HOST[:PORT]/COLLECTION   encrypted; a key for the server is read from QDRANT_API_KEY

collection.py   the index that is a collection
points.py       a video as a point, and back
filters.py      conditions that the server can apply
server.py       how a server is reached, and what it cannot do
"""

from __future__ import annotations

from prvr.index.contract import Header
from prvr.index.qdrant.collection import QdrantIndex
from prvr.index.qdrant.server import connected
from prvr.methods.contract import Model

__all__ = ["QdrantIndex", "make_index", "open_index"]


def make_index(url: str, model: Model, header: Header) -> QdrantIndex:
    """The index at a URL, made if it is not there.

    Raises:
        SettingError: the URL is none of an index in Qdrant.
        MissingExtra: qdrant-client is not installed.
        ModelError, DataError: as `QdrantIndex`.
    """
    client, collection = connected(url)
    return QdrantIndex.make(client, collection, model, header, place=url)


def open_index(url: str, model: Model) -> QdrantIndex:
    """The index at a URL; errors as `make_index`."""
    client, collection = connected(url)
    return QdrantIndex(client, collection, model, place=url)
