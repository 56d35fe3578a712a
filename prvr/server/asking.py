"""The one place where the service asks the index: one open index, and one thread that touches it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from fastapi import HTTPException
from jaxtyping import Float

from prvr.errors import ModelError
from prvr.index.contract import Entry
from prvr.index.exact import ExactIndex
from prvr.index.where import accepted, parse
from prvr.methods.contract import Embeddings
from prvr.search import open_index
from prvr.search.asking import Hit, VideoSearch, find
from prvr.server.answers import Moments, Span, Video
from prvr.server.names import shown_name, title_of

Answer = TypeVar("Answer")

# A question takes milliseconds; who would be further back in line is told to come again.
MOST_WAITING = 200
# What another process has added is known after so many seconds.
FRESH = 1.0
# Points of a curve on a card.
THIN = 96


class Desk:
    """An open index; questions wait in one line. Videos go by the names that `shown_name` gives them.

    Raises:
        PrvrError: the index cannot be opened.
    """

    def __init__(self, path: Path, *, device: str = "cpu") -> None:
        self._line = ThreadPoolExecutor(max_workers=1, thread_name_prefix="index")
        self._index = self._line.submit(partial(open_index, path, device=device)).result()
        self._waiting = 0
        self._ids = self._line.submit(_names, self._index).result()
        self._seen = time.monotonic()
        self.folder = self._index.videos
        self.checkpoint = self._index.checkpoint

    @property
    def waiting(self) -> int:
        """How many questions are in line or being answered."""
        return self._waiting

    @property
    def similar(self) -> bool:
        """Whether a moment can be asked with: where a frame's embeddings can stand for a sentence's, field by field."""
        model = self.checkpoint.model
        return model.score_weights is not None and set(model.embedding_fields) == set(model.frame_fields)

    async def names(self) -> Mapping[str, str]:
        """The ids of all videos by the names that they are shown under."""
        if time.monotonic() > self._seen + FRESH:
            # One request goes to look; the others do with what was known a moment ago.
            self._seen = time.monotonic()
            self._ids = await self._ask(_names)
        return self._ids

    async def id_of(self, name: str) -> str:
        """The id of the video that is shown under a name; a refusal where there is none."""
        id = (await self.names()).get(name)
        if id is None:
            raise HTTPException(404, f"the index holds no video {name[:200]!r}; /api/videos lists those it holds")
        return id

    async def search(
        self, text: str, *, k: int, where: Sequence[str], min_score: float | None, approximate: bool = False
    ) -> list[Moments]:
        """The k videos that answer a sentence best, their curves thinned; a refusal where they cannot be found approximately."""

        def ask(index: VideoSearch) -> list[Moments]:
            try:
                hits = index.search(text, k=k, where=where, min_score=min_score, approximate=approximate)
            except ModelError as problem:
                if approximate:
                    # Whoever asked can ask exactly.
                    raise HTTPException(409, str(problem)) from problem
                raise
            return [_thinned(hit) for hit in hits]

        return await self._ask(ask)

    async def moments(self, id: str, text: str) -> Moments:
        """Where in one video a sentence is answered."""
        return await self._ask(lambda index: _moments(_alone(index, id, index.encode(text))))

    async def like(self, id: str, seconds: float, *, k: int, where: Sequence[str]) -> list[Moments]:
        """The k other videos that are most like a video at a time."""

        def ask(index: VideoSearch) -> list[Moments]:
            hits = find(index.index, _frame(index, id, seconds), k + 1, where=[parse(condition) for condition in where])[0]
            return [_thinned(hit) for hit in hits if hit.video != id][:k]

        return await self._ask(ask)

    async def moments_like(self, id: str, other: str, seconds: float) -> Moments:
        """Where one video is like another one at a time."""
        return await self._ask(lambda index: _moments(_alone(index, id, _frame(index, other, seconds))))

    async def videos(self, names: list[str]) -> list[Video]:
        """What is known of some videos; those that have gone meanwhile are left out."""
        ids = [self._ids[name] for name in names]
        return await self._ask(lambda index: [_video(entry) for entry in index.index.fetch(ids).values()])

    async def those(self, names: Collection[str], *, where: Sequence[str]) -> list[str]:
        """Those of the names whose videos meet all conditions."""
        conditions = [parse(condition) for condition in where]
        if not conditions:
            return list(names)
        met = await self._ask(lambda index: set(accepted(index.index.about(), conditions)))
        return [name for name in names if self._ids.get(name) in met]

    async def drop(self, ids: Collection[str]) -> tuple[int, int]:
        """Takes videos out of the index; how many were there, and how many are left.

        Raises:
            DataError: another process writes, or the disk is full.
        """

        def drop(index: VideoSearch) -> tuple[int, int]:
            there = [id for id in ids if id in index.index]
            if there:
                index.index.delete(there)
            return len(there), index.index.count()

        # Not one of the questions: it is done however many of them wait.
        done = await asyncio.wrap_future(self._line.submit(drop, self._index))
        self._seen = -math.inf
        return done

    async def _ask(self, question: Callable[[VideoSearch], Answer]) -> Answer:
        if self._waiting >= MOST_WAITING:
            raise HTTPException(503, f"{self._waiting} questions are waiting; ask again in a second", {"Retry-After": "1"})
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._line.submit(question, self._index))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Ends the thread; what waits is not answered."""
        self._line.shutdown(cancel_futures=True)


def _names(index: VideoSearch) -> dict[str, str]:
    return {shown_name(id): id for id in sorted(index.index.ids)}


def _entry(index: VideoSearch, id: str) -> Entry:
    entry = index.index.fetch([id]).get(id)
    if entry is None:
        raise HTTPException(404, f"the index no longer holds {shown_name(id)!r}; /api/videos lists those it holds")
    return entry


def _alone(index: VideoSearch, id: str, query: Embeddings) -> Hit:
    # A gallery of this one video: its score is what the search would give it.
    gallery = ExactIndex(index.checkpoint.model)
    gallery.add([_entry(index, id)])
    return find(gallery, query, 1)[0][0]


def _frame(index: VideoSearch, id: str, seconds: float) -> Embeddings:
    entry = _entry(index, id)
    last = len(entry.fields[0]) - 1
    place = min(int(np.searchsorted(entry.edges, seconds, side="right")) - 1, last) if entry.edges else 0
    return tuple(torch.from_numpy(np.array(rows[place], np.float32))[None] for rows in entry.fields)


def _moments(hit: Hit, *, most: int | None = None) -> Moments:
    curve, edges = np.array(hit.curve), np.array(hit.edges or ())
    peak = float(edges[int(curve.argmax())]) if hit.edges else None
    if most is not None and hit.edges:
        curve, edges = thin(curve, edges, most=most)
    return Moments(
        video=shown_name(hit.video),
        title=title_of(hit.video),
        duration=float(edges[-1]) if hit.edges else None,
        score=hit.score,
        probability=hit.probability,
        peak=peak,
        spans=[Span(start=span.start, end=span.end, score=span.score) for span in hit.spans],
        curve=curve.tolist() if hit.edges else [],
        edges=edges.tolist(),
        contributions=dict(hit.branches),
    )


def _thinned(hit: Hit) -> Moments:
    return _moments(hit, most=THIN)


def _video(entry: Entry) -> Video:
    duration = entry.edges[-1] if entry.edges else None
    return Video(
        video=shown_name(entry.video),
        title=title_of(entry.video),
        duration=duration,
        fields={name: value for name, value in entry.about.items() if name != "file"},
    )


def thin(
    curve: Float[np.ndarray, "F"], edges: Float[np.ndarray, "_"], *, most: int
) -> tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"]]:
    """At most `most` stretches, each with the highest relevance in it, so that no peak is lost; and the times between them."""
    if len(curve) <= most:
        return curve, edges
    starts = np.arange(most) * len(curve) // most
    return np.maximum.reduceat(curve, starts), edges[[*starts, len(curve)]]
