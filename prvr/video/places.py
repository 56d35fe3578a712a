"""Where a time is in a large TS or PS, without reading all that comes before it.

Stamps are read in places a few seconds apart, straight from the packets (ISO/IEC 13818-1, 2.4.3.6: PES). Where they rise as bytes
do, nothing was put together in between; all other stretches are read. Parts that overlap by less than about a second, of which
none of this is seen, are the exception: there, a time is off by so much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import BinaryIO

from prvr.video.skipping import FORWARD

# Bytes that are read in about a second: larger TS and PS are not read up to the time of a still.
LARGE = 1 << 28
# Cameras write the time before each packet of a TS, in four bytes.
TIME_BEFORE_PACKET = 4
# Seconds and bytes between two places.
APART = 4.0
LEAST, MOST = 1 << 18, 1 << 23
# Bytes that are read in a place, and in which a stamp must be found.
SHORT, LONG = 1 << 16, 1 << 20
CLOCK, WRAP = 90_000, 1 << 33
# Of a transport stream.
PACKETS = (188, 192, 204)
SYNC = 5
# A stretch is read if it has half or twice the seconds that its bytes had before.
UNEVEN = 2.0
REMEMBERED = 15
BEFORE = 3


@dataclass(frozen=True)
class Place:
    """A packet of pictures: its first byte, its stamp as it is written, and as times go on."""

    at: int
    written: int
    stamp: int


def places_up_to(path: Path, stream: int, wanted: int, first: int, read: Callable[[Place, int], int | None]) -> Iterator[Place]:
    """Yields places in a file, in order, up to a stamp; ends early where another stream goes on.

    Args:
        stream: its number in the file.
        wanted: a stamp, as times go on.
        first: the decoding stamp of the first packet.
        read: reads from a place up to a byte, and returns the stamp of the packet there; None if there is none.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        found = _first_stamp(file, stream, 0)
        if found is None or (found[1] - first) % WRAP:
            return
        place = Place(*found, first)
        step = _step(file, stream, place)
        rates: deque[float] = deque(maxlen=REMEMBERED)
        # What is shown last before a jump may come some frames earlier: reading begins in a place before.
        before: deque[Place] = deque(maxlen=BEFORE)
        at = 0
        while place.stamp <= wanted:
            yield place
            before.append(place)
            at = max(at + step, place.at + 1)
            found = _first_stamp(file, stream, at) if at < size else None
            if found is None:
                return
            passed = _difference(found[1], place.written)
            rate = passed / max(1, found[0] - place.at)
            usual = median(rates) if rates else rate
            if 0 < passed <= FORWARD * CLOCK and usual / UNEVEN < rate < usual * UNEVEN:
                stamp: int | None = place.stamp + passed
            else:
                stamp = read(before[0], found[0])
            if stamp is None:
                return
            if 0 < passed <= FORWARD * CLOCK:
                rates.append(rate)
            place = Place(*found, stamp)


def stamp_at(place: Place, written: int) -> int:
    """Returns the stamp of a packet near a place, as times go on."""
    return place.stamp + _difference(written, place.written)


def _step(file: BinaryIO, stream: int, first: Place) -> int:
    """The bytes of some seconds."""
    later = _first_stamp(file, stream, MOST)
    seconds = _difference(later[1], first.written) / CLOCK if later else 0.0
    return round(min(MOST, max(LEAST, MOST * APART / seconds))) if later and seconds > 0 else LEAST


def _difference(later: int, earlier: int) -> int:
    return (later - earlier + WRAP // 2) % WRAP - WRAP // 2


def _first_stamp(file: BinaryIO, stream: int, at: int) -> tuple[int, int] | None:
    """The first byte of the first packet of a stream from a byte on that has a stamp, and the stamp."""
    for length in (SHORT, LONG):
        file.seek(at)
        data = file.read(length)
        packets = (
            _ps_packets(data, stream) if stream >= 0x100 and stream >> 8 == 1 and _is_ps(file) else _ts_packets(data, stream)
        )
        for start, header in packets:
            if (stamp := _stamp(data, header)) is not None:
                return at + start, stamp
        if len(data) < length:
            return None
    return None


def _is_ps(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(4) == b"\0\0\1\xba"


def _ps_packets(data: bytes, stream: int) -> Iterator[tuple[int, int]]:
    at = -1
    sign = b"\0\0\1" + bytes([stream & 0xFF])
    while (at := data.find(sign, at + 1)) >= 0:
        yield at, at


def _ts_packets(data: bytes, stream: int) -> Iterator[tuple[int, int]]:
    """Where the packets of a transport stream begin in which a frame of a stream does, and where its header is."""
    aligned = (
        (start, length)
        for length in PACKETS
        for start in range(length)
        if start + SYNC * length < len(data) and all(data[start + n * length] == 0x47 for n in range(SYNC))
    )
    start, length = next(aligned, (len(data), 188))
    for at in range(start, len(data) - length, length):
        begins = data[at] == 0x47 and data[at + 1] & 0x40
        if begins and int.from_bytes(data[at + 1 : at + 3]) & 0x1FFF == stream and data[at + 3] & 0x10:
            yield at, at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)


def _stamp(data: bytes, at: int) -> int | None:
    """The decoding stamp in the header of a packet of pictures."""
    if at + 19 > len(data) or data[at : at + 3] != b"\0\0\1" or data[at + 6] >> 6 != 2 or not data[at + 7] & 0x80:
        return None
    field = data[at + 14 : at + 19] if data[at + 7] & 0x40 else data[at + 9 : at + 14]
    if not all(field[n] & 1 for n in (0, 2, 4)):
        return None
    return (field[0] >> 1 & 7) << 30 | field[1] << 22 | field[2] >> 1 << 15 | field[3] << 7 | field[4] >> 1
