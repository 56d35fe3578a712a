"""A Qdrant server: connection, creation of a collection, the header in it, errors."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import torch

from prvr.errors import DataError, ModelError, SettingError, require
from prvr.files import parse_json
from prvr.index.contract import Header
from prvr.methods.checkpoint import device_of
from prvr.methods.contract import Model

PORT = 6333
KEY = "QDRANT_API_KEY"
SECONDS = 120
FORMAT = 1
NOTE = "prvr"


def connect(url: str) -> tuple[Any, str]:
    """A client, and the name of the collection."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORT
    except ValueError:
        raise SettingError(f"{url!r} is not the URL of an index in Qdrant; its port is not a number") from None
    collection = parts.path.strip("/")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise SettingError(f"a qdrant:// URL takes a host, a port and a collection alone; put the server's key into ${KEY}")
    if not parts.hostname or not collection or "/" in collection:
        raise SettingError(f"{url!r} is not the URL of an index in Qdrant; write qdrant://HOST:PORT/COLLECTION")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    protocol = "https" if parts.scheme.endswith("https") else "http"
    qdrant = require("qdrant_client", extra="qdrant")
    client = qdrant.QdrantClient(
        url=f"{protocol}://{host}:{port}", api_key=os.environ.get(KEY), timeout=SECONDS, check_compatibility=False
    )
    return client, collection


def create(models: ModuleType, client: Any, collection: str, model: Model, header: Header) -> None:
    """Creates the collection of an index."""
    best_row = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    # A graph over rows finds half to nine tenths of what a scan finds.
    no_graph = models.HnswConfigDiff(m=0)
    fields = {
        name: models.VectorParams(size=columns, distance=models.Distance.DOT, multivector_config=best_row, hnsw_config=no_graph)
        for name, columns in _columns(model).items()
    }
    # ASCII: the folder's name need not be UTF-8.
    metadata = {NOTE: json.dumps({"format": FORMAT, **asdict(header)})}
    client.create_collection(collection, vectors_config=fields, on_disk_payload=True, metadata=metadata)
    for key in ("folders", "kinds", "equals"):
        client.create_payload_index(collection, key, field_schema=models.PayloadSchemaType.KEYWORD)


@torch.inference_mode()
def _columns(model: Model) -> dict[str, int]:
    """The number of columns of each field, from encoding a video of one frame."""
    frame = torch.zeros(1, 1, model.reading.frame_columns, device=device_of(model))
    rows = model.encode_videos(frame, frame.new_ones(1, 1, dtype=torch.bool))
    return {name: field.shape[-1] for name, field in zip(model.embedding_fields, rows, strict=True)}


def header_of(note: Any, place: str) -> Header:
    """The header of an index, from the note in its collection's metadata.

    Raises:
        ModelError: there is no note, or the index has another format.
    """
    if note is None:
        raise ModelError(
            f"{place} is a collection of something else, or its server is older than 1.16 and keeps no notes; "
            "copy to a collection of another name"
        )
    try:
        about = parse_json(note)
        version = about.pop("format")
        header = Header(**about) if version == FORMAT else None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"the note of {place} is damaged; copy to a collection of another name") from None
    if header is None:
        raise ModelError(f"{place} has format {version}, this prvr reads {FORMAT}; copy to a collection of another name")
    return header


@contextmanager
def qdrant_errors(qdrant: ModuleType, place: str) -> Iterator[None]:
    """Raises the server's errors as one line.

    Raises:
        DataError: it cannot be reached, or refuses.
    """
    problems = qdrant.http.exceptions
    try:
        yield
    except problems.UnexpectedResponse as problem:
        raise DataError(f"Qdrant refuses at {place}: {_gist(problem)}") from problem
    except problems.ResponseHandlingException as problem:
        raise DataError(f"no answer from Qdrant at {place}: {problem}; check that the server runs there") from problem


def _gist(problem: Any) -> str:
    if problem.status_code in (401, 403):
        return f"it wants another key; put it into ${KEY}"
    with suppress(ValueError, KeyError, TypeError):
        return " ".join(str(json.loads(problem.content)["status"]["error"]).split())[:300]
    return f"{problem.status_code} {problem.reason_phrase}"
