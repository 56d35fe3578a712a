"""Whatever a command does, and whether it ends well or not: it closes the files of its indexes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from commands import Prvr
from connections import no_open_connections
from serving import running
from tiny_encoders import make_textual, make_visual
from tiny_videos import plain, write_video

from prvr.errors import PrvrError
from prvr.index.database import Database
from prvr.index.place import FILE
from prvr.index.shards import LocalShards
from prvr.search import index_folder, zero_shot
from prvr.search.opening import store_of


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of a second, an encoder, and the index of them."""
    root = tmp_path_factory.mktemp("root")
    (root / "videos").mkdir()
    for colour in ("red", "white"):
        write_video(root / "videos" / f"{colour}.mp4", [(100 * n, plain(colour)) for n in range(10)])
    make_textual(make_visual(root / "encoder", size=[8, 12]))
    index_folder(root / "videos", root / "gallery", zero_shot(root / "encoder"))
    return root


COMMANDS = [
    (0, "index {videos} {gallery}"),
    (0, "index {videos} {new} --encoder {encoder}"),
    (0, "index {videos} shards://{shards}?shards=2 --encoder {encoder}"),
    (0, "index {videos} shards://{shards} --encoder {encoder}"),
    (0, "search shards://{shards} red"),
    (0, "index verify shards://{shards}"),
    (0, "index copy {gallery} {copy}"),
    (0, "index verify {gallery}"),
    (0, "search {gallery} red"),
    (1, "search {gallery} red --where none=1"),
    (1, "search {gallery} red --approximate"),
    (0, "list {gallery}"),
    (0, "cut {gallery} red --out {cuts}"),
    (1, "index {videos} {gallery} --dtype float32"),
    (1, "index weigh {gallery}"),
    (0, "doctor {gallery}"),
]


def test_commands(root: Path, prvr: Prvr) -> None:
    places = {name: root / name for name in ("videos", "gallery", "encoder", "new", "shards", "copy", "cuts")}
    for status, command in COMMANDS:
        with no_open_connections():
            answer = prvr(*(part.format(**places) for part in command.split()))
        assert answer.status == status, (command, answer.err)


def test_the_service(root: Path) -> None:
    with no_open_connections(), running(root / "gallery") as service:
        assert service.client.get("/api/search", params={"q": "red"}).status_code == 200


def test_what_is_damaged(root: Path, tmp_path: Path) -> None:
    checkpoint, store = store_of(root / "gallery")
    store.close()
    (tmp_path / FILE).write_bytes(b"SQLite format 3\0" + bytes(5000))
    with no_open_connections(), pytest.raises(PrvrError):
        Database(tmp_path / FILE)
    with no_open_connections(), pytest.raises(PrvrError):
        LocalShards([root / "gallery", tmp_path], checkpoint.model)


def test_one_that_is_left_open_is_found(tmp_path: Path) -> None:
    def leave_open() -> None:
        with no_open_connections():
            sqlite3.connect(tmp_path / "a")

    with pytest.raises(AssertionError, match=r"test_connections.py:\d+"):
        leave_open()
