"""Captions as the published packages hold them: `<root>/<collection>/TextData/<collection><split>.caption.txt`.

A line is `id caption`, divided at the first space; the video is what stands before the first `#` of the id. The
gallery of a split is the videos of its caption file.
"""

from __future__ import annotations

from pathlib import Path

from prvr.datasets import Caption, Dataset
from prvr.errors import DataError

SUFFIX = ".caption.txt"


def load(root: str | Path, collection: str, split: str) -> Dataset:
    """One split of a published collection; its videos in the order in which the captions name them.

    Raises:
        DataError: there is no such file, it is empty or not UTF-8, or a line has no caption or an id that is taken.
    """
    folder = Path(root) / collection / "TextData"
    path = folder / f"{collection}{split}{SUFFIX}"
    captions: dict[str, Caption] = {}
    # Not splitlines: a caption may hold characters that it takes for the end of a line.
    for number, line in enumerate(_text(path, collection).split("\n"), start=1):
        if not line.strip():
            continue
        caption = _caption(f"{path}, line {number}", line.strip())
        if caption.id in captions:
            raise DataError(f"{path}, line {number}: the id {caption.id!r} is taken by an earlier line; delete one of the two")
        captions[caption.id] = caption
    if not captions:
        raise DataError(f"{path} holds no captions; copy it from the package again")
    videos = dict.fromkeys(caption.video for caption in captions.values())
    return Dataset(collection, split, tuple(captions.values()), tuple(videos))


def _caption(where: str, line: str) -> Caption:
    id, _, text = line.partition(" ")
    video = id.partition("#")[0]
    if not video:
        raise DataError(f"{where}: the id {id!r} names no video; it takes VIDEO#enc#NUMBER")
    if not text.strip():
        raise DataError(f"{where}: the caption {id!r} is empty; write it after the id and a space, or delete the line")
    return Caption(id, video, text.strip())


def _text(path: Path, collection: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        found = sorted(file.name.removesuffix(SUFFIX).removeprefix(collection) for file in path.parent.glob(f"*{SUFFIX}"))
        there = f"the splits there: {', '.join(found)}" if found else "a package has them as ROOT/COLLECTION/TextData"
        raise DataError(f"no captions at {path}; {there}") from None
    except UnicodeDecodeError as problem:
        number = problem.object[: problem.start].count(b"\n") + 1
        raise DataError(f"{path}, line {number}: this is not UTF-8 text; save the file as UTF-8") from None
