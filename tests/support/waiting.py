"""Waiting for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], said: Callable[[], str] = lambda: "", *, seconds: float = 300) -> None:
    """Looks again and again; the test fails, with what is said, where it takes longer."""
    end, pause = time.monotonic() + seconds, 0.02
    while not condition():
        assert time.monotonic() < end, said()
        # Less and less often: looking takes the processor from what is awaited.
        time.sleep(pause)
        pause = min(0.25, 1.2 * pause)
