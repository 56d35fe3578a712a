"""Shapes are checked at the first calls with them: each function, each test, each combination of shapes (decision 0090).

A check costs some fifty times as much as a call. To make it at every call was more than half of the time of many tests, which
call a function thousands of times with arrays of the same shapes. With PRVR_TEST_SHAPES=all every call is checked.
"""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial, wraps
from types import CodeType
from typing import Any, get_args

import beartype
import jaxtyping
import numpy as np
import torch

FIRST = 2
"""How many calls of a function with the same shapes are checked in a test."""

calls: Counter[Hashable] = Counter()
"""Calls that were checked in this test, by function and shapes."""

_jaxtyped = partial(jaxtyping.jaxtyped, typechecker=beartype.beartype)
_shaped: dict[CodeType, bool] = {}


def install(modules: Sequence[str]) -> None:
    """From now on, these modules are imported with checks of their shapes."""
    if os.environ.get("PRVR_TEST_SHAPES") != "all":
        # The hook writes `@jaxtyping.jaxtyped(typechecker=...)` above every function and class.
        jaxtyping.jaxtyped = lambda *, typechecker: _check
    jaxtyping.install_import_hook(modules, "beartype.beartype")


def _check(checked: Any) -> Any:
    if not inspect.isclass(checked):
        return _checked_at_first(checked)
    # As jaxtyping does it: of classes, what `dataclass` wrote.
    if "__dataclass_fields__" in vars(checked) and "__init__" in vars(checked):
        checked.__init__ = _checked_at_first(checked.__init__)
    return checked


def _checked_at_first(function: Callable[..., Any]) -> Callable[..., Any]:
    code, checked = function.__code__, None

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if checked is None:
            if code not in _shaped:
                _shaped[code] = any(_has_shape(_read(one, function)) for one in function.__annotations__.values())
            # Not before it is called: to compile the checks of all functions took a second of each process.
            checked = _jaxtyped(function) if _shaped[code] else function
        if checked is not function:
            key = (code, _shapes(args), _shapes(tuple(kwargs.values())))
            try:
                seen = calls[key]
            except TypeError:  # a model that is exported is called with shapes that are symbols
                seen = FIRST
            if seen < FIRST:
                calls[key] += 1
                return checked(*args, **kwargs)
        return function(*args, **kwargs)

    return call


def _read(annotation: object, function: Callable[..., Any]) -> object:
    try:
        return eval(annotation, function.__globals__) if isinstance(annotation, str) else annotation
    except Exception:  # a name of type checking alone; jaxtyping takes it for Any, too
        return Any


def _has_shape(annotation: object) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    return any(map(_has_shape, annotation if isinstance(annotation, list) else get_args(annotation)))


def _shapes(values: tuple[object, ...]) -> Hashable:
    """The shapes and types of arrays, also of those in tuples; of all else nothing."""
    return tuple(
        [(one.shape, one.dtype) if isinstance(one, _ARRAYS) else isinstance(one, tuple) and _shapes(one[:9]) for one in values]
    )


_ARRAYS = (torch.Tensor, np.ndarray)
