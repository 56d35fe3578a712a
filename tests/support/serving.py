"""A small index of small videos, and the service of it on a port of this machine."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import torch
from tiny_encoders import make_clip
from tiny_videos import SECONDS, noisy, plain, write_video

from prvr.search import index_folder, zero_shot
from prvr.server.app import make_service
from prvr.server.run import listen, server_of
from prvr.server.service import Service

MARKUP = "trips/<img src=x onerror=alert(1)> & 'more'.mp4"
ODD = "100% sure? #1; ünï.mp4"
TOKEN = "a-token-of-tests"


@dataclass(frozen=True)
class World:
    """A folder of five videos of six seconds, one of them twice but for its end, and the teacher's index of it."""

    videos: Path
    index: Path
    encoder: Path


def pictures(seed: int) -> list[tuple[int, np.ndarray]]:
    """Six seconds in which every second looks different."""
    looks = [plain(SECONDS[(seed + n) % 5]) // (1 + seed % 3) + noisy(10 * seed + n) // 3 for n in range(6)]
    return [(200 * n, looks[n // 5]) for n in range(30)]


def make_world(root: Path, *, beside: Mapping[str, str] | None = None) -> World:
    """The small world. beside: further files of its videos, such as subtitles, by their names."""
    world = World(root / "videos", root / "gallery", root / "tiny-clip")
    (world.videos / "trips").mkdir(parents=True)
    for seed, name in enumerate(("beach.mp4", "kitchen.mp4", MARKUP, ODD)):
        write_video(world.videos / name, pictures(seed))
    # A little shorter, so that it is not near-identical.
    write_video(world.videos / "trips" / "again.mp4", pictures(1)[:-1])
    (world.videos / "notes.txt").write_text("not for others")
    (world.videos / "videos.jsonl").write_text('{"video": "beach.mp4", "camera": "<script>alert(2)</script>"}\n')
    for name, text in (beside or {}).items():
        (world.videos / name).write_text(text)
    torch.manual_seed(0)
    make_clip(world.encoder)
    index_folder(world.videos, world.index, zero_shot(world.encoder))
    return world


@dataclass(frozen=True)
class Running:
    """A service that answers at a port."""

    service: Service
    port: int
    client: httpx.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def raw(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        """An answer to a path as it is: clients that know better mend dots and slashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def running(index: Path, **told: object) -> Iterator[Running]:
    """The service of an index, on a free port, in a thread."""
    service = make_service(index, **told)  # type: ignore[arg-type]
    opened = listen("127.0.0.1", 0)
    server = server_of(service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    port = opened.getsockname()[1]
    # The pool is not to follow a proxy of the machine that the tests run on.
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300, trust_env=False) as client:
        yield Running(service, port, client)
    server.should_exit = True
    thread.join(120)
    opened.close()
    assert not thread.is_alive()
