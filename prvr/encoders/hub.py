"""The Hugging Face hub: the default encoder, what is already on this machine, and what is downloaded.

Before a download, its size and licence are logged (`logging.getLogger("prvr")`; the command line shows it). Nothing is asked.
"""

from __future__ import annotations

import fnmatch
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prvr.encoders import OPEN_CLIP
from prvr.errors import ModelError, PrvrError, one_line, require

# SigLIP 2, base size (Tschannen et al., 2025): Apache-2.0, trained on texts in more than a hundred languages.
DEFAULT_ENCODER = "google/siglip2-base-patch16-224"
# The files that are needed to open a model; a repository may also hold its weights in other formats.
FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
# How the words of a model of sentence-transformers become a sentence; which has a list of its parts in its folder.
MODULES, POOLING = "modules.json", "1_Pooling/config.json"
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
    cached = cached_snapshot(source)
    described = cached is not None and any((cached / name).is_file() for name in ("config.json", OPEN_CLIP))
    return cached if cached is not None and described and any(cached.glob("*.safetensors")) else None


def cached_snapshot(source: str) -> Path | None:
    """Returns the folder of a repository in the hub's local cache; None if it is not there."""
    hub = require("huggingface_hub", extra="encoders")
    try:
        return Path(hub.snapshot_download(source, local_files_only=True))
    # The hub raises ValueError for a name that it cannot have.
    except (OSError, ValueError):
        return None


def download(source: str, *, to: Path | None = None) -> Path:
    """Downloads an encoder from the hub, and returns its folder: the one that is given, or one in the hub's local cache.

    Raises:
        ModelError: the hub does not have it or cannot be reached, it has no weights that are opened, or the disk is too small.
    """
    if source.startswith(("/", ".", "~")) or source.count("/") > 1 or "\\" in source:
        raise ModelError(f"there is no encoder in {source}: no such folder; check the path")
    remedy = (
        f"check the name, go online once, or bring its folder from a machine that is online (there: prvr setup FOLDER --encoder "
        f"{source}) and name that: --encoder FOLDER"
    )
    folder = download_files(source, FILES, what="encoder", remedy=remedy, to=to)
    if (folder / MODULES).is_file():
        hub = require("huggingface_hub", extra="encoders")
        # Without it, the model is one of words alone.
        with suppress(ModelError), hub_errors(f"the Hugging Face hub does not give {POOLING} of {source!r}", remedy):
            hub.hf_hub_download(source, POOLING, etag_timeout=PATIENCE, **({} if to is None else {"local_dir": to}))
    return folder


def download_files(source: str, files: Sequence[str], *, what: str, remedy: str, to: Path | None = None) -> Path:
    """Downloads the files of a repository with names that match, and returns their folder, as `download`.

    Args:
        what: the kind of the repository, and `remedy` the next step, for error lines.

    Raises:
        ModelError: as `download`.
    """
    hub = require("huggingface_hub", extra="encoders")
    with hub_errors(f"no {what} {source!r} here, and the Hugging Face hub does not give it", remedy):
        about = hub.HfApi().model_info(source, files_metadata=True, timeout=PATIENCE)
        size = _size(source, about, files, what)
        place = to or Path(hub.constants.HF_HUB_CACHE)
        _check_space(source, place, size, what)
        LOG.info(
            f"downloading the {what} {source} from the Hugging Face hub: {in_bytes(size)}, licence {_licence(about)}; "
            f"it stays in {place}"
        )
        settings: dict[str, Any] = {} if to is None else {"local_dir": to}
        return Path(
            hub.snapshot_download(source, allow_patterns=list(files), ignore_patterns=["*/*"], etag_timeout=PATIENCE, **settings)
        )


def download_text(source: str, name: str, *, what: str, remedy: str, most: int) -> Path | None:
    """Downloads one file of a repository to the hub's cache, as `download_files`; None if it has none of at most `most` bytes."""
    hub = require("huggingface_hub", extra="encoders")
    with hub_errors(f"no {what} {source!r} here, and the Hugging Face hub does not give it", remedy):
        about = hub.HfApi().model_info(source, files_metadata=True, timeout=PATIENCE)
        if not any(one.rfilename == name and (one.size or 0) <= most for one in about.siblings or []):
            return None
        return Path(hub.hf_hub_download(source, name, etag_timeout=PATIENCE))


@contextmanager
def hub_errors(failed: str, remedy: str) -> Iterator[None]:
    """Raises every error of the hub's client as one line: what failed, why, and the next step.

    Raises:
        ModelError: an error was raised within this block.
    """
    try:
        yield
    except PrvrError:
        raise
    # Of the hub, of its HTTP library, and ValueError for a name that the hub cannot have.
    except Exception as problem:
        status = getattr(getattr(problem, "response", None), "status_code", None)
        reason = {
            401: "it does not exist, or wants a login (401): hf auth login",
            403: "this login may not (403): ask for access on its page, or log in as another: hf auth login",
            404: "it does not exist there, or not for this login (404)",
        }.get(status or 0, one_line(problem))
        raise ModelError(f"{failed} ({reason}); {remedy}") from problem


def in_bytes(size: float) -> str:
    """Returns a size in words: 1.54 GB, or 349.2 MB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _size(source: str, about: Any, patterns: Sequence[str], what: str) -> int:
    files = {one.rfilename: one.size or 0 for one in about.siblings or []}
    wanted = [name for name in files if "/" not in name and any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if not any(name.endswith(".safetensors") for name in wanted):
        raise ModelError(
            f"{source} has no weights as safetensors on the hub, and other formats may contain code and are not opened; "
            f"take another {what}"
        )
    return sum(files[name] for name in wanted)


def _licence(about: Any) -> str:
    named = [tag.removeprefix("license:") for tag in about.tags or [] if tag.startswith("license:")]
    return named[0] if named else "not stated there"


def _check_space(source: str, place: Path, size: int, what: str) -> None:
    there = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise ModelError(
            f"the {what} {source} has {in_bytes(size)}, and {there} has {in_bytes(free)} free; make room, or set HF_HOME to "
            "a folder of another disk"
        )
