"""Examines what prvr needs on this machine: packages, decoders, the encoder, an index, room on the disk."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prvr.device import device_name, processor_count
from prvr.encoders import open_encoder
from prvr.encoders.hub import DEFAULT_ENCODER, cached_folder, in_bytes
from prvr.errors import MissingExtra, PrvrError, require
from prvr.index.place import index_folder_of
from prvr.search.opening import store_of
from prvr.video import find_videos, place_of

# The packages whose versions are shown, with the extra that installs each; None for a dependency.
PACKAGES = {
    "torch": None,
    "numpy": None,
    "av": "video",
    "pillow": "video",
    "transformers": "encoders",
    "huggingface_hub": "encoders",
    "onnxruntime": "onnx",
    "numkong": "index",
    "faiss-cpu": "index",
    "fastapi": "serve",
}
# What a person's videos are likely to be encoded with, under the names of FFmpeg's decoders.
DECODERS = ("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "prores", "mjpeg", "wmv2", "theora")
# Below this number of bytes an index is likely to fill the disk.
LEAST_FREE = 1e9


@dataclass
class Checkup:
    """What is there, by name; what is missing, each with the command that mends it; and what is only slower without."""

    facts: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    optional: dict[str, str] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether nothing is missing that indexing and searching need."""
        return not self.missing

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON values, and whether this machine is ready."""
        return {"ready": self.ready, **asdict(self)}


def examine(place: Path | None = None, *, encoder: str = "") -> Checkup:
    """Examines this machine, and an index if there is one.

    Args:
        place: the folder of an index, or a folder of videos; None for the machine alone.
        encoder: the encoder that is to be used; by default that of the index, else the default encoder.
    """
    checkup = Checkup()
    _packages(checkup)
    checkup.facts["device"] = f"{device_name('auto')} (--device auto), {processor_count()} processors"
    _decoders(checkup)
    own = "" if place is None else _index(checkup, place)
    _encoder(checkup, encoder or own or DEFAULT_ENCODER)
    _disk(checkup, place)
    return checkup


def _packages(checkup: Checkup) -> None:
    checkup.facts["prvr"] = importlib.metadata.version("prvr")
    checkup.facts["python"] = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for name, extra in PACKAGES.items():
        try:
            checkup.facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            where = checkup.missing if extra == "video" else checkup.optional
            where[f"{name} is not installed"] = f"pip install 'prvr[{extra}]'"


def _decoders(checkup: Checkup) -> None:
    try:
        known = require("av.codec", extra="video").codecs_available
    except MissingExtra:
        return
    checkup.facts["decoders"] = " ".join(name for name in DECODERS if name in known)
    lacking = [name for name in DECODERS if name not in known]
    if lacking:
        checkup.optional[f"this PyAV decodes no {' '.join(lacking)}"] = "pip install --only-binary av --force-reinstall av"


def _index(checkup: Checkup, place: Path) -> str:
    """Returns the encoder that the index reads; empty if it reads none."""
    folder = index_folder_of(place)
    try:
        checkpoint, store = store_of(place)
    except PrvrError as problem:
        text, _, step = str(problem).partition("; ")
        checkup.missing[text] = step.partition(": ")[2] or step
        return ""
    try:
        abouts, videos, sources = store.about(), place_of(store.header.videos), checkpoint.sources.frames
    finally:
        store.close()
    known = {path for id, about in abouts.items() for path in (id, *about.get("copies", ()))}
    again = f"prvr index {shlex.quote(str(videos))} {shlex.quote(str(folder))}"
    partial = sum(bool(about.get("problem")) for about in abouts.values())
    checkup.facts["index"] = (
        f"{folder}: {len(abouts)} videos of {videos}, {partial} with a problem; {checkpoint.method} of {sources.name}"
    )
    try:
        there = find_videos(videos).keys()
    except PrvrError as problem:
        checkup.missing[str(problem).partition("; ")[0]] = (
            f"put the folder back, or name its new place: prvr index VIDEOS {folder}"
        )
    else:
        fresh, gone = len(there - known), len(known - there)
        if fresh or gone:
            checkup.missing[f"the index lacks {fresh} files of its folder, and has {gone} that are gone"] = again
    if not abouts:
        checkup.missing["the index holds no videos"] = again
    return "" if sources.parts else sources.source or ""


def _encoder(checkup: Checkup, source: str) -> None:
    bring = f"prvr setup --encoder {shlex.quote(source)}"
    try:
        if not Path(source).is_dir() and not Path(source).is_file() and ":" not in source and cached_folder(source) is None:
            checkup.missing[f"the encoder {source} is not on this machine"] = (
                "prvr setup" if source == DEFAULT_ENCODER else bring
            ) + " (online), or bring a folder: --encoder FOLDER"
            return
        opened = open_encoder(source)
        checkup.facts["encoder"] = f"{opened.name} from {opened.source}, fingerprint {opened.fingerprint}"
    except MissingExtra as problem:
        text, _, step = str(problem).partition("; ")
        checkup.missing[f"the encoder {source} cannot be opened: {text}"] = step
    except PrvrError as problem:
        checkup.missing[str(problem)] = bring


def _disk(checkup: Checkup, place: Path | None) -> None:
    there = (place or Path()).absolute()
    there = next(folder for folder in (there, *there.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    checkup.facts["free disk"] = f"{in_bytes(free)} at {there}"
    if free < LEAST_FREE:
        checkup.missing[f"{there} has only {in_bytes(free)} free"] = (
            "make room, or index into another folder: prvr index VIDEOS FOLDER"
        )
