"""The published code's parameter names and numbers, as our names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prvr.batch import Batch, TeacherBatch

FIXTURES = Path(__file__).parent / "parity"

PARTS = {
    "query_pos_embed.position_embeddings": "words.positions.table",
    "query_pos_embed.LayerNorm": "words.positions.norm",
    "query_input_proj.LayerNorm": "word_projection.norm",
    "query_input_proj.net.1": "word_projection.linear",
    "query_encoder.self": "words.attention",
    "query_encoder.output.dense": "words.attention.output",
    "query_encoder.output.LayerNorm": "words.attention.norm",
    "modular_vector_mapping": "pooling.weight",
    "visual_pos_embed.position_embeddings": "frames.positions.table",
    "visual_pos_embed.LayerNorm": "frames.positions.norm",
    "visual_input_proj.LayerNorm": "frame_projection.norm",
    "visual_input_proj.net.1": "frame_projection.linear",
    "visual_encoder.self": "frames.attention",
    "visual_encoder.output.dense": "frames.attention.output",
    "visual_encoder.output.LayerNorm": "frames.attention.norm",
    "out_mapping_linear": "mapping",
    "mapping_linear": "mapping",
}


def our_name(published: str) -> str:
    """`exp_query_encoder.self.key.bias` is `branches.1.words.attention.key.bias`."""
    branch, rest = 0, published
    for prefix, number in (("exp_", 1), ("A_", 1), ("B_", 0)):
        if published.startswith(prefix):
            branch, rest = number, published[len(prefix) :]
    rest = rest.replace("frame_pos_", "visual_pos_").replace("frame_input_", "visual_input_").replace("frame_enc", "visual_enc")
    for theirs, ours in PARTS.items():
        if rest.startswith(theirs + "."):
            return f"branches.{branch}.{ours}{rest[len(theirs) :]}"
    raise KeyError(published)


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
