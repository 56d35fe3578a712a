"""Random batches of a given size, with the distribution of TVR's lengths."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from benchmarks.measure import Size
from prvr.batch import Batch, TeacherBatch, unit_rows

# Quantiles for TVR's 2,179 validation videos: durations of its release, a feature for each 1.5 s; the mean is 51.
SHARES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
FRAMES = (6, 31, 38, 41, 47, 61, 65, 87, 123)
LONGEST = 128
WORDS = (8, 24)


def frame_counts(videos: int, size: Size, draw: np.random.Generator) -> Int[np.ndarray, "V"]:
    """Draws the number of frames of each video from TVR's distribution, scaled to the size's longest video."""
    if size.full:
        return np.full(videos, size.frames)
    drawn = np.interp(draw.random(videos), SHARES, FRAMES) * size.frames / LONGEST
    return np.maximum(np.rint(drawn).astype(np.int64), 1)


def word_counts(queries: int, size: Size, draw: np.random.Generator) -> Int[np.ndarray, "Q"]:
    """Draws the number of words of each query; the mean is about 15 at TVR's size."""
    if size.full:
        return np.full(queries, size.words)
    return np.maximum(draw.integers(*WORDS, queries) * size.words // 30, 1)


def make_batch(size: Size, *, seed: int = 0) -> Batch:
    """Returns a batch of noise in the form that `collate` returns."""
    draw = np.random.default_rng(seed)
    frame_mask = _mask(frame_counts(size.videos, size, draw))
    word_mask = _mask(word_counts(size.queries, size, draw))
    places = (mask.flatten().nonzero()[:, 0] for mask in (frame_mask, word_mask))
    teacher = TeacherBatch(_rows(frame_mask, size.teacher_columns, draw), _noise(draw, size.queries, size.teacher_columns))
    batch = Batch(
        torch.from_numpy(unit_rows(_rows(frame_mask, size.frame_columns, draw).numpy())),
        frame_mask,
        torch.from_numpy(unit_rows(_rows(word_mask, size.word_columns, draw).numpy())),
        word_mask,
        torch.arange(size.queries) * size.videos // size.queries,
        (teacher,),
        *places,
    )
    return batch.to(torch.device(size.device))


def _mask(lengths: Int[np.ndarray, "N"]) -> Bool[Tensor, "N L"]:
    return torch.arange(int(lengths.max())) < torch.from_numpy(lengths)[:, None]


def _rows(mask: Bool[Tensor, "N L"], columns: int, draw: np.random.Generator) -> Tensor:
    return _noise(draw, *mask.shape, columns) * mask[..., None]


def _noise(draw: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(draw.standard_normal(shape, np.float32))
