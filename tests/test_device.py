"""Numbers that are widened in pieces are those that NumPy widens at once."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from prvr.device import NUMBERS_OF_A_THREAD, widen


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("count", [1, NUMBERS_OF_A_THREAD, 2 * NUMBERS_OF_A_THREAD + 3])
def test_widened_numbers_with_torch_and_without(dtype: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.random.default_rng(0).standard_normal(count).astype(dtype)
    assert torch.get_default_dtype() == torch.float32
    by_torch = widen(numbers.tobytes(), dtype)
    monkeypatch.delitem(sys.modules, "torch")
    for wide in (by_torch, widen(numbers.tobytes(), dtype)):
        assert wide.dtype == np.float32
        assert np.array_equal(wide, numbers.astype(np.float32))
