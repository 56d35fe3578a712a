"""What the command answers, and how it is to fail; the fixture `prvr` types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """Its exit status, and what went to stdout and to stderr."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Prvr = Callable[..., Answer]


def says(answer: Answer, *parts: str) -> None:
    """One clear line and exit status 1."""
    assert answer.status == 1, answer.out + answer.err
    assert answer.out == ""
    (line,) = answer.err.splitlines()
    assert line.startswith("prvr: ")
    for part in parts:
        assert part in line
