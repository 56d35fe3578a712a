"""Reads a video file as (time, frame) pairs at a given rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, final

import numpy as np

from prvr.errors import SettingError, VideoError, require
from prvr.video.skipping import ROUNDING, NeededPackets, TimeLine, fresh_starts, has_frame_times

# A stream may end this many seconds earlier than its container says and still count as complete.
SLACK = 1.0


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
    (variable frame rate), there are fewer. Times are presentation times, counted from the start of the stream. Frames are
    rotated and mirrored as a player shows them.

    `duration` is in seconds, as stated in the file; if the file does not state it, it is known after iteration.
    `end`, after iteration, is where the readable part ends: at `duration`, unless the file stops early.
    `problem`, after iteration, is what could not be read; None if everything could.

    Args:
        rate: frames per second.

    Raises:
        SettingError: `rate` is not a number above 0.
        VideoError: there is no such file, it is not a video, or (while iterating) no frame can be decoded.
    """

    def __init__(self, path: Path, *, rate: float) -> None:
        self.path = path
        self.rate = check_rate(rate)
        self.problem: str | None = None
        self._av = require("av", extra="video")
        self._container = _open(self._av, path)
        try:
            self._stream = _video_stream(self._av, self._container, path)
        except VideoError:
            self._container.close()
            raise
        self._stream.codec_context.thread_count = 1
        self._line = TimeLine(self._stream.start_time or 0, self._stream.time_base, rate)
        self._needed = NeededPackets(self._demux(), self._line, fresh_starts(self._container, self._stream))
        self.duration = _stated_duration(self._container, self._stream)
        self.end = self.duration
        self._damage: list[str] = []

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def still(self, seconds: float) -> np.ndarray:
        """Returns the frame that is shown at a time, or the next one that can be decoded; do not iterate the reader then.

        Raises:
            VideoError: no frame from there on can be decoded.
        """
        last = None
        # A file without an index is read from its beginning.
        with suppress(self._av.error.FFmpegError):
            self._container.seek(self._line.start + int(seconds / self._line.time_base), stream=self._stream)
        for packet in self._demux():
            for frame in self._decode(packet):
                if last is not None and (self._line.seconds(frame.pts) or 0.0) > seconds + ROUNDING:
                    return _picture(last)
                last = frame
        if last is None:
            raise VideoError(
                f"no frame of {self.path} at {seconds:g} s can be decoded{self._because()}; convert it or take it out"
            )
        return _picture(last)

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        slot, end, spare = -1, 0.0, None
        for frame in self._frames():
            time = self._line.seconds(frame.pts)
            if time is None or time < -ROUNDING or frame.is_corrupt:
                # This frame cannot be trusted, but it is better than none if the file has no other.
                spare = spare or frame
                continue
            end = max(end, time + float((frame.duration or 0) * self._line.time_base))
            if self._line.slot(time) > slot:
                slot = self._line.slot(time)
                yield max(time, 0.0), _picture(frame)
        if slot < 0:
            if spare is None:
                raise VideoError(f"no frame of {self.path} can be decoded{self._because()}; convert it or take it out")
            yield 0.0, _picture(spare)
        self._conclude(max(end, self._needed.skipped_until))

    def _frames(self) -> Iterator[Any]:
        # If packets do not have the time of their frame (AVI), every packet is decoded.
        codec, can_skip = self._stream.codec_context, has_frame_times(self._container, self._stream)
        for packet, wanted in self._needed:
            codec.skip_frame = "NONREF" if can_skip and not wanted else "DEFAULT"
            for frame in self._decode(packet):
                if frame.is_corrupt:
                    self._damage.append("damaged frame")
                yield frame

    def _decode(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = self._stream.codec_context.decode(packet)
        except self._av.error.FFmpegError as problem:
            self._damage.append(problem.strerror or str(problem))
            return []
        return frames

    def _demux(self) -> Iterator[Any]:
        try:
            for packet in self._container.demux(self._stream):
                # The last packet has no data and empties the decoder; an earlier one without data (AVI) repeats a frame.
                if packet.size or packet.dts is None:
                    yield packet
        except self._av.error.FFmpegError as problem:
            self._damage.append(problem.strerror or str(problem))

    def _because(self) -> str:
        return f": {self._damage[0]}" if self._damage else ""

    def _conclude(self, end: float) -> None:
        if self.duration == 0.0:
            self.duration = end
        self.end = self.duration
        if end < self.duration - SLACK:
            self.end = end
            self.problem = f"stops at {end:.1f} s of {self.duration:.1f} s{self._because()}"
        elif self._damage:
            self.problem = f"damaged in {len(self._damage)} places{self._because()}"


def _open(av: ModuleType, path: Path) -> Any:
    try:
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty (0 bytes); copy or download it again")
        # Only files: a text file that is a playlist must not make FFmpeg fetch from the network.
        return av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
    except av.error.FFmpegError as problem:
        raise VideoError(f"cannot read {path} as a video: {problem.strerror}; convert it or take it out") from problem
    except OSError as problem:
        raise VideoError(f"cannot open {path}: {problem.strerror}; check the path and its permissions") from problem


def _video_stream(av: ModuleType, container: Any, path: Path) -> Any:
    kinds = sorted({stream.type for stream in container.streams})
    # A cover picture is a video stream to the container.
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        raise VideoError(f"{path} holds no video, only: {', '.join(kinds) or 'nothing'}; take it out")
    if streams[0].codec_context is None:
        raise VideoError(f"{path} is coded in a way that PyAV cannot decode; convert it, to H.264 for example")
    return streams[0]


def _stated_duration(container: Any, stream: Any) -> float:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # Matroska stores the duration of each stream in a tag; that of the container is the longest, sound included.
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = map(float, parts)
        return 3600 * hours + 60 * minutes + seconds
    except ValueError:
        return container.duration / 1e6 if container.duration else 0.0


def _picture(frame: Any) -> np.ndarray:
    image: np.ndarray = frame.to_ndarray(format="rgb24", threads=1)
    display = frame.side_data.get("DISPLAYMATRIX")
    if display is not None:
        # The pixel at (x, y), y downwards, is shown at (a x + c y, b x + d y), apart from the origin.
        a, b, _, c, d = np.frombuffer(display, np.int32, 5).tolist()
        right, down = a, d
        if abs(b) > abs(a):
            image, right, down = image.swapaxes(0, 1), c, b
        image = image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
    return np.ascontiguousarray(image)
