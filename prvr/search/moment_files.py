"""Files of moments: cuts of videos, and one picture of all with their times."""

from __future__ import annotations

import io
import math
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from prvr.errors import DataError, PrvrError, SettingError, require
from prvr.extract.file_stamps import has_same_content, has_same_stamp, stamp_of
from prvr.files import write_whole
from prvr.search.moment_lists import ListedMoment, check_file, clock
from prvr.search.opening import store_of
from prvr.video import VideoReader
from prvr.video.cutting import Cut, cut, suffix_for

# Of the name of a cut without its times, in characters.
MOST_CHARACTERS = 60
# Pictures by the suffix of their file.
PICTURES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
CARD, CAPTION, GAP = (320, 180), 40, 8
GROUND, INK, EMPTY = (24, 24, 24), (235, 235, 235), (60, 60, 60)


@dataclass(frozen=True)
class Cuts:
    """The cuts that were made, with the moment of each, and the problems by video of those that were not."""

    done: list[tuple[ListedMoment, Cut]] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def cut_moments(
    moments: Sequence[ListedMoment],
    folder: Path,
    place: str | Path,
    *,
    model: str | Path | None = None,
    margin: float = 1.0,
    exact: bool = False,
    replace: bool = False,
    on_progress: Callable[[str, float, float], None] = lambda *_: None,
) -> Cuts:
    """Cuts moments of an index into files of a folder, each by `prvr.video.cutting.cut`.

    Args:
        place: the index, which has recorded what its files were. model: its checkpoint, if that is elsewhere.

    Raises:
        SettingError: the margin is no number from 0 on.
        DataError: a file exists already and `replace` is False, or the folder cannot be written to; nothing else is cut then.
        ModelError: there is no index.
    """
    if not 0 <= margin < math.inf:
        raise SettingError(f"the margin is {margin:g} s; give 0 or more")
    _, store = store_of(place, model=model)
    try:
        recorded = store.about()
    finally:
        store.close()
    done, jobs = Cuts(), []
    for moment in moments:
        try:
            check_unchanged(moment.file, moment.video, recorded.get(moment.video, {}))
            target = folder / f"{name_of(moment)}{suffix_for(moment.file, exact=exact)}"
            jobs.append((moment, target))
        except PrvrError as problem:
            done.problems[moment.video] = str(problem)
    there = next((target for _, target in jobs if target.exists()), None)
    if there is not None and not replace:
        raise DataError(f"{there} exists; delete it, name another folder, or take --overwrite")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DataError(f"cannot make {folder}: {problem.strerror}; name another folder") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(f"cannot write to {folder}: permission denied; name another folder")
    for number, (moment, target) in enumerate(jobs):
        on_progress(moment.video, number, len(jobs))
        try:
            made = cut(moment.file, target, moment.start, moment.end, margin=margin, exact=exact, replace=replace)
            done.done.append((moment, made))
        except DataError:
            raise
        except PrvrError as problem:
            done.problems[moment.video] = str(problem)
    return done


def check_unchanged(file: Path, video: str, about: Mapping[str, Any]) -> None:
    """Checks that a file is the one that was indexed: the times of its moments are those of that one.

    Raises:
        DataError: it is no longer there, or another one is in its place.
    """
    check_file(file, video)
    known = about.get("file", {})
    if not known:
        return
    stamp = stamp_of(file)
    if not has_same_stamp(known, stamp) and not has_same_content(known, stamp, file):
        raise DataError(f"{file} has changed since it was indexed, and its moments may be elsewhere; index the folder again")


def name_of(moment: ListedMoment) -> str:
    """A readable name for the cut of a moment, without suffix, that every file system takes: its rank, its video, its times."""
    stem = PurePosixPath(moment.video).with_suffix("").as_posix()
    kept = "".join(one if unicodedata.category(one)[0] in "LMN" or one in "-_. " else "_" for one in stem)
    words = " ".join(kept[:MOST_CHARACTERS].split()).strip(". ") or "video"
    return f"{moment.rank:02d} {words} {_short(moment.start)}-{_short(moment.end)}"


def _short(seconds: float) -> str:
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours = f"{minutes // 60}h" if minutes >= 60 else ""
    return f"{hours}{minutes % 60:02d}m{rest // 10:02d}.{rest % 10}s"


def check_picture(path: Path) -> Path:
    """Returns the path of a picture.

    Raises:
        SettingError: its suffix is none that is written.
    """
    if path.suffix.lower() not in PICTURES:
        raise SettingError(f"{path} is no name of a picture that is written; end it in {' '.join(PICTURES)}")
    return path


def write_sheet(path: Path, moments: Sequence[ListedMoment], title: str) -> dict[str, str]:
    """Writes one picture of moments, best first, each with its best frame and its times; returns the problems by video.

    An existing file is replaced when the new one is whole.

    Raises:
        SettingError: the suffix of the path is none that is written, or there are no moments.
        DataError: it cannot be written.
        MissingExtra: Pillow or PyAV is not installed.
    """
    check_picture(path)
    if not moments:
        raise SettingError("there are no moments for a contact sheet; ask for something else")
    images, drawing, fonts = (require(f"PIL.{name}", extra="video") for name in ("Image", "ImageDraw", "ImageFont"))
    columns = min(4, math.ceil(math.sqrt(len(moments))))
    rows = math.ceil(len(moments) / columns)
    width, height = CARD
    step = width + GAP, height + CAPTION + GAP
    sheet = images.new("RGB", (GAP + columns * step[0], GAP + CAPTION + rows * step[1]), GROUND)
    draw, font = drawing.Draw(sheet), _font(fonts)
    draw.text((GAP, GAP), _fitting(draw, font, title, sheet.width - 2 * GAP), INK, font=font)
    problems = {}
    for number, moment in enumerate(moments):
        left, top = GAP + number % columns * step[0], GAP + CAPTION + number // columns * step[1]
        draw.rectangle((left, top, left + width - 1, top + height - 1), EMPTY)
        try:
            card = images.fromarray(frame_of(moment))
            card.thumbnail(CARD)
            sheet.paste(card, (left + (width - card.width) // 2, top + (height - card.height) // 2))
        except PrvrError as problem:
            problems[moment.video] = str(problem)
        times = f"{moment.rank}  {clock(moment.start)} - {clock(moment.end)}"
        for line, text in enumerate((times, moment.video)):
            draw.text((left, top + height + 2 + 18 * line), _fitting(draw, font, text, width), INK, font=font)
    data = io.BytesIO()
    sheet.save(data, PICTURES[path.suffix.lower()])
    try:
        write_whole(path, data.getvalue())
    except OSError as problem:
        raise DataError(f"cannot write {path}: {problem.strerror}; name another place") from None
    return problems


def frame_of(moment: ListedMoment) -> np.ndarray:
    """The frame at which the best part of a moment begins, (height, width, 3) uint8 RGB.

    Raises:
        DataError: the file is no longer there.
        VideoError: it cannot be read.
    """
    with VideoReader(check_file(moment.file, moment.video), rate=1.0) as reader:
        return reader.still(moment.peak)


def _font(fonts: Any) -> Any:
    from matplotlib import get_data_path

    # It has more scripts than Pillow's own.
    return fonts.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 14)


def _fitting(draw: Any, font: Any, text: str, width: int) -> str:
    """A text in one line, shortened to a width in pixels."""
    text = "".join(one if one.isprintable() else " " for one in text.encode(errors="backslashreplace").decode())
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(f"{text}…", font=font) > width:
        text = text[:-1]
    return f"{text}…"
