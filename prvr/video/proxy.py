"""Writes a window of a video as every browser plays it: H.264 (or VP9) and AAC in fragmented MP4, on the clock of the player.

The file is as long as the video. Before and after the window it shows a still, the first and the last picture of the window, so
that the time of the player is the time in the video, whatever window is played.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np

from prvr.errors import SettingError, VideoError, require
from prvr.video.cutting import ENCODERS as H264
from prvr.video.cutting import Sink, add_pictures, frame_of
from prvr.video.reader import VideoReader
from prvr.video.sound import Sound

# Of a window, in seconds.
WINDOW = 10.0
# MPEG-4 part 2, the last of the encoders of cuts, is played by no browser.
ENCODERS = (*(name for name in H264 if name != "mpeg4"), "libvpx-vp9")
# No B-frames: stamps are never below 0, which players treat in different ways. A thread each costs memory.
OPTIONS = {
    "libx264": {"crf": "23", "preset": "superfast", "bf": "0", "threads": "2", "forced-idr": "1"},
    "libvpx-vp9": {"crf": "34", "b": "0", "deadline": "realtime", "cpu-used": "8", "threads": "2"},
}
MOVFLAGS = "frag_keyframe+delay_moov+default_base_moof"
# Of the shorter side of a picture.
LINES = 720
# Seconds between two key frames: a player seeks in these steps.
GROUP = 1.0
# Seconds that a player shows the last picture.
LAST = 0.04
# Units of time per second: a still of 119 hours is counted in 32 bits, as MP4 does.
TICKS = 10_000
LONGEST = 119 * 3600.0


def find_encoder(av: ModuleType) -> str | None:
    """Returns the encoder of windows that this PyAV has; None if it has none."""
    return next((name for name in ENCODERS if name in av.codecs_available), None)


def write_window(
    source: Path, file: IO[bytes], number: int, *, duration: float | None = None, most_pixels: int | None = None
) -> None:
    """Writes a window of a video to an open file, from `number` times `WINDOW` seconds on.

    Args:
        file: can be read, written and sought.
        duration: of the video, in seconds; None for what the file states.
        most_pixels: of a frame; None for any.

    Raises:
        SettingError: the window is outside the video.
        VideoError: the file cannot be read, or no picture of the window, or this PyAV has no encoder.
        OSError: the file cannot be written.
    """
    av = require("av", extra="video")
    name = find_encoder(av)
    if name is None:
        raise VideoError(f"this PyAV encodes none of {', '.join(ENCODERS)}; install it from PyPI, or download the file")
    start, end, sink = number * WINDOW, (number + 1) * WINDOW, Sink(file)
    try:
        with VideoReader(source, rate=1.0, most_pixels=most_pixels) as reader, Sound(av, source, start, end) as sound:
            length = min(duration or reader.duration, LONGEST)
            if not 0 <= start < (length or math.inf):
                raise SettingError(f"{start:g} s is outside {source}, which has {length:.1f} s; give a time within it")
            frames = reader.shown_from(start, lines=LINES)
            with av.open(sink, "w", format="mp4", options={"movflags": MOVFLAGS}) as out:
                _write(av, out, name, sound, start, _still_window_still(frames, start, end, length))
    except (av.error.FFmpegError, ValueError) as problem:
        if sink.problem is not None:
            raise sink.problem from None
        reason = getattr(problem, "strerror", None) or problem
        raise VideoError(f"{source} cannot be converted: {reason}; download the file") from problem


def _still_window_still(
    frames: Iterator[tuple[float, np.ndarray]], start: float, end: float, length: float
) -> Iterator[tuple[float, np.ndarray, bool]]:
    """The pictures of a file with their times, and whether each begins a group: still, window, still."""
    _, picture = next(frames)
    if start > 0:
        yield 0.0, picture, True
    yield start, picture, True
    begun = start
    for time, following in frames:
        if time >= end:
            length = max(length, end + GROUP)
            break
        if time <= start:
            continue
        picture = following
        if begins := time >= begun + GROUP:
            begun = time
        yield time, picture, begins
    if length > end:
        yield end, picture, True
        yield max(end + LAST, length - LAST), picture, False


def _write(
    av: ModuleType, out: Any, name: str, sound: Sound, shift: float, shown: Iterator[tuple[float, np.ndarray, bool]]
) -> None:
    first = next(shown)
    height, width = (max(2, side & ~1) for side in first[1].shape[:2])
    stream = add_pictures(out, name, width, height, OPTIONS.get(name, {}), ticks=TICKS)
    sound.add_to(out)
    last = -1
    for time, picture, begins in chain([first], shown):
        # Times of a few files are nearer to each other than a unit.
        last = max(last + 1, round(time * TICKS))
        frame = frame_of(av, picture, last, ticks=TICKS)
        if (frame.width, frame.height) != (width, height):  # of a stream's later recording
            frame = frame.reformat(width=width, height=height)
        if begins:
            frame.pict_type = av.video.frame.PictureType.I
        out.mux(stream.encode(frame))
        _mux(out, sound, time, shift)
    out.mux(stream.encode(None))
    _mux(out, sound, math.inf, shift)


def _mux(out: Any, sound: Sound, time: float, shift: float) -> None:
    for packets in sound.up_to(time):
        for packet in packets:
            moved = round(Fraction(shift) / packet.time_base)
            packet.pts, packet.dts = packet.pts + moved, packet.dts + moved
        out.mux(packets)
