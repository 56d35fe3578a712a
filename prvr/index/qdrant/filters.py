"""Conditions of a search as filters that a Qdrant server applies before it scores, where it supports the same comparison.

folders   of a point: all folders that contain the video
kinds     the fields of the video, each with the kind of its value: number, day, text, word, list or strange
equals    all values that `=` accepts, as [field, kind, value]
numbers   of fields that hold a number, by field
days      of fields that hold a time, its day as a number such as 20260131, by field

Values without an order on the server (text, lists, words such as true and null) are compared by the caller instead.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from prvr.index.conditions import FOLDER, Condition, comparable

Filter = dict[str, Any]
"""A filter as JSON of Qdrant's interface."""

KINDS = ("number", "day", "text", "word", "list", "strange")
NOTHING: Filter = {"must": [{"has_id": []}]}
RANGES = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
DAY = 10


def terms(video: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a point's payload that filters read."""
    parts = video.split("/")
    folders = [json.dumps("/".join(parts[:end])) for end in range(1, len(parts))]
    kinds = {field: _kind(value) for field, value in about.items()}
    items = [(field, item) for field, value in about.items() for item in (value if isinstance(value, list) else [value])]
    return {
        "folders": folders,
        "kinds": [json.dumps([field, kind]) for field, kind in kinds.items()],
        "equals": sorted({json.dumps([field, *said]) for field, item in items for said in _equals(item)}),
        "numbers": {_key(field): float(about[field]) for field, kind in kinds.items() if kind == "number"},
        "days": {_key(field): _day(about[field]) for field, kind in kinds.items() if kind == "day"},
    }


def has_field(field: str, *kinds: str) -> Filter:
    """Points that have a field with one of these kinds of values."""
    return {"must": [{"key": "kinds", "match": {"any": [json.dumps([field, kind]) for kind in kinds]}}]}


def unsupported_kinds(condition: Condition) -> tuple[str, ...]:
    """The kinds of values that the server cannot compare with a condition."""
    if condition.field == FOLDER:
        return ()
    if condition.operator in ("=", "!="):
        return ("strange",)
    return ("text", "word", "list", "strange") if _days(condition.value) else ("day", "text", "word", "list", "strange")


def filter_for(condition: Condition) -> Filter:
    """The filter equivalent to a condition, for the kinds of values that are not `unsupported_kinds`."""
    number = _number(condition.value)
    if condition.field == FOLDER:
        return _folder_filter(condition)
    if condition.operator in ("=", "!="):
        same = _same(condition, number)
        if condition.operator == "=":
            return same
        # A number meets no condition whose value is not a number.
        others = [kind for kind in KINDS if kind != "number" or number is not None]
        return {**has_field(condition.field, *others), "must_not": [same]}
    clauses = []
    if number is not None:
        clauses.append({"key": f"numbers.{_key(condition.field)}", "range": {RANGES[condition.operator]: number}})
    if (days := _days(condition.value)) is not None:
        # All days of a month are equal to it, so neither before nor after it.
        bound = days[condition.operator in ("<=", ">")]
        clauses.append({"key": f"days.{_key(condition.field)}", "range": {RANGES[condition.operator]: bound}})
    return {"should": clauses} if clauses else NOTHING


def _folder_filter(condition: Condition) -> Filter:
    folder = condition.value.strip("/")
    if folder in ("", "."):
        return {} if condition.operator == "=" else NOTHING
    inside = {"key": "folders", "match": {"value": json.dumps(folder)}}
    return {"must" if condition.operator == "=" else "must_not": [inside]}


def _same(condition: Condition, number: float | None) -> Filter:
    said: list[list[Any]] = [["text", condition.value], ["word", condition.value.lower()]]
    if number is not None:
        said.append(["number", number])
    return {"must": [{"key": "equals", "match": {"any": [json.dumps([condition.field, *term]) for term in said]}}]}


def _equals(item: Any) -> list[tuple[str, Any]]:
    kind = _kind(item)
    if kind == "word":
        return [("word", {True: "true", False: "false", None: "null"}[item])]
    if kind == "number":
        return [("number", float(item))]
    if kind == "strange":
        return []
    # A day, a month and a year are equal to each time within them.
    short = range(1, DAY + 1) if kind == "day" else ()
    return [("text", str(item)), *(("text", str(item)[:length]) for length in short)]


def _kind(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "word"
    if isinstance(value, int | float):
        return "number" if _number(value) is not None else "strange"
    if isinstance(value, list):
        return "list" if comparable(value) else "strange"
    if not comparable(value):
        return "strange"
    return "day" if re.fullmatch(r"\d{4}-\d\d-\d\dT.*", str(value)) else "text"


def _key(field: str) -> str:
    # A dot or a bracket would be a path.
    return "f" + field.encode("utf-8", "surrogatepass").hex()


def _day(text: str) -> int:
    return int(text[:DAY].replace("-", ""))


def _days(value: str) -> tuple[int, int] | None:
    """The first and the last day of a day, a month or a year, as numbers; they need not be in the calendar."""
    if not re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?", value):
        return None
    digits = value.replace("-", "")
    return int(digits.ljust(8, "0")), int(digits.ljust(8, "9"))


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
