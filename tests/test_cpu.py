"""Products through oneDNN are float32, and only where `fast_products` says."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from prvr import cpu
from prvr.cpu import CACHES, fast_products, onednn_is_faster, onednn_keeps_float32

needs_onednn = pytest.mark.skipif(
    not onednn_keeps_float32(), reason="this torch or this processor has no float32 products by oneDNN"
)


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any processor counts as one on which oneDNN is faster."""
    monkeypatch.setattr(cpu, "onednn_is_faster", lambda: True)


def setting() -> str:
    return str(torch.backends.mkldnn.matmul.fp32_precision)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def product_and_gradients(rows: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> list[Tensor]:
    """The product of `linear`, and its gradients with respect to all inputs."""
    inputs = [x.detach().to(dtype).requires_grad_() for x in (rows, weight, bias) if x is not None]
    product = functional.linear(*inputs)
    gradients = torch.autograd.grad(product, inputs, random(*product.shape).to(dtype))
    return [product.detach(), *gradients]


@needs_onednn
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    ("shape", "columns"),
    [
        ((64, 768), 400),
        ((321, 300), 257),
        ((7, 211, 96), 700),
        ((8192 + 64 + 3, 128), 520),
        ((256, 1), 70_000),
        ((1031, 3072), 24),
        ((1, 768), 384),
        ((15, 768), 384),
        ((0, 768), 384),
    ],
)
def test_products_and_gradients_are_float32(shape: tuple[int, ...], columns: int, biased: bool, faster: None) -> None:
    inputs = random(*shape), random(columns, shape[-1]), random(columns) if biased else None
    with fast_products():
        assert setting() == "bf16"
        ours = product_and_gradients(*inputs, torch.float32)
    for one, other in zip(ours, product_and_gradients(*inputs, torch.float64), strict=True):
        assert one.dtype == torch.float32
        largest = float(other.abs().max()) if other.numel() else 0.0
        # Rounding to bfloat16 changes numbers by 4e-3.
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=5e-6 * largest)


@needs_onednn
def test_a_barred_column_stays_barred(faster: None) -> None:
    bias = torch.zeros(400).masked_fill(torch.arange(400) % 3 == 0, -float("inf"))
    with fast_products():
        product = functional.linear(random(128, 384), random(400, 384), bias)
    assert torch.equal(product.isinf(), (bias < 0).expand(128, -1))
    assert not product.isnan().any()


@needs_onednn
def test_the_setting_is_restored(faster: None) -> None:
    torch.backends.mkldnn.matmul.fp32_precision = "ieee"
    try:
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), fast_products(), fast_products():
            torch.ones(2, 3) @ torch.ones(2, 3)
        assert setting() == "ieee"
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = "none"


@needs_onednn
def test_the_last_of_several_threads_restores_the_setting(faster: None) -> None:
    begun, ended = threading.Event(), threading.Event()

    @fast_products()
    def work() -> None:
        begun.set()
        ended.wait(120)

    thread = threading.Thread(target=work)
    with fast_products():
        thread.start()
        assert begun.wait(120)
    assert setting() == "bf16"
    ended.set()
    thread.join()
    assert setting() == "none"


def test_a_processor_that_gains_nothing_keeps_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "onednn_is_faster", lambda: False)
    with fast_products():
        assert setting() == "none"


AMD = {"cpu_name": "AMD EPYC", "amx_tile": False}


@pytest.mark.parametrize(
    ("capabilities", "instructions", "faster"),
    [
        (AMD, "AVX512", True),
        (AMD, "AVX2", False),
        ({"cpu_name": "Intel(R) Xeon(R) Platinum 8370C", "amx_tile": False}, "AVX512", False),
        # oneDNN rounds to bfloat16 on a processor with AMX.
        ({**AMD, "amx_tile": True}, "AVX512", False),
        ({"architecture": "arm64"}, "DEFAULT", False),
    ],
)
def test_which_processors_gain(
    capabilities: Mapping[str, object], instructions: str, faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    assert onednn_is_faster.__wrapped__() is (faster and torch.backends.mkl.is_available() and onednn_keeps_float32())


def test_a_torch_that_does_not_name_the_processor_keeps_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not onednn_is_faster.__wrapped__()


@needs_onednn
def test_few_kernels_are_cached() -> None:
    """Batches differ in length, and oneDNN prepares a kernel for each length: the caches must not grow with them."""
    text = """
import resource, torch
from prvr import cpu
cpu.onednn_is_faster = lambda: True
weight = torch.randn(64, 64)
def multiply(counts):
    for count in counts:
        torch.nn.functional.linear(torch.randn(count, 64), weight)
with cpu.fast_products():
    multiply(range(100, 300))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    multiply(range(300, 700))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    pytest.importorskip("resource")
    environment = {name: value for name, value in os.environ.items() if name not in CACHES}
    grown = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=True)
    assert int(grown.stdout) < 40  # MiB; without the limits it grows by 100 to 200
