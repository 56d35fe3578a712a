"""Connections that send no whole request: they have a time limit, and give way to others.

uvicorn counts a connection from its first moment and limits the time between requests only (`timeout_keep_alive`), so that a
thousand clients which send half a request would lock all others out.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds for the head of a request, from the start of the connection or its first byte.
HEAD_SECONDS = 10.0
# Connections without a request in progress; with more, the oldest one is closed. Each connection needs a file descriptor, of
# which many systems give a process 1,024.
MOST_IDLE = 400


@final
class Connection(H11Protocol):
    """uvicorn's connection with `HEAD_SECONDS` and `MOST_IDLE`."""

    _head_timer: asyncio.TimerHandle | None = None
    idle_since = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no request of this connection is in progress."""
        return self.conn.their_state is h11.IDLE or (self.cycle is not None and self.cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time limit, and closes the oldest idle connection if there are too many."""
        super().connection_made(transport)
        self.idle_since = time.monotonic()
        self._limit_head()
        others: list[Any] = [other for other in self.connections if other is not self and not other.transport.is_closing()]
        idle = [other for other in others if other.is_idle] if len(others) >= MOST_IDLE else []
        if len(idle) >= MOST_IDLE:
            min(idle, key=lambda other: other.idle_since).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the time limit."""
        self._end_limit()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads a part of a request; the time limit ends when its head is complete."""
        super().data_received(data)
        if self.is_idle:
            self._limit_head()
        else:
            self._end_limit()

    def on_response_complete(self) -> None:
        """The connection is idle from here on."""
        self.idle_since = time.monotonic()
        super().on_response_complete()

    def _limit_head(self) -> None:
        # Not restarted by further bytes: a byte now and then is no progress.
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._close_idle)

    def _end_limit(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close_idle(self) -> None:
        self._head_timer = None
        if self.is_idle:
            self.transport.abort()
