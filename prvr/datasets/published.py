"""Captions of published packages: `<root>/<collection>/TextData/<collection><split>.caption.txt`.

A line is `id caption`, split at the first space; the part of the id before the first `#` is the video. The gallery of a split
is the videos of its caption file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prvr.datasets import Caption, Dataset
from prvr.datasets.reading import text_lines
from prvr.errors import DataError

SUFFIX = ".caption.txt"


def load(root: str | Path, collection: str, split: str) -> Dataset:
    """One split of a published collection; its videos are in the order of their first captions.

    Raises:
        DataError: there is no such file, it is empty or not UTF-8, or a line has no caption or a duplicate id.
    """
    path = Path(root) / collection / "TextData" / f"{collection}{split}{SUFFIX}"
    captions: dict[str, Caption] = {}
    for where, line in _lines(path, collection):
        caption = _caption(where, line)
        if caption.id in captions:
            raise DataError(f"{where}: the id {caption.id!r} is used by an earlier line; delete one of the two")
        captions[caption.id] = caption
    if not captions:
        raise DataError(f"{path} holds no captions; copy it from the package again")
    videos = dict.fromkeys(caption.video for caption in captions.values())
    return Dataset(collection, split, tuple(captions.values()), tuple(videos))


def _caption(where: str, line: str) -> Caption:
    id, _, text = line.partition(" ")
    video = id.partition("#")[0]
    if not video:
        raise DataError(f"{where}: the id {id!r} names no video, expected VIDEO#enc#NUMBER")
    if not text.strip():
        raise DataError(f"{where}: the caption {id!r} is empty; write it after the id and a space, or delete the line")
    return Caption(id, video, text.strip())


def _lines(path: Path, collection: str) -> Iterator[tuple[str, str]]:
    try:
        return text_lines(path)
    except (FileNotFoundError, NotADirectoryError):
        there = sorted(file.name.removesuffix(SUFFIX) for file in path.parent.glob(f"*{SUFFIX}"))
        raise DataError(f"no captions at {path}; {_what_is(there, collection)}") from None


def _what_is(there: list[str], collection: str) -> str:
    """What to say of the files that are there instead, by their names without the suffix."""
    if not there:
        return "a package has them as ROOT/COLLECTION/TextData"
    others = {name.removesuffix("train") for name in there if name.endswith("train")}
    if len(others) == 1 and not any(name.startswith(collection) for name in there):
        other = others.pop()
        return f"the files there are of {other!r}: call the folder {collection} {other}, or link to it by that name"
    return f"the splits there: {', '.join(name.removeprefix(collection) for name in there)}"


def is_package(path: Path) -> bool:
    """Whether a folder is a published package: ROOT/COLLECTION."""
    return (path / "FeatureData").is_dir() or (path / "TextData").is_dir()
