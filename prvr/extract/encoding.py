"""The engine of one process: frames of several videos share batches, without a change in any bit of a video's rows.

A network's kernels round differently for batches of different sizes: the rows of a transformer as large as CLIP moved by
1e-6 between batches of 3 and of 32. So every batch is filled up to one size. At one size a row depends on its own frame
alone, in every network but those that scale by the other frames of the batch (networks quantised at run time). An encoder is
tested for that, and if its rows depend on other frames, each video has batches of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np

from prvr.device import processor_count
from prvr.encoders import FittingEncoder, ImageEncoder
from prvr.extract.decoding import DecoderThreads, Frame, Piece, VideoEnd, VideoStart
from prvr.extract.engine import Changed, Encoded, FrameSampling, Job, Outcome, Part, Refused

# Limit on the pictures of one batch; 32 pictures of 4K would take 800 MB.
BATCH_BYTES = 1 << 28
# The number of batches whose frames may wait for the encoder.
BATCHES_AHEAD = 2
# Seconds of video. A kill costs what is not in a part yet, what is in a batch, and what waits for the encoder.
LOST, PART = 60, 25
# While frames repeat, a batch is filled slowly: a frame waits for it for this many times the frames of a batch, then no longer.
BATCHES_SPANNED = 5
# The key of a batch that videos share. No video has this id, because ids are paths.
SHARED = ""


@final
class ThisProcess:
    """The engine of one process; decodes in one thread per processor."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self._encoder = encoder

    def encode(self, jobs: Sequence[Job], *, sampling: FrameSampling) -> Iterator[Outcome]:
        """Yields the outcome of each job as soon as it is ready."""
        threads = min(processor_count(), max(1, len(jobs)))
        return encode_jobs(iter(jobs), self._encoder, sampling=sampling, threads=threads)


def encode_jobs(jobs: Iterator[Job], encoder: ImageEncoder, *, sampling: FrameSampling, threads: int) -> Iterator[Outcome]:
    """Yields the outcomes of jobs; takes the next job when a decoder thread is free."""
    # Of a single film, no more frames wait than a kill may cost beside a batch; half a batch keeps the encoder busy. Without two:
    # one is in the hands of a thread, and the time of the last one is the end of what is known.
    size, lost = sampling.batch_size, int(LOST * sampling.rate) - 2
    limit = max(1, size // 2, min(BATCHES_AHEAD * size, lost - size))
    most = min(int(PART * sampling.rate), max(0, lost - size - limit))
    fit = encoder.fit if isinstance(encoder, FittingEncoder) else None
    with closing(DecoderThreads(jobs, sampling, limit=limit, threads=threads, fit=fit)) as pieces:
        yield from collect(pieces, Batches(encoder, batch_size=size), most=most)


@dataclass
class _OpenVideo:
    """The times and the rows of a video since its last part, and how it ended, None while frames may follow.

    sources: of each of these frames, the number of the frame whose row it has, its own or the one that it repeats.
    count: of all frames. waiting: how many of them wait for their rows, and oldest: the first of these. last: the last one that
    is encoded; -1 before the first.
    """

    times: list[float] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    rows: dict[int, np.ndarray] = field(default_factory=dict)
    count: int = 0
    waiting: int = 0
    oldest: int = 0
    last: int = -1
    damage: str | None = None
    look: bytes | None = None
    start: VideoStart | None = None
    end: VideoEnd | Refused | Changed | None = None

    def add(self, frame: Frame) -> None:
        """Takes note of the next frame."""
        if frame.picture is not None:
            self.oldest = self.oldest if self.waiting else self.count
            self.last, self.waiting = self.count, self.waiting + 1
        self.times.append(frame.time)
        self.sources.append(self.last)
        self.count += 1
        self.damage, self.look = frame.damage, frame.look

    def outcome(self, most: int) -> Outcome | None:
        """Returns the outcome of the video, or a part of more than `most` frames; None while frames or rows are missing."""
        # While no frame waits for its batch, a reading from here on gives the same batches: the same bits with any encoder.
        if self.waiting:
            return None
        if self.end is None:
            # A video that ends within a minute has no parts: a kill costs no more.
            is_short = self.start is not None and 0 < self.start.stated <= LOST
            return self._part() if len(self.times) > most and not is_short else None
        if not isinstance(self.end, VideoEnd):
            return self.end
        end, times = self.end, [round(time, 3) for time in self.times]
        known = {"times": times, "duration": end.duration, "frame_seconds": round(end.frame_seconds, 4), "problem": end.problem}
        return Encoded(end.id, self._stack(), {**known, "file": end.file, "recorded": end.recorded})

    def _part(self) -> Part:
        assert self.start is not None
        start = self.start
        times = tuple(self.times)
        part = Part(start.id, self._stack(), times, times[-1], start.stated, start.stamp, self.damage, self.look)
        self.times, self.sources, self.rows = [], [], {self.last: self.rows[self.last]}
        return part

    def _stack(self) -> np.ndarray:
        rows = [self.rows[number] for number in self.sources]
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)


class _Row(NamedTuple):
    """The row of the frame of that number in a video."""

    id: str
    number: int
    row: np.ndarray


def collect(pieces: Iterable[Piece], batches: Batches, *, most: int) -> Iterator[Outcome]:
    """Encodes the pieces of videos in batches, and yields each video when its last row is there.

    Args:
        most: frames of a long video that are not yielded as a part.
    """
    videos: dict[str, _OpenVideo] = {}

    def complete(rows: Iterable[_Row], *touched: str) -> Iterator[Outcome]:
        ids = dict.fromkeys(touched)
        for id, number, row in rows:
            videos[id].rows[number] = row
            videos[id].waiting -= 1
            ids[id] = None
        for id in ids:
            if (outcome := videos[id].outcome(most)) is not None:
                if not isinstance(outcome, Part):
                    del videos[id]
                yield outcome

    for piece in pieces:
        video = videos.setdefault(piece.id, _OpenVideo())
        if isinstance(piece, VideoStart):
            video.start = piece
            video.rows = {} if piece.row is None else {-1: piece.row}
            yield Part(piece.id, np.empty((0, 0), np.float32), (), piece.seconds, piece.stated, piece.stamp)
            continue
        if isinstance(piece, Frame):
            video.add(piece)
            if piece.picture is not None:
                rows = batches.add(piece.id, video.last, piece.picture)
            elif video.waiting and video.count - video.oldest > BATCHES_SPANNED * batches.size:
                rows = batches.encode_now(piece.id)
            else:
                rows = iter(())
        else:
            video.end = piece
            rows = batches.end_of(piece.id)
        yield from complete(rows, piece.id)
    yield from complete(batches.flush())


class _Waiting(NamedTuple):
    """A picture that waits for its batch, and the number of its frame in its video."""

    id: str
    number: int
    picture: np.ndarray


@final
class Batches:
    """Collects frames into batches, and yields the rows of a batch when it is full or flushed."""

    def __init__(self, encoder: ImageEncoder, *, batch_size: int) -> None:
        self._encoder, self.size = encoder, batch_size
        # By batch size, and by video where videos may not share a batch.
        self._open: dict[tuple[int, str], list[_Waiting]] = {}
        self._may_share: dict[int, bool] = {}

    def add(self, id: str, number: int, picture: np.ndarray) -> Iterator[_Row]:
        """Adds a frame, and yields the rows of its batch if that is full now."""
        # The size depends on the picture alone: a frame's batch size must not depend on the other frames.
        size = max(1, min(self.size, BATCH_BYTES // picture.nbytes))
        key = self._batch_of(size, id)
        batch = self._open.setdefault(key, [])
        batch.append(_Waiting(id, number, picture))
        if len(batch) == size:
            yield from self._encode(key)

    def end_of(self, id: str) -> Iterator[_Row]:
        """Yields the rows of a complete video where no other video may fill its batch."""
        for size, owner in list(self._open):
            if owner == id and self._may_share.get(size) is False:
                yield from self._encode((size, owner))

    def encode_now(self, id: str) -> Iterator[_Row]:
        """Yields the rows of the batches in which frames of a video wait, which are not full."""
        for key in [key for key, batch in self._open.items() if any(frame.id == id for frame in batch)]:
            yield from self._encode(key)

    def flush(self) -> Iterator[_Row]:
        """Yields the rows of all frames that still wait."""
        for key in list(self._open):
            yield from self._encode(key)

    def _batch_of(self, size: int, id: str) -> tuple[int, str]:
        # The test takes two batches, so it is made when two videos meet: a single new video in a folder never pays for it.
        others = [key for key in self._open if key[0] == size and key[1] != id]
        if others and size not in self._may_share:
            self._may_share[size] = rows_are_independent(self._encoder, size=size)
            if self._may_share[size]:
                (key,) = others
                self._open[size, SHARED] = self._open.pop(key)
        return size, (SHARED if self._may_share.get(size) else id)

    def _encode(self, key: tuple[int, str]) -> Iterator[_Row]:
        batch = self._open.pop(key)
        rows = encode_with_padding(self._encoder, [frame.picture for frame in batch], size=key[0])
        for frame, row in zip(batch, rows, strict=True):
            yield _Row(frame.id, frame.number, row)


def encode_with_padding(encoder: ImageEncoder, pictures: Sequence[np.ndarray], *, size: int) -> np.ndarray:
    """Returns the rows of up to `size` pictures, from a batch of exactly that size: the last picture fills it up."""
    padded = [*pictures, *[pictures[-1]] * (size - len(pictures))]
    return encoder.encode_images(padded)[: len(pictures)]


def rows_are_independent(encoder: ImageEncoder, *, size: int) -> bool:
    """Returns whether, in batches of this size, a picture's row has the same bits in another place beside other pictures."""
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 1 + 255 * (place + 1) // size, (64, 64, 3), dtype=np.uint8) for place in range(size)]
    others = [np.full((64, 64, 3), 255 * (place // 2 % 2), np.uint8) for place in range(size)]
    moved = [others[place] if place % 2 else pictures[-1 - place] for place in range(size)]
    first, second = encoder.encode_images(pictures), encoder.encode_images(moved)
    return np.array_equal(first[::-1][::2], second[::2])
