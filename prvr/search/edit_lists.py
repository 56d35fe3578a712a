"""Moments one after another as an edit, for DaVinci Resolve, Premiere and others: CMX 3600 EDL, FCPXML and OpenTimelineIO.

Every moment is a clip of its file, with the frames that are shown between its start and its end, and a marker with the query.
The edit has the frame rate of the first moment, or the nearest one that editing programs know. FCPXML and OpenTimelineIO keep
the frames of each file; an EDL has one rate, so that frames of files with another rate are converted to it, to half a frame.

EDL and FCPXML are written here: OpenTimelineIO's adapters write no drop-frame header, no 23.976 and no names with an apostrophe
(decision 0067). Its readers read them in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

from prvr.errors import require
from prvr.video.frame_rate import DROP_FRAME, FrameCounting, nearest_standard, read_frame_counting, standard_for, time_code

# Editing programs begin their time lines at one hour.
FIRST_HOUR = 1
VERSION = "1.9"
# As FCPXML writes the rates that are no whole numbers.
RATE_NAMES = {Fraction(24000, 1001): "23.98", Fraction(30000, 1001): "29.97", Fraction(60000, 1001): "59.94"}


@dataclass(frozen=True)
class FileMoment:
    """A moment in a file, in seconds of a player. note: what is said of it."""

    file: Path
    start: float
    end: float
    note: str


@dataclass(frozen=True)
class EditClip:
    """A moment as frames of its file, and of the edit.

    source: its first frame and the one after its last, from 0. place: the same in the edit, from 0.
    """

    moment: FileMoment
    counting: FrameCounting
    source: tuple[int, int]
    place: tuple[int, int]


@dataclass(frozen=True)
class Edit:
    """Moments one after another, at one rate."""

    title: str
    rate: Fraction
    clips: tuple[EditClip, ...]

    @property
    def drop_frame(self) -> bool:
        """Whether its time code is a drop-frame one."""
        return self.rate in DROP_FRAME and self.clips[0].counting.drop_frame

    @property
    def frames(self) -> int:
        """How many it has."""
        return self.clips[-1].place[1]


def make_edit(title: str, moments: Sequence[FileMoment]) -> tuple[Edit, dict[str, str]]:
    """Returns one or more moments as an edit, and a note for each file with frames that the edit cannot have exactly.

    Raises:
        VideoError: a file cannot be read.
    """
    countings = {moment.file: read_frame_counting(moment.file) for moment in moments}
    rate = standard_for(countings[moments[0].file].rate)
    clips, at = [], 0
    for moment in moments:
        counting = countings[moment.file]
        source = counting.frames_between(moment.start, moment.end)
        length = max(1, _convert(source[1] - source[0], counting.rate, rate))
        clips.append(EditClip(moment, counting, source, (at, at + length)))
        at += length
    notes = {}
    for file, counting in countings.items():
        if counting.is_variable:
            notes[str(file)] = (
                f"has a variable frame rate: its times are counted at {_rate_text(counting.rate)} frames per second"
            )
        elif counting.rate != rate:
            notes[str(file)] = (
                f"has {_rate_text(counting.rate)} frames per second, the list {_rate_text(rate)}: an EDL is right to half a frame"
            )
    return Edit(title, rate, tuple(clips)), notes


def _convert(frames: int, rate: Fraction, to: Fraction) -> int:
    return frames if rate == to else round(frames / rate * to)


def _rate_text(rate: Fraction) -> str:
    return f"{float(rate):.5g}"


def edl_of(edit: Edit) -> str:
    """The edit as CMX 3600: an event with the frames of the file, its name, and a locator with the note."""
    drop_frame = edit.drop_frame
    # Drop-frame time code leaves out two numbers of 30, or four of 60, in 54 minutes of an hour.
    nominal = round(edit.rate)
    hour = FIRST_HOUR * (3600 * nominal - (54 * nominal // 15 if drop_frame else 0))

    def code(frame: int) -> str:
        return time_code(frame, edit.rate, drop_frame=drop_frame)

    lines = [f"TITLE: {one_line(edit.title)}", f"FCM: {'' if drop_frame else 'NON-'}DROP FRAME", ""]
    for number, clip in enumerate(edit.clips, start=1):
        counting = clip.counting
        begin = _convert(counting.first + clip.source[0], counting.rate, edit.rate)
        length = clip.place[1] - clip.place[0]
        record = hour + clip.place[0], hour + clip.place[1]
        times = " ".join(map(code, (begin, begin + length, *record)))
        sound = "B" if counting.has_sound else "V"
        name = one_line(clip.moment.file.name)
        lines += [
            f"{number:03d}  AX       {sound:<5} C        {times}",
            f"* FROM CLIP NAME: {name}",
            f"* FROM FILE: {one_line(str(clip.moment.file))}",
            # Readers know locators with colons alone; the header says whether these are drop-frame codes.
            f"* LOC: {code(record[0]).replace(';', ':')} RED     {one_line(clip.moment.note)}",
            "",
        ]
    return "\n".join(lines)


def one_line(text: str) -> str:
    """A text in one line that XML and EDL can hold."""
    text = text.encode(errors="backslashreplace").decode()
    return "".join(one if one.isprintable() else " " for one in text)


def fcpxml_of(edit: Edit) -> str:
    """The edit as FCPXML: a project with an asset clip per moment, and a marker in it."""
    root = ElementTree.Element("fcpxml", version=VERSION)
    resources = ElementTree.SubElement(root, "resources")
    formats: dict[tuple[Fraction, int, int], str] = {}
    assets: dict[Path, str] = {}
    first = edit.clips[0].counting

    def format_of(rate: Fraction, width: int, height: int) -> str:
        key = rate, width, height
        if key not in formats:
            formats[key] = f"r{len(formats) + len(assets) + 1}"
            about = {"frameDuration": _seconds(Fraction(1), rate), "width": str(width), "height": str(height)}
            ElementTree.SubElement(resources, "format", {"id": formats[key], **about})
        return formats[key]

    def asset_of(clip: EditClip) -> str:
        file, counting = clip.moment.file, clip.counting
        if file not in assets:
            form = format_of(counting.rate, counting.width, counting.height)
            assets[file] = f"r{len(formats) + len(assets) + 1}"
            about = {
                "name": one_line(file.name),
                "src": file.as_uri(),
                "start": _seconds(Fraction(counting.first), counting.rate),
                "duration": _seconds(Fraction(counting.frames), counting.rate),
                "format": form,
                "hasVideo": "1",
            }
            sound = {"hasAudio": "1", "audioSources": "1"} if counting.has_sound else {}
            ElementTree.SubElement(resources, "asset", {"id": assets[file], **about, **sound})
        return assets[file]

    form = format_of(edit.rate, first.width, first.height)
    event = ElementTree.SubElement(ElementTree.SubElement(root, "library"), "event", name="prvr")
    project = ElementTree.SubElement(event, "project", name=one_line(edit.title))
    about = {"tcStart": "0s", "tcFormat": "DF" if edit.drop_frame else "NDF"}
    length = _seconds(Fraction(edit.frames), edit.rate)
    sequence = ElementTree.SubElement(project, "sequence", {"format": form, "duration": length, **about})
    spine = ElementTree.SubElement(sequence, "spine")
    for clip in edit.clips:
        counting = clip.counting
        start = _seconds(Fraction(counting.first + clip.source[0]), counting.rate)
        element = ElementTree.SubElement(
            spine,
            "asset-clip",
            ref=asset_of(clip),
            name=one_line(clip.moment.file.name),
            offset=_seconds(Fraction(clip.place[0]), edit.rate),
            start=start,
            duration=_seconds(Fraction(clip.place[1] - clip.place[0]), edit.rate),
            format=format_of(counting.rate, counting.width, counting.height),
            tcFormat="DF" if counting.drop_frame else "NDF",
        )
        if counting.rate != edit.rate:
            name = RATE_NAMES.get(nearest_standard(counting.rate), str(round(nearest_standard(counting.rate))))
            ElementTree.SubElement(element, "conform-rate", scaleEnabled="0", srcFrameRate=name)
        marker = {"start": start, "duration": _seconds(Fraction(1), counting.rate), "value": one_line(clip.moment.note)}
        ElementTree.SubElement(element, "marker", marker)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n\n{text}\n'


def _seconds(frames: Fraction, rate: Fraction) -> str:
    seconds = frames / rate
    return f"{seconds.numerator}s" if seconds.denominator == 1 else f"{seconds.numerator}/{seconds.denominator}s"


def otio_of(edit: Edit) -> str:
    """The edit as OpenTimelineIO's JSON.

    Raises:
        MissingExtra: opentimelineio is not installed.
    """
    otio = require("opentimelineio", extra="edit")
    time, span, schema = otio.opentime.RationalTime, otio.opentime.TimeRange, otio.schema
    timeline = schema.Timeline(one_line(edit.title), global_start_time=time(0, float(edit.rate)))
    track = schema.Track("V1", kind=schema.TrackKind.Video)
    for clip in edit.clips:
        counting, (first, after) = clip.counting, clip.source
        rate = float(counting.rate)
        file = schema.ExternalReference(clip.moment.file.as_uri(), span(time(counting.first, rate), time(counting.frames, rate)))
        part = span(time(counting.first + first, rate), time(after - first, rate))
        item = schema.Clip(one_line(clip.moment.file.name), file, part)
        mark = span(time(counting.first + first, rate), time(1, rate))
        item.markers.append(schema.Marker(one_line(clip.moment.note), mark, schema.MarkerColor.RED))
        track.append(item)
    timeline.tracks.append(track)
    text: str = timeline.to_json_string(indent=2)
    return text + "\n"


EDITS: dict[str, Callable[[Edit], str]] = {"edl": edl_of, "fcpxml": fcpxml_of, "otio": otio_of}
