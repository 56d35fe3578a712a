"""Waiting for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], said: Callable[[], str] = lambda: "", *, seconds: float = 15) -> None:
    """Looks again and again; the test fails, with what is said, where it takes longer."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, said()
        time.sleep(0.02)
