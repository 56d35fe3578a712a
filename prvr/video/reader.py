"""Reads a video file as (time, frame) pairs at a given rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, final

import numpy as np

from prvr.errors import SettingError, VideoError, require
from prvr.video.containers import (
    ELEMENTARY,
    MATROSKA,
    MOVIES,
    PICTURE_BRANDS,
    STREAMS,
    WHITELIST,
    contents,
    is_cut_off,
    is_encrypted,
    lacks_movie_box,
)
from prvr.video.pictures import picture_of
from prvr.video.skipping import (
    MAX_WAITING,
    ROUNDING,
    NeededPackets,
    RisingStamps,
    TimeLine,
    fresh_starts,
    has_frame_times,
)
from prvr.video.tags import read_tags

# A still is looked for from the keyframe before it, and from further back, in seconds, until a frame before it is found.
FURTHER_BACK = (0.0, 2.0, 10.0, 60.0, 600.0)
# Of one picture, or of a film in which nobody would rather see another stream.
STILL_CODECS = frozenset({"mjpeg", "png", "bmp", "gif", "tiff", "webp", "ppm", "jpegls", "targa"})
# Hours that no file holds, in seconds.
LONGEST = 1000 * 3600.0


def check_rate(rate: float) -> float:
    """Returns the rate, in frames per second.

    Raises:
        SettingError: it is not a number above 0.
    """
    if not 0 < rate < math.inf:
        raise SettingError(f"rate must be above 0 frames per second, not {rate}; 1 is common")
    return rate


@final
class VideoReader:
    """The frames of a video at `rate` per second, as (seconds, (height, width, 3) uint8 RGB); iterate once.

    The time line is cut into slots of 1 / rate seconds, and each slot gives its first frame: if frames come slower than that
    (variable frame rate), there are fewer. Times are a player's: the stamps themselves in MP4, Matroska and WebM, stamps from the
    container's start elsewhere. Where recordings were put together and stamps jump, times go on. Pictures without any stamps
    (raw H.264) are counted. Frames are rotated, mirrored and stretched as a player shows them.

    `duration`, in seconds: the time at which the last frame ends; until iteration what the file states, 0.0 if nothing credible.
    `frame_seconds`: how long the file shows a frame, on average.
    `end`, after iteration, is where the readable part ends: at `duration`, unless the file stops early.
    `problem`, after iteration, is what could not be read, or that stamps jump; None if everything is in order.

    Args:
        rate: frames per second.
        after: only frames later than this time, in seconds: the same as at the end of a reading from the start.
        most_pixels: of a frame; None for any.

    Raises:
        SettingError: `rate` is not a number above 0.
        VideoError: there is no such file, it is not a video, its frames are too large, or (while iterating) no frame can be
            decoded.
    """

    def __init__(self, path: Path, *, rate: float, after: float | None = None, most_pixels: int | None = None) -> None:
        self.path = path
        self.rate = check_rate(rate)
        self.problem: str | None = None
        self._av = require("av", extra="video")
        self._most_pixels = most_pixels
        self._after = after
        self._open()
        self.duration = _stated_duration(self._container, self._stream)
        self.end = self.duration

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    @property
    def tags(self) -> dict[str, Any]:
        """The facts of its recording that the file has (`prvr.video.tags`)."""
        return read_tags([self._container.metadata, self._stream.metadata])

    def still(self, seconds: float) -> np.ndarray:
        """Returns the frame that is shown at a time, or the next one that can be decoded; do not iterate the reader then.

        Raises:
            VideoError: no frame from there on can be decoded.
        """
        # Where recordings may have been put together or nothing has a stamp, a position is found by reading up to it.
        if self._counted is None and not self._names & set(STREAMS):
            for back in FURTHER_BACK:
                with suppress(self._av.error.FFmpegError):
                    self._container.seek(self._line.stamp(max(0.0, seconds - back)), stream=self._stream)
                    shown, following = self._shown_at(seconds, self._all_frames())
                    if shown is not None:
                        return picture_of(shown, self._aspect)
                if back >= seconds:
                    break
            self.close()
            self._open()
        shown, following = self._shown_at(seconds, self._frames_up_to(seconds))
        if shown is None and following is None:
            raise VideoError(
                f"no frame of {self.path} at {seconds:g} s can be decoded{self._why_nothing()}; convert it or take it out"
            )
        return picture_of(shown or following, self._aspect)

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        slot, end, found, spare = -1, 0.0, False, None
        frames = self._frames()
        if self._after is not None:
            slot = self._line.slot(self._after) - 1
            frames = self._frames_from((slot + 1) / self.rate - self._line.rounding)
        for frame in frames:
            time = self._time(frame)
            if time is None or time < -self._line.rounding or frame.is_corrupt:
                # This frame cannot be trusted, but it is better than none if the file has no other.
                spare = spare or frame
                continue
            end, found = max(end, time + float((frame.duration or 0) * self._line.time_base)), True
            if self._line.slot(time) > slot:
                slot = self._line.slot(time)
                if self._after is None or time > self._after:
                    yield max(time, 0.0), picture_of(frame, self._aspect)
        if not found:
            if spare is None:
                raise VideoError(f"no frame of {self.path} can be decoded{self._why_nothing()}; convert it or take it out")
            if self._after is None:
                yield 0.0, picture_of(spare, self._aspect)
        self._conclude(max(end, self._needed.skipped_until))

    def _open(self) -> None:
        self._damage: list[str] = []
        self._lost = 0
        self._container = _open(self._av, self.path, self._most_pixels)
        try:
            self._stream = stream = _video_stream(self._av, self._container, self.path)
            if self._most_pixels is not None:
                _limit_pixels(stream.codec_context, self.path, self._most_pixels)
        except VideoError:
            self._container.close()
            raise
        stream.codec_context.thread_count = 1
        self._names = set(self._container.format.name.split(","))
        # Of pictures without stamps, the next one is shown a frame's duration later.
        self._counted = 0 if self._names & set(ELEMENTARY) else None
        self._frame_duration = 1 / (stream.average_rate or stream.guessed_rate or 25)
        self.frame_seconds = float(self._frame_duration)
        self._line = TimeLine(
            _zero(self._container, stream, self._names),
            stream.time_base,
            self.rate,
            min(ROUNDING, float(self._frame_duration) / 2),
        )
        self._aspect = _pixel_aspect(stream)
        packets = self._demux()
        self._stamps = RisingStamps(packets, stream.time_base, round(self._frame_duration / stream.time_base))
        self._packets = iter(self._stamps) if self._names & set(STREAMS) else packets
        self._starts_afresh = fresh_starts(self._container, stream)
        self._needed = NeededPackets(self._packets, self._line, self._starts_afresh)

    def _time(self, frame: Any) -> float | None:
        if self._counted is None:
            return self._line.seconds(frame.pts)
        self._counted += 1
        return float((self._counted - 1) * self._frame_duration)

    def _frames(self) -> Iterator[Any]:
        # If packets do not have the time of their frame (AVI), every packet is decoded.
        codec, can_skip = self._stream.codec_context, has_frame_times(self._container, self._stream)
        for packet, wanted in self._needed:
            codec.skip_frame = "NONREF" if can_skip and not wanted else "DEFAULT"
            for frame in self._decode(packet):
                if frame.is_corrupt:
                    self._damage.append("damaged frame")
                yield frame

    def _frames_from(self, seconds: float) -> Iterator[Any]:
        """The frames from a time on, and some before it: from the last fresh start, where it can be found."""
        if seconds > 0 and self._names & {*MOVIES, *MATROSKA} and self._counted is None:
            with suppress(self._av.error.FFmpegError):
                self._container.seek(self._line.stamp(seconds), stream=self._stream)
                first = next(self._packets, None)
                if first is not None and first.size and self._is_start(first, seconds):
                    self._needed = NeededPackets(chain([first], self._packets), self._line, self._starts_afresh)
                    return self._frames()
            self.close()
            self._open()
        return self._frames()

    def _is_start(self, packet: Any, seconds: float) -> bool:
        """Whether no frame from a time on refers to anything before a packet."""
        time = self._line.seconds(packet.pts)
        afresh = self._starts_afresh(packet) or self._stream.codec_context.name not in ("h264", "hevc")
        return bool(packet.is_keyframe) and afresh and time is not None and time <= seconds

    def _all_frames(self) -> Iterator[Any]:
        for packet in self._demux():
            yield from self._decode(packet)

    def _frames_up_to(self, seconds: float) -> Iterator[Any]:
        """The last frames up to a time, and then those after it; groups of pictures before are read and not decoded."""
        waiting: list[Any] = []
        starts: list[int] = []
        for packet in self._packets:
            stamp = self._line.seconds(packet.dts)
            if packet.is_keyframe and self._counted is None:
                # Frames that are shown before a keyframe may refer to the group before it.
                if len(starts) > 1:
                    del waiting[: starts[-1]]
                    starts = [0]
                starts.append(len(waiting))
            waiting.append(packet)
            if self._counted is not None or len(waiting) > MAX_WAITING or (stamp is not None and stamp > seconds):
                break
        for packet in chain(waiting, self._packets):
            yield from self._decode(packet)

    def _shown_at(self, seconds: float, frames: Iterator[Any]) -> tuple[Any, Any]:
        """The frame that is shown at a time, and the first one after it; None where it does not exist."""
        shown = None
        for frame in frames:
            time = self._time(frame)
            if time is None or frame.is_corrupt:
                continue
            if time > seconds + self._line.rounding:
                return shown, frame
            shown = frame
        return shown, None

    def _decode(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = self._stream.codec_context.decode(packet)
        except self._av.error.EOFError:
            return []
        except self._av.error.FFmpegError as problem:
            self._damage.append(problem.strerror or str(problem))
            return []
        return frames

    def _demux(self) -> Iterator[Any]:
        first = True
        try:
            for packet in self._container.demux(self._stream):
                if first and packet.has_sidedata("encryption_info"):
                    raise VideoError(f"{self.path} is encrypted; nothing of it can be shown: take it out")
                first = False
                self._lost += packet.is_corrupt
                # The last packet has no data and empties the decoder; an earlier one without data (AVI) repeats a frame.
                if packet.size or packet.dts is None:
                    yield packet
        except self._av.error.FFmpegError as problem:
            self._damage.append(problem.strerror or str(problem))
        except IndexError:
            # PyAV, after the last packet: a stream appeared while the file was read.
            pass

    def _why_nothing(self) -> str:
        limit = "" if self._most_pixels is None else f" (none of more than {self._most_pixels} pixels is tried)"
        return ": it is encrypted" if is_encrypted(self.path) else self._because() + limit

    def _because(self) -> str:
        return f": {self._damage[0]}" if self._damage else ": packets were lost" if self._lost else ""

    def _conclude(self, end: float) -> None:
        stated, self.duration = self.duration, end
        # Where recordings are put together, packets do not follow each other either.
        jumps = self._stamps.jumps
        if is_cut_off(self.path, self._names):
            self.duration = max(stated, end)
            of = f" of {stated:.1f} s" if stated > end else ": the file was cut off"
            self.problem = f"stops at {end:.1f} s{of}{self._because()}"
        elif places := len(self._damage) + max(0, self._lost - len(jumps)):
            self.problem = f"damaged in {places} places{self._because()}"
        elif jumps:
            times = ", ".join(f"{self._line.seconds(stamp):.1f} s" for stamp in jumps[:3])
            self.problem = f"its time stamps jump at {times}, as where recordings are put together; times go on from there"
        self.end = end


def _open(av: ModuleType, path: Path, most_pixels: int | None) -> Any:
    try:
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty (0 bytes); copy or download it again")
        # Only files, and only containers that hold their own pictures: no other file is read, and nothing is fetched.
        options = {"protocol_whitelist": "file", "format_whitelist": ",".join(WHITELIST)}
        if most_pixels is not None:
            # Of the decoders that look for sizes as well, before anything is known of a stream.
            options["max_pixels"] = str(most_pixels)
        container = av.open(str(path.absolute()), options=options, metadata_errors="replace")
    except av.error.FFmpegError as problem:
        raise VideoError(_not_a_video(path, problem.strerror)) from problem
    except OSError as problem:
        raise VideoError(f"cannot open {path}: {problem.strerror}; check the path and its permissions") from problem
    # FFmpeg opens pictures in the boxes of MP4 like films.
    if container.metadata.get("major_brand") in PICTURE_BRANDS:
        container.close()
        raise VideoError(f"{path} is a picture (HEIF or AVIF), not a video; take it out")
    return container


def _not_a_video(path: Path, reason: str | None) -> str:
    try:
        if lacks_movie_box(path):
            return f"{path} has no moov box: the recording or the copy was not finished; copy it again, or repair it"
        if is_encrypted(path):
            return f"{path} is encrypted; nothing of it can be shown: take it out"
        kind = contents(path)
    except OSError as problem:
        return f"cannot open {path}: {problem.strerror}; check the path and its permissions"
    return (
        f"{path} is {kind}, not a video; take it out"
        if kind
        else f"cannot read {path} as a video: {reason}; convert it or take it out"
    )


def _video_stream(av: ModuleType, container: Any, path: Path) -> Any:
    """The stream that a player shows: a default one before others, then the one of most bits, then the first."""
    kinds = sorted({stream.type for stream in container.streams})
    # Covers and previews are video streams to the container.
    covers = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails | av.stream.Disposition.still_image
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        raise VideoError(f"{path} holds no video, only: {', '.join(kinds) or 'nothing'}; take it out")
    readable = [stream for stream in streams if stream.codec_context is not None]
    if not readable:
        raise VideoError(f"{path} is coded in a way that PyAV cannot decode; convert it, to H.264 for example")

    def order(stream: Any) -> tuple[bool, bool, int]:
        still = stream.frames == 1 or stream.codec_context.name in STILL_CODECS
        default = stream.disposition & av.stream.Disposition.default
        return still, not default, -(stream.codec_context.bit_rate or 0)

    return min(readable, key=order)


def _zero(container: Any, stream: Any, names: set[str]) -> int:
    """The stamp at which a player's clock shows 0, in units of the stream's time base."""
    if names & {*MOVIES, *MATROSKA} or container.start_time is None:
        return 0
    return round(Fraction(container.start_time, 1_000_000) / stream.time_base)


def _pixel_aspect(stream: Any) -> Fraction:
    """Width through height of a pixel; 1 where it is not stated, or absurd."""
    stated = stream.sample_aspect_ratio or Fraction(1)
    return stated if Fraction(1, 4) <= stated <= 4 else Fraction(1)


def _limit_pixels(codec: Any, path: Path, most: int) -> None:
    if codec.width * codec.height > most:
        raise VideoError(
            f"the frames of {path} have {codec.width} x {codec.height} pixels, more than {most}; convert it to a smaller size"
        )
    # The size may also change within the stream.
    codec.options = {"max_pixels": str(most)}


def _stated_duration(container: Any, stream: Any) -> float:
    """The end of a stream in seconds as its file states it; 0.0 where it states nothing credible."""
    stated = 0.0
    # Matroska stores the end of each stream in a tag; that of the container is the longest, sound included.
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    if stream.duration:
        stated = float(stream.duration * stream.time_base)
        start = stream.start_time
        stated += float(start * stream.time_base) if start and set(container.format.name.split(",")) & set(MOVIES) else 0.0
    elif seconds:
        with suppress(ValueError):
            stated = 3600 * float(hours) + 60 * float(minutes) + float(seconds)
    elif container.duration:
        stated = container.duration / 1e6
    return stated if 0 < stated < LONGEST else 0.0
