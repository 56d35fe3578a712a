"""A stranger's torch file to plain tensors and settings, in a process of its own that may be lost.

    python -P quarantine.py < MODEL.ckpt      in an empty folder

It leaves `tensors.safetensors` and `about.json` there, or one line on stderr that begins with `refused:`. The file is
read by torch's restricted reader, which makes tensors and plain containers and calls nothing that the file names; the
process has no secrets in its environment, and limits on its memory, time and files. Nothing of prvr is imported, so
that what runs beside the file fits on one page.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import stat
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch

TENSORS, ABOUT, REFUSED = "tensors.safetensors", "about.json", "refused: "
# A published checkpoint has about 25 MB.
LARGEST = 1 << 28
ROOM = 2 << 30
SECONDS = 60
MOST_NAMES = 5_000
WEIGHTS = ("model", "model_state", "model_state_dict", "state_dict")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Refusal(Exception):
    """Why a file is not read; its text goes on after `MODEL.ckpt is refused: `."""


def main() -> None:
    """Reads the file on stdin, with limits, into the current folder."""
    _limit()
    try:
        convert(sys.stdin.buffer, Path())
    except Refusal as refusal:
        raise SystemExit(f"{REFUSED}{refusal}") from None


def convert(file: BinaryIO, out: Path) -> None:
    """Writes a torch file's weights and plain settings into a folder.

    Raises:
        Refusal: the file is broken, names what is no tensor, or holds no weights.
    """
    _check_archive(file)
    stored = _load(file)
    weights, settings = _weights(stored), {}
    for part in stored.values():
        settings.update(_plain(part) if isinstance(part, Mapping) else {})
    about = {"epoch": _plain(stored).get("epoch"), "settings": settings}
    safetensors.torch.save_file(weights, out / TENSORS)
    (out / ABOUT).write_text(json.dumps(about))


def _limit() -> None:
    """Limits memory, time and files from here on: what torch took to start is not counted."""
    if importlib.util.find_spec("resource") is None:
        # Windows has no such limits; the restricted reader, the largest size and the longest wait hold there, too.
        return
    resource = importlib.import_module("resource")
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        room = pages * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * LARGEST, 2 * LARGEST))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _check_archive(file: BinaryIO) -> None:
    """Sees that an archive holds plain files only, stored as they are; an older torch file is no archive."""
    if file.seek(0, os.SEEK_END) > LARGEST:
        raise Refusal(f"it is larger than {LARGEST >> 20} MiB, which no checkpoint of these models is")
    file.seek(0)
    archive = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    if not archive:
        return
    try:
        entries = zipfile.ZipFile(file).infolist()
    # What zipfile cannot read it calls a RuntimeError, or one of its kinds.
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


def _load(file: BinaryIO) -> dict[Any, Any]:
    # torch's reader fills plain dictionaries and no classes of others: a stored EasyDict becomes an OrderedDict.
    try:
        with torch.serialization.safe_globals([(OrderedDict, "easydict.EasyDict")]):
            stored = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as problem:  # whatever the file makes the reader raise
        raise Refusal(_reason(problem)) from None
    if not isinstance(stored, dict):
        raise Refusal(f"it holds a {type(stored).__name__} and no weights by name")
    return stored


def _reason(problem: Exception) -> str:
    text = str(problem)
    named = re.search(r"GLOBAL (\S+)", text)
    if named:
        return f"it names {named[1]}, and only tensors, plain values and easydict.EasyDict are read"
    if isinstance(problem, MemoryError) or "allocate" in text:
        return f"it wants more than {ROOM >> 30} GiB of memory"
    return f"it is broken, cut off or no torch file ({type(problem).__name__})"


def _weights(stored: dict[Any, Any]) -> dict[str, torch.Tensor]:
    """The one mapping of tensors: the whole file, or one of its values."""
    groups = {"": stored, **{key: value for key, value in stored.items() if isinstance(key, str) and isinstance(value, dict)}}
    there = {key: group for key, group in groups.items() if group and all(map(torch.is_tensor, group.values()))}
    known = [key for key in ("", *WEIGHTS) if key in there] or list(there)
    if not known:
        raise Refusal("it holds no weights: none of its values is a mapping of tensors")
    if len(known) > 1:
        raise Refusal(f"it holds several mappings of tensors ({', '.join(known)}); keep one")
    weights = there[known[0]]
    # Sizes first: a tensor may claim to be larger than what is stored of it.
    if len(weights) > MOST_NAMES or sum(tensor.numel() * tensor.element_size() for tensor in weights.values()) > LARGEST:
        raise Refusal(f"its tensors are more than {MOST_NAMES} or larger than {LARGEST >> 20} MiB, as those of no such model are")
    return {_name(name): _tensor(name, tensor) for name, tensor in weights.items()}


def _name(name: object) -> str:
    if not isinstance(name, str) or not name.isprintable() or not name.isascii() or len(name) > 200:
        raise Refusal("a tensor's name is no parameter's name")
    return name


def _tensor(name: str, tensor: torch.Tensor) -> torch.Tensor:
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.dtype not in DTYPES:
        raise Refusal(f"{name} is a {tensor.dtype} tensor of {tensor.layout} on {tensor.device}; weights are plain floats")
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _plain(group: Mapping[Any, Any]) -> dict[str, Any]:
    """The numbers, switches and short texts of a mapping."""
    return {key: value for key, value in group.items() if isinstance(key, str) and len(key) <= 200 and _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= 1000
    return isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 53)


if __name__ == "__main__":
    main()
