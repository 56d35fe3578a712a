"""Conditions on what is known of a video, which a search is narrowed by before anything is scored.

    folder=trips/2025   in that folder or below it
    duration>60         seconds
    date>=2026-01-01    the day on which the file was last written
    camera=north        a field of one's own; where it holds a list, = asks for one of its items

A video without the field meets no condition about it.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prvr.errors import SettingError, nearest

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FOLDER = "folder"


@dataclass(frozen=True)
class Condition:
    """A field, one of the `OPERATORS`, and the value to compare with, as text."""

    field: str
    operator: str
    value: str

    def accepts(self, video: str, about: Mapping[str, Any]) -> bool:
        """Whether a video of that id, of which that is known, meets the condition."""
        compare = OPERATORS[self.operator]
        if self.field == FOLDER:
            inside = self.value.strip("/") in ("", ".") or f"/{video}".startswith(f"/{self.value.strip('/')}/")
            return compare(inside, True)
        if self.field not in about:
            return False
        known = about[self.field]
        if isinstance(known, list):
            return compare(any(_compared(item, self.value, operator.eq) for item in known), True)
        return _compared(known, self.value, compare)


def parse(text: str) -> Condition:
    """A condition from FIELD, an operator and VALUE, such as duration>60.

    Raises:
        SettingError: it is none, or asks for more or less of what has no order.
    """
    parts = re.fullmatch(r"\s*([^\s=!<>]+)\s*(=|!=|<=|>=|<|>)\s*(.*?)\s*", text, flags=re.S)
    if parts is None or not parts[3]:
        raise SettingError(f"{text!r} is not a condition; write FIELD=VALUE, or with != < <= > >=, such as 'duration>60'")
    condition = Condition(parts[1], parts[2], parts[3])
    if condition.field == FOLDER and condition.operator not in ("=", "!="):
        raise SettingError(f"{text!r}: a folder is asked for by = or !=")
    if condition.field == "duration" and _number(condition.value) is None:
        raise SettingError(f"{text!r}: a duration is a number of seconds, such as 'duration>60'")
    return condition


def accepted(known: Mapping[str, Mapping[str, Any]], conditions: Sequence[Condition]) -> list[str]:
    """The videos that meet all conditions.

    Raises:
        SettingError: no video has the field of a condition; the nearest one is suggested.
    """
    for condition in conditions:
        if condition.field != FOLDER and known and not any(condition.field in about for about in known.values()):
            raise SettingError(f"no video has a field {condition.field!r}; {nearest(condition.field, _fields(known.values()))}")
    return [video for video, about in known.items() if all(condition.accepts(video, about) for condition in conditions)]


def _fields(abouts: Iterable[Mapping[str, Any]]) -> set[str]:
    return {FOLDER}.union(*(about.keys() for about in abouts))


def _compared(known: Any, value: str, compare: Callable[[Any, Any], bool]) -> bool:
    if isinstance(known, bool) or known is None:
        return compare({True: "true", False: "false", None: "null"}[known], value.lower())
    if isinstance(known, int | float):
        number = _number(value)
        return number is not None and compare(known, number)
    # A day is before every moment of it, and equal to each.
    text = str(known)
    return compare(text[: len(value)] if re.fullmatch(r"\d{4}-\d\d-\d\dT.*", text) and len(value) <= 10 else text, value)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
