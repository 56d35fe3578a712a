"""A running service answers `prvr search`: the same bytes as without it, and only sockets of the own user are believed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
if not hasattr(socket, "AF_UNIX"):
    pytest.skip("this machine has no Unix sockets", allow_module_level=True)

from commands import Prvr
from serving import World, running

from prvr.errors import SettingError
from prvr.search import answering
from prvr.server import local
from prvr.server.local import LocalSocket, ask

RED = {"text": "red"}
SETTINGS = {"k": 3, "where": [], "min_score": None, "approximate": False, "rescore": False}


@pytest.fixture(autouse=True)
def own_place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Short: the path of a socket has at most a hundred bytes.
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder) / f"prvr-{os.getuid()}"


def sockets(place: Path) -> list[Path]:
    return sorted(place.glob("*.sock"))


QUERIES = [
    ("a red picture",),
    ("a red picture", "--then", "a blue picture", "--without", "green"),
    ("a red picture", "--moments", "--page", "2", "-k", "2"),
    ("red", "-k", "2", "--json"),
    ("red", "--prompt", "", "--json"),
    ("a dog runs on the blue beach " * 5, "--json"),
    ("red", "--where", "duration>1", "--where", "folder=trips", "--json"),
    ("red", "--min-score", "5"),
    ("red", "--min-score", "-1", "--json"),
    ("red", "-k", "0"),
    ("   ",),
    ("red", "--where", "colour=red"),
    ("red", "--approximate"),
    ("red", "--prompt", "none"),
]


def test_the_same_bytes_with_a_service_and_without(
    prvr: Prvr, world: World, own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [prvr("search", world.index, *query) for query in QUERIES]
    assert [answer.status for answer in alone] == [0] * 9 + [1] * 5
    with running(world.index, device="auto"):
        (there,) = sockets(own_place)
        assert there.lstat().st_mode & 0o777 == 0o600
        assert own_place.lstat().st_mode & 0o777 == 0o700
        # A command that opens the index itself would now fail.
        monkeypatch.setattr("prvr.search.open_index", None)
        assert [prvr("search", world.index, *query) for query in QUERIES] == alone
    monkeypatch.undo()
    assert sockets(own_place) == []


def test_another_place_device_or_version_is_not_answered(world: World, own_place: Path, tmp_path: Path) -> None:
    with running(world.index, device="auto"):
        assert ask(world.index, RED, SETTINGS, device="auto") is not None
        # By another way to the same folder.
        (tmp_path / "link").symlink_to(world.index)
        assert ask(tmp_path / "link", RED, SETTINGS, device="auto") is not None
        assert ask(world.index, RED, SETTINGS, device="cpu") is None
        assert ask(tmp_path, RED, SETTINGS, device="auto") is None
        assert ask("qdrant://127.0.0.1/x", RED, SETTINGS, device="auto") is None
        # Settings of another version.
        assert ask(world.index, RED, {**SETTINGS, "unknown": 1}, device="auto") is None
        with pytest.raises(SettingError, match="k is 0"):
            ask(world.index, RED, {**SETTINGS, "k": 0}, device="auto")
        (there,) = sockets(own_place)
        with socket.socket(socket.AF_UNIX) as client, client.makefile("rwb") as stream:
            client.connect(str(there))
            stream.write(json.dumps({"prvr": "0.0", "device": "auto", "question": RED, "settings": SETTINGS}).encode() + b"\n")
            stream.flush()
            assert json.loads(stream.readline()) == {"accepted": False}
    assert ask(world.index, RED, SETTINGS, device="auto") is None


def test_a_folder_that_others_may_write_to_is_not_believed(world: World, own_place: Path) -> None:
    with running(world.index, device="auto"):
        for mode in (0o750, 0o707, 0o770):
            own_place.chmod(mode)
            assert ask(world.index, RED, SETTINGS, device="auto") is None
        own_place.chmod(0o700)
        assert ask(world.index, RED, SETTINGS, device="auto") is not None


def test_nothing_in_the_folder_of_an_index_names_a_socket(world: World, own_place: Path, tmp_path: Path) -> None:
    """A service that listens in a folder of somebody else, to which a link leads."""
    with running(world.index, device="auto"):
        (there,) = sockets(own_place)
        own_place.rename(tmp_path / "elsewhere")
        own_place.symlink_to(tmp_path / "elsewhere")
        assert ask(world.index, RED, SETTINGS, device="auto") is None
        own_place.unlink()
        own_place.mkdir(mode=0o700)
        (own_place / there.name).symlink_to(tmp_path / "elsewhere" / there.name)
        assert ask(world.index, RED, SETTINGS, device="auto") is None
        (own_place / there.name).unlink()
        (own_place / there.name).write_text("no socket")
        assert ask(world.index, RED, SETTINGS, device="auto") is None


def test_the_socket_of_a_killed_service_is_removed(world: World, own_place: Path) -> None:
    with running(world.index, device="auto"):
        (there,) = sockets(own_place)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(there))
    assert there.is_socket()
    assert ask(world.index, RED, SETTINGS, device="auto") is None
    assert not there.exists()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(there))
    # A service takes its place, too.
    with running(world.index, device="auto"):
        assert ask(world.index, RED, SETTINGS, device="auto") is not None


@pytest.mark.parametrize("line", [None, b"", b"nonsense\n", b'{"accepted": true}\n', b'{"accepted": true}\n{"answer": \n'])
def test_a_service_that_does_not_answer(
    world: World, own_place: Path, monkeypatch: pytest.MonkeyPatch, line: bytes | None
) -> None:
    monkeypatch.setattr(local, "ACCEPTANCE", 0.2)
    monkeypatch.setattr(local, "ANSWER", 0.2)
    with running(world.index, device="auto"):
        (there,) = sockets(own_place)
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind(str(there))
        stuck.listen()

        def answer() -> None:
            connection, _ = stuck.accept()
            with connection:
                if line is None:
                    connection.recv(1)
                    stopped.wait(120)
                else:
                    connection.recv(10_000)
                    connection.sendall(line)

        stopped = threading.Event()
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert ask(world.index, RED, SETTINGS, device="auto") is None
        stopped.set()
        thread.join(120)
    # It may only be slow: its socket stays.
    assert there.exists()


def test_the_first_of_two_services_answers(world: World, own_place: Path) -> None:
    async def answers(name: str) -> LocalSocket:
        async def answer(query: str, settings: dict) -> dict:
            return {"by": name}

        opened = LocalSocket(world.index, device="auto", answer=answer)
        await opened.open()
        return opened

    async def both() -> None:
        first, second = await answers("first"), await answers("second")

        def by() -> object:
            return asyncio.to_thread(ask, world.index, RED, SETTINGS, device="auto")

        assert await by() == {"by": "first"}  # type: ignore[misc]
        await second.close()
        assert await by() == {"by": "first"}  # type: ignore[misc]
        await first.close()
        assert await by() is None  # type: ignore[misc]
        third = await answers("third")
        assert await by() == {"by": "third"}  # type: ignore[misc]
        await third.close()

    asyncio.run(both())


def test_an_answer_is_the_same_after_json(world: World) -> None:
    from prvr.search import open_index

    text = json.dumps(answering.answer(open_index(world.index), RED, dict(SETTINGS)))
    assert json.dumps(json.loads(text)) == text


def test_nothing_heavy_is_imported_to_ask() -> None:
    import subprocess
    import sys

    code = "import sys, prvr.server.local; print({'torch', 'numpy', 'fastapi', 'asyncio'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
