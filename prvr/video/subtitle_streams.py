"""The subtitle streams of a video: those that are text are read, those that are pictures are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from prvr.errors import require
from prvr.video.opening import open_container, zero_of
from prvr.video.packets import names_of

PICTURES = frozenset({"dvb_subtitle", "dvbsub", "dvd_subtitle", "dvdsub", "hdmv_pgs_subtitle", "pgssub", "xsub"})
# Seconds that a text is shown whose end is not stated.
SHOWN = 5.0


class StreamText(NamedTuple):
    """A text of a stream, with a player's times in seconds; the language as its tag says it, "" without one."""

    start: float
    end: float
    text: str
    language: str


def read_subtitle_streams(path: Path) -> tuple[list[StreamText], list[str]]:
    """Returns the texts of all subtitle streams in the order of their times, and what is not read of them.

    Raises:
        VideoError: the file cannot be opened.
    """
    av = require("av", extra="video")
    container = open_container(av, path)
    try:
        streams, problems = [], []
        for stream in container.streams.subtitles:
            codec = stream.codec_context.name if stream.codec_context is not None else "of an unknown kind"
            if codec in PICTURES or stream.codec_context is None:
                what = "are pictures" if codec in PICTURES else "cannot be decoded"
                name = path.with_suffix(".en.srt").name
                problems.append(f"its subtitles in stream {stream.index} {what} ({codec}); write them into a file such as {name}")
            else:
                streams.append(stream)
        texts = _read(av, container, streams, path, problems) if streams else []
    finally:
        container.close()
    return sorted(texts), problems


def _read(av: Any, container: Any, streams: list[Any], path: Path, problems: list[str]) -> list[StreamText]:
    names, found = names_of(container), []
    zeros = {stream.index: zero_of(container, stream, names) for stream in streams}
    try:
        for packet in container.demux(streams):
            if not packet.size or packet.pts is None:
                continue
            stream = packet.stream
            start = float((packet.pts - zeros[stream.index]) * stream.time_base)
            end = start + (float(packet.duration * stream.time_base) if packet.duration else SHOWN)
            try:
                lines = [line.dialogue.decode(errors="replace") for line in packet.decode()]
            except av.error.FFmpegError as problem:
                problems.append(f"its subtitles in stream {stream.index} are damaged at {start:.1f} s: {problem.strerror}")
                continue
            if text := " ".join(" ".join(lines).split()):
                found.append(StreamText(round(start, 3), round(end, 3), text, stream.language or ""))
    except av.error.FFmpegError as problem:
        problems.append(f"its subtitles could not be read to the end: {problem.strerror}")
    except IndexError:
        # PyAV, after the last packet: a stream appeared while the file was read.
        pass
    return found
