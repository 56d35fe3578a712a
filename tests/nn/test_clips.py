"""Clips beside the slots of resampling, of unit rows and of rows as extracted; and curves over them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import oracles
import pytest
import torch
from method_checks import noise, padded

from prvr.batch import Reading, read_clips
from prvr.nn.clips import clip_means, over_frames


@pytest.mark.parametrize("clips", [1, 4, 32])
@pytest.mark.parametrize("length", [1, 2, 5, 31, 32, 33, 100])
def test_clips_are_the_slots_of_resampling(length: int, clips: int) -> None:
    frames = noise(length, 3, seed=length)
    beside, mask = padded([frames, noise(120, 3, seed=1)])
    slots = oracles.resample(frames.tolist(), clips) if length > clips else by_edges(frames.tolist(), clips)
    wanted = [[x / (math.sqrt(oracles.dot(row, row)) + 1e-5) for x in row] for row in slots]
    assert clip_means(beside, mask, clips=clips)[0].numpy() == pytest.approx(np.array(wanted), abs=1e-5)


def by_edges(rows: list[list[float]], clips: int) -> list[list[float]]:
    """As `oracles.resample`, which leaves short sequences as they are."""
    edges = [min(round(k / clips * len(rows)), len(rows) - 1) for k in range(clips + 1)]
    slots = [rows[e:f] or [rows[e]] for e, f in itertools.pairwise(edges)]
    return [[oracles.mean(values) for values in zip(*slot, strict=True)] for slot in slots]


def test_a_curve_over_clips_as_one_over_frames() -> None:
    curves = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    mask = torch.arange(6) < torch.tensor([6, 2])[:, None]
    assert over_frames(curves, mask).tolist() == [[1, 1, 2, 2, 3, 3], [4, 6, *[-math.inf] * 4]]
    assert over_frames(curves[:1], torch.ones(1, 1, dtype=torch.bool)).tolist() == [[2]]


@pytest.mark.parametrize("clips", [1, 4, 12, 32])
@pytest.mark.parametrize("length", [1, 2, 5, 31, 32, 33, 100, 387])
def test_clips_of_rows_as_extracted(length: int, clips: int) -> None:
    rows = 10 * noise(length, 3, seed=length).double() * torch.arange(1, length + 1).double()[:, None]
    reading = Reading(3, 3, 128, 30, unit=True, text="words", clips=clips, precision="float64")
    slots = oracles.resample(rows.tolist(), clips) if length > clips else by_edges(rows.tolist(), clips)
    wanted = [[x / (math.sqrt(oracles.dot(row, row)) + 1e-5) for x in row] for row in slots]
    made = read_clips(rows.numpy(), reading)
    assert made is not None
    assert made == pytest.approx(np.array(wanted), abs=1e-12)
    assert read_clips(rows.numpy(), Reading(3, 3, 128, 30, unit=True, text="words")) is None
