"""The process that makes pictures of videos, seen from the service: a file that crashes or holds up a decoder ends it alone."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, final

import numpy as np
from jaxtyping import UInt8

from prvr.child import child_environment
from prvr.errors import NoPictures, VideoError
from prvr.server import stills

Answer = TypeVar("Answer")
Pixels = UInt8[np.ndarray, "H W 3"]

# Of a picture, by the clock.
WAIT = 20.0
# Of a line that a process answers, and of its picture: it may be under the control of a file.
LINE_BYTES, PICTURE_BYTES = 1 << 16, 1 << 22


class DecoderFailure(VideoError):
    """A file that ended the process that decoded it, or took too long."""


@final
class PictureProcess:
    """A process that is started for the first picture and used for the next ones; one thread at a time uses it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def picture(self, video: Path, seconds: float) -> bytes:
        """The picture of a video at a time, as JPEG.

        Raises:
            VideoError: no frame decodes there.
            DecoderFailure: the process was ended by the file, or did not answer within `WAIT` seconds.
        """
        request = json.dumps([str(video), seconds]).encode() + b"\n"
        return self._use(lambda child: _ask(child, request)[1], f"the picture of {video}")

    def read(self, data: bytes) -> Pixels:
        """The pixels of a picture file, as `prvr.video.picture_file.decode_picture` returns them.

        Raises:
            VideoError: it is no picture, or too large.
            DecoderFailure: as above.
        """

        def use(child: subprocess.Popen[bytes]) -> Pixels:
            head, pixels = _ask(child, str(len(data)).encode() + b"\n" + data)
            return np.frombuffer(pixels, np.uint8).reshape(int(head["height"]), int(head["width"]), 3)

        return self._use(use, "the pixels of the picture")

    def _use(self, use: Callable[[subprocess.Popen[bytes]], Answer], what: str) -> Answer:
        child = self.start()
        late = threading.Event()

        def end() -> None:
            late.set()
            child.kill()

        clock = threading.Timer(WAIT, end)
        clock.start()
        try:
            return use(child)
        except (OSError, ValueError, KeyError, TypeError):
            self.close()
            reason = f" within {WAIT:g} seconds" if late.is_set() else f"; its decoder ended with status {child.returncode}"
            raise DecoderFailure(f"{what} cannot be made{reason}; convert the file") from None
        finally:
            clock.cancel()

    def start(self) -> subprocess.Popen[bytes]:
        """The process; started if it does not run."""
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", str(Path(stills.__file__).resolve())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=tempfile.gettempdir(),
                env=child_environment(),
            )
        return self._child

    def close(self) -> None:
        """Ends the process."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()


def _ask(child: subprocess.Popen[bytes], request: bytes) -> tuple[dict[str, Any], bytes]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(request)
    child.stdin.flush()
    head: dict[str, Any] = json.loads(child.stdout.readline(LINE_BYTES))
    if "error" in head:
        kind = VideoError if head.get("pictures", True) else NoPictures
        raise kind(" ".join(str(head["error"]).split()))
    picture = child.stdout.read(int(head["bytes"])) if 0 < head["bytes"] <= PICTURE_BYTES else b""
    if not picture or len(picture) != head["bytes"]:
        raise ValueError("no whole picture")
    return head, picture
