"""A handful of what `tests/support/kills.py` does by the hundred."""

from __future__ import annotations

from pathlib import Path

import pytest
from kills import STORMS, storm


@pytest.mark.slow
@pytest.mark.parametrize("kind", STORMS)
def test_nothing_acknowledged_is_lost_to_a_kill(kind: str, tmp_path: Path) -> None:
    counts = storm(kind, tmp_path / "storm", rounds=8, seed=1)
    assert counts["kills"] == 8
