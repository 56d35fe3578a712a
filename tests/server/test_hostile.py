"""Files and clients that try to crash, hold up or mislead the service: each costs its own request, and the service lives on."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from serving import TOKEN, Running, World, running
from tiny_videos import SECONDS, plain, write_video
from waiting import until

from prvr.errors import VideoError
from prvr.search import index_folder, zero_shot
from prvr.server import connection, index_service, picture_process, reading, stills
from prvr.server.picture_process import DecoderFailure, PictureProcess
from prvr.server.service import PICTURES_AT_ONCE
from prvr.server.stills import MOST_PIXELS, make_picture
from prvr.server.thumbnails import Thumbnails

av = pytest.importorskip("av")

# A black picture of one pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c63600000000200014821a5e50000000049454e44ae426082"
)
BEARER = {"Authorization": f"Bearer {TOKEN}"}


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
    # A limited decoder that looks for sizes does not tell them.
    with pytest.raises(VideoError, match=f"none of more than {MOST_PIXELS} pixels is tried"):
        make_picture(huge, 0.0)


SIDE = 16_000


def enormous_png(path: Path) -> Path:
    """A black picture of 16,000 x 16,000 pixels in 250 kB: FFmpeg's own limit for a side is little more."""
    packer, rows = zlib.compressobj(9), bytes(1000 * (SIDE + 1))
    data = b"".join(packer.compress(rows) for _ in range(SIDE // 1000)) + packer.flush()
    parts = {b"IHDR": struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0), b"IDAT": data, b"IEND": b""}
    chunks = (len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4) for kind, body in parts.items())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "gray"
        packet = av.Packet(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
        container.mux(packet)
    return path


def forged(path: Path, codec: str, pix_fmt: str, changes: list[tuple[bytes, int, bytes]]) -> Path:
    """A small video in whose headers sizes were overwritten: after each mark, at an offset, these bytes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = 320, 320, pix_fmt
        for n in range(2):
            frame = av.VideoFrame.from_ndarray(np.full((320, 320, 3), 99, np.uint8), format="rgb24").reformat(format=pix_fmt)
            frame.pts = n
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    for mark, offset, new in changes:
        assert mark in data
        at = data.find(mark)
        while at >= 0:
            data[at + offset : at + offset + len(new)] = new
            at = data.find(mark, at + len(mark))
    path.write_bytes(data)
    return path


BIG = struct.pack(">HH", 65_500, 65_500)
FORGED = {
    "jpeg.mov": ("mjpeg", "yuvj420p", [(b"\xff\xc0\x00\x11\x08", 5, BIG), (b"jpeg\0\0\0\0", 28, BIG)]),
    "hidden.mkv": ("mjpeg", "yuvj420p", [(b"\xff\xc0\x00\x11\x08", 5, BIG)]),
    "vp8.webm": ("libvpx", "yuv420p", [(b"\x9d\x01\x2a", 3, struct.pack("<HH", 16_383, 16_383))]),
    "ffv1.mkv": ("ffv1", "yuv420p", [(b"\xb0\x82\x01\x40", 2, BIG[:2]), (b"\xba\x82\x01\x40", 2, BIG[:2])]),
    "raw.mov": ("rawvideo", "rgb24", [(b"raw \0\0\0\0", 28, BIG)]),
}


def peak_megabytes(pid: int) -> float:
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("this system does not say how much memory another process has had")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


@pytest.mark.parametrize("name", ["enormous.mov", *FORGED])
def test_a_small_file_of_an_enormous_picture_costs_no_memory(world: World, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    try:
        file = forged(path, *FORGED[name]) if name in FORGED else enormous_png(path)
    except av.error.FFmpegError:
        pytest.skip("this FFmpeg has no such encoder")
    assert file.stat().st_size < 400_000 or name == "raw.mov"
    with closing(PictureProcess()) as process:
        assert process.picture(world.videos / "beach.mp4", 1.0)
        child = process.start().pid
        usual = peak_megabytes(child)
        with pytest.raises(VideoError, match=r"more than 37748736|\(none of more than 37748736 pixels is tried\)") as refusal:
            process.picture(file, 0.0)
        assert "\n" not in str(refusal.value)
        # One decoded frame would have 256 MB, and its colours 768.
        assert peak_megabytes(child) < usual + 100
        assert process.picture(world.videos / "beach.mp4", 2.0)
        assert process.start().pid == child


def test_the_service_beside_an_enormous_picture(own: World) -> None:
    with running(own.index) as service:
        before = peak_megabytes(os.getpid())
        enormous_png(own.videos / "enormous.mov").replace(own.videos / "beach.mp4")
        status, said = error_of(service, "/thumbnails/beach.mp4?t=1")
        assert (status, "beach.mp4" in said, str(own.videos) in said) == (404, True, False)
        assert service.client.get("/health").status_code == 200
        # Reading the file costs what it has.
        assert peak_megabytes(os.getpid()) < before + 100


TEXTS = {
    "list.mp4": b"ffconcat version 1.0\nfile 'beach.mp4'\n",
    "marked.mp4": b"\xef\xbb\xbfffconcat version 1.0\nfile 'beach.mp4'\n",
    "bare.mp4": b"file 'beach.mp4'\n",
    "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nbeach.mp4\n#EXT-X-ENDLIST\n",
    "away.ts": b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nhttp://127.0.0.1:1/a.ts\n#EXT-X-ENDLIST\n",
    "dash.mp4": b'<?xml version="1.0"?><MPD type="static"><Period><BaseURL>beach.mp4</BaseURL></Period></MPD>',
    "reference.wmv": b"[Reference]\nRef1=file://beach.mp4\n",
    "session.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5000 RTP/AVP 96\n",
    "text.mp4": b"nothing but a text\n" * 50,
    "colours.mp4": b"\x1b[31mred\x1b[0m\n" * 50,
    "subtitle.mp4": b"1\n00:00:00,000 --> 00:00:01,000\nhi\n",
}


@pytest.mark.parametrize("name", [*TEXTS, "picture.mp4", "number%03d.mp4", "any*.mp4"])
def test_what_is_no_video_has_no_picture(world: World, tmp_path: Path, name: str) -> None:
    shutil.copy(world.videos / "beach.mp4", tmp_path)
    # A sequence of images beside a name that FFmpeg would take for all of them.
    pictures = [tmp_path / f"number{n:03d}.mp4" for n in range(3)]
    for path in (*pictures, tmp_path / "any1.mp4"):
        path.write_bytes(PNG)
    (tmp_path / name).write_bytes(TEXTS.get(name, PNG))
    with pytest.raises(VideoError) as refusal:
        make_picture(tmp_path / name, 0.0)
    assert "\n" not in str(refusal.value)
    if name != "colours.mp4":
        assert "not a video" in str(refusal.value)


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


def test_the_line_about_a_process_that_ended_or_was_late(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = world.videos / "beach.mp4"
    script(monkeypatch, tmp_path / "script.py", "import sys; sys.stdin.buffer.readline(); sys.exit(3)")
    with closing(PictureProcess()) as process:
        with pytest.raises(DecoderFailure, match=r"^the pixels of the picture cannot be made; its decoder ended with status "):
            process.read(b"GIF89a")
        monkeypatch.setattr(picture_process, "WAIT", 0.5)
        script(monkeypatch, tmp_path / "script.py", "import time; time.sleep(99)")
        with pytest.raises(DecoderFailure) as late:
            process.picture(video, 0.5)
    assert str(late.value) == f"the picture of {video} cannot be made within 0.5 seconds; convert the file"


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
        shutil.rmtree(service.service.thumbnails.kept.folder)
        service.service.thumbnails.kept.folder.mkdir()
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


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request looks at the index again, and not only after a second."""
    monkeypatch.setattr(index_service, "FRESH", -1.0)


@pytest.mark.usefixtures("fresh")
def test_an_index_that_is_deleted_and_comes_back(own: World) -> None:
    with running(own.index) as service:
        own.index.rename(own.index.with_name("away"))
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


@pytest.mark.usefixtures("fresh")
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
            for path in ("/health", "/api/search?q=dog", "/api/videos"):
                status, said = error_of(service, path)
                assert status == 503, (path, said)
                assert said.startswith("INDEX"), said
                assert "\n" not in said
        file.write_bytes(whole)
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
        client.settimeout(300)
        client.sendall(sent)
        assert ended(client)


def test_a_byte_now_and_then_does_not_extend_the_limit(impatient: Running) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port)) as client:
        client.settimeout(300)
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
@pytest.mark.thorough
def test_an_upload_that_names_other_files_is_refused(own: World) -> None:
    secret = own.videos.parent / "secret.mp4"
    write_video(secret, [(200 * n, plain(SECONDS[0])) for n in range(10)])
    texts = {
        **TEXTS,
        "outside.mp4": f"ffconcat version 1.0\nfile '{secret}'\n".encode(),
        "picture.mp4": PNG,
        "number%03d.mp4": PNG,
        "number000.mp4": PNG,
    }
    with running(own.index, token=TOKEN) as service:
        for name, text in texts.items():
            assert service.client.put(f"/api/videos/{quote(name)}", headers=BEARER, content=text).status_code == 202
        until(lambda: service.client.get("/api/upkeep").json()["state"] != "running")
        report = service.client.get("/api/upkeep").json()
        for name in texts:
            (line,) = [line for line in report["problems"] if line.startswith(f"{name}:")]
            assert str(own.videos.parent) not in line
            for place in ("/media/", "/thumbnails/", "/api/moments?q=dog&video="):
                assert service.client.get(place + quote(name)).status_code == 404
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


def test_the_service_ends_a_process_that_makes_a_picture(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    script(monkeypatch, tmp_path / "script.py", f"input(); open({str(asked)!r}, 'w'); import time; time.sleep(99)")
    with ThreadPoolExecutor(1) as client, closing(Thumbnails(tmp_path / "kept")) as thumbnails:
        made = client.submit(thumbnails._make, world.videos / "beach.mp4", 1.0)
        until(asked.exists)
        (child,) = [process._child for process in thumbnails._processes if process._child]
        thumbnails.close()
        assert child.poll() == -signal.SIGKILL
        with pytest.raises(DecoderFailure):
            made.result(120)


def begun_picture(served: Running, path: str = "/api/search") -> socket.socket:
    """A picture of which only the first bytes were sent."""
    client = socket.create_connection(("127.0.0.1", served.port))
    client.settimeout(300)
    client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n".encode() + PNG[:20])
    return client


def test_half_sent_pictures_are_few_and_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(world.index) as served:
        with ExitStack() as open_ones:
            for number in range(PICTURES_AT_ONCE):
                open_ones.enter_context(begun_picture(served, ("/api/search", "/api/moments?video=beach.mp4")[number % 2]))
            until(served.service.pictures.locked)
            answer = served.client.post("/api/search", content=PNG)
            assert (answer.status_code, "pictures are being read" in answer.json()["error"]) == (503, True)
            assert answer.headers["retry-after"] == "1"
            assert served.client.get("/api/search?q=dog").status_code == 200
        until(lambda: not served.service.pictures.locked())
        assert served.client.post("/api/search", content=PNG).status_code in (200, 422)
        monkeypatch.setattr(reading, "PATIENCE", 0.2)
        with begun_picture(served) as client:
            assert b" 408 " in client.recv(200)
