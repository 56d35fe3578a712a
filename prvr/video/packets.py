"""The packets of a video and its sounds with a player's times, from a key frame to the last picture before a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple, final

from prvr.video.containers import STREAMS
from prvr.video.opening import zero_of
from prvr.video.skipping import ROUNDING, RisingStamps

# Seconds by which a sound may follow its picture in a file.
LAG = 2.0


class TimedPacket(NamedTuple):
    """A packet with its times in a player's seconds: when it is decoded, when it is shown, and when that ends.

    zero: the stamp at which a player's clock shows 0.
    """

    packet: Any
    zero: int
    decoded: float
    shown: float
    ends: float


def names_of(container: Any) -> set[str]:
    """Returns FFmpeg's names of a container."""
    return set(container.format.name.split(","))


def timed_packets(container: Any, streams: Sequence[Any]) -> Iterator[TimedPacket]:
    """The packets of streams with a player's times; where recordings were put together, they go on."""
    names = names_of(container)
    clocks = {
        stream.index: _Clock(stream, zero_of(container, stream, names), rises=bool(names & set(STREAMS))) for stream in streams
    }
    try:
        for packet in container.demux(streams):
            if packet.size and (packet.pts is not None or packet.dts is not None):
                yield clocks[packet.stream.index].time(packet)
    except IndexError:
        # PyAV, after the last packet: a stream appeared while the file was read.
        return


@final
class _Clock:
    """Gives the packets of a stream a player's times.

    Args:
        zero: the stamp at which a player's clock shows 0.
        rises: recordings may have been put together.
    """

    def __init__(self, stream: Any, zero: int, *, rises: bool) -> None:
        rate = stream.average_rate if stream.type == "video" else None
        self._stream, self._zero = stream, zero
        self._frame = round(1 / ((rate or 25) * stream.time_base))
        self._given: list[Any] = []
        given = iter(self._given.pop, None)
        self._packets = iter(RisingStamps(given, stream.time_base, self._frame) if rises else given)
        self._last: int | None = None

    def time(self, packet: Any) -> TimedPacket:
        if packet.dts is None:
            # Matroska has no such stamps, and FFmpeg finds them only after some packets.
            packet.dts = packet.pts - 2 * self._frame if self._last is None else min(self._last + 1, packet.pts)
        self._given.append(packet)
        packet = next(self._packets)
        self._last = packet.dts
        unit, shown = self._stream.time_base, packet.dts if packet.pts is None else packet.pts
        ends = shown + (packet.duration or self._frame)
        return TimedPacket(packet, self._zero, *(float((stamp - self._zero) * unit) for stamp in (packet.dts, shown, ends)))


def from_key_frame(
    packets: Iterator[TimedPacket], stream: Any, start: float, *, is_whole: bool
) -> tuple[float, Iterator[TimedPacket]] | None:
    """The time of the last key frame up to a time, and the packets from there on with the sound from then on; None without one.

    Args:
        is_whole: the packets are those from the beginning of the file, whose first key frame may be later.
    """
    waiting: list[TimedPacket] = []
    begin: float | None = None
    for one in packets:
        is_video = one.packet.stream is stream
        if is_video and one.packet.is_keyframe and (one.shown <= start + ROUNDING or (begin is None and is_whole)):
            begin = one.shown
            waiting = [
                earlier for earlier in waiting if earlier.packet.stream is not stream and earlier.shown >= begin - ROUNDING
            ]
        waiting.append(one)
        if is_video and one.decoded > start and begin is not None:
            break
        if is_video and one.decoded > start and not is_whole:
            return None
    return None if begin is None else (begin, chain(waiting, packets))


def packets_until(packets: Iterator[TimedPacket], begin: float, end: float, *, video: int) -> Iterator[TimedPacket]:
    """The packets that are shown from one time to another one, with those that such pictures refer to."""
    later: list[TimedPacket] = []
    is_shown = False
    for one in packets:
        if one.packet.stream.index != video:
            if begin - ROUNDING <= one.shown < end and not (is_shown and one.shown > end):
                yield one
            if is_shown and one.decoded > end + LAG:
                return
        elif one.decoded >= end - ROUNDING:
            is_shown = True
            if one.decoded > end + LAG:
                return
        elif one.shown >= end - ROUNDING:
            # Pictures before the end may refer to it.
            later.append(one)
        elif one.shown >= begin - ROUNDING:
            yield from later
            later = []
            yield one
