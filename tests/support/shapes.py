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
from typing import Any

import beartype
import jaxtyping
import numpy as np
import torch

FIRST = 2
"""How many calls of a function with the same shapes are checked in a test."""

calls: Counter[Hashable] = Counter()
"""Calls that were checked in this test, by function and shapes."""

_jaxtyped = partial(jaxtyping.jaxtyped, typechecker=beartype.beartype)


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
    checked: Callable[..., Any] | None = None

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        key = (function.__code__, _shape(args), _shape(tuple(kwargs.values())))
        if calls[key] >= FIRST:
            return function(*args, **kwargs)
        calls[key] += 1
        # Not before it is needed: to compile the checks of all functions took a second of each process.
        checked = checked or _jaxtyped(function)
        return checked(*args, **kwargs)

    return call


def _shape(value: object) -> Hashable:
    """The shapes and types of arrays, also of those in tuples; of all else nothing."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return (value.shape, value.dtype)
    return tuple(map(_shape, value)) if isinstance(value, tuple) else None
