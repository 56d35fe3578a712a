"""Downloads of moments: cuts of files of the index, made in a process with limits."""

from __future__ import annotations

import asyncio
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from serving import ODD, Running, World
from tiny_videos import copy_as_another
from waiting import until

from prvr.errors import VideoError
from prvr.server import cutting_process, index_service, proxies
from prvr.server.cutting_process import CuttingProcesses
from prvr.video import VideoReader


def test_a_moment_is_downloaded_as_a_video_of_its_own(served: Running, world: World, tmp_path: Path) -> None:
    answer = served.client.get("/cuts/beach.mp4", params={"start": 2, "end": 3, "margin": 0})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''beach%202.0-3.0.mp4"
    assert int(answer.headers["content-length"]) == len(answer.content)
    (tmp_path / "cut.mp4").write_bytes(answer.content)
    frames = list(VideoReader(tmp_path / "cut.mp4", rate=5))
    with VideoReader(world.videos / "beach.mp4", rate=5) as reader:
        assert abs(frames[0][1].astype(int) - reader.still(0.0)).mean() < 1
    odd = served.client.get(f"/cuts/{ODD}", params={"start": 2, "end": 3})
    assert odd.status_code in (200, 404)


@pytest.mark.parametrize(
    ("video", "params", "status"),
    [
        ("beach.mp4", {"start": 70, "end": 80}, 422),
        ("beach.mp4", {"start": 3, "end": 2}, 422),
        ("beach.mp4", {"start": -1, "end": 2}, 422),
        ("beach.mp4", {"start": "nan", "end": 2}, 422),
        ("beach.mp4", {"start": 1}, 422),
        ("beach.mp4", {"start": 1, "end": 2, "margin": 1e9}, 422),
        ("none.mp4", {"start": 1, "end": 2}, 404),
        ("notes.txt", {"start": 1, "end": 2}, 404),
        ("../gallery/index.sqlite", {"start": 1, "end": 2}, 404),
    ],
)
def test_what_cannot_be_cut_is_one_line_without_a_path(
    served: Running, world: World, video: str, params: dict[str, object], status: int
) -> None:
    answer = served.client.get(f"/cuts/{video}", params=params)
    assert answer.status_code == status
    said = answer.json()["error"]
    assert "\n" not in said
    assert str(world.videos) not in said
    assert "--exact" not in said


def test_a_file_that_changed_since_it_was_indexed_is_not_cut(served: Running, world: World, tmp_path: Path) -> None:
    film = world.videos / "kitchen.mp4"
    whole = film.read_bytes()
    try:
        film.write_bytes((world.videos / "beach.mp4").read_bytes())
        answer = served.client.get("/cuts/kitchen.mp4", params={"start": 2, "end": 3})
        assert answer.status_code == 422
        assert answer.json()["error"].startswith("kitchen.mp4 has changed since it was indexed")
        film.unlink()
        assert served.client.get("/cuts/kitchen.mp4", params={"start": 2, "end": 3}).status_code == 404
    finally:
        film.write_bytes(whole)
    # Other stamps and the same content: it is the one that was indexed.
    assert served.client.get("/cuts/kitchen.mp4", params={"start": 2, "end": 3}).status_code == 200


def test_a_window_is_sent_in_ranges(served: Running, world: World) -> None:
    answer = served.client.get("/proxies/beach.mp4", params={"window": 0})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    part = served.client.get("/proxies/beach.mp4", params={"window": 0}, headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert part.headers["etag"] == answer.headers["etag"]
    assert served.client.head("/proxies/beach.mp4").headers["content-length"] == str(len(answer.content))
    assert served.client.get("/api/about").json()["window"] == 10.0
    assert f"prvr_proxy_bytes {len(answer.content)}" in served.client.get("/metrics").text


@pytest.mark.parametrize(
    ("video", "window", "status", "said"),
    [
        ("beach.mp4", 1, 422, "outside beach.mp4, which has 6.0 s"),
        ("beach.mp4", -1, 422, "window"),
        ("beach.mp4", 10**9, 422, "window"),
        ("beach.mp4", "nan", 422, "window"),
        ("none.mp4", 0, 404, "no video"),
        ("notes.txt", 0, 404, "no video"),
        ("../gallery/index.sqlite", 0, 404, ""),
    ],
)
def test_a_window_that_is_none_is_one_line_without_a_path(
    served: Running, world: World, video: str, window: object, status: int, said: str
) -> None:
    answer = served.client.get(f"/proxies/{video}", params={"window": window})
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert str(world.videos) not in answer.json()["error"]


def test_many_windows_that_wait_are_refused(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "MOST_WAITING", 0)
    answer = served.client.get("/proxies/trips/again.mp4")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_many_cuts_that_wait_are_refused(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting_process, "MOST_WAITING", 0)
    answer = served.client.get("/cuts/beach.mp4", params={"start": 2, "end": 3})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_downloads_that_have_not_ended_keep_their_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting_process, "MOST_KEPT", 1)
    monkeypatch.setattr(cutting_process, "LOOK", 0.1)

    async def nothing() -> None: ...

    async def stays() -> bool:
        return False

    async def leaves() -> bool:
        return True

    async def cut_thrice() -> None:
        cutting = CuttingProcesses()
        cut = partial(cutting.cut, world.videos / "beach.mp4", 2, 3, margin=0, check=nothing)
        first = await cut(is_gone=stays)
        with pytest.raises(VideoError, match="left"):
            await cut(is_gone=leaves)
        first.close()
        (await cut(is_gone=stays)).close()
        assert first.file.closed
        assert cutting._room._value == 1

    asyncio.run(cut_thrice())


def test_a_cut_that_nobody_waits_for_ends_its_process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting_process, "LOOK", 0.1)
    started = subprocess.Popen

    class Sleeping(started):  # type: ignore[misc,valid-type]
        def __init__(self, command: list[str], **named: object) -> None:
            super().__init__([command[0], "-c", "import time; time.sleep(60)"], **named)

    monkeypatch.setattr(cutting_process.subprocess, "Popen", Sleeping)

    async def nothing() -> None: ...

    async def leave() -> None:
        cutting = CuttingProcesses()

        async def is_gone() -> bool:
            return bool(cutting._processes._running)

        with pytest.raises(VideoError, match="left"):
            await cutting.cut(world.videos / "beach.mp4", 2, 3, margin=0, check=nothing, is_gone=is_gone)
        await asyncio.to_thread(until, lambda: not cutting._processes._running)
        assert cutting._room._value == cutting_process.MOST_KEPT

    asyncio.run(leave())


def test_an_ended_download_makes_room(served: Running) -> None:
    assert served.client.get("/cuts/beach.mp4", params={"start": 2, "end": 3}).status_code == 200
    until(lambda: served.service.cutting._room._value == cutting_process.MOST_KEPT)


def test_a_file_is_read_whole_once_to_see_whether_it_changed(
    served: Running, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(world.videos / "kitchen.mp4")
    checks = []
    check = index_service.check_unchanged
    monkeypatch.setattr(index_service, "check_unchanged", lambda *given: checks.append(check(*given)))
    for _ in range(2):
        assert served.client.get("/cuts/kitchen.mp4", params={"start": 2, "end": 3}).status_code == 200
    assert len(checks) == 1


def test_a_window_after_the_end_starts_no_process(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting_process.subprocess, "Popen", None)
    assert "outside beach.mp4" in served.client.get("/proxies/beach.mp4", params={"window": 1}).json()["error"]


def test_a_cut_has_limits_of_time_and_size(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting_process, "WAIT", 0.01)
    answer = served.client.get("/cuts/beach.mp4", params={"start": 2, "end": 3})
    assert answer.status_code == 422
    assert "within 0.01 seconds" in answer.json()["error"]
    assert not served.service.cutting._processes._running


def test_a_process_that_dies_is_one_line(served: Running, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_as_another(world.videos / "beach.mp4", world.videos / "spare.mp4")
    started = subprocess.Popen

    class Dying(started):  # type: ignore[misc,valid-type]
        def __init__(self, command: list[str], **named: object) -> None:
            super().__init__([command[0], "-c", "import os; os.abort()"], **named)

    monkeypatch.setattr(cutting_process.subprocess, "Popen", Dying)
    answer = served.client.get("/cuts/beach.mp4", params={"start": 2, "end": 3})
    assert answer.status_code == 422
    assert "ended with status" in answer.json()["error"]
    os.unlink(world.videos / "spare.mp4")
