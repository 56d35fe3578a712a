"""Checkpoints: weights, settings, and the sources of the features that the model reads.

    NAME/config.json         method, settings, sources of features, and the figures that training reached
    NAME/model.safetensors   the weights; absent for a method without any

A model works with the features that it was trained on only, so `FeatureSources` names the encoders of its frames and its text.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from prvr import config
from prvr.device import open_device
from prvr.errors import ModelError, PrvrError, nearest
from prvr.features import FeatureSet
from prvr.features.shelf import find_features
from prvr.features.sources import FeatureSources, Source
from prvr.files import write_json, write_whole
from prvr.methods import METHODS, Method
from prvr.methods.calibration import Calibration, from_dict
from prvr.methods.contract import Model

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A model with everything needed to use it.

    about: how it was trained and what it reached.
    calibration: turns its scores into probabilities; None if there were too few held-out queries to fit it.
    """

    method: str
    settings: Any
    sources: FeatureSources
    model: Model
    about: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of a SHA-256 over method, settings, sources and weights; it identifies the model.

        The calibration is not included: it changes nothing that an index stores.
        """
        sources = [[s.name, s.columns, s.fingerprint, s.rate] for s in (self.sources.frames, self.sources.text)]
        settings = [self.method, config.to_dict(self.settings), sources]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name, tensor in sorted(_module(self.model).state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def features_for(features: str | Path, checkpoint: Checkpoint) -> FeatureSet:
    """The features that a checkpoint reads, among those in a folder.

    Raises:
        DataError: they are missing, or an encoder of that name with other weights made them.
    """
    return find_features(features, checkpoint.sources, text=checkpoint.model.reading.text)


def build(method: str, settings: Any, sources: FeatureSources) -> Checkpoint:
    """A new model; its weights are drawn from torch's random state."""
    model = _method(method).model(settings, frame_columns=sources.frames.columns, word_columns=sources.text.columns)
    assert isinstance(model, Model)
    return Checkpoint(method, settings, sources, model)


def zero_shot_checkpoint(features: FeatureSet, *, parts: str = "frames") -> Checkpoint:
    """A teacher alone as a checkpoint, from `shelf.teacher_features`.

    Args:
        parts: the parts of a video that a sentence is compared with, see `methods.zero_shot`.

    Raises:
        SettingError: unknown parts.
    """
    return build("zero_shot", config.from_dict(_method("zero_shot").config, {"parts": parts}), features.sources)


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Writes a checkpoint. If this is interrupted, the folder holds the old checkpoint, the new one, or none.

    The weights are written first: a config beside the weights of a later epoch of the same run is still a valid checkpoint.
    """
    weights = _module(checkpoint.model).state_dict()
    if weights:
        write_whole(path / WEIGHTS, safetensors.torch.save({name: t.contiguous() for name, t in weights.items()}))
    text: dict[str, Any] = {
        "format": 1,
        "method": checkpoint.method,
        "settings": config.to_dict(checkpoint.settings),
        "reads": asdict(checkpoint.sources),
        "about": checkpoint.about,
    }
    if checkpoint.calibration is not None:
        text["calibration"] = checkpoint.calibration.as_dict()
    write_json(path / CONFIG, text)


def load(path: str | Path) -> Checkpoint:
    """Reads a checkpoint; the model is in evaluation mode, on the CPU.

    Raises:
        ModelError: there is no checkpoint, it is broken, or its weights do not fit its settings.
    """
    path = Path(path)
    try:
        text = json.loads((path / CONFIG).read_text())
        sources = FeatureSources(*(_source(text["reads"][name]) for name in ("frames", "text")))
        settings: Any = config.from_dict(_method(text["method"]).config, text["settings"])
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten; the caller's state must not change
            checkpoint = build(text["method"], settings, sources)
        model = _module(checkpoint.model)
        if model.state_dict():
            model.load_state_dict(safetensors.torch.load_file(path / WEIGHTS))
        model.eval()
        calibration = from_dict(text["calibration"]) if "calibration" in text else None
    except (FileNotFoundError, NotADirectoryError):
        missing = WEIGHTS if (path / CONFIG).exists() else CONFIG
        raise ModelError(f"no checkpoint in {path} ({missing} is missing); {_next_step(path)}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError) as problem:
        raise ModelError(f"{path / CONFIG} is broken ({type(problem).__name__}: {_first_line(problem)}); train again") from None
    except (RuntimeError, SafetensorError, OSError) as problem:
        raise ModelError(f"{path / WEIGHTS} does not hold this model's weights ({_first_line(problem)})") from None
    except PrvrError as problem:
        raise ModelError(f"{path / CONFIG}: {problem}") from None
    return Checkpoint(checkpoint.method, settings, sources, checkpoint.model, text.get("about", {}), calibration)


def _source(text: dict[str, Any]) -> Source:
    return Source(**{**text, "parts": tuple(_source(part) for part in text.get("parts", ()))})


def _next_step(path: Path) -> str:
    for file in (path, path / "model.ckpt"):
        if _looks_like_torch(file):
            command = f"prvr checkpoint import {file} OUT --visual-feature NAME"
            return f"{file} looks like a torch file, which may contain code and is not opened; one of DL-DKD's authors: {command}"
    return "train one: prvr train"


def _looks_like_torch(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"\x80\x02"))


def _method(name: str) -> Method:
    if name not in METHODS:
        raise ModelError(f"unknown method {name!r}; {nearest(name, METHODS)}")
    return METHODS[name]


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0]


def _module(model: Model) -> nn.Module:
    assert isinstance(model, nn.Module)
    return model


def to_device(checkpoint: Checkpoint, device: str) -> Checkpoint:
    """The checkpoint with its model moved to a device.

    Raises:
        SettingError: the device does not exist.
    """
    _module(checkpoint.model).to(open_device(device))
    return checkpoint


def device_of(model: Model) -> torch.device:
    """The device of a model's weights; the CPU for a model without any."""
    weight = next(_module(model).parameters(), None)
    return torch.device("cpu") if weight is None else weight.device
