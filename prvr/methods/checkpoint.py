"""A checkpoint: weights, settings, and which encoders the student reads.

    NAME/config.json         method, settings, widths, encoders, and what training reached
    NAME/model.safetensors   the weights; none for a method without any

A student can only be asked about what it reads: `Reads` names the encoder of its frames and that of its text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from prvr import config
from prvr.device import open_device
from prvr.errors import ModelError, PrvrError
from prvr.features import FeatureSet
from prvr.features.shelf import features_read
from prvr.features.sources import Reads, Source
from prvr.files import write_json, write_whole
from prvr.methods import open_method
from prvr.methods.calibration import Calibration, from_dict
from prvr.methods.contract import Model
from prvr.methods.migration import convert_settings, student_weights

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A model with everything that is needed to use it; `about` says how it was made.

    calibration: turns its scores into probabilities; None where there were too few held-out queries to fit it.
    former_fingerprint: the fingerprint that an older version gave this model, and that its indexes hold; empty otherwise.
    """

    method: str
    settings: Any
    reads: Reads
    model: Model
    about: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    former_fingerprint: str = ""

    @property
    def fingerprint(self) -> str:
        """16 hex digits of a SHA-256 over method, settings, sources and weights: it differs between two models.

        The calibration is left out: nothing that an index holds depends on it.
        """
        weights = _module(self.model).state_dict()
        return self.former_fingerprint or _fingerprint(self.method, config.to_dict(self.settings), self.reads, weights)


def features_for(features: str | Path, checkpoint: Checkpoint) -> FeatureSet:
    """The features that a checkpoint reads, among those of a folder.

    Raises:
        DataError: they are not there, or come from an encoder of that name with other weights.
    """
    return features_read(features, checkpoint.reads, text=checkpoint.model.reading.text)


def build(method: str, settings: Any, reads: Reads) -> Checkpoint:
    """A fresh model, its weights drawn from torch's random state."""
    made = open_method(method).model(settings, frame_columns=reads.frames.columns, word_columns=reads.text.columns)
    assert isinstance(made, Model)
    return Checkpoint(method, settings, reads, made)


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Writes a checkpoint; whenever this is cut off, the folder holds a whole one, old or new, or none.

    The weights come first: a config beside the weights of a later epoch of the same run is still a checkpoint.
    """
    weights = _module(checkpoint.model).state_dict()
    if weights:
        write_whole(path / WEIGHTS, safetensors.torch.save({name: t.contiguous() for name, t in weights.items()}))
    text: dict[str, Any] = {
        "format": 1,
        "method": checkpoint.method,
        "revision": _revision(checkpoint.method, config.to_dict(checkpoint.settings)),
        "settings": config.to_dict(checkpoint.settings),
        "reads": asdict(checkpoint.reads),
        "about": checkpoint.about,
    }
    if checkpoint.calibration is not None:
        text["calibration"] = checkpoint.calibration.as_dict()
    if checkpoint.former_fingerprint:
        text["fingerprint"] = checkpoint.former_fingerprint
    write_json(path / CONFIG, text)


def load(path: str | Path) -> Checkpoint:
    """Reads a checkpoint, in evaluation mode, on the CPU.

    Raises:
        ModelError: there is none, it is broken, or its weights do not fit its settings.
    """
    path = Path(path)
    try:
        text = json.loads((path / CONFIG).read_text())
        reads = Reads(*(_source(text["reads"][name]) for name in ("frames", "text")))
        former = convert_settings(text["method"], text["settings"])
        stored = text["settings"] if former is None else former.settings
        made, revision = open_method(text["method"]), _revision(text["method"], stored)
        if text.get("revision", 1) != revision:
            raise ModelError(
                f"trained with revision {text.get('revision', 1)} of {stored.get('student', text['method'])}, which computes "
                f"something else since revision {revision}; train again"
            )
        settings: Any = config.from_dict(made.config, stored)
        with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten, and must not move the caller's state
            checkpoint = build(text["method"], settings, reads)
        model, fingerprint, about = _module(checkpoint.model), text.get("fingerprint", ""), text.get("about", {})
        if model.state_dict():
            weights = safetensors.torch.load_file(path / WEIGHTS)
            if former is not None:
                of_then = {**config.to_dict(settings), **former.replaced}
                fingerprint = _fingerprint(text["method"], of_then, reads, weights)
                weights, about = student_weights(weights), {"distillation": former.distillation, **about}
            model.load_state_dict(weights)
        model.eval()
        calibration = from_dict(text["calibration"]) if "calibration" in text else None
    except (FileNotFoundError, NotADirectoryError):
        missing = WEIGHTS if (path / CONFIG).exists() else CONFIG
        raise ModelError(f"no checkpoint in {path} ({missing} is missing); {_next_step(path)}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError) as problem:
        raise ModelError(f"{path / CONFIG} is broken ({type(problem).__name__}: {_first_line(problem)}); train again") from None
    except (RuntimeError, SafetensorError, OSError) as problem:
        raise ModelError(
            f"{path / WEIGHTS} does not hold this model's weights ({_first_line(problem)}); train again if the method has changed"
        ) from None
    except PrvrError as problem:
        raise ModelError(f"{path / CONFIG}: {problem}") from None
    return Checkpoint(checkpoint.method, settings, reads, checkpoint.model, about, calibration, fingerprint)


def _source(text: dict[str, Any]) -> Source:
    return Source(**{**text, "parts": tuple(_source(part) for part in text.get("parts", ()))})


def _next_step(path: Path) -> str:
    for file in (path, path / "model.ckpt"):
        if _looks_like_torch(file):
            wanted = f"prvr checkpoint import {file} OUT --visual-feature NAME"
            return f"{file} looks like a torch file, which may hold code and is not opened; one of DL-DKD's authors: {wanted}"
    return "train one: prvr train"


def _looks_like_torch(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"\x80\x02"))


def _revision(method: str, settings: Mapping[str, Any]) -> int:
    """Of a method, or, of a student beside its teacher, of the student's method."""
    return open_method(settings.get("student", method)).revision


def _fingerprint(method: str, settings: dict[str, Any], reads: Reads, weights: Mapping[str, Tensor]) -> str:
    sources = [[s.name, s.columns, s.fingerprint, s.rate] for s in (reads.frames, reads.text)]
    digest = hashlib.sha256(json.dumps([method, settings, sources], sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0]


def _module(model: Model) -> nn.Module:
    assert isinstance(model, nn.Module)
    return model


def to_device(checkpoint: Checkpoint, device: str) -> Checkpoint:
    """The checkpoint with its model moved to a device.

    Raises:
        SettingError: there is no such device.
    """
    _module(checkpoint.model).to(open_device(device))
    return checkpoint


def device_of(model: Model) -> torch.device:
    """Where a model's weights are; the CPU for a model without any."""
    weight = next(_module(model).parameters(), None)
    return torch.device("cpu") if weight is None else weight.device
