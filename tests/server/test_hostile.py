"""Files and clients that try to crash, hold up or mislead the service: each costs its own request, and the service lives on."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from serving import TOKEN, Running, World, make_world, running
from tiny_videos import SECONDS, plain, write_video
from waiting import until

from prvr.errors import VideoError
from prvr.search import index_folder, zero_shot
from prvr.server import connection, picture_process, stills
from prvr.server.picture_process import DecoderFailure, PictureProcess
from prvr.server.stills import MOST_PIXELS, make_picture

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def own(world: World, tmp_path: Path) -> World:
    """A copy whose files may be damaged."""
    videos, index = tmp_path / "videos", tmp_path / "gallery"
    shutil.copytree(world.videos, videos)
    index_folder(videos, index, zero_shot(world.encoder))
    return World(videos, index, world.encoder)


def script(monkeypatch: pytest.MonkeyPatch, path: Path, text: str) -> None:
    """The process that makes pictures runs this instead."""
    path.write_text(text)
    monkeypatch.setattr(stills, "__file__", str(path))


# Pictures


def test_the_process_makes_the_same_picture(world: World) -> None:
    with closing(PictureProcess()) as process:
        for seconds in (0.5, 3.5):
            assert process.picture(world.videos / "beach.mp4", seconds) == make_picture(world.videos / "beach.mp4", seconds)
        first = process.start().pid
        with pytest.raises(VideoError, match=r"as a video|not a video"):
            process.picture(world.videos / "notes.txt", 0.0)
        assert process.start().pid == first


def test_pictures_of_too_many_pixels_are_refused(tmp_path: Path) -> None:
    side = 8_000
    assert side * side > MOST_PIXELS
    import av

    huge = tmp_path / "huge.mkv"
    with av.open(str(huge), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame(side, side, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    assert huge.stat().st_size < 1_000_000
    with pytest.raises(VideoError, match="8000 x 8000 pixels, more than"):
        make_picture(huge, 0.0)


def test_the_limits_of_the_process(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resource")
    text = Path(stills.__file__).read_text()
    assert "MEMORY = 1 << 30" in text
    # In place of a picture: memory that no picture needs.
    script(monkeypatch, tmp_path / "script.py", text.replace("image.save(data,", "bytearray(MEMORY); image.save(data,"))
    with closing(PictureProcess()) as process, pytest.raises(VideoError, match="needs more than 1024 MiB of memory to decode"):
        process.picture(world.videos / "beach.mp4", 0.5)


def test_the_process_has_no_token(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRVR_TOKEN", TOKEN)
    seen = tmp_path / "seen"
    script(monkeypatch, tmp_path / "script.py", f"import os; open({str(seen)!r}, 'w').write(' '.join(os.environ.values()))")
    with closing(PictureProcess()) as process, pytest.raises(DecoderFailure):
        process.picture(world.videos / "beach.mp4", 0.5)
    assert seen.read_text()
    assert TOKEN not in seen.read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", "ended with status"),
        ("import time; time.sleep(99)", "within 0.5 seconds"),
        ("print('x' * 70_000)", "ended with status"),
        ("print('{\"bytes\": 99999999999}')", "ended with status"),
        ("print('[1]')", "ended with status"),
        ("print('{}')", "ended with status"),
    ],
    ids=["killed", "sleeps", "a long line", "too many bytes", "a list", "no size"],
)
def test_a_decoder_that_fails_costs_its_file_alone(
    text: str, said: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_process, "WAIT", 0.5 if "sleep" in text else 60)
    with running(world.index) as service:
        shutil.rmtree(service.service.thumbnails.folder)
        service.service.thumbnails.folder.mkdir()
        service.service.thumbnails.close()
        with pytest.MonkeyPatch.context() as patch:
            script(patch, tmp_path / "script.py", text)
            answer = service.client.get("/thumbnails/beach.mp4?t=1")
        assert (answer.status_code, said in answer.json()["error"]) == (422, True), answer.text
        assert str(tmp_path) not in answer.text
        monkeypatch.setattr(picture_process, "WAIT", 60)
        # Not tried again until it changes; others are made.
        assert service.client.get("/thumbnails/beach.mp4?t=2").json() == answer.json()
        assert service.client.get("/thumbnails/kitchen.mp4?t=1").status_code == 200
        assert service.client.get("/api/search?q=dog").status_code == 200
        os.utime(world.videos / "beach.mp4")
        assert service.client.get("/thumbnails/beach.mp4?t=2").status_code == 200


# The index


def error_of(service: Running, path: str) -> tuple[int, str]:
    answer = service.client.get(path)
    return answer.status_code, answer.json().get("error", "")


def test_an_index_that_is_deleted_and_comes_back(own: World) -> None:
    with running(own.index) as service:
        own.index.rename(own.index.with_name("away"))
        time.sleep(1.1)
        for path in ("/health", "/api/search?q=dog", "/api/videos", "/media/beach.mp4", "/thumbnails/beach.mp4", "/metrics"):
            status, said = error_of(service, path)
            assert (status, "no index in " in said) == (503, True), (path, said)
            assert str(own.index.parent) not in said
            assert "\n" not in said
        assert service.client.get("/main.js").status_code == 200
        # Another index in its place, with fewer videos.
        (own.videos / "kitchen.mp4").unlink()
        index_folder(own.videos, own.index, zero_shot(own.encoder))
        assert service.client.get("/health").json() == {"status": "ok", "videos": 4}
        assert len(service.client.get("/api/search?q=dog").json()["hits"]) == 4


@pytest.mark.parametrize("part", ["header", "pages"])
def test_an_index_that_is_damaged_and_mended(own: World, part: str) -> None:
    file = own.index / "index.sqlite"
    whole = file.read_bytes()
    with running(own.index) as service:
        damaged = bytearray(whole)
        start, end = (0, 100) if part == "header" else (1 << 14, len(whole))
        damaged[start:end] = np.random.default_rng(0).bytes(end - start)
        # Written into the same file: the connection that is open reads it.
        file.write_bytes(damaged)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(service.service.index._index, "_file", None)
            patch.setattr(service.service.index._list, "_file", None)
            time.sleep(1.1)
            for path in ("/health", "/api/search?q=dog", "/api/videos"):
                status, said = error_of(service, path)
                assert status == 503, (path, said)
                assert said.startswith("INDEX"), said
                assert "\n" not in said
        file.write_bytes(whole)
        time.sleep(1.1)
        assert service.client.get("/health").json()["videos"] == 5
        assert len(service.client.get("/api/search?q=dog").json()["hits"]) == 5


# Connections


@pytest.fixture
def impatient(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.5)
    with running(world.index) as service:
        yield service


@pytest.mark.parametrize("sent", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: "])
def test_half_a_head_has_a_time_limit(impatient: Running, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port)) as client:
        client.settimeout(10)
        client.sendall(sent)
        assert ended(client)


def test_a_byte_now_and_then_does_not_extend_the_limit(impatient: Running) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port)) as client:
        client.settimeout(10)
        # Also after a whole request on the same connection.
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")

        def is_closed() -> bool:
            try:
                client.sendall(b"G")
            except OSError:
                return True
            return False

        until(is_closed)


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(100) == b""
    except ConnectionResetError:
        return True


def test_half_sent_requests_lock_nobody_out(world: World) -> None:
    with running(world.index) as service, ExitStack() as stack:
        for _ in range(1100 if many_files() else 450):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        until(lambda: service.client.get("/health").status_code == 200)
        assert service.client.get("/api/search?q=dog").status_code == 200
        assert service.client.get("/media/beach.mp4", headers={"Range": "bytes=0-9"}).status_code == 206


def many_files() -> bool:
    resource = pytest.importorskip("resource")
    # Both ends of each connection are in this process.
    return bool(resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 4096)


# Uploads


@pytest.mark.slow
def test_an_upload_that_names_other_files_is_refused(own: World) -> None:
    secret = own.videos.parent / "secret.mp4"
    write_video(secret, [(200 * n, plain(SECONDS[0])) for n in range(10)])
    texts = {
        "list.mp4": f"ffconcat version 1.0\nfile '{secret}'\n",
        "inside.mp4": "ffconcat version 1.0\nfile 'beach.mp4'\n",
        "playlist.ts": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nbeach.mp4\n#EXT-X-ENDLIST\n",
        "text.mp4": "nothing but a text\n" * 50,
    }
    with running(own.index, token=TOKEN) as service:
        for name, text in texts.items():
            assert service.client.put(f"/api/videos/{name}", headers=BEARER, content=text.encode()).status_code == 202
        until(lambda: service.client.get("/api/upkeep").json()["state"] != "running", seconds=120)
        report = service.client.get("/api/upkeep").json()
        for name in texts:
            (line,) = [line for line in report["problems"] if name in line]
            assert "\n" not in line
            for place in ("/media/", "/thumbnails/", "/api/moments?q=dog&video="):
                assert service.client.get(place + name).status_code == 404
        assert service.client.get("/health").json()["videos"] == 5


def test_a_file_that_becomes_a_list_gives_no_picture(own: World) -> None:
    with running(own.index) as service:
        (own.videos / "beach.mp4").write_text("ffconcat version 1.0\nfile 'kitchen.mp4'\n")
        status, said = error_of(service, "/thumbnails/beach.mp4?t=1")
        assert (status, "beach.mp4" in said) == (404, True)


def test_the_service_ends_its_processes(world: World) -> None:
    with running(world.index) as service:
        (child,) = [process._child for process in service.service.thumbnails._idle if process._child]
        assert child.poll() is None
    assert child.poll() == -signal.SIGKILL
