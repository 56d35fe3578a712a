"""Numbers that the peers' published code gave: a folder for each method, under `$PRVR_PEERS` or tests/parity/peers.

Sizes, weights and lengths are those of each folder's config.json, so that another set of folders serves as well.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prvr.batch import Batch, Reading, pad, read_frames, read_words
from prvr.methods.contract import Model

FOLDER = Path(os.environ.get("PRVR_PEERS") or Path(__file__).parents[1] / "parity" / "peers")
SCORES, GRADIENTS = 1e-9, 1e-7


class Peer:
    """One method's folder. `folder("scores")` is an array of forward.npz, in float64."""

    def __init__(self, name: str) -> None:
        self.path = FOLDER / name
        self.config: dict[str, Any] = self.json("config.json")
        self.batch = self.arrays("batch.npz")
        self.labels = torch.from_numpy(self.batch["labels"]) if "labels" in self.batch else torch.empty(0)
        self._forward = self.arrays("forward.npz")

    def __call__(self, name: str) -> np.ndarray:
        return self._forward[name]

    def __contains__(self, name: str) -> bool:
        return name in self._forward

    def json(self, name: str) -> Any:
        return json.loads((self.path / name).read_text())

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.path / name, allow_pickle=False) as file:
            return {key: value.astype(np.float64) if value.dtype.kind == "f" else value for key, value in file.items()}

    def sequence(self, what: str) -> list[np.ndarray]:
        """The arrays WHAT/0, WHAT/1, ... of the batch."""
        count = len([name for name in self.batch if re.fullmatch(rf"{re.escape(what)}/\d+", name)])
        return [self.batch[f"{what}/{place}"] for place in range(count)]

    def load(self, model: nn.Module, names: Sequence[tuple[str, str]], *, but: str = "num_batches_tracked") -> None:
        """Gives a model the published parameters and buffers; all that it has, and all that the folder has."""
        theirs = {
            our_name(key, names): torch.from_numpy(our_shape(value))
            for key, value in self.arrays("params.npz").items()
            if not re.search(f"num_batches_tracked|{but}", key)
        }
        ours = model.state_dict()
        given = {key: value.reshape(ours[key].shape) if key in ours else value for key, value in theirs.items()}
        kept = {key: value for key, value in ours.items() if re.search(r"num_batches_tracked|cohort", key)}
        model.double().load_state_dict({**kept, **given})

    def check_gradients(self, model: nn.Module, file: str, names: Sequence[tuple[str, str]], *, times: float = 1.0) -> None:
        """Compares all gradients with those of a file; `times`: the published total over ours."""
        theirs = {our_name(key, names): our_shape(value) for key, value in self.arrays(file).items()}
        ours = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert set(ours) == set(theirs)
        largest = max(float(np.abs(value).max()) for value in theirs.values())
        assert largest > 0
        for name, value in theirs.items():
            gradient = times * ours[name].numpy().reshape(value.shape)
            assert np.isfinite(gradient).all(), name
            assert np.abs(gradient - value).max() <= GRADIENTS * largest, name

    def check_running(self, model: nn.Module, names: Sequence[tuple[str, str]]) -> None:
        """Compares running means and variances after one training step."""
        ours = model.state_dict()
        theirs = {our_name(key, names): value for key, value in self.arrays("running_after_one_step.npz").items()}
        assert set(theirs) == {name for name in ours if "running" in name}
        for name, value in theirs.items():
            close(ours[name], value)


def our_name(name: str, names: Sequence[tuple[str, str]]) -> str:
    """A published parameter's name as ours: each pattern is replaced in turn."""
    for theirs, ours in names:
        name = re.sub(theirs, ours, name)
    return name


def our_shape(value: np.ndarray) -> np.ndarray:
    """Convolutions over time that were published as ones over an image (filters, 1, width, columns)."""
    return value[:, 0].swapaxes(1, 2).copy() if value.ndim == 4 else value


def close(ours: Tensor | np.ndarray, theirs: np.ndarray, *, tolerance: float = SCORES) -> None:
    """All numbers, equal to `tolerance` of the largest."""
    ours = ours.detach().numpy() if isinstance(ours, Tensor) else ours
    assert ours.shape == theirs.shape
    if not theirs.size:
        return
    assert np.isfinite(ours).all()
    assert np.isfinite(theirs).all()
    assert np.abs(ours - theirs).max() <= tolerance * max(float(np.abs(theirs).max()), 1.0)


def near(ours: Tensor | float, theirs: float) -> None:
    """A number, equal to 1e-9."""
    close(np.asarray(ours.item() if isinstance(ours, Tensor) else ours), np.asarray(theirs))


def exact(model: Model) -> Reading:
    """How a model reads, in float64."""
    return replace(model.reading, precision="float64")


def make_batch(model: Model, frames: Sequence[np.ndarray], words: Sequence[np.ndarray], target: Tensor) -> Batch:
    """A batch as our own loader gives it, in float64."""
    reading = exact(model)
    seen, frame_mask = pad([read_frames(rows, reading) for rows in frames])
    said, word_mask = pad([read_words(rows, reading) for rows in words])
    return Batch(seen, frame_mask, said, word_mask, target, ())


def pairs_of(batch: Batch) -> Batch:
    """A batch in which each query has its own copy of its video, as the published losses have it."""
    frames, mask = batch.frames[batch.target], batch.frame_mask[batch.target]
    return batch._replace(frames=frames, frame_mask=mask, target=torch.arange(len(batch.target)))


def only(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Some of a config.json's values, by the names of our settings."""
    return {name: settings[name] for name in names}
