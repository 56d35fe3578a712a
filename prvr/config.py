"""Settings as frozen dataclasses: conversion from and to dictionaries, and `key=value` changes. Unknown keys are errors."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from prvr.errors import SettingError, nearest

T = TypeVar("T")

# Numbers of networks are float32, and torch's whole numbers have 64 bits.
MOST_OF: dict[Any, float] = {float: 3.4e38, int: 2**63 - 1}
MOST_SHOWN = 40

ADDED_LATER = {"added later": True}
"""The metadata of a field that checkpoints and runs of older versions do not have; see `settings_to_compare`."""


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Mapping: "a table of settings"}


def to_dict(settings: Any) -> dict[str, Any]:
    """The fields of a settings dataclass as a dictionary for JSON."""
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def settings_to_compare(settings: Any) -> dict[str, Any]:
    """`to_dict` without the fields that were added later and have their default: equal for the settings of an older version."""
    fields = {field.name: field for field in dataclasses.fields(settings)}
    plain = to_dict(settings)
    return {name: plain[name] for name in plain if not fields[name].metadata or plain[name] != fields[name].default}


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """Makes a settings dataclass from plain values, as read from JSON.

    Raises:
        SettingError: a key is unknown (the message suggests the nearest) or a value has the wrong type.
    """
    types_ = typing.get_type_hints(kind)
    for name in values:
        _check_known(name, types_)
    return kind(**{name: _fit(name, value, types_[name]) for name, value in values.items()})


def override(settings: Sequence[Any], assignments: Sequence[str]) -> list[Any]:
    """Applies `key=value` changes to settings, each to the dataclass that has the key; all changes are applied together.

    Raises:
        SettingError: `=` is missing, a key is unknown (the message suggests the nearest) or a value has the wrong type.
    """
    changes: list[dict[str, Any]] = [{} for _ in settings]
    every = {field.name for one in settings for field in dataclasses.fields(one)}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise SettingError(f"{_shorten(assignment)} is not a setting; write key=value, for example lr=3e-4")
        _check_known(name, every)
        for one, its in zip(settings, changes, strict=True):
            hints = typing.get_type_hints(type(one))
            if name in hints:
                its[name] = _parse(name, text, hints[name])
    return [dataclasses.replace(one, **its) for one, its in zip(settings, changes, strict=True)]


def _check_known(name: str, known: Collection[str]) -> None:
    if name not in known:
        raise SettingError(f"unknown setting {_shorten(name)}; {nearest(name, known)}")


def _parse(name: str, text: str, kind: Any) -> Any:
    if type(None) in typing.get_args(kind) and text.lower() == "none":
        return None
    base = _base(kind)
    if base is tuple:
        return tuple(_parse(name, part, typing.get_args(kind)[0]) for part in text.split(",") if part)
    if base is bool:
        known = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
        return _fit(name, known.get(text.lower(), text), kind)
    if base in (int, float):
        try:
            return _fit(name, base(text), kind)
        except ValueError:
            raise SettingError(f"{name} is {_shorten(text)}; it takes {_in_words(kind)}") from None
    return _fit(name, text, kind)


def _fit(name: str, value: Any, kind: Any) -> Any:
    if value is None and type(None) in typing.get_args(kind):
        return None
    base = _base(kind)
    if base is tuple and isinstance(value, list | tuple):
        item = typing.get_args(kind)[0]
        return tuple(_fit(name, part, item) for part in value)
    if base is Mapping and isinstance(value, Mapping):
        return dict(value)
    if typing.get_origin(kind) is typing.Literal and value in typing.get_args(kind):
        return value
    if base is float and isinstance(value, int | float) and type(value) is not bool and abs(value) <= MOST_OF[float]:
        return float(value)
    too_large = base in (int, float) and type(value) in (int, float) and MOST_OF[base] < abs(value) < math.inf
    if base in (int, bool, str) and type(value) is base and not too_large:
        return value
    limit = {int: " below 2^63", float: f" that float32 holds, up to {MOST_OF[float]:g}"}[base] if too_large else ""
    raise SettingError(f"{name} is {_shorten(value)}; it takes {_in_words(kind)}{limit}")


def _shorten(value: Any) -> str:
    """A value as messages show it."""
    try:
        shown = repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits.
        return "a number of thousands of digits"
    return shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}..."


def _base(kind: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return _base(next(arg for arg in typing.get_args(kind) if arg is not type(None)))
    return origin or kind


def _in_words(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        return f"{_in_words(arguments[0])}, several with commas between"
    if origin in (types.UnionType, typing.Union):
        return " or ".join("none" if arg is type(None) else _in_words(arg) for arg in arguments)
    return WORDS.get(kind) or WORDS.get(origin) or str(kind)


def check_above_zero(settings: Any, *names: str) -> None:
    """Raises if one of these settings is not above 0.

    Raises:
        SettingError: one is 0 or less.
    """
    for name in names:
        if getattr(settings, name) <= 0:
            raise SettingError(f"{name} is {getattr(settings, name)}; it must be above 0")


def check_not_below_zero(settings: Any, *names: str) -> None:
    """Raises if one of these settings is below 0.

    Raises:
        SettingError: one is.
    """
    for name in names:
        if getattr(settings, name) < 0:
            raise SettingError(f"{name} is {getattr(settings, name)}; it is 0 or more")


def check_shares(settings: Any, *names: str) -> None:
    """Raises if one of these settings is not a share from 0 to 1.

    Raises:
        SettingError: one is outside of 0 to 1.
    """
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise SettingError(f"{name} is {getattr(settings, name)}; it takes a share from 0 to 1")


def check_heads(settings: Any) -> None:
    """Raises if the attention heads do not divide the hidden size.

    Raises:
        SettingError: the hidden size is not a multiple of the heads.
    """
    hidden, heads = settings.hidden, settings.heads
    if hidden % heads:
        raise SettingError(f"hidden {hidden} is not a multiple of heads {heads}; {hidden - hidden % heads + heads} is")
