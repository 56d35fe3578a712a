"""Lists of the moments of an answer (`prvr.search.answering`) for other programs, and the files that they are in."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prvr.errors import DataError, SettingError, nearest
from prvr.search.edit_lists import EDITS, FileMoment, make_edit, one_line
from prvr.search.opening import store_of
from prvr.video import SUFFIXES, name_in

FORMATS = ("csv", *EDITS, "json", "m3u", "srt")
COLUMNS = ("rank", "video", "file", "start", "end", "score", "probability", "query")


@dataclass(frozen=True)
class ListedMoment:
    """The best moment of a hit. start, end, peak: in seconds; peak is where its best part begins."""

    rank: int
    video: str
    file: Path
    start: float
    end: float
    peak: float
    score: float
    probability: float | None
    query: str


def check_format(name: str) -> str:
    """Returns the name of a format of lists.

    Raises:
        SettingError: there is none of that name.
    """
    if name not in FORMATS:
        raise SettingError(f"no list has the format {name!r}; known: {', '.join(sorted(FORMATS))}")
    return name


def moments_of(found: Mapping[str, Any]) -> list[ListedMoment]:
    """Returns the best moment of each hit of an answer; hits without times have none."""
    return [
        ListedMoment(
            rank,
            hit["video"],
            Path(hit["file"]),
            hit["start"],
            hit["end"],
            hit["peak"],
            hit["score"],
            hit["probability"],
            found["query"],
        )
        for rank, hit in enumerate(found["hits"], start=1)
        if hit["start"] is not None
    ]


def check_file(file: Path, video: str) -> Path:
    """Returns the file of a video of an index.

    Raises:
        DataError: it is no longer there, or a link leads out of the folder, or it is no video.
    """
    if not file.is_absolute() and file.parts[0].endswith(":"):
        raise DataError(f"{video} is in a store; copy it to this machine to cut or play it, or take the page of prvr serve")
    parts = Path(video).parts
    folder = file.parents[len(parts) - 1] if len(parts) <= len(file.parents) else file.parent
    try:
        is_there = file.is_file()
    except (OSError, ValueError):
        is_there = False
    if not is_there:
        raise DataError(f"{video} is no longer in {folder}; put it back, or index the folder again")
    # An index may be anybody's: it names no file outside the folder of the videos, and none that is no video.
    if Path(video).is_absolute() or file.suffix.lower() not in SUFFIXES or not file.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{video} is no video within {folder}; index the folder again")
    return file


def list_of(found: Mapping[str, Any], format: str) -> tuple[str, dict[str, str]]:
    """Returns the moments of an answer as a list, and the problems of videos by name.

    An edit (`prvr.search.edit_lists`) has them one after another, best first. `csv` has a line for each, `m3u` is a playlist
    whose entries start and stop there, `srt` has subtitles in the time of each video.

    Raises:
        SettingError: there is no such format, or there are no moments for an edit.
        DataError: no file of an edit is there.
    """
    moments = moments_of(found)
    if check_format(format) == "csv":
        return _csv(moments), {}
    if format == "srt":
        return _srt(moments)
    there, problems = [], {}
    for moment in moments:
        try:
            check_file(moment.file, moment.video)
            there.append(moment)
        except DataError as problem:
            problems[moment.video] = f"is left out: {problem}"
    if format == "m3u":
        return _m3u(there), problems
    return _edit(found["query"], there, format, problems)


def _edit(title: str, moments: list[ListedMoment], format: str, problems: dict[str, str]) -> tuple[str, dict[str, str]]:
    if not moments:
        reason = next(iter(problems.values()), "")
        raise SettingError(f"there are no moments to list as {format}{': ' + reason if reason else ''}; ask for something else")
    title = title or "moments"
    edit, notes = make_edit(title, [FileMoment(one.file, one.start, one.end, one.query or one.video) for one in moments])
    return EDITS[format](edit), {**problems, **notes}


def _csv(moments: list[ListedMoment]) -> str:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for one in moments:
        probability = "" if one.probability is None else f"{one.probability:.4f}"
        times = f"{one.start:.3f}", f"{one.end:.3f}", f"{one.score:.6f}"
        lines.writerow([one.rank, _text(one.video), _text(str(one.file)), *times, probability, one.query])
    return text.getvalue()


def _m3u(moments: list[ListedMoment]) -> str:
    lines = ["#EXTM3U"]
    for one in moments:
        lines += [
            f"#EXTINF:{one.end - one.start:.3f},{one_line(one.video)} {clock(one.start)}",
            f"#EXTVLCOPT:start-time={one.start:.3f}",
            f"#EXTVLCOPT:stop-time={one.end:.3f}",
            # As a URL: a name may begin with #, or hold a line feed.
            one.file.as_uri(),
        ]
    return "\n".join(lines) + "\n"


def _srt(moments: list[ListedMoment]) -> tuple[str, dict[str, str]]:
    first: dict[str, int] = {}
    for one in moments:
        first.setdefault(one.video, one.rank)
    cues = []
    for number, one in enumerate(sorted(moments, key=lambda one: (first[one.video], one.start)), start=1):
        said = [one_line(one.video), *([one_line(one.query)] if one.query else [])]
        cues.append("\n".join([str(number), f"{_comma(one.start)} --> {_comma(one.end)}", *said]) + "\n")
    several = f"has subtitles of {len(first)} videos, each in the time of its own"
    return "\n".join(cues), {"srt": several} if len(first) > 1 else {}


def clock(seconds: float) -> str:
    """A time as HH:MM:SS.mmm."""
    thousandths = round(1000 * seconds)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _comma(seconds: float) -> str:
    return clock(seconds).replace(".", ",")


def _text(text: str) -> str:
    """A text that UTF-8 can hold: bytes of names that are not UTF-8 are escaped."""
    return text.encode(errors="backslashreplace").decode()


def parse_span(place: str | Path, text: str, rank: int = 1, *, model: str | Path | None = None) -> ListedMoment:
    """Returns the stretch VIDEO@START-END of a video of an index, in seconds.

    Raises:
        SettingError: it is written otherwise, or the index does not hold the video.
        ModelError: there is no index.
    """
    parts = re.fullmatch(r"(?s)(.+)@([0-9.]+)-([0-9.]+)", text)
    start, end = (_number(parts[group]) if parts else None for group in (2, 3))
    if parts is None or start is None or end is None or end <= start:
        raise SettingError(f"{text!r} is no stretch of a video; write VIDEO@START-END in seconds, such as trip/beach.mp4@12.5-20")
    _, store = store_of(place, model=model)
    try:
        ids, videos = store.ids, store.header.videos
    finally:
        store.close()
    video = name_in(ids, parts[1])
    if video is None:
        raise SettingError(f"the index holds no video {parts[1]!r}; {nearest(parts[1], ids)}")
    return ListedMoment(rank, video, Path(f"{videos}/{video}"), start, end, start, 0.0, None, "")


def parse_file_moment(text: str) -> tuple[Path, float]:
    """Returns the file and the time of FILE@SECONDS.

    Raises:
        SettingError: it is written otherwise.
        DataError: there is no such file, or it is not named like a video.
    """
    parts = re.fullmatch(r"(?s)(.+)@([0-9.]+)", text)
    seconds = _number(parts[2]) if parts else None
    if parts is None or seconds is None:
        raise SettingError(f'{text!r} is no moment; write INDEX "a sentence", or FILE@SECONDS such as beach.mp4@12.5')
    file = Path(parts[1]).absolute()
    return check_file(file, file.name), seconds


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
