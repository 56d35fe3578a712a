"""A checkpoint: weights, settings, and which encoders the student reads.

    NAME/config.json         method, settings, widths, encoders, and what training reached
    NAME/model.safetensors   the weights; none for a method without any

A student can only be asked about what it reads: `Reads` names the encoder of its frames and that of its text.
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
from prvr.features.shelf import features_read
from prvr.features.sources import Reads, Source
from prvr.files import write_json, write_whole
from prvr.methods import METHODS, WITHDRAWN, Method
from prvr.methods.calibration import Calibration, from_dict
from prvr.methods.contract import Model

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that is needed to use it; `about` says how it came to be.

    calibration: what makes probabilities of its scores; None where there were too few held-out queries to fit it.
    """

    method: str
    settings: Any
    reads: Reads
    model: Model
    about: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None

    @property
    def fingerprint(self) -> str:
        """16 hex digits of a SHA-256 over method, settings, sources and weights: two models differ in it.

        Not over the calibration, which changes nothing that an index holds.
        """
        sources = [[s.name, s.columns, s.fingerprint, s.rate] for s in (self.reads.frames, self.reads.text)]
        settings = [self.method, config.to_dict(self.settings), sources]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name, tensor in sorted(_module(self.model).state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def features_for(features: str | Path, checkpoint: Checkpoint) -> FeatureSet:
    """The features that a checkpoint reads, among those of a folder.

    Raises:
        DataError: they are not there, or come from an encoder of that name with other weights.
    """
    return features_read(features, checkpoint.reads, text=checkpoint.model.reading.text)


def build(method: str, settings: Any, reads: Reads) -> Checkpoint:
    """A fresh model, its weights drawn from torch's random state."""
    made = _method(method).model(settings, frame_columns=reads.frames.columns, word_columns=reads.text.columns)
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
        "revision": _method(checkpoint.method).revision,
        "settings": config.to_dict(checkpoint.settings),
        "reads": asdict(checkpoint.reads),
        "about": checkpoint.about,
    }
    if checkpoint.calibration is not None:
        text["calibration"] = checkpoint.calibration.as_dict()
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
        made = _method(text["method"])
        if text.get("revision", 1) != made.revision:
            raise ModelError(
                f"trained with revision {text.get('revision', 1)} of {text['method']}, which computes something else since "
                f"revision {made.revision}; train again"
            )
        settings: Any = config.from_dict(made.config, text["settings"])
        with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten, and must not move the caller's state
            checkpoint = build(text["method"], settings, reads)
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
        raise ModelError(
            f"{path / WEIGHTS} does not hold this model's weights ({_first_line(problem)}); train again if the method has changed"
        ) from None
    except PrvrError as problem:
        raise ModelError(f"{path / CONFIG}: {problem}") from None
    return Checkpoint(checkpoint.method, settings, reads, checkpoint.model, text.get("about", {}), calibration)


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


def _method(name: str) -> Method:
    if name in WITHDRAWN:
        raise ModelError(f"{name} {WITHDRAWN[name]}")
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
        SettingError: there is no such device.
    """
    _module(checkpoint.model).to(open_device(device))
    return checkpoint


def device_of(model: Model) -> torch.device:
    """Where a model's weights are; the CPU for a model without any."""
    weight = next(_module(model).parameters(), None)
    return torch.device("cpu") if weight is None else weight.device
