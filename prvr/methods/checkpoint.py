"""Checkpoints: weights, settings, and the sources of the features that the model reads.

    NAME/config.json         method, settings, sources of features, and the figures that training reached
    NAME/model.safetensors   the weights; absent for a method without any

A model works with the features that it was trained on only, so `FeatureSources` names the encoders of its frames and its text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from prvr.config import from_dict as settings_from_dict
from prvr.config import settings_to_compare, to_dict
from prvr.device import open_device
from prvr.errors import ModelError, PrvrError, SettingError, is_out_of_memory
from prvr.features import FeatureSet
from prvr.features.shelf import find_features
from prvr.features.sources import FeatureSources, sources_from_dict
from prvr.files import parse_json, read_bytes, write_json, write_whole
from prvr.methods import BUILT_IN, open_method, register_method
from prvr.methods.calibration import Calibration, from_dict
from prvr.methods.contract import Method, Model
from prvr.methods.migration import convert_settings, student_weights
from prvr.methods.model import Described, digest_of
from prvr.methods.plugins import check_model

CONFIG, WEIGHTS = "config.json", "model.safetensors"
# Bytes.
MOST_CONFIG = 1 << 24
# In format 1, DL-DKD's settings held those of its distillation (`prvr.methods.migration`).
FORMAT = 2
# The method of a student beside its teacher (`prvr fuse`), whose settings name the method of the student.
BESIDE_TEACHER = "beside_teacher"


@dataclass(frozen=True)
class Checkpoint:
    """A model with everything needed to use it.

    about: how it was trained and what it reached.
    calibration: turns its scores into probabilities; None if there were too few held-out queries to fit it.
    former_fingerprint: the fingerprint that an older version gave this model, and that its indexes hold; empty otherwise.
    """

    method: str
    settings: Any
    sources: FeatureSources
    model: Model
    about: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    former_fingerprint: str = ""

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of a SHA-256 over method, settings, sources and weights; it identifies the model.

        The calibration is not included: nothing that an index stores depends on it.
        """
        weights = _module(self.model).state_dict()
        return self.former_fingerprint or _fingerprint(self.method, settings_to_compare(self.settings), self.sources, weights)


def features_for(features: str | Path, checkpoint: Checkpoint) -> FeatureSet:
    """The features that a checkpoint reads, among those in a folder.

    Raises:
        DataError: they are missing, or an encoder of that name with other weights made them.
    """
    return find_features(features, checkpoint.sources, text=checkpoint.model.reading.text)


def build(method: str, settings: Any, sources: FeatureSources) -> Checkpoint:
    """A new model; its weights are drawn from torch's random state.

    Raises:
        SettingError: there is no such model, or it has more numbers than memory holds.
        ModelError: the method's own code fails.
    """
    return _build(method, open_method(method), settings, sources)


def zero_shot_checkpoint(features: FeatureSet, *, parts: str = "frames") -> Checkpoint:
    """A teacher alone as a checkpoint, from `shelf.teacher_features`.

    Args:
        parts: the parts of a video that a sentence is compared with, see `methods.zero_shot`.

    Raises:
        SettingError: unknown parts.
    """
    return build("zero_shot", settings_from_dict(open_method("zero_shot").config, {"parts": parts}), features.sources)


def with_settings(checkpoint: Checkpoint, **changes: Any) -> Checkpoint:
    """Returns the same weights with other settings, which must be settings that no weight depends on."""
    with torch.random.fork_rng(devices=[]):
        built = build(checkpoint.method, replace(checkpoint.settings, **changes), checkpoint.sources)
    model = _module(built.model)
    model.load_state_dict(_module(checkpoint.model).state_dict())
    model.eval()
    return replace(built, about=checkpoint.about)


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Writes a checkpoint. If this is interrupted, the folder holds the old checkpoint, the new one, or none.

    The weights are written first: a config beside the weights of a later epoch of the same run is still a valid checkpoint.
    """
    weights = _module(checkpoint.model).state_dict()
    if weights:
        # Copies: safetensors refuses names that share their numbers, as tied weights do.
        write_whole(path / WEIGHTS, safetensors.torch.save({name: copy_tensor(tensor) for name, tensor in weights.items()}))
    text: dict[str, Any] = {
        "format": FORMAT,
        "method": checkpoint.method,
        "revision": _revision(checkpoint.method, to_dict(checkpoint.settings)),
        "settings": to_dict(checkpoint.settings),
        "reads": {side: source for side, source in asdict(checkpoint.sources).items() if source is not None},
        "about": checkpoint.about,
    }
    if checkpoint.calibration is not None:
        text["calibration"] = checkpoint.calibration.as_dict()
    if checkpoint.former_fingerprint:
        text["fingerprint"] = checkpoint.former_fingerprint
    write_json(path / CONFIG, text)


def load(path: str | Path, *, method: str | type | None = None, trusted: bool = True) -> Checkpoint:
    """Reads a checkpoint; the model is in evaluation mode, on the CPU.

    Args:
        method: the method that it must be of, as `register_method` takes it. An external method that is not installed must be
            named, here or by `register_method`: no checkpoint chooses what is imported.
        trusted: False for a file of a stranger, whose settings must not allocate more than its weights have.

    Raises:
        ModelError: there is no checkpoint, it is broken or of another method, or its weights do not fit its settings.
        SettingError: as `register_method`.
    """
    path, named = Path(path), None if method is None else register_method(method)
    try:
        text = parse_json(read_bytes(path / CONFIG, most=MOST_CONFIG))
        sources = sources_from_dict(text["reads"])
        former = convert_settings(text["method"], text["settings"]) if text.get("format", 1) < FORMAT else None
        stored = text["settings"] if former is None else former.settings
        learned = _student_of(text["method"], stored)
        if named not in (None, text["method"], learned):
            raise ModelError(f"it is of the method {text['method']!r}, and {named!r} is named; leave that out, or name its own")
        made = open_method(text["method"])
        revision = _revision(text["method"], stored)
        if text.get("revision", 1) != revision:
            raise ModelError(
                f"trained with revision {text.get('revision', 1)} of {learned}, which computes "
                f"something else since revision {revision}; train again"
            )
        settings: Any = settings_from_dict(made.config, stored)
        if not trusted and text["method"] in BUILT_IN:
            with torch.device("meta"):
                _check_size(_build(text["method"], made, settings, sources), path / WEIGHTS)
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten; the caller's state must not change
            checkpoint = _build(text["method"], made, settings, sources)
        model, fingerprint, about = _module(checkpoint.model), text.get("fingerprint", ""), text.get("about", {})
        if not isinstance(about, dict) or not isinstance(fingerprint, str):
            raise TypeError(f"about is {about!r:.40}, fingerprint {fingerprint!r:.40}")
        if model.state_dict():
            weights = safetensors.torch.load_file(path / WEIGHTS)
            if former is not None:
                of_then = {**settings_to_compare(settings), **former.replaced}
                fingerprint = _fingerprint(text["method"], of_then, sources, weights)
                weights, about = student_weights(weights), {"distillation": former.distillation, **about}
            model.load_state_dict(weights)
        model.eval()
        calibration = from_dict(text["calibration"]) if "calibration" in text else None
    except (FileNotFoundError, NotADirectoryError):
        missing = WEIGHTS if (path / CONFIG).exists() else CONFIG
        raise ModelError(f"no checkpoint in {path} ({missing} is missing); {_next_step(path)}") from None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as problem:
        raise ModelError(f"{path / CONFIG} is broken ({type(problem).__name__}: {_first_line(problem)}); train again") from None
    except (RuntimeError, SafetensorError, OSError) as problem:
        raise ModelError(
            f"{path / WEIGHTS} does not hold this model's weights ({_first_line(problem)}); train again if the method has changed"
        ) from None
    except PrvrError as problem:
        raise ModelError(f"{path / CONFIG}: {problem}") from None
    return Checkpoint(checkpoint.method, settings, sources, checkpoint.model, about, calibration, fingerprint)


def _check_size(wanted: Checkpoint, path: Path) -> None:
    """Raises ModelError if a model without memory of its own has more numbers than the file; shapes are compared later."""
    count = sum(tensor.numel() for tensor in _module(wanted.model).state_dict().values())
    if count:
        with safetensors.safe_open(path, "pt") as file:
            stored = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        if count > stored:
            raise ModelError(f"its settings make a model of {count:,} numbers, and {WEIGHTS} has {stored:,}; get it again")


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


def _build(name: str, method: Method, settings: Any, sources: FeatureSources) -> Checkpoint:
    columns = {"frame_columns": sources.frames.columns, "word_columns": sources.text.columns}
    if sources.subtitles is not None:
        check_takes_subtitles(name)
        columns["subtitle_columns"] = sources.subtitles.columns
    try:
        model = method.model(settings, **columns)
    except (PrvrError, OSError):
        raise
    except Exception as problem:
        if is_out_of_memory(problem):
            raise SettingError(
                f"{name} cannot be made with these settings ({_first_line(problem)}); take smaller ones; --debug shows where"
            ) from problem
        if name in BUILT_IN and not isinstance(problem, RuntimeError):
            raise
        told = f"{type(problem).__name__}: {_first_line(problem)}"
        raise ModelError(f"{name} fails when its model is made ({told}); --debug shows where") from problem
    check_model(model, name)
    return Checkpoint(name, settings, sources, cast(Model, model))


def check_takes_subtitles(method: str) -> None:
    """Raises SettingError if a method reads no subtitles."""
    if not open_method(method).subtitles:
        takers = ", ".join(name for name in BUILT_IN if open_method(name).subtitles)
        raise SettingError(f"{method} takes no subtitles; leave out --subtitles, or take one of {takers}")


def student_method(checkpoint: Described) -> str:
    """The method that learned: that of the student, for a student beside its teacher."""
    return _student_of(checkpoint.method, to_dict(checkpoint.settings))


def _student_of(method: str, settings: Mapping[str, Any]) -> str:
    return str(settings["student"]) if method == BESIDE_TEACHER else method


def _revision(method: str, settings: Mapping[str, Any]) -> int:
    """The revision of the method that learned."""
    return open_method(_student_of(method, settings)).revision


def copy_tensor(tensor: Tensor) -> Tensor:
    """A copy of a tensor on the CPU, as files of tensors take it."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _fingerprint(method: str, settings: dict[str, Any], sources: FeatureSources, weights: Mapping[str, Tensor]) -> str:
    digest = digest_of(method, settings, sources)
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
        SettingError: the device does not exist.
    """
    _module(checkpoint.model).to(open_device(device))
    return checkpoint


def device_of(model: Model) -> torch.device:
    """The device of a model's weights; the CPU for a model without any."""
    weight = next(_module(model).parameters(), None)
    return torch.device("cpu") if weight is None else weight.device
