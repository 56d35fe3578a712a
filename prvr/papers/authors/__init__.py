"""Checkpoints that the authors of DL-DKD and DL-DKD++ published, as ours.

Theirs are pickles, which can run code when they are opened. So a child process reads them (`quarantine`), and what it
leaves behind is looked at again here: names, shapes and types of plain tensors, and a few settings.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from prvr import config
from prvr.errors import ModelError, SettingError
from prvr.features.sources import Reads, Source
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.papers.authors import quarantine
from prvr.papers.authors.names import Names, read_names
from prvr.train.presets import preset

WAIT = 300
MOST_LISTED = 10
# No link, and no pipe that would be waited for; as far as the platform has these flags. Windows opens text otherwise.
NO_LINK = sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
# What the child may know of where it runs: enough to find python's and torch's files.
ENVIRONMENT = ("HOME", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH")

# Settings that a file stores under the names of the published code, and ours. Sizes are read off the tensors instead.
STORED = {
    "n_heads": "heads",
    "drop": "dropout",
    "input_drop": "input_dropout",
    "margin": "margin",
    "hard_pool_size": "negative_pool",
}


@dataclass(frozen=True)
class Imported:
    """An imported checkpoint, and the parameters of the file that no score depends on."""

    checkpoint: Checkpoint
    left_out: tuple[str, ...]


def import_checkpoint(source: str | Path, out: str | Path, *, visual_feature: str, preset_name: str = "") -> Imported:
    """Saves a published checkpoint as ours.

    Args:
        visual_feature: what its frames are called in the published package, such as `i3d_resnet` (TVR).
        preset_name: where settings come from that the file does not tell; by default DL-DKD or DL-DKD++ on TVR, as the
            names in the file say. None of them changes a score.

    Raises:
        ModelError: the file is refused, broken or of another model.
        SettingError: `out` is no empty folder, or there is no such preset for these models.
    """
    source, out = Path(source), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingError(f"{out} is not an empty folder; name another for the imported checkpoint")
    tensors, about, digest = _read(source)
    names = read_names(tensors)
    weights = {names.ours[name]: tensor.float() for name, tensor in tensors.items() if name in names.ours}
    fresh = _fresh(source, weights, names, about["settings"], visual_feature=visual_feature, preset_name=preset_name)
    assert isinstance(fresh.model, nn.Module)
    fresh.model.load_state_dict(weights)
    origin = {"file": source.name, "sha256": digest, "stored": about["settings"], "left_out": list(names.left_out)}
    # Of the published packages val and test are one list, so the epoch was chosen on what is reported (docs/decisions/0011).
    checkpoints.save(replace(fresh, about={"protocol": "community", "epoch": about["epoch"], "imported": origin}), out)
    return Imported(checkpoints.load(out), names.left_out)


def _fresh(
    source: Path, weights: dict[str, Tensor], names: Names, stored: Mapping[str, Any], *, visual_feature: str, preset_name: str
) -> Checkpoint:
    """A model of the file's sizes and settings, which its weights are seen to fit."""
    recipe = preset(preset_name or ("dl-dkd/tvr" if names.shared_query_projection else "dl-dkd++/tvr"))
    if not isinstance(recipe.settings, DlDkdConfig):
        raise SettingError(f"preset {preset_name!r} is of {recipe.method}; take one of dl_dkd, such as dl-dkd++/tvr")
    max_frames, hidden = _shape("frames.positions.table.weight", weights, names, source)
    max_words, _ = _shape("words.positions.table.weight", weights, names, source)
    _, frame_columns = _shape("frame_projection.linear.weight", weights, names, source)
    _, word_columns = _shape("word_projection.linear.weight", weights, names, source)
    told = {
        **{ours: stored[theirs] for theirs, ours in STORED.items() if theirs in stored},
        **{"hidden": hidden, "max_frames": max_frames, "max_words": max_words},
        **{"branches": names.branches, "shared_query_projection": names.shared_query_projection},
    }
    try:
        settings = config.from_dict(DlDkdConfig, {**config.to_dict(recipe.settings), **told})
    except SettingError as problem:
        raise ModelError(f"{source} has settings that no model can have: {problem}") from None
    reads = Reads(Source(visual_feature, frame_columns), Source("roberta", word_columns))
    # Without memory first: sizes come from the file, and a false one must not make us reserve what it says.
    with torch.device("meta"):
        _check_fit(source, checkpoints.build(recipe.method, settings, reads), weights, names)
    with torch.random.fork_rng(devices=[]):
        return checkpoints.build(recipe.method, settings, reads)


def _shape(part: str, weights: Mapping[str, Tensor], names: Names, source: Path) -> tuple[int, int]:
    name = f"branches.0.{part}"
    if name not in weights or weights[name].dim() != 2:
        unknown = f"; it has the unknown {_listed(names.unknown)}" if names.unknown else ""
        raise ModelError(f"{source} is no DL-DKD or DL-DKD++ model: it has no matrix {name}{unknown}")
    rows, columns = weights[name].shape
    return rows, columns


def _check_fit(source: Path, wanted: Checkpoint, weights: Mapping[str, Tensor], names: Names) -> None:
    assert isinstance(wanted.model, nn.Module)
    theirs = {ours: published for published, ours in names.ours.items()}
    shapes = {name: tuple(value.shape) for name, value in wanted.model.state_dict().items()}
    faults = {
        "missing": [name for name in shapes if name not in weights],
        "unknown": [*names.unknown, *(theirs[name] for name in weights if name not in shapes)],
        "of another shape": [
            f"{theirs[name]} {tuple(weights[name].shape)} where {shape} fits"
            for name, shape in shapes.items()
            if name in weights and tuple(weights[name].shape) != shape
        ],
        "not finite": [theirs[name] for name, value in weights.items() if not value.isfinite().all()],
    }
    said = [f"{fault}: {_listed(which)}" for fault, which in faults.items() if which]
    if said:
        raise ModelError(f"{source} does not fit a model of its own sizes; {'; '.join(said)}")


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - MOST_LISTED} more" if len(every) > MOST_LISTED else ""
    return ", ".join(every[:MOST_LISTED]) + more


def _read(source: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """The tensors and settings of a file, by way of the child process, and the SHA-256 of the file."""
    if not source.is_file():
        raise ModelError(f"no file {source}; name the downloaded model.ckpt")
    if source.stat().st_size > quarantine.LARGEST:
        raise _refused(source, f"it is larger than {quarantine.LARGEST >> 20} MiB, which no checkpoint of these models is")
    with open(source, "rb") as file, tempfile.TemporaryDirectory(prefix="prvr-") as folder:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        _convert(source, file, Path(folder))
        try:
            tensors = safetensors.torch.load(_small_file(Path(folder) / quarantine.TENSORS))
            about = json.loads(_small_file(Path(folder) / quarantine.ABOUT))
        except (OSError, SafetensorError, ValueError, RecursionError) as problem:
            raise _refused(source, f"its conversion gave nothing that can be read ({type(problem).__name__})") from None
    return dict(sorted(tensors.items())), about, digest


def _convert(source: Path, file: BinaryIO, folder: Path) -> None:
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    command = [sys.executable, "-P", "-W", "ignore", str(Path(quarantine.__file__).resolve())]
    try:
        done = subprocess.run(
            command,
            stdin=file,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={**environment, "OMP_NUM_THREADS": "1"},
            timeout=WAIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _refused(source, f"it was not read within {WAIT} seconds") from None
    if done.returncode:
        raise _refused(source, _why(done.returncode, done.stderr.decode(errors="replace")))


def _why(status: int, said: str) -> str:
    last = (said.splitlines() or [""])[-1]
    if last.startswith(quarantine.REFUSED):
        # What a file names is shown, but may not steer the terminal.
        return "".join(letter if letter.isprintable() else "?" for letter in last.removeprefix(quarantine.REFUSED))[:300]
    if status < 0 and status == -getattr(signal, "SIGXCPU", 0):
        return f"it was not read within {quarantine.SECONDS} seconds of computing"
    return f"the process that read it ended with status {status}; it is broken, or wants more memory than a checkpoint needs"


def _refused(source: Path, why: str) -> ModelError:
    return ModelError(f"{source} is refused: {why}")


def _small_file(path: Path) -> bytes:
    """A file that the child left, and neither a link nor more than it may leave."""
    with open(os.open(path, os.O_RDONLY | NO_LINK), "rb") as file:
        data = file.read(2 * quarantine.LARGEST + 1)
    if len(data) > 2 * quarantine.LARGEST:
        raise ValueError("too large")
    return data
