"""What the encoders from `transformers` share: opening one, local or from the hub, and telling its weights apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prvr.device import open_device
from prvr.errors import ModelError, PrvrError, require

# What opening a model reads; a repository may hold the same weights for other programs, too.
FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]

VOCABULARIES = ["tokenizer.json", "vocab.*", "*.model"]


def local_folder(source: str) -> Path:
    """Where an encoder's files lie: the folder itself, or the hub's local cache, filled from the hub where it lacks them.

    Raises:
        ModelError: there is no such folder, and the hub does not have it or cannot be reached.
    """
    if Path(source).is_dir():
        return Path(source)
    hub = require("huggingface_hub", extra="encoders")
    try:
        cached = Path(hub.snapshot_download(source, local_files_only=True))
        if (cached / "config.json").is_file() and any(cached.glob("*.safetensors")):
            return cached
    # A ValueError is a name that cannot be one on the hub.
    except (OSError, ValueError):
        pass
    try:
        return Path(hub.snapshot_download(source, allow_patterns=FILES, ignore_patterns=["*/*"]))
    except (OSError, ValueError) as problem:
        raise ModelError(
            f"no encoder {source!r}: it is no folder here, and the hub said: {_one_line(problem)}; "
            "check the name or path, go online once, or give a local folder"
        ) from problem


@contextmanager
def clear_errors(source: str) -> Iterator[None]:
    """Tells whatever goes wrong while an encoder is opened in one line, with what to do.

    Raises:
        ModelError: anything went wrong.
    """
    try:
        yield
    except PrvrError:
        raise
    except ImportError as problem:
        raise ModelError(f"{source} needs a package that is not installed: {_one_line(problem)}") from problem
    # `transformers`, `safetensors` and `tokenizers` each raise their own, down to bare Exception.
    except Exception as problem:
        raise ModelError(f"cannot open the encoder {source}: {_one_line(problem)}; get its files again") from problem


def open_model(opener: Callable[..., Any], folder: Path, *, device: str) -> tuple[Any, str]:
    """A frozen model in float32 and its fingerprint.

    Args:
        opener: `from_pretrained` of its class.

    Raises:
        ModelError: weights are missing; a pooler may be, for no encoder reads it.
        SettingError: there is no such device.
    """
    place = open_device(device)
    with _quiet():
        model, loading = opener(folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
    missing = sorted(loading["missing_keys"])
    needed = [key for key in missing if not re.search(r"(^|\.)pooler\.", key)]
    if needed:
        raise ModelError(f"the weights in {folder} lack {len(needed)} tensors, {needed[0]!r} first; get its files again")
    # Missing weights are drawn at random at each opening: they would change the fingerprint.
    known = {key: tensor for key, tensor in model.state_dict().items() if key not in missing}
    module: nn.Module = model.eval().requires_grad_(False).to(place)
    return module, weights_fingerprint(known)


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer in a model's folder.

    Raises:
        ModelError: there is none; left alone, `transformers` makes one that knows no word.
    """
    if not any(path for pattern in VOCABULARIES for path in folder.glob(pattern)):
        raise ModelError(f"no tokenizer in {folder} ({', '.join(VOCABULARIES)}); get its files again")
    return require("transformers", extra="encoders").AutoTokenizer.from_pretrained(folder)


def weights_fingerprint(weights: dict[str, Tensor]) -> str:
    """16 hex digits of a SHA-256 over names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        values = np.ascontiguousarray(weights[name].cpu().numpy())
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(values.data)
    return digest.hexdigest()[:16]


def token_rows(states: Tensor, mask: Tensor) -> list[np.ndarray]:
    """Of the states (N, W, E) of N padded texts, the rows of each text's real tokens."""
    rows = states.float().cpu().numpy()
    return [row[real] for row, real in zip(rows, mask.bool().cpu().numpy(), strict=True)]


@contextmanager
def _quiet() -> Iterator[None]:
    # Progress bars and a table of weights left over (a language model's head) would stand among our own lines.
    logging = require("transformers.utils.logging", extra="encoders")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:200] or type(problem).__name__
