"""A hub on a port of this machine that serves folders as models and takes pushed ones, for the real client of the hub."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def tiny_hub(models: Mapping[str, Path], *, licence: str, refuses: int = 404, pushed: Path | None = None) -> Iterator[str]:
    """Yields the address of a hub with these models.

    Args:
        refuses: the status for every other model. pushed: the folder that pushed models are written to, by OWNER/NAME; without
            it, and without a login, a push is refused.
    """

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
                    siblings = [
                        {"rfilename": one.relative_to(folder).as_posix(), "size": one.stat().st_size}
                        for one in sorted(folder.rglob("*"))
                        if one.is_file()
                    ]
                    about = {"id": name, "modelId": name, "sha": COMMIT, "tags": [f"license:{licence}"], "siblings": siblings}
                    return self.send(200, json.dumps(about).encode(), with_body=with_body)
                if path.startswith(f"api/models/{name}/tree/"):
                    files = [
                        {"type": "file", "path": one.name, "size": one.stat().st_size, "oid": "0" * 40}
                        for one in folder.iterdir()
                    ]
                    return self.send(200, json.dumps(files).encode(), with_body=with_body)
                if path.startswith(f"{name}/resolve/"):
                    content = (folder / path.removeprefix(f"{name}/resolve/").partition("/")[2]).read_bytes()
                    return self.send(200, content, with_body=with_body)
            return self.send(refuses, b'{"error": "Repository not found"}', with_body=with_body, missing=True)

        def do_POST(self) -> None:
            body, path = self.rfile.read(int(self.headers["Content-Length"])), self.path.partition("?")[0].strip("/")
            if path == "api/validate-yaml":
                return self.answer_json({"errors": [], "warnings": []})
            if pushed is None or self.headers.get("Authorization") != "Bearer tiny":
                return self.send(401, b'{"error": "Invalid username or password."}', with_body=True)
            if path == "api/repos/create":
                about = json.loads(body)
                name = f"{about['organization']}/{about['name']}"
                (pushed / name).mkdir(parents=True, exist_ok=True)
                return self.answer_json({"url": f"http://{self.headers['Host']}/{name}", "name": name})
            name = "/".join(path.split("/")[2:4])
            if "/preupload/" in path:
                files = [
                    {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(body)["files"]
                ]
                return self.answer_json({"files": files})
            for line in body.splitlines():
                if (change := json.loads(line))["key"] == "file":
                    (pushed / name / change["value"]["path"]).write_bytes(base64.b64decode(change["value"]["content"]))
            url = f"http://{self.headers['Host']}/{name}/commit/{COMMIT}"
            return self.answer_json({"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})

        def answer_json(self, value: object) -> None:
            self.send(200, json.dumps(value).encode(), with_body=True)

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
        thread.join(120)
