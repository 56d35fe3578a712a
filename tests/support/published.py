"""The published code's parameter names and numbers, as our names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prvr.batch import Batch, TeacherBatch
from prvr.papers.authors.names import our_name

FIXTURES = Path(__file__).parents[1] / "parity"


def numbers(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text())


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / name, allow_pickle=False) as file:
        return dict(file)


def parameters(name: str, dtype: torch.dtype, *, but: str = "\0") -> dict[str, Tensor]:
    return {our_name(k): torch.from_numpy(v).to(dtype) for k, v in arrays(name).items() if not k.startswith(but)}


def batch(dtype: torch.dtype) -> Batch:
    """The one batch of the model fixtures."""
    a = {name: torch.from_numpy(value) for name, value in arrays("model_double/batch.npz").items()}
    return Batch(
        a["student_videos"],
        a["student_videos_mask"] > 0,
        a["student_text"],
        a["student_text_mask"] > 0,
        a["text_labels"],
        (TeacherBatch(a["teacher_videos"], a["teacher_text"]),),
    ).to(torch.device("cpu"), dtype)
