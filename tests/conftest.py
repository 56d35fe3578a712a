"""What all tests share: one thread, and the real videos and models where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

HERE = Path(__file__).parent


def shared_folder() -> Path:
    return Path(os.environ.get("PRVR_SHARED", HERE.parent.parent / "shared"))


@pytest.fixture
def shared() -> Path:
    """The folder of real videos, captions and models; the test is skipped where it is absent."""
    folder = shared_folder()
    if not (folder / "data").is_dir():
        pytest.skip(f"no real videos and models at {folder}; set PRVR_SHARED to their folder")
    return folder
