"""Reads annotation files of releases: finds them by name, decodes them and checks their values."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prvr.datasets import Caption, Dataset
from prvr.errors import DataError
from prvr.files import read_bytes

Span = tuple[float, float]


def file_of(path: str | Path, split: str, files: Mapping[str, Sequence[str]]) -> Path:
    """The file of a split: the path if it is a file, else the first of its files that is in the folder.

    Args:
        files: by split, the names of its file in releases.

    Raises:
        DataError: there is no such split, or no such file.
    """
    path = Path(path)
    if split not in files:
        raise DataError(f"unknown split {split!r}, expected {', '.join(files)}")
    if path.is_file():
        return path
    for name in files[split]:
        if (path / name).is_file():
            return path / name
    raise DataError(f"no annotations of split {split!r} in {path}; expected {' or '.join(files[split])}, or the path of the file")


def read_text(path: Path) -> str:
    """Reads a UTF-8 text file.

    Raises:
        DataError: it is not UTF-8 (the message names the line), or no regular file.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        number = problem.object[: problem.start].count(b"\n") + 1
        raise DataError(f"{path}, line {number}: this is not UTF-8 text; save the file as UTF-8") from None


def text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The non-blank lines of a file, each with its place for error messages."""
    return numbered_lines(str(path), read_text(path))


def numbered_lines(name: str, text: str) -> Iterator[tuple[str, str]]:
    """The non-blank lines of a text, each with its place for error messages."""
    # Not splitlines, which also splits at characters that a caption may contain.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{name}, line {number}", line.strip()


def json_lines(lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects of lines, each with its place."""
    for where, line in lines:
        yield where, json_object(where, line)


def json_object(where: str, text: str) -> dict[str, Any]:
    """Parses a JSON object.

    Raises:
        DataError: the text is not a JSON object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{where}: this is not JSON ({problem}); copy the file from its release again") from None
    return as_dict(where, value)


def as_dict(where: str, value: Any) -> dict[str, Any]:
    """The value, checked to be a dict."""
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, got {value!r:.60}; copy the file from its release again")
    return value


def as_list(where: str, value: Any) -> list[Any]:
    """The value, checked to be a list."""
    if not isinstance(value, list):
        raise DataError(f"{where}: expected a list, got {value!r:.60}; copy the file from its release again")
    return value


def as_text(where: str, value: Any) -> str:
    """The value, checked to be text that is not blank, without surrounding blanks."""
    # A lone surrogate, which JSON can write and no tokenizer reads, is not text.
    if not isinstance(value, str) or not value.strip() or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise DataError(f"{where} is {value!r:.60}, expected text")
    return value.strip()


def as_number(where: str, value: Any) -> float:
    """The value as a finite number; text is parsed."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where} is {value!r:.60}, expected a number")
    return number


def as_duration(where: str, value: Any) -> float:
    """The value as a duration in seconds, above 0."""
    seconds = as_number(where, value)
    if seconds <= 0:
        raise DataError(f"{where} is {value!r:.60}, expected more than 0 seconds")
    return seconds


def as_span(where: str, value: Any, duration: float | None) -> Span | None:
    """The value as a moment in seconds, cut to the video; None if nothing is left of it.

    Some spans of the releases end after their video (annotators rounded up), and a few begin after their end. The first are
    cut, as the field does. The others do not locate a moment, so the caption has none.
    """
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise DataError(f"{where}: expected [start, end], got {value!r:.60}")
    start, end = (as_number(where, number) for number in value)
    start, end = max(start, 0.0), end if duration is None else min(end, duration)
    return (start, end) if start < end else None


def number_captions(rows: Iterable[tuple[str, str, Span | None]]) -> list[Caption]:
    """Captions of a release without ids; ids are VIDEO#enc#NUMBER, numbered within the video, as in published packages."""
    count: Counter[str] = Counter()
    captions = []
    for video, text, span in rows:
        captions.append(Caption(f"{video}#enc#{count[video]}", video, text, *(span or (None, None))))
        count[video] += 1
    return captions


def make_dataset(
    path: Path, name: str, split: str, captions: Sequence[Caption], durations: Mapping[str, float] | None = None
) -> Dataset:
    """The split of a file; its gallery is the videos of its captions, in the order of their first captions.

    Raises:
        DataError: there are no captions, or two have the same id.
    """
    if not captions:
        raise DataError(f"{path} holds no captions; copy it from its release again")
    twice = [id for id, count in Counter(caption.id for caption in captions).items() if count > 1]
    if twice:
        raise DataError(f"{path}: {len(twice)} ids occur twice, {twice[0]!r} first; delete one line of each")
    videos = dict.fromkeys(caption.video for caption in captions)
    return Dataset(name, split, tuple(captions), tuple(videos), dict(durations or {}))
