"""Opens a torch device or a Ray cluster by name, checks what it can do, and counts processors; work in threads."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Float

from prvr.errors import SettingError, require

if TYPE_CHECKING:
    import torch

# torch divides the work on more numbers among its threads.
NUMBERS_OF_A_THREAD = 1 << 15

Item = TypeVar("Item")
Result = TypeVar("Result")


def device_name(name: str, *, processes: int = 1) -> str:
    """Returns the name of a device; for `auto`, cuda, else mps, else cpu.

    Args:
        processes: the number of those that each need a device of their own here; `auto` is then cuda if there are enough.
    """
    if name != "auto":
        return name
    import torch

    if torch.cuda.device_count() >= processes:
        return "cuda"
    return "mps" if processes == 1 and torch.backends.mps.is_available() else "cpu"


def open_device(name: str) -> torch.device:
    """Returns the device of that name: auto (`device_name`), cpu, cuda, cuda:1, mps ...

    Raises:
        SettingError: this machine has no such device, or this torch cannot use it.
    """
    import torch

    name = device_name(name)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    # torch without CUDA raises AssertionError.
    except (RuntimeError, AssertionError) as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0][:200]
        raise SettingError(f"networks cannot run on device {name!r} here ({reason}); take cpu") from None
    return device


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes in one thread within this block, so that its numbers do not depend on the number of processors.

    Two processes with a thread for each processor would wait for each other.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_precision(precision: str, device: torch.device) -> None:
    """Checks that products in a reduced precision are worth taking on a device.

    A GPU has float16, and bfloat16 if torch does not emulate it. A CPU has bfloat16 if it has instructions for it (AVX-512 or
    AMX); versions of torch before 2.10 do not say whether it does.

    Args:
        precision: float32, bfloat16 or float16.

    Raises:
        SettingError: the device lacks it.
    """
    if precision == "float32" or precision in (there := _reduced_precisions(device)):
        return
    raise SettingError(
        f"precision is {precision!r}, and {device} has no products in {precision} here; take {' or '.join([*there, 'float32'])}"
    )


def _reduced_precisions(device: torch.device) -> list[str]:
    import torch

    if device.type == "cuda":
        with torch.cuda.device(device):
            return ["bfloat16", "float16"] if torch.cuda.is_bf16_supported(including_emulation=False) else ["float16"]
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return ["bfloat16"] if device.type == "cpu" and fast else []


def widen(data: bytes, dtype: str) -> Float[np.ndarray, "N"]:
    """Numbers of a type as float32, by one thread."""
    # NumPy widens one number at a time, torch several; but to import torch takes longer than that for most searches.
    if (torch := sys.modules.get("torch")) is None:
        return np.frombuffer(data, dtype).astype(np.float32)
    stored = torch.frombuffer(bytearray(data), dtype=getattr(torch, dtype))
    wide = torch.empty(len(stored))
    # A second thread of torch's would wait for more, and take the processor from the threads of a search.
    for some, of in zip(stored.split(NUMBERS_OF_A_THREAD), wide.split(NUMBERS_OF_A_THREAD), strict=True):
        of.copy_(some)
    numbers: np.ndarray = wide.numpy()
    return numbers


def processor_count() -> int:
    """Returns the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    # macOS and Windows have no affinity; Python has `process_cpu_count` since 3.13.
    return int(getattr(os, "process_cpu_count", os.cpu_count)() or 1)


def thread_count() -> int:
    """Returns the number of threads of one computation: torch's where it is imported, at most the number of processors."""
    torch = sys.modules.get("torch")
    return min(processor_count(), torch.get_num_threads()) if torch else processor_count()


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Returns the results of a function that leaves the interpreter to other threads, by `thread_count` threads."""
    threads = min(thread_count(), len(items))
    if threads < 2:
        return [function(item) for item in items]
    parts = _pool(os.getpid()).map(lambda start: [function(item) for item in items[start::threads]], range(threads))
    results: list[Result | None] = [None] * len(items)
    for start, part in enumerate(parts):
        results[start::threads] = part
    return results  # type: ignore[return-value]


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    # A forked process has none of the threads of its parent.
    return ThreadPoolExecutor(processor_count(), thread_name_prefix="prvr")


@contextmanager
def connect(address: str, *, otherwise: str) -> Iterator[ModuleType]:
    """Yields Ray, connected to a cluster; it is disconnected at the end if this call connected it.

    Args:
        address: HOST:PORT of a cluster, `auto` for the cluster of this machine, `local` to start one here.
        otherwise: the alternative that the error line names if there is no cluster.

    Raises:
        MissingExtra: Ray is not installed.
        SettingError: there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = require("ray", extra="ray")
    if ray.is_initialized():
        yield ray
        return
    started = {"include_dashboard": False} if address == "local" else {}
    try:
        host, colon, port = address.rpartition(":")
        if colon and port.isdecimal():
            # Ray itself would retry for minutes.
            socket.create_connection((host.rpartition("/")[2].strip("[]"), int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **started)
    # ValueError: the address is malformed. RuntimeError: a token is missing.
    except (OSError, ValueError, OverflowError, RuntimeError, ray.exceptions.RayError) as problem:
        raise SettingError(
            f"no Ray cluster at {address!r}: {gist(problem)}; start one (ray start --head), or {otherwise}"
        ) from problem
    try:
        yield ray
    finally:
        ray.shutdown()


def gist(problem: Exception) -> str:
    """Returns the last line of an error, where Ray has the reason."""
    lines = [line for line in str(problem).splitlines() if line.strip()]
    return " ".join(lines[-1].split())[:200].rstrip(".") if lines else type(problem).__name__
