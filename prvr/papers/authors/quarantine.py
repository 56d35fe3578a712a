"""Converts an untrusted torch file to safetensors, in a child process with limits.

    python -P quarantine.py < MODEL.ckpt > MODEL.safetensors

The metadata of the output holds the file's plain settings, as JSON. If the file is refused, the last line of stderr begins with
`refused: `. torch's restricted reader creates tensors and plain containers and calls nothing that the file names, but a small
file can make it crash, or take memory and time without end (docs/decisions/0037). Of prvr this script imports
the limits alone.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, BinaryIO

import safetensors.torch
import torch

from prvr.child import limit_resources

REFUSED, ABOUT = "refused: ", "about"
STDOUT = 1
# A published checkpoint has about 25 MB.
LARGEST = 1 << 28
MEMORY = 2 << 30
MOST_NAMES = 5_000
WEIGHTS = ("model", "model_state", "model_state_dict", "state_dict")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Refusal(Exception):
    """The reason why a file is not read; it follows `MODEL.ckpt is refused: `."""


def main() -> None:
    """Converts stdin to stdout."""
    limit_resources(memory=MEMORY, file_bytes=2 * LARGEST)
    try:
        converted = convert(sys.stdin.buffer)
    except Refusal as refusal:
        raise SystemExit(f"{REFUSED}{refusal}") from None
    with open(STDOUT, "wb") as out:
        out.write(converted)


def convert(file: BinaryIO) -> bytes:
    """Returns the weights and plain settings of a torch file as safetensors.

    Raises:
        Refusal: the file is broken, names anything but tensors and plain values, or holds no weights.
    """
    _check_archive(file)
    try:
        # An EasyDict is read as an OrderedDict: the reader fills it and calls no method that the file could choose.
        with torch.serialization.safe_globals([(OrderedDict, "easydict.EasyDict")]):
            stored = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as problem:  # a broken file makes the reader raise many types
        raise Refusal(_reason(problem)) from None
    if not isinstance(stored, dict):
        raise Refusal(f"it holds a {type(stored).__name__} and no weights by name")
    settings = [_plain_values(part) for part in stored.values() if isinstance(part, Mapping)]
    about = {"epoch": _plain_values(stored).get("epoch"), "settings": {k: v for part in settings for k, v in part.items()}}
    return safetensors.torch.save(_find_weights(stored), {ABOUT: json.dumps(about)})


def _check_archive(file: BinaryIO) -> None:
    """Refuses an archive with compressed or overlapping files or links; an old torch file is not an archive."""
    if file.seek(0, os.SEEK_END) > LARGEST:
        raise Refusal(f"it is larger than {LARGEST >> 20} MiB, which no checkpoint of these models is")
    file.seek(0)
    is_archive = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    if not is_archive:
        return
    try:
        entries = zipfile.ZipFile(file).infolist()
    # zipfile raises RuntimeError and its subclasses for features that it does not support.
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError):
        raise Refusal("its archive is broken or cut off; copy it again") from None
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise Refusal("its archive is compressed, which torch.save never does")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise Refusal("its archive holds a link, which torch.save never writes")
    if sum(entry.file_size for entry in entries) > LARGEST:
        raise Refusal("the files of its archive overlap, which torch.save never does")
    file.seek(0)


def _reason(problem: Exception) -> str:
    text = str(problem)
    if name := re.search(r"GLOBAL (\S+)", text):
        return f"it names {name[1]}, and only tensors, plain values and easydict.EasyDict are read"
    if isinstance(problem, MemoryError) or "allocate" in text:
        return f"it wants more than {MEMORY >> 30} GiB of memory"
    return f"it is broken, cut off or no torch file ({type(problem).__name__})"


def _find_weights(stored: dict[Any, Any]) -> dict[str, torch.Tensor]:
    """Returns the one mapping of tensors in a file: the whole file, or one of its values."""
    parts = {"": stored, **{key: part for key, part in stored.items() if isinstance(key, str) and isinstance(part, dict)}}
    groups = {key: part for key, part in parts.items() if part and all(map(torch.is_tensor, part.values()))}
    keys = [key for key in ("", *WEIGHTS) if key in groups] or list(groups)
    if not keys:
        raise Refusal("it holds no weights: none of its values is a mapping of tensors")
    if len(keys) > 1:
        raise Refusal(f"it holds several mappings of tensors ({', '.join(keys)}); keep one")
    weights = groups[keys[0]]
    # Sizes first: a tensor may claim to be larger than its stored numbers.
    if len(weights) > MOST_NAMES or sum(tensor.numel() * tensor.element_size() for tensor in weights.values()) > LARGEST:
        raise Refusal(f"its tensors are more than {MOST_NAMES} or larger than {LARGEST >> 20} MiB, as those of no such model are")
    for name, tensor in weights.items():
        _check_weight(name, tensor)
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()}


def _check_weight(name: object, tensor: torch.Tensor) -> None:
    if not isinstance(name, str) or not name.isprintable() or not name.isascii() or len(name) > 200:
        raise Refusal("a tensor's name is no parameter's name")
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.dtype not in DTYPES:
        raise Refusal(f"{name} is a {tensor.dtype} tensor of {tensor.layout} on {tensor.device}; weights are plain floats")


def _plain_values(group: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns the numbers, booleans and short texts of a mapping."""
    return {key: value for key, value in group.items() if isinstance(key, str) and len(key) <= 200 and _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= 1000
    return isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 53)


if __name__ == "__main__":
    main()
