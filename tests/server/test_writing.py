"""Adding and deleting through the service: only with the token, never half, never over what is there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

pytest.importorskip("fastapi")

from PIL import Image
from serving import TOKEN, Running, World, running
from tiny_encoders import make_textual, make_visual
from tiny_videos import colourful, copy_as_another, write_video
from waiting import until

from prvr.errors import DataError
from prvr.search import index_folder, zero_shot
from prvr.server import index_service
from prvr.server.answers import UpkeepReport
from prvr.server.service import UPLOADS_AT_ONCE

BEARER = {"Authorization": f"Bearer {TOKEN}"}
LIMIT = 100_000


@pytest.fixture(scope="module")
def own(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose files may be changed."""
    root = tmp_path_factory.mktemp("own")
    changed = World(root / "videos", root / "gallery", world.encoder)
    shutil.copytree(world.videos, changed.videos)
    index_folder(changed.videos, changed.index, zero_shot(changed.encoder))
    return changed


@pytest.fixture(scope="module")
def served(own: World) -> Iterator[Running]:
    """A service whose runs of `prvr index` are only asked for."""
    with running(own.index, token=TOKEN, upload_limit=LIMIT) as service, pytest.MonkeyPatch.context() as patch:
        upkeep = service.service.upkeep
        report = upkeep.now.model_copy(update={"state": "running"})
        patch.setattr(upkeep, "start", lambda: report)
        yield service


def everything(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_without_the_token_nothing_is_changed(served: Running, own: World) -> None:
    before = everything(own.videos)
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer ünï".encode()},
        {"X-Token": TOKEN},
    ):
        for method, path in (("PUT", "/api/videos/new.mp4"), ("DELETE", "/api/videos/beach.mp4"), ("POST", "/api/upkeep")):
            answer = served.client.request(method, path, headers=headers, content=b"data")
            assert answer.status_code == 401, (method, headers)
            assert answer.headers["www-authenticate"] == "Bearer"
    assert everything(own.videos) == before


def test_a_service_without_a_token_takes_no_token(world: World) -> None:
    before = everything(world.videos)
    with running(world.index) as service:
        for given in ("Bearer", "Bearer None", f"Bearer {TOKEN}"):
            answer = service.client.put("/api/videos/new.mp4", headers={"Authorization": given}, content=b"data")
            assert answer.status_code == 403
            assert "--token" in answer.json()["error"]
    assert everything(world.videos) == before


def test_an_upload_is_kept_as_it_is(served: Running, own: World) -> None:
    data = bytes(range(256)) * 300
    for name in ("new.mp4", "trips/2026/äh, new.MKV"):
        answer = served.client.put(f"/api/videos/{name}", headers=BEARER, content=data)
        assert answer.status_code == 202, answer.text
        assert UpkeepReport(**answer.json()).state == "running"
        assert (own.videos / name).read_bytes() == data
    assert everything(own.videos / ".arriving") == {}


def test_what_is_there_is_never_overwritten(served: Running, own: World) -> None:
    before = everything(own.videos)
    (own.videos / "dead.mp4").symlink_to("nowhere")
    for name in ("beach.mp4", "dead.mp4"):
        answer = served.client.put(f"/api/videos/{name}", headers=BEARER, content=b"data")
        assert (answer.status_code, "already" in answer.json()["error"]) == (409, True)
    (own.videos / "dead.mp4").unlink()
    assert everything(own.videos) == before


@pytest.mark.parametrize(
    "name",
    [
        *("../out.mp4", "%2e%2e/out.mp4", "trips/../../out.mp4", "..%2fout.mp4", "/out.mp4", "%2fout.mp4", "trips//out.mp4", ""),
        *(
            ".hidden.mp4",
            ".deleted/out.mp4",
            "trips/.out.mp4",
            "out.txt",
            "videos.jsonl",
            "out",
            "mp4",
            "out.mp4%00",
            "out%0a.mp4",
        ),
        *("trips%5cout.mp4", "c:out.mp4", "a" * 300 + ".mp4", "link/out.mp4", "notes.txt/out.mp4", "x/" * 300 + "out.mp4"),
    ],
)
def test_a_name_that_is_no_plain_path_of_a_video_is_refused(served: Running, own: World, name: str) -> None:
    link, root = own.videos / "link", own.videos.parent
    link.unlink(missing_ok=True)
    link.symlink_to(root)
    before = everything(root)
    status, body = served.raw(f"/api/videos/{name}", "PUT", **BEARER, **{"Content-Length": "0"})
    assert status in (404, 405, 422, 507), body
    assert b'"error"' in body
    status, body = served.raw(f"/api/videos/{name}", "DELETE", **BEARER)
    assert status in (404, 405, 422), body
    assert everything(root) == before


def test_an_upload_that_is_too_large_leaves_nothing(served: Running, own: World) -> None:
    before = everything(own.videos)
    stated = served.client.put("/api/videos/big.mp4", headers=BEARER, content=b"x" * (LIMIT + 1))
    assert (stated.status_code, stated.json()["error"][:6]) == (413, str(LIMIT + 1))
    unstated = served.client.put("/api/videos/big.mp4", headers=BEARER, content=(b"x" * 1000 for _ in range(200)))
    assert unstated.status_code == 413
    assert served.client.put("/api/videos/big.mp4", headers=BEARER, content=b"").status_code == 422
    assert everything(own.videos) == before
    assert served.client.put("/api/videos/exact.mp4", headers=BEARER, content=b"x" * LIMIT).status_code == 202


def test_no_room_on_the_disk(served: Running, own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(own.videos)
    full = shutil.disk_usage(own.videos)._replace(free=300 << 20)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    assert served.client.put("/api/videos/one.mp4", headers=BEARER, content=b"x").status_code == 202
    monkeypatch.setattr("shutil.disk_usage", lambda _: full._replace(free=1 << 20))
    answer = served.client.put("/api/videos/two.mp4", headers=BEARER, content=b"x")
    assert (answer.status_code, "no room" in answer.json()["error"]) == (507, True)
    assert everything(own.videos).keys() - before.keys() == {"one.mp4"}


def begun_upload(served: Running, name: str, size: int) -> socket.socket:
    """An upload of which only the first bytes were sent."""
    connection = socket.create_connection(("127.0.0.1", served.port))
    head = f"PUT /api/videos/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {size}\r\n\r\n"
    connection.sendall(head.encode() + b"first bytes")
    return connection


def test_an_upload_that_breaks_off_leaves_nothing(served: Running, own: World) -> None:
    before = everything(own.videos)
    connection = begun_upload(served, "half.mp4", 5000)
    until(lambda: everything(own.videos) != before)
    connection.close()
    until(lambda: everything(own.videos) == before)


def test_slow_uploads_are_few_and_end(served: Running, own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(own.videos)
    connections = [begun_upload(served, f"slow{n}.mp4", 5000) for n in range(UPLOADS_AT_ONCE)]
    until(served.service.uploads.locked)
    assert served.client.put("/api/videos/late.mp4", headers=BEARER, content=b"data").status_code == 503
    assert served.client.get("/api/search?q=dog").status_code == 200
    for connection in connections:
        connection.close()
    until(lambda: not served.service.uploads.locked())
    monkeypatch.setattr("prvr.server.writing.PATIENCE", 0.2)
    with begun_upload(served, "slow.mp4", 5000) as connection:
        connection.settimeout(300)
        assert b" 408 " in connection.recv(200)
    until(lambda: everything(own.videos) == before)


def test_what_a_killed_service_left_behind_goes(world: World) -> None:
    arriving = world.videos / ".arriving"
    arriving.mkdir(exist_ok=True)
    (arriving / "old").write_bytes(b"half of")
    (arriving / "new").write_bytes(b"half of another")
    os.utime(arriving / "old", (0, 0))
    with running(world.index):
        assert [path.name for path in arriving.iterdir()] == ["new"]


def test_deleting_moves_the_file_aside(served: Running, own: World) -> None:
    data = (own.videos / "trips" / "again.mp4").read_bytes()
    assert served.client.delete("/api/videos/trips/again.mp4", headers=BEARER).status_code == 202
    assert not (own.videos / "trips" / "again.mp4").exists()
    (kept,) = (own.videos / ".deleted").glob("*/trips/again.mp4")
    assert kept.read_bytes() == data
    assert served.client.delete("/api/videos/trips/again.mp4", headers=BEARER).status_code == 404
    assert served.client.delete("/api/videos/notes.txt", headers=BEARER).status_code == 404


def test_what_the_index_does_not_hold_can_be_deleted_and_sent_again(served: Running, own: World) -> None:
    path = "/api/videos/trips/junk.mp4"
    for data in (b"no video", b"nor this"):
        assert served.client.put(path, headers=BEARER, content=data).status_code == 202
        assert served.client.put(path, headers=BEARER, content=data).status_code == 409
        assert served.client.delete(path, headers=BEARER).status_code == 202
        assert not (own.videos / "trips" / "junk.mp4").exists()
    assert {kept.read_bytes() for kept in (own.videos / ".deleted").glob("*/trips/junk.mp4")} == {b"no video", b"nor this"}
    answer = served.client.delete(path, headers=BEARER)
    assert (answer.status_code, "holds no video 'trips/junk.mp4'" in answer.json()["error"]) == (404, True)


def test_of_what_the_index_does_not_hold_no_link_is_followed(served: Running, own: World) -> None:
    root = own.videos.parent
    (root / "secret.mp4").write_bytes(b"not yours")
    (root / "secret").mkdir()
    (root / "secret" / "a.mp4").write_bytes(b"nor this")
    (own.videos / "out.mp4").symlink_to(root / "secret.mp4")
    (own.videos / "out").symlink_to(root / "secret")
    (own.videos / "in").symlink_to(own.videos)
    (own.videos / "raw.mp4").write_bytes(b"no video")
    (own.videos / "folder.mp4").mkdir()
    before = everything(root)
    for name in ("out.mp4", "out/a.mp4", "in/raw.mp4", "folder.mp4", "../secret.mp4", "%2e%2e/secret.mp4", "in/../raw.mp4"):
        assert served.raw(f"/api/videos/{name}", "DELETE", **BEARER)[0] == 404, name
    for name in ("in/new.mp4", "in/trips/new.mp4", "out/new.mp4"):
        answer = served.client.put(f"/api/videos/{name}", headers=BEARER, content=b"data")
        assert (answer.status_code, "through a link" in answer.json()["error"]) == (422, True), name
    assert everything(root) == before
    for name in ("out.mp4", "out", "in", "raw.mp4"):
        (own.videos / name).unlink()
    (own.videos / "folder.mp4").rmdir()


def test_the_last_video_can_be_deleted_and_another_one_added(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = World(tmp_path / "videos", tmp_path / "gallery", world.encoder)
    own.videos.mkdir()
    beach = Path(shutil.copy(world.videos / "beach.mp4", own.videos))
    index_folder(own.videos, own.index, zero_shot(own.encoder))
    with running(own.index, token=TOKEN) as service:
        client, keeper = service.client, service.service.upkeep
        refused = keeper.now.model_copy(update={"state": "failed", "error": "no video"})

        async def index() -> UpkeepReport:
            return refused

        monkeypatch.setattr(keeper, "_run_command", index)

        def done() -> UpkeepReport:
            until(lambda: client.get("/api/upkeep").json()["state"] != "running")
            return UpkeepReport(**client.get("/api/upkeep").json())

        # What is gone by other hands is left to `prvr index`, which empties no index: the disk may not be there.
        beach.rename(own.videos / "beach.txt")
        client.post("/api/upkeep", headers=BEARER)
        assert (done(), client.get("/health").json()["videos"]) == (refused, 1)
        (own.videos / "beach.txt").rename(beach)
        assert client.delete("/api/videos/beach.mp4", headers=BEARER).status_code == 202
        report = done()
        assert (report.state, report.error, report.dropped, report.problems) == ("idle", None, 1, [])
        assert client.get("/api/videos").json() == {"total": 0, "videos": []}
        assert client.get("/api/search", params={"q": "dog", "where": "camera=north"}).json()["hits"] == []
        assert client.delete("/api/videos/beach.mp4", headers=BEARER).status_code == 404
        # A folder that is not there is another matter than one without videos.
        own.videos.rename(tmp_path / "elsewhere")
        client.post("/api/upkeep", headers=BEARER)
        assert done() == refused
        (tmp_path / "elsewhere").rename(own.videos)
        shutil.copy(world.videos / "kitchen.mp4", own.videos)
        assert index_folder(own.videos, own.index, zero_shot(own.encoder)).added == ("kitchen.mp4",)
        until(lambda: [hit["video"] for hit in client.get("/api/search?q=dog").json()["hits"]] == ["kitchen.mp4"])


def test_the_last_video_and_its_copy_can_be_deleted(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = World(tmp_path / "videos", tmp_path / "gallery", world.encoder)
    own.videos.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        shutil.copy(world.videos / "beach.mp4", own.videos / name)
    index_folder(own.videos, own.index, zero_shot(own.encoder))
    with running(own.index, token=TOKEN) as service:
        client, keeper = service.client, service.service.upkeep

        async def index() -> UpkeepReport:
            """`prvr index`, but for its process."""
            try:
                done = await asyncio.to_thread(index_folder, own.videos, own.index, zero_shot(own.encoder))
            except DataError as problem:
                return keeper._failure(str(problem))
            numbers = {name: len(getattr(done, name)) for name in ("added", "kept", "dropped")}
            return UpkeepReport(state="idle", waiting=False, problems=[], error=None, **numbers)

        monkeypatch.setattr(keeper, "_run_command", index)
        monkeypatch.setattr(index_service, "FRESH", -1.0)  # each request reads the names of the videos again

        def delete(*names: str) -> UpkeepReport:
            for name in names:
                assert client.delete(f"/api/videos/{name}", headers=BEARER).status_code == 202, name
            until(lambda: client.get("/api/upkeep").json()["state"] != "running")
            return UpkeepReport(**client.get("/api/upkeep").json())

        def places() -> list[list[str]]:
            videos = client.get("/api/videos").json()["videos"]
            return [[video["video"], *video["fields"].get("copies", ())] for video in videos]

        # A copy, and then, of two, the one that the index names.
        assert delete("c.mp4").error is None
        assert places() == [["a.mp4", "b.mp4"]]
        assert sorted(path.name for path in own.videos.glob("*.mp4")) == ["a.mp4", "b.mp4"]
        report = delete("a.mp4", "b.mp4")
        assert (report.state, report.error) == ("idle", None)
        assert client.get("/api/videos").json() == {"total": 0, "videos": []}
        # A deleted video that came back, and is gone by other hands, is left to `prvr index`.
        beach = Path(shutil.copy(world.videos / "beach.mp4", own.videos / "a.mp4"))
        client.post("/api/upkeep", headers=BEARER)
        delete()
        beach.rename(tmp_path / "a.mp4")
        client.post("/api/upkeep", headers=BEARER)
        assert delete().state == "failed"
        assert places() == [["a.mp4"]]


@pytest.mark.slow
def test_from_upload_to_hit_and_back(world: World, tmp_path: Path) -> None:
    # The processes that the service starts open this encoder in a third of the time that a CLIP takes.
    encoder = make_textual(make_visual(tmp_path / "tiny", size=[8, 12]))
    own = World(tmp_path / "videos", tmp_path / "gallery", encoder)
    shutil.copytree(world.videos, own.videos)
    index_folder(own.videos, own.index, zero_shot(own.encoder))
    with running(own.index, token=TOKEN) as service:
        client = service.client

        def upkeep() -> UpkeepReport:
            return UpkeepReport(**client.get("/api/upkeep").json())

        def names() -> set[str]:
            return {video["video"] for video in client.get("/api/videos").json()["videos"]}

        assert upkeep().state == "idle"
        data = write_video(own.videos / ".new.mp4", colourful()).read_bytes()
        assert client.put("/api/videos/new.mp4", headers=BEARER, content=data).json()["state"] == "running"
        # What comes during a run is done by another one.
        copy_as_another(own.videos / "beach.mp4", own.videos / "copied.mp4")
        assert client.put("/api/videos/broken.mp4", headers=BEARER, content=b"no video").json()["waiting"] is True
        assert client.delete("/api/videos/kitchen.mp4", headers=BEARER).status_code == 202
        seen = []
        until(lambda: seen.append(upkeep()) or seen[-1].state != "running")  # type: ignore[func-returns-value]
        # Six files, of which kitchen.mp4 is gone; three are new, of which two are being encoded or were.
        progress = [report.progress for report in seen if report.progress is not None]
        assert progress, "no progress was seen"
        for one in progress:
            assert (one.files_total in (6, 7), 5 <= one.files <= one.files_total) == (True, True), one
            assert 0 <= one.seconds <= one.seconds_total
            assert one.video in ("new.mp4", "copied.mp4", "broken.mp4")
        done = seen[-1]
        assert done.progress is None
        assert (done.state, done.error, done.waiting) == ("idle", None, False)
        assert len(done.problems) == 1
        assert "broken.mp4" in done.problems[0]
        assert str(own.videos) not in done.problems[0]
        until(lambda: {"new.mp4", "copied.mp4"} <= names())
        assert not {"kitchen.mp4", "broken.mp4"} & names()
        hits = client.get("/api/search", params={"q": "dog", "k": 50}).json()["hits"]
        # The copy looks like its original, and takes no place of its own.
        assert {name for hit in hits for name in (hit["video"], *hit["near_identical"])} == names()
        shutil.rmtree(own.index / "model")
        client.post("/api/upkeep", headers=BEARER)
        until(lambda: upkeep().state != "running")
        assert upkeep().state == "failed"
        assert "INDEX/model" in (upkeep().error or "")
        assert str(tmp_path) not in (upkeep().error or "")
        assert client.get("/api/search?q=dog").status_code == 200


DEADLY = """
import os, signal, av
real = av.open
def deadly(file, *args, **options):
    if "deadly" in str(getattr(file, "name", file)):
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(file, *args, **options)
av.open = deadly
"""


@pytest.mark.slow
@pytest.mark.thorough
def test_a_file_that_ends_its_decoder_costs_itself_alone(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = World(tmp_path / "videos", tmp_path / "gallery", world.encoder)
    own.videos.mkdir()
    shutil.copy(world.videos / "beach.mp4", own.videos)
    index_folder(own.videos, own.index, zero_shot(own.encoder))
    for name, source in (("deadly.mp4", "kitchen.mp4"), ("new.mp4", "trips/again.mp4")):
        shutil.copy(world.videos / source, own.videos / name)
    # What Python runs in every process that it starts.
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path / "first")
    with running(own.index, token=TOKEN) as service:
        service.client.post("/api/upkeep", headers=BEARER)
        until(lambda: service.client.get("/api/upkeep").json()["state"] != "running")
        report = UpkeepReport(**service.client.get("/api/upkeep").json())
        assert (report.state, report.added) == ("idle", 1), report
        assert len(report.problems) == 1
        assert "deadly.mp4" in report.problems[0]
        assert "SIGSEGV" in report.problems[0]


def test_the_service_ends_while_a_run_is_under_way(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that would never end is ended with the service, within seconds."""
    note = tmp_path / "update"
    text = f"import os, time; open({str(note)!r}, 'w').write(f'{{os.getpid()}} '); time.sleep(3600)"
    (tmp_path / "endless_update.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("prvr.server.upkeep.update_process", SimpleNamespace(__name__="endless_update"))
    with running(world.index, token=TOKEN) as service:
        assert service.client.post("/api/upkeep", headers=BEARER).json()["state"] == "running"
        until(lambda: note.exists() and note.read_text())
        began = time.monotonic()
    assert time.monotonic() - began < 8
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)
    with pytest.raises(httpx.ConnectError):
        httpx.get(service.url, trust_env=False)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
def test_the_requests_of_the_guide(served: Running, own: World, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
    lines = re.findall(r"^curl .+$", guide, flags=re.M)
    assert len(lines) == 4
    shutil.copyfile(own.videos / "kitchen.mp4", tmp_path / "beach.mp4")
    Image.new("RGB", (32, 32), (220, 30, 30)).save(tmp_path / "photo.jpg")
    answers = []
    for line in lines:
        command = line.replace("http://127.0.0.1:8000/", served.url).replace("$PRVR_TOKEN", TOKEN)
        done = subprocess.run([*shlex.split(command), "-s"], cwd=tmp_path, capture_output=True, check=True)
        answers.append(json.loads(done.stdout))
    assert len(answers[0]["hits"]) == 3
    assert answers[1]["hits"]
    assert [answer["state"] for answer in answers[2:]] == ["running", "running"]
    assert not (own.videos / "holiday" / "beach.mp4").exists()
