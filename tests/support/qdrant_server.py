"""Where the tests find Qdrant: the server of $PRVR_TEST_QDRANT_URL, or the client's own imitation of one behind HTTP."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import threading
import uuid
import warnings
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.models import CollectionExistence

from prvr.index.contract import Header
from prvr.index.qdrant import QdrantIndex, make_index
from prvr.index.qdrant.server import connect
from prvr.methods.contract import Model

URL = "PRVR_TEST_QDRANT_URL"
RUN = uuid.uuid4().hex[:8]
MADE: set[str] = set()


@cache
def address() -> str:
    """qdrant://HOST:PORT of the server."""
    if URL in os.environ:
        return os.environ[URL].rstrip("/")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Imitation)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"qdrant://127.0.0.1:{server.server_port}"


def url_for(path: Path) -> str:
    """A collection for a test, by its folder."""
    return f"{address()}/{name_for(path)}"


def name_for(path: Path) -> str:
    name = f"prvr-test-{RUN}-{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if URL in os.environ and name not in MADE:
        MADE.add(name)
        atexit.register(remove, f"{address()}/{name}")
    return name


def remove(url: str) -> None:
    client, collection = connect(url)
    client.delete_collection(collection)


def on_qdrant(model: Model, path: Path) -> QdrantIndex:
    """The index of a test's folder; the test is skipped where the model is one that Qdrant cannot hold."""
    if model.score_weights is None:
        pytest.skip("no sum of cosines")
    header = Header("0123456789abcdef", "float32", "videos")
    if URL in os.environ:
        return make_index(url_for(path), model, header)
    with warnings.catch_warnings():
        # It keeps no indexes of payloads, and says so.
        warnings.simplefilter("ignore")
        return QdrantIndex.make(Imitation.client, name_for(path), model, header, place="memory")


class Imitation(BaseHTTPRequestHandler):
    """Speaks HTTP for the client's imitation of a server in memory."""

    client = QdrantClient(":memory:", force_disable_check_same_thread=True)
    lock = threading.Lock()

    def answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        _, _, name, *rest = self.path.partition("?")[0].split("/")
        action = f"{self.command} {'/'.join(rest)}".strip()
        try:
            with self.lock, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                status, said = 200, {"result": jsonable(done(self.client, name, action, body)), "status": "ok", "time": 0.0}
        except ValueError as problem:
            status, said = 400, {"status": {"error": str(problem)}, "time": 0.0}
        data = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


def done(client: QdrantClient, name: str, action: str, body: dict[str, Any]) -> Any:
    if action == "GET exists":
        return CollectionExistence(exists=client.collection_exists(name))
    if action == "GET":
        return client.get_collection(name)
    if action == "PUT":
        made = models.CreateCollection.model_validate(body)
        return client.create_collection(name, vectors_config=made.vectors, metadata=made.metadata)
    if action == "DELETE":
        return client.delete_collection(name)
    if action == "PATCH":
        return client.update_collection(name, metadata=body["metadata"])
    if action == "PUT index":
        return client.create_payload_index(name, body["field_name"], field_schema=body["field_schema"])
    if action == "PUT points":
        return client.upsert(name, models.PointsList.model_validate(body).points)
    if action == "PUT points/vectors":
        client.update_vectors(name, models.UpdateVectors.model_validate(body).points)
        return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)
    if action == "POST points":
        asked = models.PointRequest.model_validate(body)
        return client.retrieve(name, asked.ids, with_payload=asked.with_payload, with_vectors=asked.with_vector)
    if action == "POST points/delete":
        return client.delete(name, models.PointIdsList.model_validate(body))
    if action == "POST points/count":
        return client.count(name, count_filter=models.CountRequest.model_validate(body).filter)
    if action == "POST points/scroll":
        asked = models.ScrollRequest.model_validate(body)
        points, then = client.scroll(
            name, limit=asked.limit, offset=asked.offset, with_payload=asked.with_payload, with_vectors=asked.with_vector
        )
        return {"points": [jsonable(point) for point in points], "next_page_offset": then}
    assert action == "POST points/query", action
    asked = models.QueryRequest.model_validate(body)
    return client.query_points(
        name, prefetch=asked.prefetch, query=asked.query, limit=asked.limit, with_payload=asked.with_payload
    )


def jsonable(value: Any) -> Any:
    if isinstance(value, list):
        return [jsonable(item) for item in value]
    return value.model_dump(mode="json", exclude_none=True) if hasattr(value, "model_dump") else value
