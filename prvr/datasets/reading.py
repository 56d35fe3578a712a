"""Annotation files as releases have them: found by their names, decoded, and seen to hold what they should."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prvr.datasets import Caption, Dataset
from prvr.errors import DataError

Span = tuple[float, float]


def file_of(path: str | Path, split: str, files: Mapping[str, Sequence[str]]) -> Path:
    """The file of a split: the path itself if it is a file, else the first that is in the folder.

    Args:
        files: by split, the names that its file has in releases.

    Raises:
        DataError: there is no such split, or none of the files is there.
    """
    path = Path(path)
    if split not in files:
        raise DataError(f"unknown split {split!r}; it takes {', '.join(files)}")
    if path.is_file():
        return path
    for name in files[split]:
        if (path / name).is_file():
            return path / name
    raise DataError(f"no annotations of split {split!r} in {path}; it takes {' or '.join(files[split])}, or the file itself")


def decoded(path: Path) -> str:
    """A text file that is UTF-8.

    Raises:
        DataError: it is not; the text names the line.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        number = problem.object[: problem.start].count(b"\n") + 1
        raise DataError(f"{path}, line {number}: this is not UTF-8 text; save the file as UTF-8") from None


def text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Lines of a file that are not blank, each with the place that an error names."""
    return numbered_lines(str(path), decoded(path))


def numbered_lines(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Lines of a text that are not blank, each with the place that an error names."""
    # Not splitlines: a caption may hold characters that it takes for the end of a line.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{name}, line {number}", line.strip()


def json_lines(lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """JSON objects, one a line, each with its place."""
    for where, line in lines:
        yield where, json_object(where, line)


def json_object(where: str, text: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: it is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{where}: this is not JSON ({problem}); copy the file from its release again") from None
    return as_dict(where, value)


def as_dict(where: str, value: Any) -> dict[str, Any]:
    """A value that is a dict."""
    if not isinstance(value, dict):
        raise DataError(f"{where}: {value!r:.60} is no JSON object; copy the file from its release again")
    return value


def as_list(where: str, value: Any) -> list[Any]:
    """A value that is a list."""
    if not isinstance(value, list):
        raise DataError(f"{where}: {value!r:.60} is no list; copy the file from its release again")
    return value


def as_text(where: str, value: Any) -> str:
    """A value that is text with something in it, without blanks around."""
    # Half a surrogate pair, which JSON can write and no tokenizer reads, is no text.
    if not isinstance(value, str) or not value.strip() or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise DataError(f"{where} is {value!r:.60}; it takes text")
    return value.strip()


def as_number(where: str, value: Any) -> float:
    """A value that is a finite number, or text that says one."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where} is {value!r:.60}; it takes a number")
    return number


def as_duration(where: str, value: Any) -> float:
    """A value that is a length of time in seconds."""
    seconds = as_number(where, value)
    if seconds <= 0:
        raise DataError(f"{where} is {value!r:.60}; a video lasts more than 0 seconds")
    return seconds


def as_span(where: str, value: Any, duration: float | None) -> Span | None:
    """A moment in seconds, cut to the video; None where nothing is left of it.

    Spans of the releases end after their video (annotators rounded up) and, a few, begin after their end. The first are
    cut, as the field does; the others say nothing about where the moment is, so the caption stays without one.
    """
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise DataError(f"{where}: {value!r:.60} is no span; it takes [start, end]")
    start, end = (as_number(where, number) for number in value)
    start, end = max(start, 0.0), end if duration is None else min(end, duration)
    return (start, end) if start < end else None


def numbered(rows: Iterable[tuple[str, str, Span | None]]) -> list[Caption]:
    """Captions of a release without ids: VIDEO#enc#NUMBER, counted within the video, as the published packages do."""
    count: Counter[str] = Counter()
    captions = []
    for video, text, span in rows:
        captions.append(Caption(f"{video}#enc#{count[video]}", video, text, *(span or (None, None))))
        count[video] += 1
    return captions


def gathered(
    path: Path, name: str, split: str, captions: Sequence[Caption], durations: Mapping[str, float] | None = None
) -> Dataset:
    """The split of a file: its gallery is the videos of its captions, in the order in which they are named.

    Raises:
        DataError: there are no captions, or two of one id.
    """
    if not captions:
        raise DataError(f"{path} holds no captions; copy it from its release again")
    twice = [id for id, count in Counter(caption.id for caption in captions).items() if count > 1]
    if twice:
        raise DataError(f"{path}: {len(twice)} ids stand twice, {twice[0]!r} first; delete one of each two lines")
    videos = dict.fromkeys(caption.video for caption in captions)
    return Dataset(name, split, tuple(captions), tuple(videos), dict(durations or {}))
