"""Opens models and tokenizers of `transformers` in a folder, and computes their fingerprints."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prvr.device import open_device
from prvr.errors import ModelError, one_line, require
from prvr.files import parse_json, read_bytes

VOCABULARIES = ["tokenizer.json", "vocab.*", "*.model"]


def open_model(folder: Path, *, device: str) -> tuple[Any, str]:
    """Returns a frozen model in float32, and its fingerprint. No code in the folder is run.

    Raises:
        ModelError: weights are missing; only those of a pooler may be, because no encoder uses it.
        SettingError: there is no such device.
    """
    check_inside(folder)
    target, opener = open_device(device), require("transformers", extra="encoders").AutoModel
    with _quiet_transformers():
        model, loading = opener.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    missing = sorted(loading["missing_keys"])
    needed = [key for key in missing if not re.search(r"(^|\.)pooler\.", key)]
    if needed:
        raise ModelError(f"the weights in {folder} lack {len(needed)} tensors, {needed[0]!r} first; get its files again")
    # Missing weights are random each time a model is opened, and would change the fingerprint.
    known = {key: tensor for key, tensor in model.state_dict().items() if key not in missing}
    module: nn.Module = model.eval().requires_grad_(False).to(target)
    return module, weights_fingerprint(known)


def check_inside(folder: Path) -> None:
    """Checks that a model's JSON files name no code, and no file outside of the folder.

    Raises:
        ModelError: one does.
    """
    config = _read_object(folder / "config.json")
    code, known = config.get("auto_map"), require("transformers", extra="encoders").CONFIG_MAPPING
    if code and config.get("model_type") not in known:
        raise ValueError(
            f"its config.json names code of its own, {code!r:.80}, which is not run; take a model of a known model_type"
        )
    kernel = next(
        (value for key in ("attn_implementation", "_attn_implementation") if "/" in str(value := config.get(key))), None
    )
    if kernel is not None:
        raise ModelError(f"{folder / 'config.json'} names code of the hub ({kernel!r:.60}), which is not run; delete that entry")
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder} holds an adapter of another model, which is not opened; merge it into that model, and save both as one"
        )
    for index in sorted(folder.glob("*.index.json")):
        weights = _read_object(index).get("weight_map")
        names = set(map(str, weights.values())) if isinstance(weights, dict) else set()
        outside = sorted(name for name in names if Path(name).name != name or "\\" in name or name in ("", ".", ".."))
        if outside:
            raise ModelError(f"{index} names the file {outside[0]!r:.80}, which is not in the folder; get its files again")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(read_bytes(path))
    except (OSError, ValueError) as problem:
        raise ModelError(f"{path} is broken ({one_line(problem)}); get its files again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} is broken (it is no JSON object); get its files again")
    return value


def open_tokenizer(folder: Path) -> Any:
    """Returns the tokenizer in a model's folder.

    Raises:
        ModelError: there is none; `transformers` would return one without words.
    """
    if not any(path for pattern in VOCABULARIES for path in folder.glob(pattern)):
        raise ModelError(f"no tokenizer in {folder} ({', '.join(VOCABULARIES)}); get its files again")
    return require("transformers", extra="encoders").AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def weights_fingerprint(weights: dict[str, Tensor]) -> str:
    """Returns 16 hex digits of a SHA-256 over names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        values = np.ascontiguousarray(weights[name].cpu().numpy())
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(values.data)
    return digest.hexdigest()[:16]


def token_rows(states: Tensor, mask: Tensor) -> list[np.ndarray]:
    """Returns the rows of each text's tokens from the states (N, W, E) of N padded texts.

    Raises:
        ValueError: a value is not finite.
    """
    rows = states.float().cpu().numpy()
    if not np.isfinite(rows).all():
        raise ValueError("it gave NaN or infinite values for a text")
    return [row[real] for row, real in zip(rows, mask.bool().cpu().numpy(), strict=True)]


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    # Progress bars and a table of unused weights (a language model's head) would be printed between our own lines.
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
