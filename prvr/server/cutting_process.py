"""Cuts moments for download, each in a process of its own with limits; as a program it is that process.

The cut goes to a file without a name, which the service has opened and the process inherits as its standard output, so that
neither holds it in memory, and nothing is left of it when the download has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, final

from prvr.child import child_environment, limit_resources
from prvr.errors import PrvrError, VideoError, require
from prvr.server.stills import MEMORY, MOST_PIXELS, STDERR, STDIN, STDOUT
from prvr.video.cutting import suffix_for, write_cut

AT_ONCE = 2
# Of a cut, by the clock, and in bytes.
WAIT = 60.0
MOST_BYTES = 1 << 30
LINE_BYTES = 1 << 16


@final
class CuttingProcesses:
    """Cuts moments, at most `AT_ONCE` at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._running: set[subprocess.Popen[bytes]] = set()

    async def cut(self, video: Path, start: float, end: float, *, margin: float) -> tuple[IO[bytes], str]:
        """Returns an open file with a cut, which the caller closes, and its suffix.

        Raises:
            VideoError: the stretch is outside the video, or the file cannot be cut, or not within the limits.
        """
        async with self._turn:
            return await asyncio.to_thread(self._cut, video, json.dumps([str(video), start, end, margin]).encode())

    def close(self) -> None:
        """Ends the processes."""
        for child in list(self._running):
            child.kill()

    def _cut(self, video: Path, request: bytes) -> tuple[IO[bytes], str]:
        file = tempfile.TemporaryFile()
        try:
            with subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", str(Path(__file__).resolve())],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.PIPE,
                cwd=tempfile.gettempdir(),
                env=child_environment(),
            ) as child:
                self._running.add(child)
                try:
                    said = child.communicate(request, timeout=WAIT)[1]
                except subprocess.TimeoutExpired:
                    raise VideoError(f"{video} cannot be cut within {WAIT:g} seconds; download it whole") from None
                finally:
                    child.kill()
                    self._running.discard(child)
            suffix = _read_answer(said, video, child.returncode)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file, suffix


def _read_answer(said: bytes, video: Path, status: int) -> str:
    try:
        head = json.loads(said[-LINE_BYTES:].splitlines()[-1])
        problem, suffix = head.get("error"), head.get("suffix")
    except (ValueError, LookupError, AttributeError):
        problem, suffix = f"{video} cannot be cut; its process ended with status {status}; download it whole", None
    if problem is not None or suffix is None:
        raise VideoError(" ".join(str(problem).split()))
    return str(suffix)


def main() -> None:
    """Cuts once: the request is on stdin, the cut goes to stdout, and the result to stderr as the last line of JSON."""
    require("av", extra="video")
    limit_resources(memory=MEMORY, file_bytes=MOST_BYTES)
    video, start, end, margin = json.loads(os.fdopen(os.dup(STDIN), "rb").read())
    file, said = os.fdopen(os.dup(STDOUT), "r+b"), os.fdopen(os.dup(STDERR), "wb")
    # What a library prints must be taken neither for the cut nor for the result.
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, STDOUT)
    os.dup2(nothing, STDERR)
    try:
        write_cut(Path(video), file, start, end, margin=margin, most_pixels=MOST_PIXELS)
        file.flush()
        head = {"suffix": suffix_for(Path(video))}
    except PrvrError as problem:
        head = {"error": str(problem)}
    except OSError as problem:
        head = {"error": f"the cut cannot be written: {problem.strerror}; at most {MOST_BYTES >> 20} MiB are cut"}
    except MemoryError:
        head = {"error": f"{video} needs more than {MEMORY >> 20} MiB of memory to be cut; download it whole"}
    except Exception as problem:  # a damaged file makes a library raise many types
        head = {"error": f"cannot cut {video}: {type(problem).__name__}; download it whole"}
    said.write(json.dumps(head).encode() + b"\n")
    said.flush()


if __name__ == "__main__":
    main()
