"""Windows of videos for browsers: made once, one at a time, for those who wait; bounded on disk, and whole or not there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from numbered_videos import number_of, write_numbered
from waiting import until

from prvr.errors import VideoError
from prvr.server import cutting_process, proxies
from prvr.server.cutting_process import BusyError, ProcessFailure
from prvr.server.file_cache import FileCache
from prvr.server.proxies import Proxies
from prvr.video import VideoReader

SLEEPING = "import sys, time; sys.stdout.write('half a file'); sys.stdout.flush(); time.sleep(60)"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty seconds: four windows."""
    return write_numbered(tmp_path_factory.mktemp("film") / "film.avi", 200, rate=5, codec="mpeg4", b_frames=0)


async def stays() -> bool:
    return False


async def leaves() -> bool:
    return True


def ask(made: Proxies, film: Path, *numbers: int, is_gone: Callable[[], Awaitable[bool]] = stays) -> list[object]:
    async def all_of() -> list[object]:
        asked = (made.window(film, number, duration=40.0, is_gone=is_gone) for number in numbers)
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(all_of())


@contextmanager
def scripted(script: str) -> Iterator[list[int]]:
    """Processes that run another program; gives their ids."""
    started, ids = cutting_process.subprocess.Popen, []

    class Scripted(started):  # type: ignore[misc,valid-type]
        def __init__(self, command: list[str], **named: object) -> None:
            super().__init__([command[0], "-c", script], **named)
            ids.append(self.pid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting_process.subprocess, "Popen", Scripted)
        yield ids


def test_windows_are_made_once_and_the_oldest_are_deleted(film: Path, tmp_path: Path) -> None:
    made = Proxies(tmp_path / "proxies")
    with scripted("raise SystemExit") as ids:
        first, again = ask(made, film, 2, 2)
        assert len(ids) == 1
        assert isinstance(first, ProcessFailure)
    made = Proxies(tmp_path / "proxies")
    first, again = ask(made, film, 2, 2)
    assert first == again
    assert isinstance(first, Path)
    shown = [(time, number_of(image)) for time, image in VideoReader(first, rate=1000.0)]
    assert [number for time, number in shown if 20 <= time < 30] == list(range(100, 150))
    with scripted("raise SystemExit"):
        assert ask(made, film, 2) == [first]
    # Room for two and a half: the one that was not asked for again goes.
    made.kept.most_bytes = 5 * first.stat().st_size // 2
    (second,) = ask(made, film, 0)
    ask(made, film, 2)
    (third,) = ask(made, film, 1)
    left = sorted(path.name for path in made.kept.folder.iterdir())
    assert isinstance(second, Path)
    assert isinstance(third, Path)
    assert third.name in left
    assert second.name not in left
    assert made.kept.size == sum(path.stat().st_size for path in made.kept.folder.iterdir()) <= made.kept.most_bytes
    assert Proxies(tmp_path / "proxies").kept.size == made.kept.size


def test_a_window_larger_than_the_room_is_served_and_the_next_takes_its_place(film: Path, tmp_path: Path) -> None:
    made = Proxies(tmp_path / "proxies", most_bytes=10)
    for number in (0, 1):
        (path,) = ask(made, film, number)
        assert os.listdir(made.kept.folder) == [path.name]  # type: ignore[attr-defined]


def test_nothing_of_a_window_is_left_that_is_killed_in_the_middle(film: Path, tmp_path: Path) -> None:
    made = Proxies(tmp_path / "proxies")

    async def kill() -> object:
        task = asyncio.create_task(made.window(film, 0, duration=None, is_gone=stays))
        await asyncio.to_thread(until, lambda: any(path.stat().st_size for path in made.kept.folder.iterdir()))
        made.close()
        return (await asyncio.gather(task, return_exceptions=True))[0]

    with scripted(SLEEPING):
        problem = asyncio.run(kill())
    assert isinstance(problem, ProcessFailure)
    assert "ended with status" in str(problem)
    assert os.listdir(made.kept.folder) == []


def test_a_window_that_takes_too_long_is_not_tried_again(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting_process, "WAIT", 0.3)
    made = Proxies(tmp_path / "proxies")
    with scripted(SLEEPING) as ids:
        for _ in range(2):
            (problem,) = ask(made, film, 0)
            assert "cannot be converted within 0.3 seconds" in str(problem)
        assert len(ids) == 1
    os.utime(film)
    monkeypatch.setattr(cutting_process, "WAIT", 60)
    assert isinstance(ask(made, film, 0)[0], Path)


def test_what_nobody_waits_for_is_given_up(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting_process, "LOOK", 0.1)
    made = Proxies(tmp_path / "proxies")
    with scripted(SLEEPING):
        (problem,) = ask(made, film, 0, is_gone=leaves)
        assert isinstance(problem, VideoError)
    until(lambda: not made._processes._running)
    assert os.listdir(made.kept.folder) == []
    # And is made for the next who asks.
    assert isinstance(ask(made, film, 0)[0], Path)


def test_a_long_queue_is_refused(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "MOST_WAITING", 2)
    made = Proxies(tmp_path / "proxies")
    answers = ask(made, film, 0, 1, 2)
    assert [type(answer) for answer in answers].count(BusyError) == 1
    assert sum(isinstance(answer, Path) for answer in answers) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_full_disk_is_one_line(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Proxies(tmp_path / "proxies")

    @contextmanager
    def full(_: FileCache, key: str) -> Iterator[Path]:
        yield Path("/dev/full")

    monkeypatch.setattr(FileCache, "making", full)
    (problem,) = ask(made, film, 0)
    assert isinstance(problem, VideoError)
    assert "No space left on device" in str(problem)
    assert os.listdir(made.kept.folder) == []


def test_files_that_a_killed_service_left_are_removed(tmp_path: Path) -> None:
    kept = FileCache(tmp_path / "kept", ".mp4", most_bytes=100)
    for name in ("old.part", "new.part"):
        (kept.folder / name).touch()
    os.utime(kept.folder / "old.part", (0, 0))
    assert os.listdir(FileCache(tmp_path / "kept", ".mp4", most_bytes=100).folder) == ["new.part"]
    assert kept.find("new") is None


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    made = Proxies(tmp_path / "file" / "proxies")
    folder = made.kept.folder
    assert folder.is_dir()
    made.close()
    assert not folder.exists()
    Proxies(tmp_path / "proxies").close()
    assert (tmp_path / "proxies").is_dir()


def test_a_folder_that_was_deleted_is_there_again(tmp_path: Path) -> None:
    kept = FileCache(tmp_path / "kept", ".mp4", most_bytes=100)
    kept.folder.rmdir()
    with kept.making("key") as part:
        part.write_bytes(b"whole")
    found = kept.find("key")
    assert found is not None
    assert found.stat().st_mode & 0o777 == 0o644


def test_a_file_of_another_user_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = FileCache(tmp_path / "kept", ".mp4", most_bytes=100)
    kept.write("key", b"whole")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    assert kept.find("key") == kept.path_of("key")


def test_another_duration_or_content_is_another_file(film: Path) -> None:
    key = proxies._key(film, 0, 40.0)
    assert key != proxies._key(film, 0, 41.0)
    about = film.stat()
    film.chmod(0o600)
    os.utime(film, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert key != proxies._key(film, 0, 40.0)


def test_space_is_asked_for_only_where_it_lacks(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Proxies(tmp_path / "proxies")

    @contextmanager
    def refused(_: FileCache, key: str) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")
        yield

    monkeypatch.setattr(FileCache, "making", refused)
    (problem,) = ask(made, film, 0)
    assert str(problem).endswith("cannot be converted: Permission denied; download it whole")
