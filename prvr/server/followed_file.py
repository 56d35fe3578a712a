"""An open index that is opened again when its file was replaced or repaired."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar, final

from prvr.errors import ModelError

Opened = TypeVar("Opened")
Answer = TypeVar("Answer")


@final
class FollowedFile(Generic[Opened]):
    """Something that is open on a file; one thread uses it.

    An open file outlives its name: without a look at the name, an index that was deleted would be served for ever, and a new
    one in its place never.

    Args:
        also: a small file whose content is opened with it: when it changes, both are opened again.
    """

    def __init__(
        self, path: Path, open_it: Callable[[], Opened], close: Callable[[Opened], None], *, also: Path | None = None
    ) -> None:
        self.path, self.also, self._open, self._close = path, also, open_it, close
        self._content = b""
        self._opened: Opened | None = None
        self._file: tuple[int, int] | None = None
        # The state of the file in which damage was found.
        self._damaged: tuple[int, int, int, int] | None = None

    def get(self) -> Opened:
        """What is open on the file that now has the name.

        Raises:
            ModelError: there is no such file, or it cannot be opened.
        """
        now = self._state()
        content = self._content_of_also()
        if self._opened is None or self._file != now[:2] or self._damaged not in (None, now) or self._content != content:
            self.close()
            self._opened, self._file, self._damaged, self._content = self._open(), now[:2], None, content
        return self._opened

    def use(self, function: Callable[[Opened], Answer]) -> Answer:
        """The value of a function of what is open.

        Raises:
            ModelError: the file is not there or damaged.
        """
        opened = self.get()
        try:
            return function(opened)
        except ModelError:
            self._damaged = self._state()
            raise

    def close(self) -> None:
        """Closes it."""
        opened, self._opened = self._opened, None
        if opened is not None:
            self._close(opened)

    def _content_of_also(self) -> bytes:
        try:
            return self.also.read_bytes() if self.also is not None else b""
        except OSError:
            # What is open serves on without it.
            return self._content

    def _state(self) -> tuple[int, int, int, int]:
        try:
            there = self.path.stat()
        except OSError as problem:
            raise ModelError(
                f"no index in {self.path.parent} ({problem.strerror}); put it back, or build it again: "
                f"prvr index VIDEOS {self.path.parent} --model RUN"
            ) from None
        return there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns
