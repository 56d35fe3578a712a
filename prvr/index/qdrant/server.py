"""A Qdrant server: connection, creation of a collection, the header in it, errors."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import torch

from prvr.errors import DataError, ModelError, SettingError, require
from prvr.files import parse_json
from prvr.index.contract import Header
from prvr.index.sketches import weighted_fields
from prvr.methods.checkpoint import device_of
from prvr.methods.contract import Model

PORT = 6333
KEY = "QDRANT_API_KEY"
SECONDS = 120
BAD_REQUEST = 400
FORMAT = 2
# Without a first stage: searched exactly.
OLDER_FORMAT = 1
NOTE = "prvr"
# The measured setting of approximate searches, beside the note.
SETTING = "prvr-setting"
# The multivector that the first stage scans: `prvr.index.sketches.divide`.
STAGE = "prvr-first-stage"


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


def create(qdrant: ModuleType, client: Any, collection: str, model: Model, header: Header, *, place: str) -> None:
    """Creates the collection of an index: a multivector for each field, and one of few rows in four bits for the first stage.

    Raises:
        DataError: the server is too old.
    """
    models = qdrant.models
    best_row = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    # On disk, and without a graph: one over rows finds half to nine tenths of what a scan finds.
    rows = partial(
        models.VectorParams,
        distance=models.Distance.DOT,
        multivector_config=best_row,
        hnsw_config=models.HnswConfigDiff(m=0),
        on_disk=True,
    )
    four_bits = models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS4, always_ram=True)
    columns = columns_of(model)
    fields = {name: rows(size=size) for name, size in columns.items()}
    fields[STAGE] = rows(
        size=sum(weighted_fields([*columns.values()], model.score_weights or ())),
        datatype=models.Datatype.FLOAT16,
        quantization_config=models.TurboQuantization(turbo=four_bits),
    )
    # ASCII: the folder's name need not be UTF-8.
    metadata = {NOTE: json.dumps({"format": FORMAT, **asdict(header)})}
    try:
        client.create_collection(collection, vectors_config=fields, on_disk_payload=True, metadata=metadata)
    except qdrant.http.exceptions.UnexpectedResponse as problem:
        if problem.status_code != BAD_REQUEST:
            raise
        # An older server does not know codes of four bits.
        raise DataError(f"Qdrant refuses at {place}: {_gist(problem)}; a server of 1.18 or later is needed") from problem
    for key in ("folders", "kinds", "equals"):
        client.create_payload_index(collection, key, field_schema=models.PayloadSchemaType.KEYWORD)


@torch.inference_mode()
def columns_of(model: Model) -> dict[str, int]:
    """The number of columns of each field, from encoding a video of one frame."""
    frame = torch.zeros(1, 1, model.reading.frame_columns, device=device_of(model))
    rows = model.encode_videos(frame, frame.new_ones(1, 1, dtype=torch.bool))
    return {name: field.shape[-1] for name, field in zip(model.embedding_fields, rows, strict=True)}


def check_columns(vectors: Any, model: Model, place: str) -> None:
    """Compares the columns of a collection with those of a model's embeddings.

    Args:
        vectors: the settings of the collection's vectors by name.

    Raises:
        ModelError: they differ.
    """
    for name, columns in columns_of(model).items():
        there = getattr(vectors.get(name), "size", None) if isinstance(vectors, dict) else None
        if there != columns:
            found = f"{there} columns in {name}" if there else f"no vectors {name}"
            raise ModelError(
                f"{place} has {found}, and the model's embeddings have {columns}; copy to a collection of another name"
            )


def header_of(note: Any, place: str) -> tuple[Header, int]:
    """The header of an index and its format, from the note in its collection's metadata.

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
        header = Header(**about) if version in (OLDER_FORMAT, FORMAT) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"the note of {place} is damaged; copy to a collection of another name") from None
    if header is None:
        raise ModelError(
            f"{place} has format {version}, this prvr reads {OLDER_FORMAT} and {FORMAT}; copy to a collection of another name"
        )
    return header, version


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
