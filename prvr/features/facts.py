"""The facts of an item in a journal of features, beside its rows, checked once for every reader."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


def are_facts(info: Any) -> bool:
    """Returns whether a value is the further facts of an item: an object in which each known fact has its type."""
    return isinstance(info, dict) and all(is_fact(info[name]) for name, is_fact in _FACTS.items() if name in info)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_stamp(value: Any) -> bool:
    numbers = [value[name] for name in value if name in ("size", "mtime_ns", "ctime_ns")]
    has_content = isinstance(value.get("sha256", ""), str) and ("size" in value or "sha256" not in value)
    return {*map(type, numbers)} <= {int} and has_content


_FACTS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("of", "first", "size", "mtime_ns", "batch_size"), lambda value: type(value) is int and 0 <= value < 2**63),
    **dict.fromkeys(("duration", "frame_seconds"), lambda value: value is None or _is_number(value)),
    **dict.fromkeys(("problem", "damage", "ends"), lambda value: isinstance(value, str | None)),
    **dict.fromkeys(("text", "video"), lambda value: isinstance(value, str)),
    "recorded": lambda value: isinstance(value, dict),
    "times": lambda value: {*map(type, value)} <= {int, float} and all(map(math.isfinite, value)),
    "file": _is_stamp,
}
