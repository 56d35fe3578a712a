"""The engine of one process: decoding runs ahead in threads while the encoder works, and videos share batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import final

import numpy as np

from prvr.encoders import ImageEncoder
from prvr.extract.ahead import Ahead, Ended, Failed, Frame, Piece
from prvr.extract.batches import Batches, Waiting
from prvr.extract.jobs import Encoded, Job, Outcome, Refused, Sampling

# How many batches of frames may wait for the encoder.
BATCHES_AHEAD = 2


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


@final
class ThisProcess:
    """The engine of one process; decodes in as many threads as there are processors."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self._encoder = encoder

    def encode(self, jobs: Sequence[Job], *, sampling: Sampling) -> Iterator[Outcome]:
        """The outcomes of the jobs, as they are done."""
        return encode_stream(iter(jobs), self._encoder, sampling=sampling, decoders=min(cores(), max(1, len(jobs))))


def encode_stream(jobs: Iterator[Job], encoder: ImageEncoder, *, sampling: Sampling, decoders: int) -> Iterator[Outcome]:
    """The outcomes of jobs that come one by one; `jobs` is asked for the next when a decoder is free."""
    most = BATCHES_AHEAD * sampling.batch_size
    with closing(Ahead(jobs, rate=sampling.rate, most=most, decoders=decoders)) as ahead:
        yield from _Desk(encoder, sampling.batch_size).outcomes(ahead)


@dataclass
class _Video:
    """What is known of a video so far."""

    times: list[float] = field(default_factory=list)
    rows: dict[int, np.ndarray] = field(default_factory=dict)
    end: Ended | Failed | None = None

    def is_whole(self) -> bool:
        return self.end is not None and len(self.rows) == len(self.times)


@final
class _Desk:
    """Where pieces become batches, and rows become videos again."""

    def __init__(self, encoder: ImageEncoder, batch_size: int) -> None:
        self._name = encoder.name
        self._batches = Batches(encoder, batch_size=batch_size)
        self._videos: dict[str, _Video] = {}

    def outcomes(self, pieces: Iterable[Piece]) -> Iterator[Outcome]:
        for piece in pieces:
            video = self._videos.setdefault(piece.id, _Video())
            if isinstance(piece, Frame):
                video.times.append(round(piece.time, 3))
                rows = self._batches.add(Waiting(piece.id, len(video.times) - 1, piece.picture))
            else:
                video.end = piece
                rows = self._batches.end_of(piece.id)
            yield from self._sorted_in(rows, {piece.id: None})
        yield from self._sorted_in(self._batches.flush(), {})

    def _sorted_in(self, rows: Iterable[tuple[str, int, np.ndarray]], touched: dict[str, None]) -> Iterator[Outcome]:
        for id, place, row in rows:
            self._videos[id].rows[place] = row
            touched[id] = None
        for id in touched:
            if self._videos[id].is_whole():
                yield self._outcome(id)

    def _outcome(self, id: str) -> Outcome:
        video = self._videos.pop(id)
        if isinstance(video.end, Failed):
            return Refused(id, video.end.problem)
        assert video.end is not None
        features = np.stack([video.rows[place] for place in range(len(video.times))])
        if not np.isfinite(features).all():
            return Refused(id, f"{self._name} gives NaN or infinite values for {id}; nothing was stored for it")
        info = {"duration": video.end.duration, "times": video.times, "problem": video.end.problem}
        return Encoded(id, features, info)
