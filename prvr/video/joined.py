"""Packets of TS and PS files, in which recordings may have been put together: each is read with the streams that it has.

FFmpeg knows the streams of the beginning. Where a later recording has another codec, or its pictures under another number, the
file is opened again from there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import chain
from typing import Any, final

# Files that are damaged everywhere are not opened again without end.
MOST_OPENED = 100
# Bytes of other streams between two packets: more than these, and than so many times the most so far, may be a recording.
FEW_BYTES, TIMES = 1 << 12, 8
# Streams that were there from the beginning are a recording of their own only where they fill this share of the file.
SHARE = 1 / 20
# Packets whose codec is not certain, kept back until that of a later one can be.
MOST_WAITING = 64
# By so many bytes a frame is found within another one.
HEAD = 64
# The layouts that can be told apart by the first bytes of a frame.
LAYOUTS = {"h264": "h264", "hevc": "hevc", "mpeg1video": "mpeg", "mpeg2video": "mpeg"}


@final
class JoinedPackets:
    """The packets of the stream that a player shows, and of the one that takes its place where another recording begins.

    Args:
        stream: the stream from the beginning of the file.
        demux: gives the packets of a stream.
        open_at: opens the file from a byte on; returns the stream that a player shows and all others with pictures, or None.
        size: of the file in bytes.
    """

    def __init__(
        self,
        stream: Any,
        demux: Callable[[Any], Iterator[Any]],
        open_at: Callable[[int], tuple[Any, list[Any]] | None],
        size: int,
    ) -> None:
        self._stream, self._demux, self._open_at, self._size = stream, demux, open_at, size
        self._opened = 0
        self._torn: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        recording: _Recording | None = _Recording(self._stream, 0, self._demux(self._stream))
        while recording is not None:
            recording = yield from self._read(recording)

    def is_torn(self, packet: Any) -> bool:
        """Returns whether the end of a packet was of the next recording; the codec may take it for a keyframe, or for damage."""
        return any(packet is torn for torn in self._torn)

    def _read(self, recording: _Recording) -> Generator[Any, None, _Recording | None]:
        """Yields the packets of one recording, and returns the one that follows it in another stream."""
        layout = LAYOUTS.get(recording.stream.codec_context.name)
        at = end = recording.begin
        most = 0
        # The last packet that is surely of this codec, and those after it.
        waiting: list[Any] = []
        for packet in recording.packets:
            begins = packet.pos is not None and packet.size > 0
            if begins:
                between = max(0, packet.pos - end) if at > recording.begin else 0
                if between > FEW_BYTES + TIMES * most and (following := self._following(recording, at, between)):
                    yield from waiting
                    return following
                most, end = max(most, between), packet.pos
            end += packet.size
            found = layout_of(packet) if layout else None
            if found is not None and found != layout:
                if waiting and (following := self._following(recording, at, self._size)):
                    yield self._cut(waiting[0], following)
                    return following
                layout = None
            if found is not None or layout is None or len(waiting) > MOST_WAITING:
                yield from waiting
                waiting = []
            waiting.append(packet)
            at = packet.pos if begins else at
        yield from waiting
        return self._following(recording, at, self._size - end)

    def _following(self, recording: _Recording, at: int, between: int) -> _Recording | None:
        """Returns the recording that begins after the packet at a byte, if it is not in the stream that is read."""
        if at <= recording.begin or between <= FEW_BYTES or self._opened >= MOST_OPENED:
            return None
        self._opened += 1
        # One byte on: the packet that begins there is not read again.
        opened = self._open_at(at + 1)
        if opened is None:
            return None
        stream, others = opened
        is_longer = _key(stream) in recording.streams and between < SHARE * self._size
        if is_longer or _key(recording.stream) in map(_key, others):
            stream.container.close()
            return None
        return _Recording(stream, at, self._demux(stream))

    def _cut(self, packet: Any, following: _Recording) -> Any:
        """Returns a packet without the first frame of the recording that follows, which the codec could not tell from its own."""
        self._torn.append(packet)
        first = next(following.packets, None)
        if first is not None:
            following.packets = chain([first], following.packets)
            data = bytes(packet)
            at = data.find(bytes(first)[:HEAD])
            if at >= 0 and first.size:
                packet.update(data[:at] + bytes(len(data) - at))
        return packet


@final
class _Recording:
    """A stream from a byte on, its packets, and the streams that its container knows at the beginning."""

    def __init__(self, stream: Any, begin: int, packets: Iterator[Any]) -> None:
        self.stream, self.begin, self.packets = stream, begin, packets
        self.streams = {_key(other) for other in stream.container.streams.video if other.codec_context is not None}


def _key(stream: Any) -> tuple[int, str]:
    return stream.id, stream.codec_context.name


def layout_of(packet: Any) -> str | None:
    """Returns whether a frame is laid out as H.264, as H.265 or as MPEG-1 and -2, by its first unit; None if that is not sure."""
    head = bytes(memoryview(packet)[:16])
    at = head.find(b"\0\0\1")
    if at < 0 or at + 4 >= len(head) or any(head[:at]):
        return None
    first, second = head[at + 3], head[at + 4]
    if first in (0x00, 0xB3, 0xB8):
        return "mpeg"
    # H.265 has a second byte of header: layer 0, and a layer in time from 1 to 7. Of the same bytes H.264 makes no access unit
    # delimiter, no parameters and no IDR slice.
    if first >> 1 in (32, 33, 34, 35, 19, 20, 21) and 1 <= second <= 7:
        return "hevc"
    return "h264" if first & 31 in (9, 7) and first < 0x80 and not 1 <= second <= 7 else None
