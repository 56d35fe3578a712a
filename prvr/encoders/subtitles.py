"""Reads subtitles: files beside a video (film.srt, film.en.vtt, film.pt-BR.forced.ass), and the text streams in it."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import final

from prvr.encoders.timed_texts import TextsPart, TimedText
from prvr.errors import VideoError, require
from prvr.video.subtitle_streams import read_subtitle_streams

SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")
# Words of a name that are no language, as players know them.
REMARKS = frozenset({"cc", "commentary", "default", "forced", "full", "sdh"})
LANGUAGE = re.compile(r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8})*")
# Nanoseconds after which the time of a folder's last change is not that of a later one.
SETTLED = 2_000_000_000
# Of a file; the subtitles of a long film have 200 KB.
MOST_BYTES = 1 << 25
# Characters of one text; a longer one is no subtitle.
MOST_CHARACTERS = 1_000
# Times of single words in WebVTT.
WORD_TIMES = re.compile(r"<[\d:.]+>")
# Problems of one file that are named.
MOST_NAMED = 5
# The times that pysubs2 reads.
TIMES = {
    kind: re.compile(rf"\s*{time}\s*-->\s*{time}(\s.*)?")
    for kind, time in (("srt", r"\d{1,2}:\d{1,2}:\d{1,2}[.,]\d{1,3}"), ("vtt", r"(\d{0,4}:)?\d{2}:\d{2}\.\d{2,3}"))
}


@final
class SubtitleReader:
    """Reads all subtitles of a video, in every language."""

    kind, setting = "subtitle", ""

    def made_of(self, paths: Sequence[Path]) -> str:
        """The names, sizes and times of the files beside the video."""
        found: list[list[str | int]] = []
        for file in _files_beside(paths):
            try:
                about = file.stat()
            except OSError as problem:
                raise VideoError(f"cannot read {file.name}: {problem.strerror}; run again when it is there") from None
            found.append([str(file), about.st_size, about.st_mtime_ns])
        return json.dumps(["subtitles 1", *found])

    def read(self, paths: Sequence[Path], *, after: float) -> Iterator[TextsPart]:
        """Yields one part with all texts that begin at a time or later.

        Raises:
            VideoError: the video cannot be opened.
        """
        lines, problems = read_subtitle_streams(paths[0])
        texts = [
            TimedText(line.start, line.end, line.text[:MOST_CHARACTERS], self.kind, language=line.language) for line in lines
        ]
        for file, video in _files_beside(paths).items():
            read, wrong = read_subtitle_file(file, video=video)
            texts += read
            problems += wrong
        texts = _without_repetition(text for text in texts if text.start >= after)
        yield TextsPart(max((text.end for text in texts), default=after), tuple(texts), tuple(problems))


def subtitle_files(video: Path) -> list[Path]:
    """Returns the subtitle files beside a video, by name: called like it, with a language between stem and suffix or without."""
    stem, found = video.stem.casefold(), []
    for path in _subtitles_in(video.parent):
        if not path.name.casefold().startswith(stem) or path.is_symlink() or not path.is_file():
            continue
        words = path.name[len(video.stem) : -len(path.suffix)].split(".")
        if not words[0] and all(word.casefold() in REMARKS or LANGUAGE.fullmatch(word) for word in words[1:]):
            found.append(path)
    return found


def read_subtitle_file(path: Path, *, video: Path | None = None) -> tuple[list[TimedText], list[str]]:
    """Returns the texts of a subtitle file, and what could not be read of it, a line each. Broken cues alone are left out.

    Args:
        video: whose name that of the file begins with; by default what is before its first dot.
    """
    pysubs2 = require("pysubs2", extra="video")
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            return [], [f"{path.name} has {size} bytes, more than any subtitles ({MOST_BYTES}); take it out"]
        text, problems = _decode(path.read_bytes(), path.name)
    except OSError as problem:
        return [], [f"cannot read {path.name}: {problem.strerror}; check its permissions and the disk"]
    kind = path.suffix.lower().removeprefix(".")
    if kind in TIMES:
        text, wrong = _without_broken_cues(text, path.name, TIMES[kind])
        problems += wrong
    try:
        read = pysubs2.SSAFile.from_string(text, format_=kind)
    # A library that reads by regular expressions raises whatever they raise.
    except Exception as problem:
        return [], [*problems, f"{path.name} is not {kind.upper()} ({problem}); write it again or take it out"]
    language = _language_of(path.stem[len(video.stem) :] if video else path.stem)
    texts, backwards = [], 0
    for line in read:
        plain = html.unescape(WORD_TIMES.sub("", line.plaintext)) if kind in TIMES else line.plaintext
        words = " ".join(plain.split())[:MOST_CHARACTERS]
        if words and not line.is_comment and not line.is_drawing:
            backwards += line.end < line.start
            texts.append(TimedText(line.start / 1000, max(line.start, line.end) / 1000, words, "subtitle", language=language))
    if backwards:
        problems.append(f"{path.name}: {backwards} texts end before they begin; their ends are not used")
    if not texts and not problems:
        problems.append(f"{path.name} holds no subtitles; take it out, or write them again")
    return texts, problems


def _subtitles_in(folder: Path) -> tuple[Path, ...]:
    """What is called like subtitles in a folder, by name; listed once as long as nothing comes to it or goes."""
    changed = folder.stat().st_mtime_ns
    # A second change within the clock's tick has the time of the first.
    return _list_once(folder, changed) if time.time_ns() - changed > SETTLED else _list_subtitles(folder)


def _list_subtitles(folder: Path) -> tuple[Path, ...]:
    return tuple(path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES)


@lru_cache(maxsize=64)
def _list_once(folder: Path, changed: int) -> tuple[Path, ...]:
    return _list_subtitles(folder)


def _files_beside(paths: Sequence[Path]) -> dict[Path, Path]:
    """The subtitle files beside videos, each with its video."""
    try:
        return {file: path for path in paths for file in subtitle_files(path)}
    except OSError as problem:
        raise VideoError(f"cannot list the folder of {paths[0]}: {problem.strerror}; check its permissions") from None


def _language_of(end: str) -> str:
    """The language in the end of a name."""
    words = [word for word in end.split(".")[1:] if word.casefold() not in REMARKS and LANGUAGE.fullmatch(word)]
    return words[-1] if words else ""


def _decode(data: bytes, name: str) -> tuple[str, list[str]]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace"), []
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        # All bytes of Latin-1 that are letters are the same ones there.
        text = data.decode("cp1252", errors="replace")
        return text, [f"{name} is not UTF-8; it was read as Windows-1252 (Latin-1): save it as UTF-8 if letters are wrong"]


def _without_broken_cues(text: str, name: str, times: re.Pattern[str]) -> tuple[str, list[str]]:
    """The text without the cues with times that cannot be read: from their number to the next empty line."""
    kept: list[str] = []
    problems, is_broken = [], False
    for number, line in enumerate(text.splitlines(), start=1):
        if "-->" in line:
            is_broken = times.fullmatch(line) is None
            if is_broken:
                if kept and kept[-1].strip().isdigit():
                    kept.pop()
                problems.append(f"{name}, line {number}: {line.strip()[:60]!r} is no time such as 00:01:02,500 --> 00:01:04,000")
        elif not line.strip():
            is_broken = False
        if not is_broken:
            kept.append(line)
    if len(problems) > MOST_NAMED:
        problems = [*problems[:MOST_NAMED], f"{name}: {len(problems) - MOST_NAMED} more such lines"]
    return "\n".join(kept) + "\n", problems


def _without_repetition(texts: Iterable[TimedText]) -> list[TimedText]:
    """The texts in the order of their times; what says the same at the same time, as effects of ASS do, is one text."""
    kept: list[TimedText] = []
    places: dict[tuple[str, str], int] = {}
    for text in sorted(texts, key=lambda text: (text.start, text.end, text.language)):
        place = places.get((text.text, text.language))
        if place is not None and text.start <= kept[place].end:
            kept[place] = replace(kept[place], end=max(kept[place].end, text.end))
        else:
            places[text.text, text.language] = len(kept)
            kept.append(text)
    return kept
