"""The service of an index whose videos are in a store: they are copied when they are first asked for."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from serving import TOKEN, Running, pictures, running
from tiny_encoders import make_textual, make_visual
from tiny_videos import write_video
from waiting import until

from prvr.errors import NoSpace, VideoError
from prvr.search import index_folder, zero_shot
from prvr.server.file_cache import FileCache
from prvr.server.remote_copies import ROOM, RemoteCopies
from prvr.video import RemotePath

fsspec = pytest.importorskip("fsspec")
DEFAULT_CALLBACK = pytest.importorskip("fsspec.callbacks").DEFAULT_CALLBACK


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("remote")
    system = fsspec.filesystem("memory")
    for seed, name in enumerate(("a.mp4", "in/b.mp4")):
        system.pipe_file(f"/served/{name}", write_video(root / "a.mp4", pictures(seed)).read_bytes())
    make_textual(make_visual(root / "tiny", size=[8, 12]))
    index_folder("memory://served", root / "gallery", zero_shot(root / "tiny"))
    with running(root / "gallery", token=TOKEN) as service:
        yield service
    system.rm("/served", recursive=True)


def test_videos_are_played_shown_and_cut(service: Running) -> None:
    whole = fsspec.filesystem("memory").cat_file("/served/in/b.mp4")
    answer = service.client.get("/media/in/b.mp4", headers={"Range": "bytes=100-199"})
    assert (answer.status_code, answer.content) == (206, whole[100:200])
    assert answer.headers["content-type"] == "video/mp4"
    assert service.client.get("/media/in/b.mp4").content == whole
    assert service.client.get("/thumbnails/in/b.mp4", params={"t": 2}).headers["content-type"] == "image/jpeg"
    assert service.client.get("/cuts/in/b.mp4", params={"start": 2, "end": 3}).status_code == 200
    (hit, *_) = service.client.get("/api/search", params={"q": "a dog"}).json()["hits"]
    assert hit["video"] in ("a.mp4", "in/b.mp4")
    # One copy for all of it.
    assert len(list(Path(service.service.index.folder).iterdir())) == 1


def test_what_is_gone_is_one_line_and_nothing_is_written(service: Running) -> None:
    system = fsspec.filesystem("memory")
    data = system.cat_file("/served/a.mp4")
    system.rm("/served/a.mp4")
    answer = service.client.get("/media/a.mp4")
    assert answer.status_code == 404
    assert answer.json()["error"] == "the file of 'a.mp4' is no longer in its store; index again"
    system.pipe_file("/served/a.mp4", data)
    assert service.client.get("/media/none.mp4").status_code == 404
    changed = service.client.put("/api/videos/c.mp4", content=data, headers={"Authorization": f"Bearer {TOKEN}"})
    assert changed.status_code == 403
    assert "in a store" in changed.json()["error"]


def copies_of(service: Running) -> list[str]:
    return sorted(path.name for path in Path(service.service.index.folder).iterdir())


def test_a_store_that_does_not_answer_is_no_file_that_is_gone(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("timed out")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", refuse)
    answer = service.client.get("/media/a.mp4")
    assert answer.status_code == 503
    assert answer.json()["error"] == "cannot open a.mp4: timed out; check the URL and the credentials"


def forget_copies(service: Running) -> None:
    for path in Path(service.service.index.folder).glob("*"):
        path.unlink()


def test_a_video_for_which_there_is_no_room_is_not_copied(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_copies(service)
    size = len(fsspec.filesystem("memory").cat_file("/served/a.mp4"))
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=ROOM + size - 1))
        answer = service.client.get("/media/a.mp4")
    assert answer.status_code == 507
    needed, free = ROOM + size, ROOM + size - 1
    line = f"no space for a copy of a.mp4: {needed} bytes are needed, {free} are free; make room on the disk"
    assert answer.json()["error"] == line
    assert copies_of(service) == []
    # Copies that nobody uses give way.
    assert service.client.get("/media/in/b.mp4").status_code == 200
    (old,) = copies_of(service)
    there = Path(service.service.index.folder) / old
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=ROOM + size - there.exists()))
        assert service.client.get("/media/a.mp4").status_code == 200
    assert len(copies_of(service)) == 1
    assert not there.exists()
    # But not for one that would have no room even so.
    kept = copies_of(service)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
        assert service.client.get("/media/in/b.mp4").status_code == 507
    assert copies_of(service) == kept


def test_copies_with_another_suffix_begin_while_room_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies, real = RemoteCopies(tmp_path), FileCache.free
    copies._cache(".mp4").write("key", b"12345")

    def free(self: FileCache, size: int) -> None:
        copies._cache(".mkv")
        real(self, size)

    monkeypatch.setattr(FileCache, "free", free)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=ROOM))
    with pytest.raises(NoSpace):
        copies._make_room(RemotePath("memory://a.mp4"), tmp_path, 5)
    copies.close()


def test_one_video_is_copied_once_and_others_do_not_wait_for_it(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_copies(service)
    assert service.client.get("/media/in/b.mp4").status_code == 200
    system, copied, go_on = type(fsspec.filesystem("memory")), [], threading.Event()
    real = system.get_file

    def slow(self: object, path: str, target: str, **options: object) -> None:
        copied.append(path)
        assert go_on.wait(60)
        real(self, path, target, **options)

    monkeypatch.setattr(system, "get_file", slow)
    with ThreadPoolExecutor(4) as threads:
        same = [threads.submit(service.raw, "/media/a.mp4") for _ in range(3)]
        try:
            until(lambda: copied == ["/served/a.mp4"])
            # One that is here already.
            assert service.raw("/media/in/b.mp4")[0] == 200
        finally:
            go_on.set()
        bodies = {one.result() for one in same}
    assert bodies == {(200, fsspec.filesystem("memory").cat_file("/served/a.mp4"))}
    assert copied == ["/served/a.mp4"]


def test_copies_of_a_service_that_was_killed_are_removed_when_the_next_one_starts(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from prvr.server.file_cache import FileCache
with FileCache(Path({str(tmp_path / "copies")!r}), ".mp4", most_bytes=9).making("key") as part:
    part.write_bytes(b"half")
    print("there", flush=True)
    sys.stdin.read()
"""
    killed = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "there\n"
        RemoteCopies(tmp_path / "copies").close()
        assert len(list((tmp_path / "copies").rglob("*.part"))) == 1
        killed.kill()
    RemoteCopies(tmp_path / "copies").close()
    assert list((tmp_path / "copies").iterdir()) == []


def test_temporary_copies_of_a_service_that_was_killed_are_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an index in a folder that cannot be written."""
    (tmp_path / "file").touch()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    code = f"""
import sys
from pathlib import Path
from prvr.server.file_cache import FileCache
cache = FileCache(Path({str(tmp_path / "file" / "copies")!r}), ".mp4", most_bytes=9)
cache.write("key", b"whole")
print("there", flush=True)
sys.stdin.read()
"""
    killed = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "there\n"
        FileCache(tmp_path / "file" / "copies", ".mp4", most_bytes=9).close()
        assert len(list((tmp_path / "tmp").rglob("key.mp4"))) == 1
        killed.kill()
    FileCache(tmp_path / "file" / "copies", ".mp4", most_bytes=9).close()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_copy_ends_when_the_service_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video, system, begun = RemotePath("memory://endless/a.mp4"), fsspec.filesystem("memory"), threading.Event()
    system.pipe_file("/endless/a.mp4", b"1")

    def endless(self: object, path: str, target: str, callback: Any = DEFAULT_CALLBACK) -> None:
        begun.set()
        for _ in range(500):
            callback.relative_update(1)
            time.sleep(0.01)
        Path(target).write_bytes(b"1")

    monkeypatch.setattr(type(system), "get_file", endless)
    copies = RemoteCopies(tmp_path / "copies")
    with ThreadPoolExecutor(1) as threads:
        copy = threads.submit(copies._copy, video, copies._cache(".mp4"), "key", 1)
        assert begun.wait(60)
        copies.close()
        with pytest.raises(VideoError, match="the service ends"):
            copy.result(60)
    assert list((tmp_path / "copies").iterdir()) == []
    system.rm("/endless", recursive=True)
