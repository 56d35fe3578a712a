"""Connections to SQLite that nobody closed. Python warns of them from 3.13 on; this finds them on every Python."""

from __future__ import annotations

import gc
import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


@contextmanager
def no_open_connections() -> Iterator[None]:
    """Fails if a connection that is opened within is not closed within, with the lines that opened it."""
    opened: list[tuple[Watched, str]] = []

    def connect(*arguments: Any, **options: Any) -> Watched:
        lines = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack()[-8:-1]]
        opened.append((real(*arguments, **options, factory=Watched), " < ".join(reversed(lines))))
        return opened[-1][0]

    real = sqlite3.connect
    with patch("sqlite3.connect", connect):
        yield
    gc.collect()
    left = [where for connection, where in opened if not connection.is_closed]
    for connection, _ in opened:
        connection.close()
    assert opened
    assert not left, "\n".join(left)


class Watched(sqlite3.Connection):
    """A connection that knows whether it was closed."""

    is_closed = False

    def close(self) -> None:
        super().close()
        self.is_closed = True
