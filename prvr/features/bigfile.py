"""Frame features as the published packages hold them: one folder, a row per frame of any video.

    NAME/feature.bin        the rows, little-endian float32, row-major
    NAME/shape.txt          "rows columns"
    NAME/id.txt             a name per row, whitespace between them, ISO-8859-1
    NAME/video2frames.txt   video -> names of its frames, as a Python dict literal or as JSON

Other readers run `eval` on the last file. Here a pattern reads it, which knows quoted names, lists of them and the
outer dict and nothing else: there is no way for it to call anything, or to nest.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prvr.errors import DataError
from prvr.files import read_bytes

SHAPE, NAMES, ROWS, FRAMES = "shape.txt", "id.txt", "feature.bin", "video2frames.txt"
HOLDS = {
    SHAPE: 'the number of rows and of columns, such as "1500 1024"',
    NAMES: "the name of each row",
    ROWS: "the rows as little-endian float32",
    FRAMES: "a dict of each video's frame names",
}
FLOAT32 = np.dtype("<f4")


class BigFile(Mapping[str, np.ndarray]):
    """Videos of a BigFile folder, read through a memory map. `features[video]` is (F, E) in the order of its frames.

    Frames that lie one after the other, as in the published files, are a read-only view; others are gathered.
    repeated: names that stand twice, of rows or of videos; the last one counts, as in the released code.

    Raises:
        DataError: a file is missing or broken, or two of them do not fit together.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _see_files(path)
        count, self.columns = _shape(path / SHAPE)
        self._rows = _map_rows(path / ROWS, count, self.columns)
        self._frames, self.repeated = _places(path, count)

    def __getitem__(self, video: str) -> np.ndarray:
        return self._rows[self._frames[video]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, video: object) -> bool:
        return video in self._frames

    def release(self) -> None:
        """Maps the file anew: pages that were read count as this process's memory. Rows that are still held stay valid."""
        self._rows = _map_rows(self.path / ROWS, *self._rows.shape)


def is_bigfile(path: Path) -> bool:
    """Whether a folder is in this format, whole or not."""
    return any((path / name).is_file() for name in HOLDS)


def _see_files(path: Path) -> None:
    for name, what in HOLDS.items():
        if not (path / name).is_file():
            raise DataError(
                f"{path / name} is missing; it holds {what}. A published feature folder has "
                f"{', '.join(HOLDS)}: copy all four from the package"
            )


def _shape(path: Path) -> tuple[int, int]:
    numbers = read_bytes(path).split()
    if len(numbers) != 2 or not all(number.isdigit() and len(number) < 16 and int(number) > 0 for number in numbers):
        raise DataError(f"{path} reads {b' '.join(numbers)[:60]!r}; it takes {HOLDS[SHAPE]}: copy it from the package again")
    return int(numbers[0]), int(numbers[1])


def _map_rows(path: Path, count: int, columns: int) -> np.ndarray:
    size, wanted = path.stat().st_size, count * columns * FLOAT32.itemsize
    if size != wanted:
        raise DataError(
            f"{path} has {size} bytes; {SHAPE} says {count} rows of {columns} columns, which take {wanted}: "
            "copy both from the package again"
        )
    # As a plain array: slicing a memmap costs several times as much.
    return np.asarray(np.memmap(path, FLOAT32, "r", shape=(count, columns)))


def _places(path: Path, count: int) -> tuple[dict[str, slice | np.ndarray], tuple[str, ...]]:
    """The rows of each video, a slice where they lie one after the other; and the names that stand twice."""
    names = read_bytes(path / NAMES).decode("iso-8859-1").split()
    if len(names) != count:
        raise DataError(f"{path / NAMES} has {len(names)} names, {SHAPE} says {count} rows: copy both from the package again")
    row = dict(zip(names, range(count), strict=True))
    repeated = [] if len(row) == count else [name for number, name in enumerate(names) if row[name] != number]
    places: dict[str, slice | np.ndarray] = {}
    for video, frames in _read_frames(path / FRAMES):
        if video in places:
            repeated.append(video)
        try:
            rows = [row[frame] for frame in frames]
        except KeyError as problem:
            raise DataError(
                f"frame {problem.args[0]!r} of video {video!r} in {path / FRAMES} is not in {NAMES}: "
                "the two are of different packages; copy both again"
            ) from None
        start, stop = (rows[0], rows[0] + len(rows)) if rows else (0, 0)
        places[video] = slice(start, stop) if rows == list(range(start, stop)) else np.array(rows)
    return places, tuple(dict.fromkeys(repeated))


# A quoted name, and `name: [name, name],`. Possessive throughout: nothing is tried twice, so a hostile file costs no
# more time than a good one of its size.
_NAME = r"""u?+(?:'[^'\\\n]*+(?:\\.[^'\\\n]*+)*+'|"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+")"""
_ENTRY = re.compile(rf"\s*+({_NAME})\s*+:\s*+\[((?:\s*+{_NAME}\s*+,)*+(?:\s*+{_NAME})?+)\s*+\]\s*+(?:,|(?=\}}))")
_NAMES = re.compile(_NAME)
_OPEN, _CLOSE = re.compile(r"\s*+\{"), re.compile(r"\s*+\}\s*+\Z")


def _read_frames(path: Path) -> Iterable[tuple[str, list[str]]]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DataError(f"{path} is not UTF-8 text at byte {problem.start}; save the file as UTF-8") from None
    try:
        # As pairs: a dict would hide a video that stands twice.
        value: Any = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return _literal(path, text)
    # JSON of something else is no literal that we take either, and that reader says where it goes wrong.
    return value if _is_frames(value) else _literal(path, text)


def _is_frames(pairs: Any) -> bool:
    lists = [names for _, names in pairs] if isinstance(pairs, tuple) else [None]
    return all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists)


def _literal(path: Path, text: str) -> Iterator[tuple[str, list[str]]]:
    begin = _OPEN.match(text)
    position = begin.end() if begin else 0
    while begin and (entry := _ENTRY.match(text, position)):
        yield _name(path, entry[1]), [_name(path, name) for name in _NAMES.findall(entry[2])]
        position = entry.end()
    if not begin or not _CLOSE.match(text, position):
        raise DataError(
            f"{path}, character {position}: {text[position : position + 40]!r} is not 'video': ['frame', 'frame'], "
            "as a Python dict literal or JSON has it. Nothing in it was run; copy it from the package again"
        )


def _name(path: Path, quoted: str) -> str:
    if "\\" not in quoted and quoted[0] != "u":
        return quoted[1:-1]
    try:
        name: str = ast.literal_eval(quoted)
    except (ValueError, SyntaxError):
        raise DataError(f"{path}: {quoted[:60]} is no name; copy the file from the package again") from None
    return name
