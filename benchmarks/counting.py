"""Counts the kernels that a computation launches, and the host synchronisations, with torch's profiler.

A kernel is the outermost `aten` operation that torch does not compose of other operations; what the CPU calls inside it is not
counted. Views and allocations launch nothing. An operation on a list (`_foreach_`) is a kernel for every `LIST` tensors, or
one for each tensor if their shapes differ. The host waits if it reads a number from a tensor, or if a shape depends on values.
Copies of a whole tensor to the host (`cpu`, `tolist`) cannot be counted on the CPU, therefore the tests also run a step on
tensors without values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

SYNCS = {"_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "_unique2", "unique_consecutive"}
VIEWS = {
    *("as_strided", "view", "_unsafe_view", "_reshape_alias", "alias", "detach", "detach_", "expand", "permute", "transpose"),
    *("t", "t_", "transpose_", "select", "slice", "split", "split_with_sizes", "unbind", "unsqueeze", "unsqueeze_"),
    *("squeeze", "squeeze_", "unfold", "diagonal", "lift_fresh", "set_", "resize_", "resolve_conj", "resolve_neg"),
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "result_type", "is_same_size"),
    *("unflatten", "view_as", "flatten", "chunk", "narrow", "mT", "mH", "numpy_T", "expand_as", "squeeze_copy"),
}
LIST = 30


class Launches(NamedTuple):
    """The number of kernels that are launched, and how often the host waits for one."""

    kernels: int
    syncs: int


def count_launches(action: Callable[[], object]) -> Launches:
    """Counts the launches of an action, backward passes included."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        action()
    events = profiled.events() or []
    names = [(event, event.name.removeprefix("aten::")) for event in events if event.name.startswith("aten::")]
    counted = [(event, name) for event, name in names if name not in VIEWS and not _is_composite(name) and not _inside(event)]
    syncs = sum(name in SYNCS for _, name in names)
    # Masks as indices are counted by the `nonzero` that they call.
    return Launches(sum(_kernels(event, name) for event, name in counted), syncs)


def _inside(event: Any) -> bool:
    """Whether an operation runs within another one that is counted."""
    above = event.cpu_parent
    while above is not None:
        name = above.name.removeprefix("aten::")
        if above.name.startswith("aten::") and name not in VIEWS and not _is_composite(name):
            return True
        above = above.cpu_parent
    return False


def _kernels(event: Any, name: str) -> int:
    if not name.startswith("_foreach_"):
        return 1
    tensors = sum(child.name.startswith("aten::") for child in event.cpu_children)
    per_tensor = max(tensors, 1)
    return per_tensor if name == "_foreach_mul" else -(-per_tensor // LIST)


@functools.cache
def _is_composite(name: str) -> bool:
    """Whether torch composes an operation of others on every device; overloads with named axes or `out` are ignored."""
    overloads = [known for known in _registered().get(name, ()) if "imname" not in known and not known.endswith("out")]
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return bool(overloads) and all(has(known, "CompositeImplicitAutograd") for known in overloads)


@functools.cache
def _registered() -> dict[str, list[str]]:
    overloads: dict[str, list[str]] = {}
    for known in torch._C._dispatch_get_all_op_names():
        space, _, rest = known.partition("::")
        if space == "aten":
            overloads.setdefault(rest.partition(".")[0], []).append(known)
    return overloads
