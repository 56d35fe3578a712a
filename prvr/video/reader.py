"""Reads a video file as (time, frame) pairs at a given rate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain, dropwhile
from pathlib import Path
from typing import Any, final

import numpy as np

from prvr.errors import VideoError, require
from prvr.video.containers import ELEMENTARY, MATROSKA, MOVIES, STREAMS
from prvr.video.damage import Damage
from prvr.video.encryption import is_encrypted
from prvr.video.joined import JoinedPackets
from prvr.video.missing import Gaps, ends_with_index, is_cut_off
from prvr.video.opening import ENCRYPTED, frame_rate, limit_pixels, open_container, stated_duration, video_stream, zero_of
from prvr.video.pictures import aspect_of, picture_of
from prvr.video.places import LARGE, TIME_BEFORE_PACKET, Place, places_up_to, stamp_at
from prvr.video.skipping import (
    FORWARD,
    ROUNDING,
    NeededPackets,
    RisingStamps,
    TimeLine,
    begins_with_idr,
    check_rate,
    fresh_starts,
    from_last_groups,
    from_last_start,
    has_frame_times,
)
from prvr.video.tags import read_tags

# A still is looked for from the keyframe before it, and from further back, in seconds, until a frame before it is found.
FURTHER_BACK = (0.0, 2.0, 10.0, 60.0, 600.0)
STATE_DURATION = frozenset({*MOVIES, *MATROSKA, "flv"})
# The time of a frame in seconds, the frame, and width through height of its pixels.
Shown = tuple[float, Any, Fraction]


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
        self.path, self.rate = path, check_rate(rate)
        self._conclusion: str | None = None
        self._av = require("av", extra="video")
        self._most_pixels, self._after = most_pixels, after
        self._open()
        self.duration = self.end = stated_duration(self._container, self._stream)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file, which cannot be read any further."""
        for container in self._containers:
            container.close()
        # These refer back to the reader: decoders and their pictures would stay in memory until Python looks for circles.
        for name in ("_containers", "_container", "_stream", "_codec", "_joined", "_stamps", "_packets", "_needed"):
            self.__dict__.pop(name, None)

    @property
    def damage(self) -> str | None:
        """The part of `problem` that is of frames that were lost."""
        return self._damage.of_pictures()

    @property
    def problem(self) -> str | None:
        """What could not be read so far, or that stamps jump; None if everything is in order."""
        return self._conclusion or self._damage.of_pictures() or self._damage.of_stamps()

    @property
    def tags(self) -> dict[str, Any]:
        """The facts of its recording that the file has (`prvr.video.tags`)."""
        return read_tags([self._container.metadata, self._stream.metadata])

    def still(self, seconds: float) -> np.ndarray:
        """Returns the frame that is shown at a time, or the next one that can be decoded; do not iterate the reader then.

        Raises:
            VideoError: no frame from there on can be decoded.
        """
        return next(self.shown_from(seconds))[1]

    def shown_from(self, seconds: float, *, lines: int | None = None) -> Iterator[tuple[float, np.ndarray]]:
        """Yields all frames from that of `still` on; with `lines`, the shorter side of larger ones is made that long."""
        shown, following, frames = self._find(seconds)
        if shown is None and following is None:
            raise VideoError(
                f"no frame of {self.path} at {seconds:g} s can be decoded{self._why_nothing()}; convert it or take it out"
            )
        for time, frame, aspect in chain(filter(None, (shown, following)), self._with_times(frames)):
            yield max(time, 0.0), picture_of(frame, aspect, lines=lines)

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
            end, found = max(end, time + self._line.length(frame.duration or 0)), True
            if self._line.slot(time) > slot:
                slot = self._line.slot(time)
                if self._after is None or time > self._after:
                    yield max(time, 0.0), picture_of(frame, self._aspect())
        if not found:
            if spare is None:
                raise VideoError(f"no frame of {self.path} can be decoded{self._why_nothing()}; convert it or take it out")
            if self._after is None:
                yield 0.0, picture_of(spare, self._aspect())
        self._conclude(max(end, self._needed.skipped_until))

    def _open(self) -> None:
        self._containers: list[Any] = []
        self._stream = stream = self._open_at(0)
        self._container, self._codec = stream.container, stream.codec_context
        self._names = set(self._container.format.name.split(","))
        # Of pictures without stamps, the next one is shown a frame's duration later.
        self._counted = 0 if self._names & set(ELEMENTARY) else None
        self._frame_duration = 1 / frame_rate(stream, is_raw=self._counted is not None)
        self.frame_seconds = float(self._frame_duration)
        self._line = TimeLine(
            zero_of(self._container, stream, self._names),
            stream.time_base,
            self.rate,
            min(ROUNDING, float(self._frame_duration) / 2),
        )
        self._gaps = Gaps(self.path, self._names, self._frame_duration / stream.time_base)
        # Of AVI: the frames that its index lists. Others list keyframes, or what they need to be read at all.
        self._listed = len(stream.index_entries) if "avi" in self._names else 0
        self._last_place = self._last_end = self._found = 0
        self._joined = JoinedPackets(stream, self._demux, self._other_at, self.path.stat().st_size)
        self._stamps = RisingStamps(self._joined, stream.time_base, round(self._frame_duration / stream.time_base))
        self._damage = Damage(self._line, self._gaps, self._stamps.jumps)
        self._packets = iter(self._stamps) if self._names & set(STREAMS) else self._demux(stream)
        self._starts_afresh = fresh_starts(stream)
        # If packets do not have the time of their frame (AVI), every packet is decoded.
        self._can_skip = has_frame_times(self._container, stream)
        self._needed = self._find_needed(self._packets)

    def _open_at(self, begin: int) -> Any:
        """Opens the file from a byte on, and returns the stream that a player shows."""
        container = open_container(self._av, self.path, begin, most_pixels=self._most_pixels)
        try:
            stream = video_stream(self._av, container, self.path)
            if self._most_pixels is not None:
                limit_pixels(stream.codec_context, self.path, self._most_pixels)
        except VideoError:
            container.close()
            raise
        stream.codec_context.thread_count = 1
        self._containers.append(container)
        return stream

    def _other_at(self, begin: int) -> tuple[Any, list[Any]] | None:
        """The stream that a player shows of the recording from a byte on, and all others with pictures; None if it has none."""
        try:
            stream = self._open_at(begin)
        except VideoError:
            return None
        if stream.time_base != self._stream.time_base:
            return None
        return stream, [other for other in stream.container.streams.video if other.codec_context is not None]

    def _aspect(self) -> Fraction:
        # In streams, each recording states its own.
        return aspect_of(self._codec if self._names & set(STREAMS) else self._stream)

    def _time(self, frame: Any) -> float | None:
        if self._counted is None:
            return self._line.seconds(frame.pts)
        self._counted += 1
        return float((self._counted - 1) * self._frame_duration)

    def _frames(self) -> Iterator[Any]:
        for packet, wanted in self._needed:
            if self._can_skip:
                self._codec.skip_frame = "DEFAULT" if wanted else "NONREF"
            for frame in self._decode(packet):
                if frame.is_corrupt:
                    self._damage.errors.append("damaged frame")
                yield frame

    def _frames_from(self, seconds: float) -> Iterator[Any]:
        """The frames from a time on, and some before it: from the last fresh start, where it can be found."""
        if seconds > 0 and self._names & {*MOVIES, *MATROSKA} and self._counted is None:
            with suppress(self._av.error.FFmpegError):
                self._container.seek(self._line.stamp(seconds), stream=self._stream)
                first = next(self._packets, None)
                if first is not None and first.size and self._is_start(first, seconds):
                    self._needed = self._find_needed(chain([first], self._packets))
                    return self._frames()
            self.close()
            self._open()
        if self._counted is None:
            packets = from_last_start(self._packets, self._line, seconds, lambda packet: self._is_start(packet, seconds))
            self._needed = self._find_needed(packets)
        return self._frames()

    def _find_needed(self, packets: Iterator[Any]) -> NeededPackets:
        return NeededPackets(packets, self._line, self._starts_afresh if self._can_skip else lambda packet: False)

    def _is_start(self, packet: Any, seconds: float) -> bool:
        """Whether no frame from a time on refers to anything before a packet."""
        time = self._line.seconds(packet.pts)
        if not packet.is_keyframe or time is None or time > seconds:
            return False
        codec = packet.stream.codec_context.name
        if codec not in ("h264", "hevc"):
            return True
        begins = begins_with_idr(packet, codec) if self._names & set(STREAMS) else self._starts_afresh(packet)
        return begins and not self._joined.is_torn(packet)

    def _near_in_large(self, seconds: float) -> tuple[bool, Iterator[Any]] | None:
        """The frames around a time of a large TS or PS; None if they have to be found by reading up to them."""
        if not self._names & set(STREAMS) or self.path.stat().st_size < LARGE:
            return None
        first = next(self._packets, None)
        wanted = self._line.stamp(seconds)
        if first is not None and first.dts is not None:
            places = list(places_up_to(self.path, self._stream.id, wanted, first.dts, self._stamp_after))
            for back in FURTHER_BACK[1:]:
                before = [place for place in places if place.stamp <= self._line.stamp(seconds - back)]
                packets = self._packets_from(before[-1]) if before else None
                is_enough, frames = self._frames_up_to(seconds, packets or iter(()))
                if is_enough:
                    return is_enough, frames
                if not before:
                    break
        self.close()
        self._open()
        return None

    def _packets_from(self, place: Place) -> Iterator[Any] | None:
        """The packets from a place in a TS or PS; None if its stream is not there."""
        found = self._other_at(place.at)
        if found is None or found[0].id != self._stream.id:
            return None
        stream = found[0]
        self._joined = JoinedPackets(stream, self._demux, self._other_at, self.path.stat().st_size)
        # In a PS, the rest of the frame before may have the stamp of the first one.
        after = place.at + ("mpeg" in self._names)
        packets = dropwhile(lambda packet: None in (packet.dts, packet.pos) or packet.pos < after, self._joined)
        first = next(packets, None)
        if first is None or not place.stamp <= stamp_at(place, first.dts) <= place.stamp + FORWARD / stream.time_base:
            return None
        added = stamp_at(place, first.dts) - first.dts
        frame = round(self._frame_duration / stream.time_base)
        return iter(RisingStamps(chain([first], packets), stream.time_base, frame, added=added))

    def _stamp_after(self, place: Place, end: int) -> int | None:
        """Reads from a place up to a byte, and returns the stamp of the packet that begins there; None if none does."""
        opened = len(self._containers)
        packets = self._packets_from(place) or iter(())
        reached = next((packet for packet in packets if packet.pos is not None and packet.pos >= end - TIME_BEFORE_PACKET), None)
        stamp: int | None = reached.dts if reached is not None and reached.pos <= end else None
        for container in self._containers[opened:]:
            container.close()
        del self._containers[opened:]
        return stamp

    def _frames_up_to(self, seconds: float, packets: Iterator[Any]) -> tuple[bool, Iterator[Any]]:
        """The last frames up to a time, and then those after it; and whether all that they refer to is there."""
        is_enough = False
        if self._counted is None:
            begins = lambda packet: packet.is_keyframe and not self._joined.is_torn(packet)  # noqa: E731
            is_enough, packets = from_last_groups(packets, self._line, seconds, begins)
        return is_enough, chain.from_iterable(map(self._decode, packets))

    def _find(self, seconds: float) -> tuple[Shown | None, Shown | None, Iterator[Any]]:
        """The frame that is shown at a time, the first one after it, and those that follow."""
        # Where recordings may have been put together or nothing has a stamp, a position is found by reading up to it.
        if self._counted is None and not self._names & set(STREAMS):
            for back in FURTHER_BACK:
                with suppress(self._av.error.FFmpegError):
                    self._container.seek(self._line.stamp(max(0.0, seconds - back)), stream=self._stream)
                    frames: Iterator[Any] = chain.from_iterable(map(self._decode, self._demux(self._stream)))
                    shown, following = self._shown_at(seconds, frames)
                    if shown is not None:
                        return shown, following, frames
                if back >= seconds:
                    break
            self.close()
            self._open()
        _, frames = self._near_in_large(seconds) or self._frames_up_to(seconds, self._packets)
        return (*self._shown_at(seconds, frames), frames)

    def _shown_at(self, seconds: float, frames: Iterator[Any]) -> tuple[Shown | None, Shown | None]:
        """The frame that is shown at a time, and the first one after it; None where it does not exist."""
        shown = None
        for one in self._with_times(frames):
            if one[0] > seconds + self._line.rounding:
                return shown, one
            shown = one
        return shown, None

    def _with_times(self, frames: Iterator[Any]) -> Iterator[Shown]:
        for frame in frames:
            time = self._time(frame)
            if time is not None and not frame.is_corrupt:
                yield time, frame, self._aspect()

    def _decode(self, packet: Any) -> list[Any]:
        # The codec of another recording: that of the last one may still have frames.
        codec, last = packet.stream.codec_context, self._codec
        if codec is last:
            return self._decode_with(codec, packet)
        self._codec = codec
        return [*self._decode_with(last, None), *self._decode_with(codec, packet)]

    def _decode_with(self, codec: Any, packet: Any) -> list[Any]:
        # The end of a packet may be of the next recording: that is no damage.
        torn = packet is None or self._joined.is_torn(packet)
        self._damage.lost += not torn and packet.is_corrupt
        try:
            return [frame for frame in codec.decode(packet) if not (torn and frame.is_corrupt)]
        except self._av.error.EOFError:
            return []
        except self._av.error.FFmpegError as problem:
            if not torn:
                self._damage.errors.append(problem.strerror or str(problem))
            return []

    def _demux(self, stream: Any) -> Iterator[Any]:
        first = True
        try:
            for packet in stream.container.demux(stream):
                if first and packet.has_sidedata("encryption_info"):
                    raise VideoError(ENCRYPTED.format(self.path))
                first = False
                self._gaps.see(packet)
                self._last_place = packet.pos or self._last_place
                self._last_end = self._last_place + packet.size
                self._found += packet.dts is not None
                # The last packet has no data and empties the decoder; an earlier one without data (AVI) repeats a frame.
                if packet.size or packet.dts is None:
                    yield packet
        except self._av.error.FFmpegError as problem:
            if not ends_with_index(self.path, self._names, self._last_end):
                self._damage.errors.append(problem.strerror or str(problem))
            # The decoder still holds frames back.
            last = self._av.Packet()
            last.stream = stream
            yield last
        except IndexError:
            # PyAV, after the last packet: a stream appeared while the file was read.
            pass

    def _why_nothing(self) -> str:
        limit = "" if self._most_pixels is None else f" (none of more than {self._most_pixels} pixels is tried)"
        return ": it is encrypted" if is_encrypted(self.path) else self._damage.because() + limit

    def _conclude(self, end: float) -> None:
        stated, self.duration = self.duration, end
        # The last pictures may be there although the file was cut off, where its beginning says how long it is.
        is_whole = self._names & STATE_DURATION and 0 < stated < end + float(self._frame_duration) / 2
        lacking = self._listed - self._found
        if (self.damage or lacking > 0 or not is_whole) and is_cut_off(self.path, self._names, self._last_place):
            self.duration = max(stated, end)
            of = f" of {stated:.1f} s" if stated > end else ": the file was cut off"
            self._conclusion = f"stops at {end:.1f} s{of}{self._damage.because()}"
        elif lacking > 0 and not self._gaps.places:
            of = f"{lacking} of {self._listed}"
            self._conclusion = f"damaged: {of} frames are missing, and what follows them is shown too early"
        self.end = end
