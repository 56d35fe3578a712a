"""Float32 matrix products on AMD's processors at the speed of AVX-512.

torch multiplies with Intel's MKL, which leaves AVX-512 unused on processors of other makers. oneDNN, the other library in
torch, uses it. torch gives float32 products to oneDNN where they may be rounded to bfloat16, and oneDNN rounds them on
processors with AMX only: without AMX they stay float32, and the sum runs in another order (docs/decisions/0036).
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

# oneDNN and torch each keep the kernels of the last shapes, 1,024 by default and up to 1 MB each. A new kernel takes less than
# a millisecond, and batches differ in length.
CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
CACHED_SHAPES = "64"


@contextmanager
def fast_products() -> Iterator[None]:
    """Within this block, or the function that it decorates, float32 products use oneDNN if `onednn_is_faster`.

    Training, evaluation, indexing and encoders enter it. It changes no module, and torch's setting is restored.
    """
    if onednn_is_faster():
        with _PRODUCTS.through_onednn():
            yield
    else:
        yield


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this is an AMD processor with AVX-512 and without AMX, and torch multiplies with MKL and can use oneDNN.

    This is a rule and not a measurement: a run is repeatable on a busy machine, and all its processes agree. Versions of torch
    before 2.10 do not name the processor; they use MKL.
    """
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return (
        str(capabilities.get("cpu_name")).startswith("AMD")
        and not capabilities.get("amx_tile")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkl.is_available()
        and onednn_keeps_float32()
    )


@functools.cache
def onednn_keeps_float32() -> bool:
    """Whether torch has the setting, and a product with the identity through oneDNN is exact to the last bit of float32."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.backends.mkldnn, "matmul"):
        return False
    numbers, identity = torch.full((256, 256), 1 + 2**-20), torch.eye(256)
    with _PRODUCTS.through_onednn():
        return torch.equal(numbers @ identity, numbers) and torch.equal(identity @ numbers, numbers)


@dataclass
class _Products:
    """torch's setting, which is one for the process: the first of several threads sets it, the last restores it."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _entered: int = 0
    _before: str = "none"

    @contextmanager
    def through_onednn(self) -> Iterator[None]:
        """Products may use oneDNN within this block."""
        setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # torch's annotations lack it
        with self._lock:
            if self._entered == 0:
                for name in CACHES:
                    os.environ.setdefault(name, CACHED_SHAPES)
                self._before, setting.fp32_precision = setting.fp32_precision, "bf16"
            self._entered += 1
        try:
            yield
        finally:
            with self._lock:
                self._entered -= 1
                if self._entered == 0:
                    setting.fp32_precision = self._before


_PRODUCTS = _Products()
