"""Cuts a stretch out of a video file: a copy of its packets, from the key frame before, or an exact one, encoded again.

Times are a player's, as those of `VideoReader`. A copy is as fast as the disk and loses nothing, but decoding can only start at a
key frame: it begins there, with all sound. An exact cut begins with the frame that is shown at the start and ends with the last
one that is shown before the end; it is H.264 in MP4, upright, of square pixels, in standard range, with the first sound as AAC.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from secrets import token_hex
from types import ModuleType
from typing import IO, Any, final

import numpy as np

from prvr.errors import DataError, SettingError, VideoError, require
from prvr.video.containers import MATROSKA, MOVIES, STREAMS
from prvr.video.opening import limit_pixels, open_container, stated_duration, video_stream, zero_of
from prvr.video.packets import TimedPacket, from_key_frame, names_of, packets_until, timed_packets
from prvr.video.reader import FURTHER_BACK, VideoReader
from prvr.video.skipping import ROUNDING
from prvr.video.sound import Sound

# Those of PyAV's wheels come first; a build of one's own may lack them.
ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf", "mpeg4")
OPTIONS = {"libx264": {"crf": "18", "preset": "veryfast"}}
# Where packets are copied to that come from other containers than MP4 and Matroska, by FFmpeg's names, and its suffix.
COPIED = {
    "mpegts": ("mpegts", ".ts"),
    "mpeg": ("mpegts", ".ts"),
    # AVI has no times of pictures that are decoded in another order.
    "avi": ("matroska", ".mkv"),
    "flv": ("flv", ".flv"),
    "asf": ("asf", ".wmv"),
    "ogg": ("ogg", ".ogv"),
}
# No two frames are nearer to each other than 1 / EVERY_FRAME seconds.
EVERY_FRAME = 1000.0
# Units of time of an exact cut, per second.
TICKS = 90_000
# The end of a moment may be later than the stated duration, in seconds.
END = 1.0
# By ITU-T H.273; the second one is FFmpeg's number of the limited range.
BT709, LIMITED = 1, 1


@dataclass(frozen=True)
class Cut:
    """What was cut: the file, and the stretch of the video that it shows, in seconds. encoder: None for a copy."""

    path: Path
    start: float
    end: float
    encoder: str | None = None


def cut(
    source: Path, target: Path, start: float, end: float, *, margin: float = 0.0, exact: bool = False, replace: bool = False
) -> Cut:
    """Cuts the frames of a video from `start` to `end`, in seconds, into a new file.

    It is written beside the target and renamed when it is whole, so that an interrupt or a full disk leaves no half file.

    Args:
        target: the file; the suffix of its container (`suffix_for`) is added, if it does not end in it.
        margin: in seconds, before and after, within the video.
        exact: encodes again, from the very frame at `start`; otherwise packets are copied from the key frame before it.
        replace: the target may exist.

    Raises:
        SettingError: the stretch is outside the video, or empty.
        DataError: the target exists, or the folder cannot be written to.
        VideoError: the file cannot be read, or its packets cannot be copied.
    """
    suffix = suffix_for(source, exact=exact)
    if target.suffix.lower() != suffix:
        target = target.with_name(target.name + suffix)
    if target.exists() and not replace:
        raise DataError(f"{target} exists; delete it, name another place, or take --overwrite")
    # Another cut to the same place writes a file of its own.
    part = target.with_name(f".prvr-{token_hex(8)}.part")
    try:
        with part.open("x+b") as file:
            first, last, encoder = write_cut(source, file, start, end, margin=margin, exact=exact)
            file.flush()
            os.fsync(file.fileno())
        _rename(part, target, replace=replace)
    except OSError as problem:
        _remove(part)
        raise DataError(f"cannot write {target}: {problem.strerror or problem}; free or choose another place") from problem
    except BaseException:
        _remove(part)
        raise
    return Cut(target, first, last, encoder)


def _rename(part: Path, target: Path, *, replace: bool) -> None:
    if not replace:
        try:
            # A link never replaces what has appeared meanwhile.
            os.link(part, target)
        except OSError:  # that is there, or the file system has no links
            if target.exists():
                raise DataError(f"{target} exists by now; name another place, or take --overwrite") from None
        else:
            return part.unlink()
    os.replace(part, target)


def _remove(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError:  # the folder cannot be written to
        return


def suffix_for(source: Path, *, exact: bool = False) -> str:
    """Returns the suffix of the file that a cut of a video is: `.mp4` of an exact one, otherwise that of its own container.

    Raises:
        VideoError: the file cannot be read, or not be cut without encoding it again.
    """
    if exact:
        return ".mp4"
    with open_container(require("av", extra="video"), source) as container:
        return _format_of(container, source)[1]


def write_cut(
    source: Path,
    file: IO[bytes],
    start: float,
    end: float,
    *,
    margin: float = 0.0,
    exact: bool = False,
    most_pixels: int | None = None,
) -> tuple[float, float, str | None]:
    """Writes a cut to an open file; returns the stretch that it shows, in seconds, and the encoder.

    Args:
        file: can be read, written and sought.
        most_pixels: of a frame; None for any.

    Raises:
        SettingError, VideoError: as `cut`.
        OSError: the file cannot be written.
    """
    av = require("av", extra="video")
    if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
        raise SettingError(f"a stretch from {start:g} to {end:g} s is none; give a start from 0 on, and an end after it")
    with open_container(av, source, most_pixels=most_pixels) as container:
        stream = video_stream(av, container, source)
        if most_pixels is not None:
            limit_pixels(stream.codec_context, source, most_pixels)
        duration = stated_duration(container, stream)
    if duration and (start >= duration or end > duration + END):
        raise SettingError(f"{start:g} to {end:g} s is outside {source}, which has {duration:.1f} s; give a stretch within it")
    if not 0 <= margin < math.inf:
        raise SettingError(f"the margin is {margin:g} s; give 0 or more")
    start, end = max(0.0, start - margin), min(end + margin, max(end, duration)) if duration else end + margin
    sink = Sink(file)
    try:
        return _encode(av, source, sink, start, end) if exact else (*_copy(av, source, sink, start, end), None)
    except (av.error.FFmpegError, ValueError) as problem:
        if sink.problem is not None:
            raise sink.problem from None
        if exact:
            raise VideoError(
                f"{source} cannot be encoded: {getattr(problem, 'strerror', None) or problem}; convert it"
            ) from problem
        reason = getattr(problem, "strerror", None) or problem
        raise VideoError(f"{source} cannot be cut without encoding it again: {reason}; take --exact") from problem


@final
class Sink:
    """A file that FFmpeg writes to; `problem` is why it could not, of which FFmpeg says nothing."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.problem: OSError | None = None
        self.read, self.seek, self.tell = file.read, file.seek, file.tell

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as problem:
            self.problem = problem
            raise


def _format_of(container: Any, source: Path) -> tuple[str, str]:
    """FFmpeg's name of the container that holds the copied packets, and its suffix."""
    names, suffix = set(container.format.name.split(",")), source.suffix.lower()
    if names & set(MOVIES):
        return ("mp4", ".mp4") if suffix in (".mp4", ".m4v") else ("mov", ".mov")
    if names & set(MATROSKA):
        return ("webm", ".webm") if suffix == ".webm" else ("matroska", ".mkv")
    for name, known in COPIED.items():
        if name in names:
            return known
    raise VideoError(
        f"{source} is in a container ({container.format.name}) whose packets have no times of their own; take --exact"
    )


def _copy(av: ModuleType, source: Path, file: Sink, start: float, end: float) -> tuple[float, float]:
    for back in (*FURTHER_BACK[1:], math.inf):
        with open_container(av, source) as container:
            stream = video_stream(av, container, source)
            streams = [stream, *(sound for sound in container.streams.audio if sound.codec_context is not None)]
            # Where recordings may have been put together, a position is found by reading up to it.
            is_whole = start <= back or bool(names_of(container) & set(STREAMS))
            if not is_whole:
                try:
                    stamp = zero_of(container, stream, names_of(container)) + int((start - back) / stream.time_base)
                    container.seek(stamp, stream=stream)
                except av.error.FFmpegError:
                    continue
            group = from_key_frame(timed_packets(container, streams), stream, start, is_whole=is_whole)
            if group is not None:
                return _mux(av, source, container, streams, file, group, end)
            if is_whole:
                break
    raise SettingError(f"{source} has no frame from {start:g} to {end:g} s; give a stretch within the video")


def _mux(
    av: ModuleType,
    source: Path,
    container: Any,
    streams: Sequence[Any],
    file: Sink,
    group: tuple[float, Iterator[TimedPacket]],
    end: float,
) -> tuple[float, float]:
    begin, packets = group
    if begin >= end:
        raise SettingError(f"{source} has no frame before {end:g} s; give a stretch within the video")
    # What an edit list hides before the beginning stays hidden.
    zero = max(begin, 0.0) if names_of(container) & set(MOVIES) else begin
    last = zero
    with av.open(file, "w", format=_format_of(container, source)[0]) as out:
        out.metadata.update(container.metadata)
        outs = {one.index: out.add_stream_from_template(one, opaque=True) for one in streams}
        for one in packets_until(packets, begin, end, video=streams[0].index):
            stream = one.packet.stream
            if stream is streams[0]:
                last = max(last, one.ends)
            moved = one.zero + round(zero / stream.time_base)
            one.packet.pts = None if one.packet.pts is None else one.packet.pts - moved
            one.packet.dts -= moved
            one.packet.stream = outs[stream.index]
            out.mux(one.packet)
    return zero, last


def _encode(av: ModuleType, source: Path, file: Sink, start: float, end: float) -> tuple[float, float, str]:
    name = next((name for name in ENCODERS if name in av.codecs_available), None)
    if name is None:
        raise VideoError(f"this PyAV encodes none of {', '.join(ENCODERS)}; install it from PyPI, or cut without --exact")
    with VideoReader(source, rate=EVERY_FRAME) as reader:
        first = reader.still(start)
    height, width = first.shape[0] & ~1, first.shape[1] & ~1
    with (
        av.open(file, "w", format="mp4") as out,
        VideoReader(source, rate=EVERY_FRAME, after=start + ROUNDING) as reader,
        Sound(av, source, start, end) as sound,
    ):
        pictures = add_pictures(out, name, width, height, OPTIONS.get(name, {}), ticks=TICKS)
        sound.add_to(out)
        for time, picture in chain([(start, first)], reader):
            if time >= end - ROUNDING:
                break
            out.mux(pictures.encode(frame_of(av, picture[:height, :width], round((time - start) * TICKS), ticks=TICKS)))
            for packets in sound.up_to(time):
                out.mux(packets)
        out.mux(pictures.encode(None))
        for packets in sound.up_to(math.inf):
            out.mux(packets)
    return start, end, name


def add_pictures(out: Any, name: str, width: int, height: int, options: Mapping[str, str], *, ticks: int) -> Any:
    """Adds a stream of pictures of standard range to an output; `ticks` is its units of time per second."""
    pictures = out.add_stream(name, options=dict(options))
    codec = pictures.codec_context
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, "yuv420p", Fraction(1, ticks)
    codec.colorspace = codec.color_primaries = codec.color_trc = BT709
    codec.color_range = LIMITED
    return pictures


def frame_of(av: ModuleType, picture: np.ndarray, stamp: int, *, ticks: int) -> Any:
    """Returns an RGB picture (height, width, 3) as a frame for such a stream."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
    frame.pts, frame.time_base = stamp, Fraction(1, ticks)
    return frame
