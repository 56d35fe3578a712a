"""Frames of several videos in one batch, without changing a bit of any.

A network's kernels round differently for batches of different sizes: a CLIP-sized transformer's rows moved by 1e-6
between batches of 3 and of 32. So every batch is filled up to one size. At one size a row depends on its own
frame alone, in every network but those that scale by what else is in the batch (quantised as they run); an encoder is
asked, and where it is one of these, each video has batches of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from prvr.encoders import ImageEncoder

# Of the pictures in one batch; 32 of 4K would take 800 MB.
BATCH_BYTES = 1 << 28
# No video has this id: ids are paths.
SHARED = ""


@dataclass(frozen=True)
class Waiting:
    """A frame that waits for its batch, and which of its video it is."""

    id: str
    place: int
    picture: np.ndarray


@final
class Batches:
    """Puts frames into batches and hands back their rows, as (id, place, row), when a batch is full or flushed."""

    def __init__(self, encoder: ImageEncoder, *, batch_size: int) -> None:
        self._encoder, self._batch_size = encoder, batch_size
        # By batch size, and by video where none may share.
        self._lanes: dict[tuple[int, str], list[Waiting]] = {}
        self._mixes: dict[int, bool] = {}

    def add(self, frame: Waiting) -> Iterator[tuple[str, int, np.ndarray]]:
        """Takes a frame; gives the rows of its batch if that is full now."""
        # Of the picture's size alone: what else is there must not decide in which company a frame is encoded.
        size = max(1, min(self._batch_size, BATCH_BYTES // frame.picture.nbytes))
        key = self._lane(size, frame.id)
        lane = self._lanes.setdefault(key, [])
        lane.append(frame)
        if len(lane) == size:
            yield from self._encoded(key)

    def end_of(self, id: str) -> Iterator[tuple[str, int, np.ndarray]]:
        """Rows of a video that is whole now, where no other may fill its batch."""
        for size, owner in list(self._lanes):
            if owner == id and self._mixes.get(size) is False:
                yield from self._encoded((size, owner))

    def flush(self) -> Iterator[tuple[str, int, np.ndarray]]:
        """The rows of all frames that still wait."""
        for key in list(self._lanes):
            yield from self._encoded(key)

    def _lane(self, size: int, id: str) -> tuple[int, str]:
        # Asking costs two batches, so the encoder is asked when two videos meet: one new video in a folder never pays.
        alone = [key for key in self._lanes if key[0] == size and key[1] != id]
        if alone and size not in self._mixes:
            self._mixes[size] = rows_stand_alone(self._encoder, size=size)
            if self._mixes[size]:
                (key,) = alone
                self._lanes[size, SHARED] = self._lanes.pop(key)
        return size, (SHARED if self._mixes.get(size) else id)

    def _encoded(self, key: tuple[int, str]) -> Iterator[tuple[str, int, np.ndarray]]:
        lane = self._lanes.pop(key)
        rows = encode_filled(self._encoder, [frame.picture for frame in lane], size=key[0])
        for frame, row in zip(lane, rows, strict=True):
            yield frame.id, frame.place, row


def encode_filled(encoder: ImageEncoder, pictures: Sequence[np.ndarray], *, size: int) -> np.ndarray:
    """The rows of up to `size` pictures, from a batch of just that size: its last picture stands in for what lacks."""
    filled = [*pictures, *[pictures[-1]] * (size - len(pictures))]
    return encoder.encode_images(filled)[: len(pictures)]


def rows_stand_alone(encoder: ImageEncoder, *, size: int) -> bool:
    """Whether, in batches of this size, a picture's row stays the same to the bit in another place and other company."""
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 1 + 255 * (place + 1) // size, (64, 64, 3), dtype=np.uint8) for place in range(size)]
    strangers = [np.full((64, 64, 3), 255 * (place // 2 % 2), np.uint8) for place in range(size)]
    moved = [strangers[place] if place % 2 else pictures[-1 - place] for place in range(size)]
    among, apart = encoder.encode_images(pictures), encoder.encode_images(moved)
    return np.array_equal(among[::-1][::2], apart[::2])
