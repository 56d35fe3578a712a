"""Finds the packets of a video that need not be decoded for the sampled frames, which stay the very same frames.

Frames that no other frame refers to are decoded only if they are sampled, and packets between the last sampled frame and a
fresh start are skipped altogether. On real files that saves a third of the decoding time at one frame a second, and most of
it at one frame in ten seconds (`python -m benchmarks.extraction`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from typing import Any, final

from prvr.errors import SettingError

# A time stamp may be rounded to a millisecond (Matroska), so that 1/3 s comes as 0.333 s.
ROUNDING = 0.001
# Stamps that jump back or forward by more seconds than these are of another recording, as FFmpeg has it.
BACK, FORWARD = 0.1, 10.0
# More packets than a codec may hold back to put frames in order (16 in H.264 and HEVC).
LOOK_AHEAD = 32
# Packets that may wait in memory until it is known that they can be skipped.
MAX_WAITING = 1000
# The same until a time in a stream, from the last packet at which decoding may start.
MAX_WAITING_IN_STREAM = 20_000


def check_rate(rate: float) -> float:
    """Returns the rate, in frames per second.

    Raises:
        SettingError: it is not a number above 0.
    """
    if not 0 < rate < math.inf:
        raise SettingError(f"rate must be above 0 frames per second, not {rate}; 1 is common")
    return rate


@dataclass(frozen=True)
class TimeLine:
    """A player's time line, cut into slots of 1 / rate seconds; each slot gives its first frame.

    start: the stamp of the time 0, in units of `time_base`. rounding: in seconds; of frames that are shorter, half of one.
    """

    start: int
    time_base: Fraction
    rate: float
    rounding: float = ROUNDING

    def seconds(self, pts: int | None) -> float | None:
        """Returns a presentation time in seconds."""
        return None if pts is None else self.length(pts - self.start)

    def stamp(self, seconds: float) -> int:
        """Returns the stamp of a time."""
        return self.start + int(seconds / self.time_base)

    def slot(self, seconds: float) -> int:
        """Returns the slot of a time."""
        return math.floor((seconds + self.rounding) * self.rate)

    def in_words(self, stamps: Iterable[int]) -> str:
        """Returns the first three of some times, in words."""
        return ", ".join(f"{self.seconds(stamp):.1f} s" for stamp in islice(stamps, 3))

    def end_of(self, packet: Any) -> float:
        """Returns the time in seconds at which a packet's frame ends."""
        return (self.seconds(packet.pts) or 0.0) + self.length(packet.duration or 0)

    def length(self, units: int) -> float:
        """Returns a number of units of the time base in seconds."""
        # The same number as that of the product of fractions, which takes ten times as long, for every packet of a film.
        return units * self.time_base.numerator / self.time_base.denominator


@final
class RisingStamps:
    """The packets of a stream, with stamps that go on where recordings were put together and the stamps begin again.

    `jumps`: the stamps from which another recording goes on.

    Args:
        frame: the duration of a frame that states none, in units of `time_base`.
        added: what is added to the stamps of the first packets.
    """

    def __init__(self, packets: Iterable[Any], time_base: Fraction, frame: int, *, added: int = 0) -> None:
        self._packets, self._frame, self._added = packets, frame, added
        self._back, self._forward = round(BACK / time_base), round(FORWARD / time_base)
        self.jumps: list[int] = []

    def __iter__(self) -> Iterator[Any]:
        added, last, following, shown_until = self._added, None, 0, 0
        for packet in self._packets:
            if packet.dts is not None:
                stamp = packet.dts + added
                if last is not None and (stamp < last - self._back or stamp > following + self._forward):
                    # The first picture is shown when the last one of the recording before has ended.
                    delay = packet.pts - packet.dts if self._is_sane(packet) else 0
                    added += shown_until - delay - stamp
                    stamp = packet.dts + added
                    self.jumps.append(shown_until)
                last, following = stamp, stamp + (packet.duration or self._frame)
            if added:
                packet.dts = None if packet.dts is None else packet.dts + added
                packet.pts = None if packet.pts is None else packet.pts + added
            if None not in (packet.pts, packet.dts) and not self._is_sane(packet):
                # Just before a jump, a packet may have the next recording's time for its frame.
                packet.pts = packet.dts + self._frame
            if packet.pts is not None:
                shown_until = max(shown_until, packet.pts + (packet.duration or self._frame))
            yield packet

    def _is_sane(self, packet: Any) -> bool:
        return packet.pts is not None and -self._back <= packet.pts - packet.dts <= self._forward


@final
class NeededPackets:
    """Yields the packets that have to be decoded, each with whether its own frame may be the first of a slot.

    `skipped_until` is the time in seconds at which the last skipped frame ends.
    """

    def __init__(self, packets: Iterable[Any], line: TimeLine, starts_afresh: Callable[[Any], bool]) -> None:
        self._packets, self._line, self._starts_afresh = packets, line, starts_afresh
        self.skipped_until = 0.0

    def __iter__(self) -> Iterator[tuple[Any, bool]]:
        # No frame refers to what is between the last wanted packet and a packet at which decoding starts afresh.
        waiting: list[tuple[Any, bool]] = []
        for packet, wanted in self._mark():
            if self._starts_afresh(packet):
                self.skipped_until = max([self.skipped_until, *(self._line.end_of(skipped) for skipped, _ in waiting)])
                waiting = []
            waiting.append((packet, wanted))
            if wanted or len(waiting) > MAX_WAITING:
                yield from waiting
                waiting = []

    def _mark(self) -> Iterator[tuple[Any, bool]]:
        # A packet is wanted if no packet of its slot has an earlier time, among those that are held back.
        held: deque[tuple[Any, int, int | None]] = deque()
        first_of_slot: dict[int, int] = {}

        def is_first(slot: int, pts: int | None) -> bool:
            return pts is None or pts <= first_of_slot.get(slot, pts)

        for packet in self._packets:
            pts, time = packet.pts, self._line.seconds(packet.pts)
            slot = self._line.slot(time or 0.0)
            if time is not None and not packet.is_discard:
                first_of_slot[slot] = min(first_of_slot.get(slot, pts), pts)
            held.append((packet, slot, pts))
            if len(held) > LOOK_AHEAD:
                packet, slot, pts = held.popleft()
                yield packet, is_first(slot, pts)
        for packet, slot, pts in held:
            yield packet, is_first(slot, pts)


def has_frame_times(container: Any, stream: Any) -> bool:
    """Returns whether packets have the presentation time of their own frame; in AVI, for example, they do not."""
    known = {"mov", "mp4", "matroska", "webm"} & set(container.format.name.split(","))
    return bool(known) and stream.codec_context.name in ("h264", "hevc")


def fresh_starts(stream: Any) -> Callable[[Any], bool]:
    """Returns a test for packets that no later frame refers back beyond: IDR pictures of H.264 and HEVC after their lengths.

    A keyframe alone is not enough: after one in an open group, or with gradual refresh, frames do refer back. The layout of
    the units is that of ITU-T H.264 and H.265.
    """
    kind, set_up = stream.codec_context.name, stream.codec_context.extradata or b""
    # In MP4, Matroska and FLV each unit follows its length; the set-up data has the size of that length.
    place = {"h264": 4, "hevc": 21}.get(kind, 0)
    if not place or len(set_up) <= place or set_up[0] != 1:
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
            # The unit of the first picture decides; parameters and remarks come before it.
            if 1 <= unit <= 5 if kind == "h264" else unit <= 31:
                return unit == 5 if kind == "h264" else unit in (19, 20)
            at += width + int.from_bytes(data[at : at + width])
        return False

    return starts_afresh


def begins_with_idr(packet: Any, codec: str) -> bool:
    """Returns whether the first picture of a packet in the byte stream format (ITU-T H.264 and H.265, annex B) is an IDR one."""
    data, at = bytes(packet), -1
    while (at := data.find(b"\0\0\1", at + 1)) >= 0 and at + 3 < len(data):
        unit = data[at + 3] & 31 if codec == "h264" else data[at + 3] >> 1 & 63
        if 1 <= unit <= 5 if codec == "h264" else unit <= 31:
            return unit == 5 if codec == "h264" else unit in (19, 20)
    return False


def from_last_start(packets: Iterator[Any], line: TimeLine, seconds: float, is_start: Callable[[Any], bool]) -> Iterator[Any]:
    """Returns the packets from the last start before a time on; all of them if no start comes before it."""
    waiting: list[Any] = []
    most = MAX_WAITING
    for packet in packets:
        if is_start(packet):
            waiting, most = [], MAX_WAITING_IN_STREAM
        waiting.append(packet)
        time = line.seconds(packet.dts)
        if (time is not None and time > seconds) or len(waiting) > most:
            break
    return chain(waiting, packets)


def from_last_groups(
    packets: Iterator[Any], line: TimeLine, seconds: float, is_start: Callable[[Any], bool]
) -> tuple[bool, Iterator[Any]]:
    """Returns the packets from the last two groups of pictures before a time on, and whether there are two.

    Frames that are shown before a keyframe may refer to the group before it.
    """
    waiting: list[Any] = []
    starts: list[int] = []
    has_two = False
    for packet in packets:
        if is_start(packet):
            if len(starts) > 1:
                del waiting[: starts[-1]]
                starts, has_two = [0], True
            starts.append(len(waiting))
        waiting.append(packet)
        time = line.seconds(packet.dts)
        if (time is not None and time > seconds) or len(waiting) > MAX_WAITING:
            break
    return has_two, chain(waiting, packets)
