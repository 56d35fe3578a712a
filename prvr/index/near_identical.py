"""Near-identical videos of a result take one place: copies that were encoded again, in another size or for another player.

Two videos are near-identical if they are equally long, up to `LENGTHS`, and at `PLACES` evenly spaced places their rows of every
field have a mean cosine of at least `MEAN`, and nowhere one below `LEAST`. Files with the same bytes are one video of an index
anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float

from prvr.index.contract import Entry
from prvr.nn.ranks import unit

Found = TypeVar("Found")

PLACES = 16
# Results beyond those that are wanted: without near-identical ones among the best, one search is enough.
SPARE = 8
# Two halves of a still scene, which are distinct, have up to 0.963 on average (real clips, LOG.md, 2026-11-29).
MEAN = 0.97
LEAST = 0.9
# Videos that are compared with all others by one product, and how far its rounding may go.
ROWS_AT_ONCE, ROUNDING = 512, 1e-4
# Of the duration of the longer one.
LENGTHS = 0.02


def drop_near_identical(
    find: Callable[[int], list[Found]],
    count: int,
    entry_of: Callable[[Found], Entry],
    *,
    known: Sequence[Entry] = (),
    drop_known: bool = False,
) -> list[tuple[Found, tuple[str, ...]]]:
    """The best `count` results of videos no two of which are near-identical, each with the ids of those left out for it.

    Args:
        find: returns so many of the best results; several may be of one video.
        known: videos that come before all results. drop_known: their results are left out, too.
    """
    wanted = count + SPARE + len(known)
    while True:
        found = find(wanted)
        entries = list({entry.video: entry for entry in [*known, *map(entry_of, found)]}.values())
        left_out = {
            entries[group[0]].video: tuple(entries[place].video for place in group[1:]) for group in group_near_identical(entries)
        }
        dropped = {entry.video for entry in known} if drop_known else set()
        kept = [(one, left_out[id]) for one in found if (id := entry_of(one).video) in left_out and id not in dropped]
        if len(kept) >= count or len(found) < wanted:
            return kept[:count]
        wanted *= 2


def group_near_identical(entries: Sequence[Entry]) -> list[list[int]]:
    """The places of videos in groups: each begins with a video that is near-identical to the first of no earlier group."""
    groups: list[list[int]] = []
    signatures = [_signature(entry) for entry in entries]
    near = _near(signatures)
    for place, entry in enumerate(entries):
        for group in groups:
            first = group[0]
            if near[place, first] and _as_long(entries[first], entry) and _same(signatures[first], signatures[place]):
                group.append(place)
                break
        else:
            groups.append([place])
    return groups


def _near(signatures: Sequence[Sequence[Float[np.ndarray, "N _"]]]) -> Bool[np.ndarray, "V V"]:
    """Which pairs of videos may have mean cosines of at least MEAN, by one product for each field."""
    near = np.ones((len(signatures), len(signatures)), bool)
    for field in zip(*signatures, strict=True):
        flat = np.stack(field).reshape(len(field), -1)
        for start in range(0, len(flat), ROWS_AT_ONCE):
            block = slice(start, start + ROWS_AT_ONCE)
            near[block] &= flat[block] @ flat.T / PLACES >= MEAN - ROUNDING
    return near


def _as_long(one: Entry, other: Entry) -> bool:
    if one.edges is None or other.edges is None:
        return one.windows == other.windows
    lengths = sorted(entry[-1] - entry[0] for entry in (one.edges, other.edges))
    return lengths[1] - lengths[0] <= LENGTHS * lengths[1]


def _signature(entry: Entry) -> list[Float[np.ndarray, "N D"]]:
    """The rows of each field at evenly spaced places, of unit length."""
    picked = [field[(2 * np.arange(PLACES) + 1) * len(field) // (2 * PLACES)] for field in entry.fields]
    return [unit(rows) for rows in picked]


def _same(one: Sequence[Float[np.ndarray, "N _"]], other: Sequence[Float[np.ndarray, "N _"]]) -> bool:
    cosines = [(a * b).sum(1) for a, b in zip(one, other, strict=True)]
    return all(along.mean() >= MEAN and along.min() >= LEAST for along in cosines)
