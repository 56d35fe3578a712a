"""`prvr serve`: what it says before it serves, and that it ends well."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi")

from commands import Prvr, says
from serving import World, make_world


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
    assert "the token must be 8 or more ASCII characters" in serve(world.index, "--port", 0, "--token", "short")
    assert "the token must be" in serve(world.index, "--port", 0, "--token", "with space")
    assert "cannot listen on 192.0.2.1 port 0" in serve(world.index, "--host", "192.0.2.1", "--port", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve(world.index, "--port", port) == (
            f"prvr: cannot listen on 127.0.0.1 port {port}: Address already in use; give another --port\n"
        )


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_ends_when_told(world: World, end: signal.Signals) -> None:
    command = [sys.executable, "-m", "prvr", "serve", str(world.index), "--port", "0", "--json"]
    environment = {**os.environ, "PRVR_TOKEN": "from-the-environment"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as served:
        assert served.stdout is not None
        said = json.loads(served.stdout.readline())
        assert httpx.get(said["url"] + "api/about", trust_env=False).json()["writable"] is True
        assert "Say what the moment shows." in httpx.get(said["url"], trust_env=False).text
        served.send_signal(end)
        _, err = served.communicate(timeout=20)
        assert served.returncode in (0, -signal.SIGTERM)
        assert err == ""
