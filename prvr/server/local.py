"""A search of the command line that a running service of the same index answers: over a socket that only the same user reaches.

`prvr serve` listens, beside its port, on a Unix socket in a folder of the user (mode 0700), whose name is computed from the
path of the index. `prvr search` computes the same name: nothing that lies in the folder of an index, which may be anybody's,
names a socket. The exchange is a line of JSON with the question, a line that accepts it, and a line with the answer. Where there
is no service, no answer in time, another version or device, or no Unix sockets (Windows), the command opens the index itself.

This module imports nothing heavy: the command is to be answered before torch would be loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from prvr.errors import PrvrError, SettingError
from prvr.index.place import index_folder_of

if TYPE_CHECKING:
    import asyncio

# Seconds until a service accepts a query, and until it has answered it.
ACCEPTANCE, ANSWER = 2.0, 60.0
# Of the path of a Unix socket: 104 bytes on macOS, with the end of the text.
MOST_BYTES = 100

Answer = Callable[[dict[str, Any], dict[str, Any]], Awaitable[dict[str, Any]]]


def ask(place: str | Path, question: Mapping[str, Any], settings: Mapping[str, Any], *, device: str) -> dict[str, Any] | None:
    """Returns what a running service of an index answers (`prvr.search.answering`); None if none does.

    Args:
        question, settings: as of `prvr.search.answering.answer`.

    Raises:
        SettingError: the service refuses the question, as `answer` does.
    """
    if "://" in str(place):
        return None
    address = _address(index_folder_of(Path(place)))
    if address is None or not _is_own_socket(address):
        return None
    request = {**_identity(device), "question": dict(question), "settings": dict(settings)}
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.settimeout(ACCEPTANCE)
            opened.connect(str(address))
            with opened.makefile("rwb") as stream:
                stream.write(json.dumps(request).encode() + b"\n")
                stream.flush()
                if json.loads(stream.readline()) != {"accepted": True}:
                    return None
                opened.settimeout(ANSWER)
                reply = json.loads(stream.readline())
    except ConnectionRefusedError:
        # Its service was killed.
        with suppress(OSError):
            address.unlink()
        return None
    except (OSError, ValueError):
        return None
    if "error" in reply:
        raise SettingError(reply["error"])
    return reply.get("answer")


@final
class LocalSocket:
    """The socket of a service, from `open` to `close`; without one if this machine cannot, or another service has it.

    Args:
        folder: of the index. answer: returns what a query is answered with.
    """

    def __init__(self, folder: Path, *, device: str, answer: Answer) -> None:
        self._address, self._device, self._answer = _address(folder, make=True), device, answer
        self._server: asyncio.AbstractServer | None = None
        self._file: tuple[int, int] | None = None

    async def open(self) -> None:
        """Listens, if no other service of the index does."""
        import asyncio

        if self._address is None or _is_alive(self._address):
            return
        # Under its own name only when it listens: `ask` removes a socket at which nobody does.
        first = self._address.with_suffix(f".{os.getpid()}")
        listening = socket.socket(socket.AF_UNIX)
        try:
            first.unlink(missing_ok=True)
            listening.bind(str(first))
            os.chmod(first, 0o600)
            listening.listen(64)
            os.replace(first, self._address)
        except OSError:
            # The service works without it.
            listening.close()
            return
        self._file = _identity_of_file(self._address)
        self._server = await asyncio.start_unix_server(self._serve, sock=listening)

    async def close(self) -> None:
        """Stops listening, and removes the socket if it is still the own one."""
        if self._server is None or self._address is None:
            return
        self._server.close()
        with suppress(OSError):
            if _identity_of_file(self._address) == self._file:
                self._address.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def send(value: dict[str, Any]) -> None:
            writer.write(json.dumps(value).encode() + b"\n")

        try:
            request = json.loads(await reader.readline())
            question, settings = request.pop("question"), request.pop("settings")
            if request != _identity(self._device):
                send({"accepted": False})
                return
            send({"accepted": True})
            await writer.drain()
            try:
                send({"answer": await self._answer(question, settings)})
            except PrvrError as problem:
                send({"error": str(problem)})
            await writer.drain()
        # An answer that fails, or a client that is gone: the client opens the index itself.
        except Exception:
            return
        finally:
            writer.close()


def _identity(device: str) -> dict[str, str]:
    """Returns what client and service must have in common for equal answers."""
    return {"prvr": version("prvr"), "device": device}


def _address(folder: Path, *, make: bool = False) -> Path | None:
    """Returns the path of the socket for an index; None if there can be none, or its folder is open to others."""
    if not hasattr(socket, "AF_UNIX") or not hasattr(os, "getuid"):
        return None
    own = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"prvr-{os.getuid()}"
    try:
        if make:
            with suppress(FileExistsError):
                own.mkdir(mode=0o700)
        about = own.lstat()
    except OSError:
        return None
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        return None
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    return own / f"{name}.sock" if len(os.fsencode(own)) + len(name) + 12 <= MOST_BYTES else None


def _is_own_socket(path: Path) -> bool:
    try:
        about = path.lstat()
    except OSError:
        return False
    return stat.S_ISSOCK(about.st_mode) and about.st_uid == os.getuid()


def _is_alive(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.settimeout(ACCEPTANCE)
            opened.connect(str(path))
    except OSError:
        return False
    return True


def _identity_of_file(path: Path) -> tuple[int, int]:
    about = path.lstat()
    return about.st_dev, about.st_ino
