"""A hub on a port of this machine that serves folders as models, for the real client of the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def tiny_hub(models: Mapping[str, Path], *, licence: str) -> Iterator[str]:
    """Yields the address of a hub with these models."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0].strip("/")
            for name, folder in models.items():
                if path == f"api/models/{name}" or path.startswith(f"api/models/{name}/revision/"):
                    siblings = [{"rfilename": one.name, "size": one.stat().st_size} for one in sorted(folder.iterdir())]
                    about = {"id": name, "modelId": name, "sha": COMMIT, "tags": [f"license:{licence}"], "siblings": siblings}
                    return self.send(200, json.dumps(about).encode(), with_body=with_body)
                if path.startswith(f"api/models/{name}/tree/"):
                    files = [
                        {"type": "file", "path": one.name, "size": one.stat().st_size, "oid": "0" * 40}
                        for one in folder.iterdir()
                    ]
                    return self.send(200, json.dumps(files).encode(), with_body=with_body)
                if path.startswith(f"{name}/resolve/"):
                    content = (folder / path.rpartition("/")[2]).read_bytes()
                    return self.send(200, content, with_body=with_body)
            return self.send(404, b'{"error": "Repository not found"}', with_body=with_body, missing=True)

        def send(self, status: int, body: bytes, *, with_body: bool, missing: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json" if body.startswith((b"{", b"[")) else "application/octet-stream")
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            if missing:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
