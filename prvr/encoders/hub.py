"""Encoders of the Hugging Face hub: the default one, what is already on this machine, and what is downloaded.

Before a download, its size and licence are logged (`logging.getLogger("prvr")`; the command line shows it). Nothing is asked.
"""

from __future__ import annotations

import fnmatch
import logging
import shutil
from pathlib import Path
from typing import Any

from prvr.encoders import OPEN_CLIP, one_line
from prvr.errors import ModelError, PrvrError, require

# SigLIP 2, base size (Tschannen et al., 2025): Apache-2.0, trained on texts in more than a hundred languages.
DEFAULT_ENCODER = "google/siglip2-base-patch16-224"
# The files that are needed to open a model; a repository may also hold its weights in other formats.
FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
# Seconds: a hub that does not answer is not waited for.
PATIENCE = 10
LOG = logging.getLogger("prvr")


def local_folder(source: str) -> Path:
    """Returns the folder of an encoder's files: the given folder, or the hub's local cache, after downloading what it lacks.

    Raises:
        ModelError: there is no such folder, and the hub does not have it or cannot be reached.
    """
    if Path(source).is_dir():
        return Path(source)
    return cached_folder(source) or download(source)


def cached_folder(source: str) -> Path | None:
    """Returns the folder of an encoder in the hub's local cache; None if it is not there, or not whole."""
    hub = require("huggingface_hub", extra="encoders")
    try:
        cached = Path(hub.snapshot_download(source, local_files_only=True))
    # The hub raises ValueError for a name that it cannot have.
    except (OSError, ValueError):
        return None
    described = any((cached / name).is_file() for name in ("config.json", OPEN_CLIP))
    return cached if described and any(cached.glob("*.safetensors")) else None


def download(source: str, *, to: Path | None = None) -> Path:
    """Downloads an encoder from the hub, and returns its folder: the one that is given, or one in the hub's local cache.

    Raises:
        ModelError: the hub does not have it or cannot be reached, it has no weights that are opened, or the disk is too small.
    """
    hub = require("huggingface_hub", extra="encoders")
    if source.startswith(("/", ".", "~")) or source.count("/") > 1 or "\\" in source:
        raise ModelError(f"there is no encoder in {source}: no such folder; check the path")
    try:
        about = hub.HfApi().model_info(source, files_metadata=True, timeout=PATIENCE)
        size = _size(source, about)
        place = to or Path(hub.constants.HF_HUB_CACHE)
        _check_space(source, place, size)
        LOG.info(
            f"downloading the encoder {source} from the Hugging Face hub: {in_bytes(size)}, licence {_licence(about)}; "
            f"it stays in {place}"
        )
        settings: dict[str, Any] = {} if to is None else {"local_dir": to}
        return Path(
            hub.snapshot_download(source, allow_patterns=FILES, ignore_patterns=["*/*"], etag_timeout=PATIENCE, **settings)
        )
    except PrvrError:
        raise
    # Of the hub, of its HTTP library, and ValueError for a name that the hub cannot have.
    except Exception as problem:
        raise ModelError(
            f"no encoder {source!r} here, and the Hugging Face hub does not give it ({one_line(problem)}); check the name, go "
            f"online once, or bring its folder from a machine that is online (there: prvr setup FOLDER --encoder {source}) and "
            "name that: --encoder FOLDER"
        ) from problem


def in_bytes(size: float) -> str:
    """Returns a size in words: 1.54 GB, or 349.2 MB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _size(source: str, about: Any) -> int:
    files = {one.rfilename: one.size or 0 for one in about.siblings or []}
    wanted = [name for name in files if "/" not in name and any(fnmatch.fnmatch(name, pattern) for pattern in FILES)]
    if not any(name.endswith(".safetensors") for name in wanted):
        raise ModelError(
            f"{source} has no weights as safetensors on the hub, and other formats may contain code and are not opened; "
            "take another encoder"
        )
    return sum(files[name] for name in wanted)


def _licence(about: Any) -> str:
    named = [tag.removeprefix("license:") for tag in about.tags or [] if tag.startswith("license:")]
    return named[0] if named else "not stated there"


def _check_space(source: str, place: Path, size: int) -> None:
    there = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise ModelError(
            f"the encoder {source} has {in_bytes(size)}, and {there} has {in_bytes(free)} free; make room, or set HF_HOME to "
            "a folder of another disk"
        )
