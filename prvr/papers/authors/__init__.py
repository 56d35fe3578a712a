"""Converts checkpoints that authors published to ours: of DL-DKD and DL-DKD++, and of MS-SL and what followed it.

Their files are pickles, which can run code when they are opened. A child process reads them (`quarantine`) and returns plain
tensors and a few settings; names, shapes and types are checked again here.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from prvr.child import child_environment
from prvr.config import from_dict, to_dict
from prvr.errors import ModelError, SettingError
from prvr.features.sources import FeatureSources, Source
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.papers.authors import quarantine
from prvr.papers.authors.follow_up_names import read_follow_up_names
from prvr.papers.authors.names import PublishedNames, read_names
from prvr.train.presets import preset

# Seconds that the child process may take.
WAIT = 120
MOST_LISTED = 10

# Settings that a file stores under the names of the published code, and ours. Sizes are read from the tensors instead.
STORED = {
    "n_heads": "heads",
    "drop": "dropout",
    "input_drop": "input_dropout",
    "margin": "margin",
    "hard_pool_size": "negative_pool",
    "map_size": "clips",
}


@dataclass(frozen=True)
class ImportedCheckpoint:
    """An imported checkpoint, and the parameters of the file that no score depends on."""

    checkpoint: Checkpoint
    left_out: tuple[str, ...]


def import_checkpoint(
    source: str | Path, out: str | Path, *, visual_feature: str, words: str = "roberta", preset_name: str = ""
) -> ImportedCheckpoint:
    """Saves a published checkpoint as ours.

    Args:
        visual_feature, words: the names of its frames and of its words in the package, such as `i3d_resnet` (TVR).
        preset_name: the preset of the settings that the file does not store; by default that of its method on TVR, depending on
            the names in the file. A file of MS-SL++ has the names of MS-SL.

    Raises:
        ModelError: the file is refused, broken or of another model.
        SettingError: `out` is not an empty folder, or there is no such preset for these models.
    """
    source, out = Path(source), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingError(f"{out} is not an empty folder; name another for the imported checkpoint")
    tensors, about, digest = _read(source)
    names: PublishedNames = read_follow_up_names(tensors) or read_names(tensors)
    weights = {names.ours[name]: tensor.float() for name, tensor in tensors.items() if name in names.ours}
    reads = visual_feature, words
    fresh = _build(source, weights, names, about["settings"], reads=reads, preset_name=preset_name)
    assert isinstance(fresh.model, nn.Module)
    fresh.model.load_state_dict(weights)
    origin = {"file": source.name, "sha256": digest, "stored": about["settings"], "left_out": list(names.left_out)}
    # In the published packages val and test are one list, so the epoch was chosen on what is reported (docs/decisions/0011).
    checkpoints.save(replace(fresh, about={"protocol": "community", "epoch": about["epoch"], "imported": origin}), out)
    return ImportedCheckpoint(checkpoints.load(out), names.left_out)


def _build(
    source: Path,
    weights: dict[str, Tensor],
    names: PublishedNames,
    stored: Mapping[str, Any],
    *,
    reads: tuple[str, str],
    preset_name: str,
) -> Checkpoint:
    """Builds a model with the file's sizes and settings, after checking that the weights fit it."""
    usual, recipe = preset(names.preset), preset(preset_name or names.preset)
    if recipe.method != usual.method:
        raise SettingError(f"preset {preset_name!r} is of {recipe.method}; take one of {usual.method}, such as {names.preset}")
    sizes = names.sizes(partial(_shape, source, weights, names))
    defaults = to_dict(recipe.settings)
    known = {ours: stored[theirs] for theirs, ours in STORED.items() if theirs in stored and ours in defaults}
    try:
        settings = from_dict(type(recipe.settings), {**defaults, **known, **sizes.settings})
    except SettingError as problem:
        raise ModelError(f"{source} has settings that no model can have: {problem}") from None
    sources = FeatureSources(Source(reads[0], sizes.frame_columns), Source(reads[1], sizes.word_columns))
    # On the meta device first: the sizes come from the file, and a wrong one must not allocate memory.
    with torch.device("meta"):
        _check_fit(source, checkpoints.build(recipe.method, settings, sources), weights, names)
    with torch.random.fork_rng(devices=[]):
        return checkpoints.build(recipe.method, settings, sources)


def _shape(source: Path, weights: Mapping[str, Tensor], names: PublishedNames, name: str) -> tuple[int, int]:
    if name not in weights or weights[name].dim() < 2 or any(size != 1 for size in weights[name].shape[:-2]):
        unknown = f"; it has the unknown {_shorten(names.unknown)}" if names.unknown else ""
        model = "DL-DKD or DL-DKD++" if name.startswith("branches.") else names.preset.partition("/")[0]
        raise ModelError(f"{source} is no {model} model: it has no matrix {name}{unknown}")
    rows, columns = weights[name].shape[-2:]
    return rows, columns


def _check_fit(source: Path, wanted: Checkpoint, weights: Mapping[str, Tensor], names: PublishedNames) -> None:
    assert isinstance(wanted.model, nn.Module)
    published = {ours: theirs for theirs, ours in names.ours.items()}
    shapes = {name: tuple(value.shape) for name, value in wanted.model.state_dict().items()}
    faults = {
        "missing": [name for name in shapes if name not in weights],
        "unknown": [*names.unknown, *(published[name] for name in weights if name not in shapes)],
        "of another shape": [
            f"{published[name]} {tuple(weights[name].shape)} where {shape} fits"
            for name, shape in shapes.items()
            if name in weights and tuple(weights[name].shape) != shape
        ],
        "not finite": [published[name] for name, value in weights.items() if not value.isfinite().all()],
    }
    found = [f"{fault}: {_shorten(which)}" for fault, which in faults.items() if which]
    if found:
        raise ModelError(f"{source} does not fit a model of its own sizes; {'; '.join(found)}")


def _shorten(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - MOST_LISTED} more" if len(every) > MOST_LISTED else ""
    return ", ".join(every[:MOST_LISTED]) + more


def _read(source: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Returns the tensors and settings of a file, which the child process converts, and the SHA-256 of the file."""
    if not source.is_file():
        raise ModelError(f"no file {source}; name the downloaded model.ckpt")
    try:
        with open(source, "rb") as file:
            converted = _convert(file)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        tensors = safetensors.torch.load(converted)
        header = json.loads(converted[8 : 8 + int.from_bytes(converted[:8], "little")])
        return dict(sorted(tensors.items())), json.loads(header["__metadata__"][quarantine.ABOUT]), digest
    except quarantine.Refusal as refusal:
        raise ModelError(f"{source} is refused: {refusal}") from None
    except (OSError, SafetensorError, ValueError, KeyError, RecursionError) as problem:
        why = f"its conversion gave nothing that can be read ({type(problem).__name__})"
        raise ModelError(f"{source} is refused: {why}") from None


def _convert(file: BinaryIO) -> bytes:
    """Runs the child process; its output goes to a file, because a pipe has no limit of size."""
    command = [sys.executable, "-P", "-W", "ignore", str(Path(quarantine.__file__).resolve())]
    with tempfile.TemporaryDirectory(prefix="prvr-") as folder, tempfile.TemporaryFile() as converted:
        try:
            child = subprocess.run(
                command,
                stdin=file,
                stdout=converted,
                stderr=subprocess.PIPE,
                cwd=folder,
                env=child_environment(),
                timeout=WAIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise quarantine.Refusal(f"it was not read within {WAIT} seconds") from None
        if child.returncode:
            raise quarantine.Refusal(_reason(child.returncode, child.stderr.decode(errors="replace")))
        converted.seek(0)
        return converted.read(2 * quarantine.LARGEST)


def _reason(status: int, output: str) -> str:
    last = (output.splitlines() or [""])[-1]
    if last.startswith(quarantine.REFUSED):
        # The file chooses the names in this line; they must not control the terminal.
        return "".join(letter if letter.isprintable() else "?" for letter in last.removeprefix(quarantine.REFUSED))[:300]
    return f"the process that read it ended with status {status}; it is broken, or wants more memory than a checkpoint needs"
