"""The published code's parameter names and numbers, as our names, from the folder $PRVR_PARITY or tests/parity.

Sizes and weights are those of each folder's config.json, so that another set of the same layout serves as well.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prvr.batch import Batch, TeacherBatch
from prvr.config import from_dict
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.papers.authors.names import our_name

FIXTURES = Path(os.environ.get("PRVR_PARITY") or Path(__file__).parents[1] / "parity")


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


def settings(about: dict[str, Any], *, inheritance: int, exploration: int, **more: Any) -> DlDkdConfig:
    """The settings of a config.json, without dropout; widths of the two branches under the names that it has for them."""
    sizes = {"heads": about["n_heads"], "max_frames": about["max_ctx_l"], "max_words": about["max_desc_l"]}
    still = {"dropout": 0.0, "input_dropout": 0.0}
    other = {} if exploration == inheritance else {"exploration_hidden": exploration}
    return from_dict(DlDkdConfig, {"hidden": inheritance, **other, **sizes, **still, **more})


def check_close(ours: Tensor | np.ndarray, theirs: np.ndarray, *, relative: float = 0.0, absolute: float = 0.0) -> None:
    """Compares finite numbers."""
    values = ours.detach().numpy() if isinstance(ours, Tensor) else ours
    assert values.shape == theirs.shape
    assert np.isfinite(theirs).all()
    np.testing.assert_allclose(values.astype(np.float64), theirs, rtol=relative, atol=absolute, equal_nan=False)
