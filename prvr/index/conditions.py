"""Conditions on what is known of a video. They are applied before anything is scored.

    folder=trips/2025   in that folder or below it
    duration>60         seconds
    date>=2026-01-01    when it was recorded, else written, in UTC: a year, a month, a day, or a day with a time
    camera=north        a user-defined field; if it holds a list, = compares with each item
    gps.lat>47          a field within a field that holds a JSON object

A video without the field meets no condition about it.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
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
ABSENT = object()
# What an index notes of a file for itself: its stamps, and what is in fields of its own, too.
NOTED = frozenset({"file", "recorded"})


@dataclass(frozen=True)
class Condition:
    """A field, one of the `OPERATORS`, and the value to compare with, as text."""

    field: str
    operator: str
    value: str

    def accepts(self, video: str, about: Mapping[str, Any]) -> bool:
        """Whether a video with this id and these fields meets the condition."""
        compare = OPERATORS[self.operator]
        if self.field == FOLDER:
            folder = self.value.strip("/")
            # Of a video that is there several times one place is enough.
            paths = (video, *about.get("copies", ()))
            inside = folder in ("", ".") or any(f"/{path}".startswith(f"/{folder}/") for path in paths)
            return compare(inside, True)
        known = _lookup(about, self.field)
        if not comparable(known):
            return False
        if isinstance(known, list):
            return compare(any(_compare(item, self.value, operator.eq) for item in known if comparable(item)), True)
        return _compare(known, self.value, compare)


def parse(text: str) -> Condition:
    """A condition from FIELD, an operator and VALUE, such as duration>60.

    Raises:
        SettingError: the text has another form, the operator is not defined for the field, or a duration is not a number or a
            date not a date.
    """
    parts = re.fullmatch(r"\s*([^\s=!<>]+)\s*(=|!=|<=|>=|<|>)\s*(.*?)\s*", text, flags=re.S)
    if parts is None or not parts[3]:
        raise SettingError(f"{text!r} is not a condition; write FIELD=VALUE, or with != < <= > >=, such as 'duration>60'")
    condition = Condition(parts[1], parts[2], parts[3])
    if condition.field == FOLDER and condition.operator not in ("=", "!="):
        raise SettingError(f"{text!r}: a folder takes = or !=")
    if condition.field == "duration" and _number(condition.value) is None:
        raise SettingError(f"{text!r}: a duration is a number of seconds, such as 'duration>60'")
    if condition.field == "date":
        return replace(condition, value=_date(condition.value, text))
    return condition


def select(abouts: Mapping[str, Mapping[str, Any]], conditions: Sequence[Condition]) -> list[str]:
    """The videos that meet all conditions.

    Args:
        abouts: the fields of every video, by id.

    Raises:
        SettingError: no video has the field of a condition (the nearest name is suggested), or no value there can be compared.
    """
    for condition in conditions:
        if condition.field != FOLDER and abouts:
            _check_field(condition.field, abouts.values())
    return [video for video, about in abouts.items() if all(condition.accepts(video, about) for condition in conditions)]


def comparable(value: Any) -> bool:
    """Whether a value can be compared: any but a JSON object."""
    if isinstance(value, list):
        return not value or not all(isinstance(item, Mapping) for item in value)
    return value is not ABSENT and not isinstance(value, Mapping)


def _check_field(field: str, abouts: Collection[Mapping[str, Any]]) -> None:
    objects = False
    for about in abouts:
        value = _lookup(about, field)
        if comparable(value):
            return
        objects = objects or value is not ABSENT
    names = _fields(abouts)
    if not objects:
        raise SettingError(f"no video has a field {field!r}; {nearest(field, names)}")
    within = sorted(name for name in names if name.startswith(f"{field}."))
    remedy = f"name a field within, such as {within[0]!r}" if within else "put the values to search by into a field of their own"
    raise SettingError(f"the field {field!r} holds JSON objects, which are not compared; {remedy}")


def _lookup(about: Mapping[str, Any], field: str) -> Any:
    """The value of a field; a.b is b within a where no field is called a.b itself."""
    if field in about:
        return about[field]
    value: Any = about
    for name in field.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return ABSENT
        value = value[name]
    return value


def _fields(abouts: Iterable[Mapping[str, Any]]) -> set[str]:
    """All names of fields, but for what an index notes of a file for itself; those within objects with a dot."""
    names = {FOLDER}
    waiting: list[tuple[str, Mapping[str, Any]]]
    waiting = [("", {name: about[name] for name in about.keys() - NOTED}) for about in abouts]
    while waiting:
        above, about = waiting.pop()
        names |= {above + name for name in about}
        waiting += [(f"{above}{name}.", value) for name, value in about.items() if isinstance(value, Mapping)]
    return names


def _date(value: str, text: str) -> str:
    """A year, a month or a day unchanged; a time in UTC, in the format that the index uses.

    Raises:
        SettingError: it is none of these, or not in the calendar.
    """
    try:
        if re.fullmatch(r"[0-9]{4}(-[0-9]{2}){0,2}", value):
            date.fromisoformat(value + "-01-01"[len(value) - 4 :])
            return value
        if re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]", value):
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        pass
    raise SettingError(f"{text!r}: {value!r} is not a date; write a year, a month or a day, such as 'date>=2026-01-31'")


def _compare(known: Any, value: str, compare: Callable[[Any, Any], bool]) -> bool:
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
