"""A video file as (time, frame) pairs at a given rate."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, final

import numpy as np

from prvr.errors import DataError, SettingError, VideoError, require

SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)

# A time stamp may be rounded to a millisecond (Matroska), so that 1/3 s comes as 0.333 s.
ROUNDING = 0.001
# How much earlier than its container says a stream may end and still count as whole, in seconds.
SLACK = 1.0
# More packets than a codec may hold back to put frames in order (16 in H.264 and HEVC).
LOOK_AHEAD = 32
# Packets that may wait in memory for the news that they are not needed.
MOST_IDLE = 1000


def find_videos(folder: Path) -> dict[str, Path]:
    """The video files of a folder and of the folders in it; the id is the path within the folder, with its suffix.

    Raises:
        DataError: there is no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; give the folder that holds the videos")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            found[inside.as_posix()] = path
    if not found:
        raise DataError(f"no video in {folder}; known are {' '.join(sorted(SUFFIXES))}")
    return found


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

    The time line is cut into slots of 1 / rate seconds, and each slot gives its first frame: where frames come
    slower than that (variable frame rate), there are fewer. Times are presentation times, counted from the
    start of the stream. Frames are turned and mirrored as a player would show them.

    `duration` is in seconds, as the file says it; where the file does not, it is known after iteration.
    `end` says after iteration where what could be read ends: at `duration`, but for a file that stops early.
    `problem` says after iteration what could not be read; None if all could.

    Args:
        rate: frames per second.

    Raises:
        SettingError: `rate` is not a number above 0.
        VideoError: there is no such file, it is not a video, or (while iterating) not one frame decodes.
    """

    def __init__(self, path: Path, *, rate: float) -> None:
        self.path = path
        self.rate = check_rate(rate)
        self.problem: str | None = None
        self._av = require("av", extra="video")
        self._container = _opened(self._av, path)
        try:
            self._stream = _video_stream(self._av, self._container, path)
        except VideoError:
            self._container.close()
            raise
        self._stream.codec_context.thread_count = 1
        self.duration = _stated_duration(self._container, self._stream)
        self.end = self.duration
        self._damage: list[str] = []
        self._passed = 0.0

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def still(self, seconds: float) -> np.ndarray:
        """The frame that is shown at a time, or the nearest after it that decodes; use the reader for nothing else then.

        Raises:
            VideoError: no frame from there on decodes.
        """
        start, last = self._stream.start_time or 0, None
        # A file without an index is read from its beginning.
        with suppress(self._av.error.FFmpegError):
            self._container.seek(start + int(seconds / self._stream.time_base), stream=self._stream)
        for packet in self._demuxed():
            for frame in self._decoded(packet):
                if last is not None and (self._seconds(frame.pts) or 0.0) > seconds + ROUNDING:
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
            time = self._seconds(frame.pts)
            if time is None or time < -ROUNDING or frame.is_corrupt:
                # Not a frame to trust; but better than none if the file has no other.
                spare = spare or frame
                continue
            end = max(end, time + float((frame.duration or 0) * self._stream.time_base))
            if self._slot(time) > slot:
                slot = self._slot(time)
                yield max(time, 0.0), _picture(frame)
        if slot < 0:
            if spare is None:
                raise VideoError(f"no frame of {self.path} can be decoded{self._because()}; convert it or take it out")
            yield 0.0, _picture(spare)
        self._conclude(max(end, self._passed))

    def _frames(self) -> Iterator[Any]:
        # Frames that no other frame needs are decoded only where one is taken: a third of the time saved on real
        # files, with the very same frames. Where packets do not carry their frame's time (AVI), all are decoded.
        codec, trusted = self._stream.codec_context, _times_in_packets(self._container, self._stream)
        for packet, wanted in self._needed():
            codec.skip_frame = "DEFAULT" if wanted or not trusted else "NONREF"
            for frame in self._decoded(packet):
                if frame.is_corrupt:
                    self._damage.append("damaged frame")
                yield frame

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = self._stream.codec_context.decode(packet)
        except self._av.error.FFmpegError as problem:
            self._damage.append(problem.strerror or str(problem))
            return []
        return frames

    def _needed(self) -> Iterator[tuple[Any, bool]]:
        # What follows the last wanted packet before one where decoding starts afresh is needed by nothing.
        starts_afresh = _fresh_starts(self._container, self._stream)
        idle: list[tuple[Any, bool]] = []
        for packet, wanted in self._packets():
            if starts_afresh(packet):
                self._passed = max([self._passed, *(self._end_of(skipped) for skipped, _ in idle)])
                idle = []
            idle.append((packet, wanted))
            if wanted or len(idle) > MOST_IDLE:
                yield from idle
                idle = []

    def _packets(self) -> Iterator[tuple[Any, bool]]:
        # A packet is wanted if none of its slot comes before it, as far as the packets held back can tell.
        held: deque[Any] = deque()
        first: dict[int, int] = {}
        for packet in self._demuxed():
            time = self._seconds(packet.pts)
            if time is not None and not packet.is_discard:
                slot = self._slot(time)
                first[slot] = min(first.get(slot, packet.pts), packet.pts)
            held.append(packet)
            if len(held) > LOOK_AHEAD:
                yield self._judged(held.popleft(), first)
        for packet in held:
            yield self._judged(packet, first)

    def _judged(self, packet: Any, first: dict[int, int]) -> tuple[Any, bool]:
        time = self._seconds(packet.pts)
        return packet, time is None or packet.pts <= first.get(self._slot(time), packet.pts)

    def _demuxed(self) -> Iterator[Any]:
        try:
            for packet in self._container.demux(self._stream):
                # Without data the last packet empties the decoder; an earlier one (AVI) only repeats a frame.
                if packet.size or packet.dts is None:
                    yield packet
        except self._av.error.FFmpegError as problem:
            self._damage.append(problem.strerror or str(problem))

    def _end_of(self, packet: Any) -> float:
        return (self._seconds(packet.pts) or 0.0) + float((packet.duration or 0) * self._stream.time_base)

    def _seconds(self, pts: int | None) -> float | None:
        if pts is None:
            return None
        return float((pts - (self._stream.start_time or 0)) * self._stream.time_base)

    def _slot(self, time: float) -> int:
        return math.floor((time + ROUNDING) * self.rate)

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


def _opened(av: ModuleType, path: Path) -> Any:
    try:
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty (0 bytes); copy or download it again")
        # Only files: a text file that is a playlist must not make us fetch from the network.
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
    # Matroska keeps each stream's own duration in a tag; the container's is that of the longest, sound included.
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = map(float, parts)
        return 3600 * hours + 60 * minutes + seconds
    except ValueError:
        return container.duration / 1e6 if container.duration else 0.0


def _times_in_packets(container: Any, stream: Any) -> bool:
    known = {"mov", "mp4", "matroska", "webm"} & set(container.format.name.split(","))
    return bool(known) and stream.codec_context.name in ("h264", "hevc")


def _fresh_starts(container: Any, stream: Any) -> Callable[[Any], bool]:
    """Tells the packets from which on nothing looks back beyond them: H.264's and HEVC's IDR pictures (ITU-T H.264, H.265).

    A keyframe alone does not say so: after one in an open group, or where refreshing is gradual, frames do look back.
    """
    kind, set_up = stream.codec_context.name, stream.codec_context.extradata or b""
    # In MP4 and Matroska units come after their length; how long that is stands in the set-up.
    place = {"h264": 4, "hevc": 21}.get(kind, 0)
    if not _times_in_packets(container, stream) or len(set_up) <= place or set_up[0] != 1:
        return lambda packet: False
    width = (set_up[place] & 3) + 1

    def starts_afresh(packet: Any) -> bool:
        # The packet without data ends the stream.
        if not packet.is_keyframe or not packet.size:
            return not packet.size
        data, at = memoryview(packet), 0
        while at + width < len(data):
            first = data[at + width]
            unit = first & 31 if kind == "h264" else first >> 1 & 63
            # The first picture's unit decides; before it come parameters and remarks.
            if 1 <= unit <= 5 if kind == "h264" else unit <= 31:
                return unit == 5 if kind == "h264" else unit in (19, 20)
            at += width + int.from_bytes(data[at : at + width])
        return False

    return starts_afresh


def _picture(frame: Any) -> np.ndarray:
    image: np.ndarray = frame.to_ndarray(format="rgb24", threads=1)
    display = frame.side_data.get("DISPLAYMATRIX")
    if display is not None:
        # The pixel at (x, y), y downwards, is shown at (a x + c y, b x + d y), but for the origin.
        a, b, _, c, d = np.frombuffer(display, np.int32, 5).tolist()
        right, down = a, d
        if abs(b) > abs(a):
            image, right, down = image.swapaxes(0, 1), c, b
        image = image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
    return np.ascontiguousarray(image)
