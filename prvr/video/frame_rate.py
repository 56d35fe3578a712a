"""How an editing program counts the frames of a video: its rate, its first time code, and whether its rate varies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from prvr.errors import require
from prvr.video.opening import open_container, stated_duration, video_stream, zero_of

# Those that editing programs know.
STANDARD = tuple(
    sorted(
        Fraction(*rate)
        for rate in [(24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (48, 1), (50, 1), (60000, 1001), (60, 1)]
    )
)
DROP_FRAME = (Fraction(30000, 1001), Fraction(60000, 1001))
# Two rates that are nearer than this share are the same one, rounded in some container.
SAME = 0.0005
# Hours of a first time code.
HOURS = 24
# A thousandth of a second, to which times are rounded in some containers, in frames of 60 per second, and a little.
SLACK = 0.08


@dataclass(frozen=True)
class FrameCounting:
    """The frames of a video as an editing program counts them.

    rate: in frames per second. begin: the time of frame 0 in seconds of a player. frames: how many there are.
    first: the number of frame 0 by the time code of the file. drop_frame: whether that is counted in drop-frame time code.
    is_variable: whether the frames come at varying distances: a time is then counted at `rate`, to half a frame.
    """

    rate: Fraction
    begin: float
    frames: int
    first: int
    drop_frame: bool
    is_variable: bool
    width: int
    height: int
    has_sound: bool

    def frame_at(self, seconds: float) -> int:
        """The number of the frame that is shown at a player's time, from 0."""
        place = (seconds - self.begin) * float(self.rate)
        return min(max(0, int(place + (0.5 if self.is_variable else SLACK))), max(0, self.frames - 1))

    def frames_between(self, start: float, end: float) -> tuple[int, int]:
        """The first frame of a stretch, and the one after its last; at least one frame."""
        first = self.frame_at(start)
        place = (end - self.begin) * float(self.rate)
        # A frame that is shown before the end belongs to the stretch.
        last = round(place) if self.is_variable else -int(-(place - SLACK) // 1)
        return first, min(max(first + 1, last), max(first + 1, self.frames))


def read_frame_counting(path: Path) -> FrameCounting:
    """Reads how the frames of a video are counted; nothing is decoded.

    Raises:
        VideoError: it cannot be read.
    """
    av = require("av", extra="video")
    with open_container(av, path) as container:
        stream = video_stream(av, container, path)
        names = set(container.format.name.split(","))
        rate, is_variable = _rate_of(stream)
        zero = zero_of(container, stream, names)
        begin = float((stream.start_time - zero) * stream.time_base) if stream.start_time is not None else 0.0
        begin = max(begin, 0.0)
        frames = max(1, round((stated_duration(container, stream) - begin) * float(rate)))
        text = next(
            (one.metadata["timecode"] for one in (stream, container, *container.streams) if "timecode" in one.metadata), ""
        )
        code = parse_time_code(text, rate)
        drop_frame = rate in DROP_FRAME if code is None else code[1]
        codec = stream.codec_context
        return FrameCounting(
            rate=rate,
            begin=begin,
            frames=frames,
            first=0 if code is None else code[0],
            drop_frame=drop_frame,
            is_variable=is_variable,
            width=codec.width,
            height=codec.height,
            has_sound=bool(container.streams.audio),
        )


def _rate_of(stream: Any) -> tuple[Fraction, bool]:
    """The rate of a stream, and whether it varies: the least distance of its frames is then not the mean one."""
    average, least = stream.average_rate, stream.base_rate or stream.guessed_rate
    rate = average or least or Fraction(25)
    is_variable = bool(average and least) and abs(average - least) > SAME * least
    near = nearest_standard(rate)
    if abs(near - rate) <= SAME * rate:
        return near, is_variable
    # A last frame that is shown for longer changes the mean of a short video.
    if is_variable and abs(average - least) * stream.frames <= 1.5 * least:
        return least, False
    # A mean says nothing of thousandths.
    whole = [known for known in STANDARD if known.denominator == 1]
    return (min(whole, key=lambda known: abs(known - rate)) if is_variable else Fraction(rate)), is_variable


def nearest_standard(rate: Fraction) -> Fraction:
    """The rate that editing programs know which is nearest to a rate."""
    return min(STANDARD, key=lambda known: abs(known - rate))


def standard_for(rate: Fraction) -> Fraction:
    """The lowest rate that editing programs know of which each frame at a rate is a number of frames; otherwise the nearest."""
    return next((known for known in STANDARD if (known / rate).denominator == 1), nearest_standard(rate))


def parse_time_code(text: str, rate: Fraction) -> tuple[int, bool] | None:
    """The number of frames of a time code HH:MM:SS:FF, and whether it is drop-frame (HH:MM:SS;FF); None for another text."""
    parts = re.fullmatch(r"([0-9]{2}):([0-9]{2}):([0-9]{2})([:;.])([0-9]{2,3})", text.strip())
    if parts is None:
        return None
    hours, minutes, seconds, frames = (int(parts[place]) for place in (1, 2, 3, 5))
    nominal, drop_frame = round(rate), parts[4] != ":" and rate in DROP_FRAME
    if hours >= HOURS or minutes > 59 or seconds > 59 or frames >= nominal:
        return None
    count = (3600 * hours + 60 * minutes + seconds) * nominal + frames
    if drop_frame:
        all_minutes = 60 * hours + minutes
        count -= _dropped_numbers(nominal) * (all_minutes - all_minutes // 10)
    return count, drop_frame


def time_code(frame: int, rate: Fraction, *, drop_frame: bool) -> str:
    """The time code of a frame (SMPTE ST 12-1): HH:MM:SS:FF, or HH:MM:SS;FF where numbers of frames are dropped.

    Drop-frame leaves out the numbers 0 and 1 (of 60 frames, 0 to 3) of every minute but each tenth, so that the code keeps
    to the clock.
    """
    nominal = round(rate)
    if drop_frame:
        dropped = _dropped_numbers(nominal)
        tens, rest = divmod(frame, 600 * nominal - 9 * dropped)
        frame += 9 * dropped * tens
        if rest >= 60 * nominal:
            frame += dropped * (1 + (rest - 60 * nominal) // (60 * nominal - dropped))
    seconds, frames = divmod(frame, nominal)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours % HOURS:02d}:{minutes:02d}:{seconds:02d}{';' if drop_frame else ':'}{frames:02d}"


def _dropped_numbers(nominal: int) -> int:
    return nominal // 15
