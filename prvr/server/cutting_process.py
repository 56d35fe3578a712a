"""Writes moments and windows of videos, each in a process of its own with limits; as a program it is that process.

The process inherits its output, which the service has opened, as its standard output: neither holds it in memory. A cut goes to a
file without a name, of which nothing is left when the download has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar, final

from prvr.child import child_environment, limit_resources
from prvr.errors import PrvrError, VideoError, require
from prvr.server.stills import MEMORY, MOST_PIXELS, STDERR, STDIN, STDOUT
from prvr.video.cutting import suffix_for, write_cut
from prvr.video.proxy import write_window

AT_ONCE = 2
# Cuts that wait for their turn, and cuts on the disk: each is there until its download has ended.
MOST_WAITING = 20
MOST_KEPT = 8
# Seconds between two looks whether a client is still there.
LOOK = 0.5
# Of a file, by the clock, and in bytes.
WAIT = 60.0
MOST_BYTES = {"cut": 1 << 30, "window": 1 << 28}
# What happens to a video, and what can be done if it cannot.
DONE = {"cut": "cut", "window": "converted"}
INSTEAD = "download it whole"
LINE_BYTES = 1 << 16


class ProcessFailure(VideoError):
    """A file that ended the process that read it, or took too long."""


class BusyError(PrvrError):
    """Too many requests wait for their turn."""


Result = TypeVar("Result")


async def result_for(task: asyncio.Task[Result], is_gone: Callable[[], Awaitable[bool]]) -> Result:
    """Waits for a task as long as its client does. Raises VideoError if the client has left."""
    while not (await asyncio.wait({task}, timeout=LOOK))[0]:
        if await is_gone():
            raise VideoError("the client has left")
    return task.result()


@final
class WritingProcesses:
    """Processes that write files; they can be ended from another thread."""

    def __init__(self) -> None:
        self._running: dict[subprocess.Popen[bytes], threading.Event | None] = {}

    def write(
        self, file: IO[bytes], video: Path, request: Mapping[str, Any], *, stop: threading.Event | None = None
    ) -> Mapping[str, Any]:
        """Writes a cut or a window of a video, and returns the answer of the process.

        Args:
            request: the kind of file, and the arguments of its function.
            stop: if it is set by `end`, the process is ended, also before it has begun.

        Raises:
            VideoError: the request is outside the video, or the file cannot be read.
            ProcessFailure: the process was ended by the file, or needed more than `WAIT` seconds.
        """
        with subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.PIPE,
            cwd=tempfile.gettempdir(),
            env=child_environment(),
        ) as child:
            self._running[child] = stop
            try:
                if stop is not None and stop.is_set():
                    child.kill()
                output = child.communicate(json.dumps({"video": str(video), **request}).encode(), timeout=WAIT)[1]
            except subprocess.TimeoutExpired:
                raise ProcessFailure(f"{video} cannot be {DONE[request['kind']]} within {WAIT:g} seconds; {INSTEAD}") from None
            finally:
                child.kill()
                self._running.pop(child, None)
        return _read_answer(output, f"{video} cannot be {DONE[request['kind']]}", child.returncode)

    def end(self, stop: threading.Event) -> None:
        """Sets an event, and ends the process that was given it."""
        stop.set()
        for child, given in list(self._running.items()):
            if given is stop:
                child.kill()

    def close(self) -> None:
        """Ends the processes."""
        for child in list(self._running):
            child.kill()


@final
class Download:
    """An open file with a cut, and its suffix; whoever sends it closes it."""

    def __init__(self, file: IO[bytes], suffix: str, room: asyncio.Semaphore) -> None:
        self.file, self.suffix, self._room = file, suffix, room

    def close(self) -> None:
        """Removes the file and makes room for another one."""
        self.file.close()
        self._room.release()


@final
class CuttingProcesses:
    """Cuts moments, at most `AT_ONCE` at a time, while fewer than `MOST_KEPT` are on the disk."""

    def __init__(self) -> None:
        self._turn, self._room = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(MOST_KEPT)
        self._waiting = 0
        self._processes = WritingProcesses()
        self.close = self._processes.close

    async def cut(
        self,
        video: Path,
        start: float,
        end: float,
        *,
        margin: float,
        check: Callable[[], Awaitable[None]],
        is_gone: Callable[[], Awaitable[bool]],
    ) -> Download:
        """Returns a cut.

        Args:
            check: is awaited before the file is read, when it is its turn.
            is_gone: whether the client has left; its cut is given up then.

        Raises:
            VideoError: the stretch is outside the video, or the file cannot be cut, or not within the limits.
            BusyError: too many are waiting.
        """
        if self._waiting >= MOST_WAITING:
            raise BusyError(f"{self._waiting} cuts are waiting; try again in some seconds")
        self._waiting += 1
        stop = threading.Event()
        request = {"kind": "cut", "start": start, "end": end, "margin": margin}
        task = asyncio.create_task(self._cut_in_turn(video, request, check, stop))
        try:
            return await result_for(task, is_gone)
        finally:
            self._waiting -= 1
            if not task.done():
                self._processes.end(stop)
                task.cancel()

    async def _cut_in_turn(
        self, video: Path, request: Mapping[str, Any], check: Callable[[], Awaitable[None]], stop: threading.Event
    ) -> Download:
        await self._room.acquire()
        try:
            async with self._turn:
                await check()
                return Download(*await asyncio.to_thread(self._cut, video, request, stop), self._room)
        except BaseException:
            self._room.release()
            raise

    def _cut(self, video: Path, request: Mapping[str, Any], stop: threading.Event) -> tuple[IO[bytes], str]:
        file = tempfile.TemporaryFile()
        try:
            suffix = str(self._processes.write(file, video, request, stop=stop)["suffix"])
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file, suffix


def _read_answer(output: bytes, failure: str, status: int) -> Mapping[str, Any]:
    try:
        head = json.loads(output[-LINE_BYTES:].splitlines()[-1])
        problem, is_whole = head.get("error"), "suffix" in head
    except (ValueError, LookupError, AttributeError):
        problem, is_whole = None, False
    if problem is not None:
        raise VideoError(" ".join(str(problem).split()))
    if not is_whole:
        raise ProcessFailure(f"{failure}; its process ended with status {status}; {INSTEAD}")
    known: Mapping[str, Any] = head
    return known


def main() -> None:
    """Writes once: the request is on stdin, the file goes to stdout, and the result to stderr as the last line of JSON."""
    require("av", extra="video")
    request = json.loads(os.fdopen(os.dup(STDIN), "rb").read())
    kind, video = request["kind"], Path(request["video"])
    limit_resources(memory=MEMORY, file_bytes=MOST_BYTES[kind])
    if hasattr(signal, "alarm"):
        # It ends by itself where the service was killed.
        signal.alarm(int(WAIT) + 5)
    file, answer = os.fdopen(os.dup(STDOUT), "r+b"), os.fdopen(os.dup(STDERR), "wb")
    # What a library prints must be taken neither for the file nor for the result.
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, STDOUT)
    os.dup2(nothing, STDERR)
    head: dict[str, Any]
    try:
        if kind == "cut":
            write_cut(video, file, request["start"], request["end"], margin=request["margin"], most_pixels=MOST_PIXELS)
            head = {"suffix": suffix_for(video)}
        else:
            write_window(video, file, request["number"], duration=request["duration"], most_pixels=MOST_PIXELS)
            head = {"suffix": ".mp4"}
        file.flush()
    except PrvrError as problem:
        head = {"error": str(problem)}
    except OSError as problem:
        head = {"error": f"the {kind} cannot be written: {problem.strerror}; at most {MOST_BYTES[kind] >> 20} MiB are written"}
    except MemoryError:
        head = {"error": f"{video} needs more than {MEMORY >> 20} MiB of memory to be {DONE[kind]}; {INSTEAD}"}
    except Exception as problem:  # a damaged file makes a library raise many types
        head = {"error": f"{video} cannot be {DONE[kind]}: {type(problem).__name__}; {INSTEAD}"}
    answer.write(json.dumps(head).encode() + b"\n")
    answer.flush()


if __name__ == "__main__":
    main()
