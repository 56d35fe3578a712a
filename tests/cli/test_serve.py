"""`prvr serve`: what it says before it serves, and that it ends well."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi")

from commands import Prvr, says
from serving import World, make_world

from prvr.index.disk import DiskIndex
from prvr.methods.checkpoint import load


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("commanded"))


@pytest.fixture
def serve(prvr: Prvr) -> Callable[..., str]:
    """The one line that `prvr serve` fails with."""

    def call(*arguments: object) -> str:
        answer = prvr("serve", *arguments)
        says(answer)
        return answer.err

    return call


def test_what_cannot_be_served(serve: Callable[..., str], world: World, tmp_path: Path) -> None:
    assert f"no index in {tmp_path}" in serve(tmp_path, "--port", 0)
    assert "is not a folder; serve a copy of it: prvr index copy qdrant://" in serve("qdrant://127.0.0.1:9/videos")
    shutil.copytree(world.index, tmp_path / "emptied")
    with closing(DiskIndex(tmp_path / "emptied", load(tmp_path / "emptied" / "model").model)) as index:
        index.delete(index.ids)
    assert "holds no videos; add some" in serve(tmp_path / "emptied", "--port", 0)
    assert "the token must be 8 or more ASCII characters" in serve(world.index, "--port", 0, "--token", "short")
    assert "the token must be" in serve(world.index, "--port", 0, "--token", "with space")
    assert "cannot listen on 192.0.2.1 port 0" in serve(world.index, "--host", "192.0.2.1", "--port", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve(world.index, "--port", port) == (
            f"prvr: cannot listen on 127.0.0.1 port {port}: Address already in use; give another --port\n"
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "host"), [(signal.SIGINT, "127.0.0.1"), pytest.param(signal.SIGTERM, "0.0.0.0", marks=pytest.mark.thorough)]
)
def test_it_says_where_it_is_and_ends_when_told(world: World, end: signal.Signals, host: str) -> None:
    command = [sys.executable, "-m", "prvr", "serve", str(world.index), "--port", "0", "--json", "--upload-limit", "0.001"]
    command += [] if host == "127.0.0.1" else ["--host", host]
    environment = {**os.environ, "PRVR_TOKEN": "from-the-environment"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as served:
        assert served.stdout is not None
        said = json.loads(served.stdout.readline())
        assert httpx.get(said["url"] + "api/about", trust_env=False, timeout=300).json()["writable"] is True
        assert "Say what the moment shows." in httpx.get(said["url"], trust_env=False, timeout=300).text
        # Names of other sites are those of a service for this machine alone.
        other = httpx.get(said["url"] + "health", headers={"Host": "other.example"}, trust_env=False, timeout=300)
        assert other.status_code == (421 if host == "127.0.0.1" else 200)
        bearer = {"Authorization": "Bearer from-the-environment"}
        large = httpx.put(
            said["url"] + "api/videos/a.mp4", headers=bearer, content=bytes(1_100_000), trust_env=False, timeout=300
        )
        assert (large.status_code, "--upload-limit" in large.json()["error"]) == (413, True)
        served.send_signal(end)
        _, err = served.communicate(timeout=300)
        assert served.returncode in (0, -signal.SIGTERM)
        assert err == "" or (host == "0.0.0.0" and err.count("\n") == 1 and "every machine that reaches this address" in err)
