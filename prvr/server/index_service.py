"""The index of the service: one thread searches it, another one reads its names and descriptions.

The second thread has a connection of its own, so that a list of videos, a file and a picture do not wait for searches.
"""

from __future__ import annotations

import asyncio
import math
import time
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import numpy as np
from fastapi import HTTPException

from prvr.errors import DataError, ModelError, VideoGone
from prvr.index.conditions import parse, select
from prvr.index.contract import Entry
from prvr.index.disk import DiskIndex
from prvr.index.facets import facets_of
from prvr.index.moments import thin
from prvr.index.place import FILE
from prvr.methods.checkpoint import CONFIG
from prvr.search import MODEL, open_index
from prvr.search.answering import answer
from prvr.search.asking import VideoSearch
from prvr.search.hits import Hit
from prvr.search.moment_files import check_unchanged
from prvr.search.question import Question
from prvr.search.senses import ANY
from prvr.server.answers import FacetsAnswer, Moments, PartAnswer, SpanAnswer, TextAnswer, Video
from prvr.server.followed_file import FollowedFile
from prvr.server.names import alike, file_of, shown_name, title_of, without_paths
from prvr.server.remote_copies import RemoteCopies
from prvr.video import name_in

Answer = TypeVar("Answer")

# A query takes milliseconds; with more in the queue, requests are refused.
MOST_WAITING = 200
# Files whose check is remembered.
MOST_CHECKED = 1000
# Seconds after which the names of the videos are read again, because another process may have added some.
FRESH = 1.0
# Points of the curve of a search result.
THIN = 96
Order = Literal["name", "newest", "oldest", "longest", "shortest"]
# The field of each order but by name, and whether its largest value is first.
ORDERS = {"newest": ("date", True), "oldest": ("date", False), "longest": ("duration", True), "shortest": ("duration", False)}


class IndexService:
    """An open index with a queue of queries. Videos have the names that `shown_name` returns.

    Raises:
        PrvrError: the index cannot be opened.
    """

    def __init__(self, path: Path, *, method: str | type | None = None, device: str = "cpu") -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="index")
        self._names_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="names")
        self._path, self._method, self._device = path, method, device
        self._copies = RemoteCopies(path / "copies")
        # Its calibration can change while its videos stay.
        self._index = FollowedFile(path / FILE, self._open, lambda opened: opened.index.close(), also=path / MODEL / CONFIG)
        self._thread.submit(self._index.get).result()
        self._list = FollowedFile(path / FILE, lambda: DiskIndex(path, self._index.get().index.model), DiskIndex.close)
        self._waiting = 0
        self._ids: dict[str, str] = {}
        self._alike: frozenset[str] = frozenset()
        # What is wrong with files that were checked, by their stamps; nothing: an empty text.
        self._changed: dict[tuple[object, ...], str] = {}
        self._ids = self._names_thread.submit(self._list.use, self._names).result()
        self._read_at = time.monotonic()

    @property
    def waiting(self) -> int:
        """The number of queries in the queue, with the one that is executed."""
        return self._waiting

    @property
    def similar(self) -> bool:
        """Whether a moment or a picture can be a query: the model's score is a weighted sum of best cosines."""
        return self.checkpoint.model.score_weights is not None

    async def names(self) -> Mapping[str, str]:
        """The ids of all videos by their shown names."""
        if time.monotonic() > self._read_at + FRESH:
            # One request reads them; the others use the earlier ones meanwhile.
            self._read_at = time.monotonic()
            try:
                self._ids = await self._read(self._names)
            except BaseException:
                self._read_at = -math.inf
                raise
        return self._ids

    async def id_of(self, name: str) -> str:
        """The id of the video with a shown name. Raises HTTPException 404 if it does not exist."""
        names = await self.names()
        id = names.get(name_in(names, name) or name)
        if id is None:
            raise HTTPException(404, f"the index holds no video {name[:200]!r}; /api/videos lists those it holds")
        return id

    async def video_at(self, name: str) -> str:
        """The id of the video with a shown name, or with a copy of it under that name. Raises HTTPException 404."""
        try:
            return await self.id_of(name)
        except HTTPException:
            abouts = await self._read(DiskIndex.about)
            for id, about in abouts.items():
                if name_in([shown_name(copy) for copy in about.get("copies", ())], name) is not None:
                    return id
            raise

    async def file_of(self, id: str) -> Path:
        """The file of a video; a copy of one in object storage. Raises HTTPException 404 if it does not exist."""
        if self.remote is None:
            return file_of(id, self.folder)
        try:
            return await self._copies.get(self.remote / id)
        except VideoGone:
            raise HTTPException(404, f"the file of {shown_name(id)!r} is no longer in its store; index again") from None

    async def search(
        self,
        question: Question,
        *,
        k: int,
        offset: int = 0,
        where: Sequence[str],
        min_score: float | None = None,
        approximate: bool = False,
        moments: bool = False,
        sense: str = ANY,
    ) -> tuple[list[Moments], str | None, bool]:
        """The k videos or moments that answer a question best, with thinned curves; the note on it; whether there are more.

        Raises HTTPException 409 if the index does not support approximate search.
        """

        def search(index: VideoSearch) -> tuple[list[Moments], str | None, bool]:
            ask = partial(index.search_moments if moments else index.search, sense=sense, approximate=approximate)
            try:
                # One more, to see whether there are more.
                hits = ask(question, k=k + 1, offset=offset, where=where, min_score=min_score)
            except ModelError as problem:
                if approximate:
                    # The client can repeat the query without it.
                    raise HTTPException(409, self.without_paths(str(problem))) from problem
                raise
            return [self._moments(hit, limit=THIN) for hit in hits[:k]], index.note_on(question), len(hits) > k

        return await self._call(search)

    async def explain(self, id: str, question: Question, *, sense: str = ANY) -> Moments:
        """Where in one video a question is answered. Raises HTTPException 404 if it has fewer frames than the question parts."""
        hit = await self._call(lambda index: index.explain(question, _entry(index, id).video, sense=sense))
        if hit is None:
            raise HTTPException(404, f"{shown_name(id)!r} has fewer frames than the question has parts; ask for fewer")
        return self._moments(hit)

    async def answer(self, question: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question of the command line (`prvr.search.answering`)."""
        return await self._call(lambda index: answer(index, question, settings))

    async def transcript(self, id: str) -> list[TextAnswer]:
        """All texts of a video, in the order of their times."""
        texts = await self._read(lambda index: index.texts.read(id))
        return [TextAnswer(**text.as_dict()) for text in texts]

    async def count_texts(self) -> dict[str, int]:
        """The number of videos with texts of each kind."""
        return await self._read(lambda index: index.texts.count())

    async def videos(self, names: list[str]) -> list[Video]:
        """The description of videos; those that were deleted since are left out."""
        ids = [self._ids[name] for name in names]
        return await self._read(lambda index: [self._video(entry) for entry in index.fetch(ids).values()])

    async def duration_of(self, id: str) -> float | None:
        """The duration of a video in seconds; None if the index does not know it."""
        entry = (await self._read(lambda index: index.fetch([id]))).get(id)
        return entry.edges[-1] if entry is not None and entry.edges else None

    async def check_unchanged(self, id: str, file: Path) -> None:
        """Raises DataError if the file of a video is no longer the one that was indexed: its moments may be elsewhere."""
        entry = (await self._read(lambda index: index.fetch([id]))).get(id)
        await asyncio.to_thread(self._check_unchanged, id, file, {} if entry is None else entry.about)

    def _check_unchanged(self, id: str, file: Path, about: Mapping[str, Any]) -> None:
        try:
            there = file.stat()
        except OSError:
            return check_unchanged(file, shown_name(id), about)
        # A file with another stamp is read as a whole: once.
        seen = (file, there.st_size, there.st_mtime_ns, there.st_ctime_ns, str(about.get("file")))
        problem = self._changed.get(seen)
        if problem is None:
            problem = ""
            try:
                check_unchanged(file, shown_name(id), about)
            except DataError as changed:
                problem = str(changed)
            if len(self._changed) >= MOST_CHECKED:
                self._changed.clear()
            self._changed[seen] = problem
        if problem:
            raise DataError(problem)

    async def names_with(self, text: str) -> list[str]:
        """The names of the videos that contain a text, in capitals or not, or that have a copy of such a name."""
        names, wanted = await self.names(), _fold(text)
        abouts = await self._read(DiskIndex.about) if wanted else {}
        paths = {name: (name, *map(shown_name, abouts.get(id, {}).get("copies", ()))) for name, id in names.items()}
        return [name for name, known in paths.items() if any(wanted in _fold(path) for path in known)]

    async def select(self, names: Collection[str], *, where: Sequence[str]) -> list[str]:
        """The names of the videos that meet all conditions."""
        conditions = [parse(condition) for condition in where]
        if not conditions:
            return list(names)
        selected = await self._read(lambda index: set(select(index.about(), conditions)))
        return [name for name in names if self._ids.get(name) in selected]

    async def arrange(self, names: list[str], *, order: Order) -> list[str]:
        """Names in an order, for names that are ordered by name; videos of unknown date or duration come last."""
        if order == "name":
            return names
        field, is_falling = ORDERS[order]
        abouts = await self._read(DiskIndex.about)
        values = {name: abouts.get(self._ids.get(name, ""), {}).get(field) for name in names}
        known = sorted(
            ((value, name) for name, value in values.items() if value is not None), key=lambda pair: pair[0], reverse=is_falling
        )
        return [name for _, name in known] + [name for name, value in values.items() if value is None]

    async def facets(self) -> FacetsAnswer:
        """What conditions can choose from."""
        facets = await self._read(lambda index: facets_of(index.about()))
        folders = {shown_name(folder): count for folder, count in facets.folders.items()}
        return FacetsAnswer(folders=folders, durations=facets.durations, dates=facets.dates)

    async def drop(self, ids: Collection[str]) -> tuple[int, int]:
        """Deletes videos from the index; returns how many it held, and how many are left.

        Raises:
            DataError: another process writes, or the disk is full.
        """

        def drop(index: VideoSearch) -> tuple[int, int]:
            # A video of which a copy is left gets the path of that one, by `prvr index`.
            entries = index.index.fetch(list(ids))
            known = [id for id, entry in entries.items() if set(entry.about.get("copies", ())) <= set(ids)]
            if known:
                index.index.delete(known)
            return len(known), index.index.count()

        # Not counted as a query: it is executed however many are in the queue.
        done = await asyncio.wrap_future(self._thread.submit(self._index.use, drop))
        self.expire_names()
        return done

    def expire_names(self) -> None:
        """Reads the names of the videos again at the next request for them."""
        self._read_at = -math.inf

    def without_paths(self, message: str) -> str:
        """A message as clients may see it."""
        if self.remote is not None:
            message = message.replace(f"{self.remote}/", "").replace(str(self.remote), "the folder of the videos")
        return without_paths(message, videos=self.folder, index=self._path)

    def _open(self) -> VideoSearch:
        opened = open_index(self._path, method=self._method, device=self._device)
        self.checkpoint = opened.checkpoint
        self.remote = None if isinstance(opened.videos, Path) else opened.videos
        self.folder = opened.videos if isinstance(opened.videos, Path) else self._path / "copies"
        return opened

    async def _call(self, function: Callable[[VideoSearch], Answer]) -> Answer:
        if self._waiting >= MOST_WAITING:
            raise HTTPException(503, f"{self._waiting} queries are waiting; try again in a second", {"Retry-After": "1"})
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._thread.submit(self._index.use, function))
        finally:
            self._waiting -= 1

    async def _read(self, function: Callable[[DiskIndex], Answer]) -> Answer:
        return await asyncio.wrap_future(self._names_thread.submit(self._list.use, function))

    def _names(self, index: DiskIndex) -> dict[str, str]:
        ids = {shown_name(id): id for id in sorted(index.ids)}
        if ids.keys() != self._ids.keys():
            self._alike = alike(ids)
        return ids

    def _title(self, id: str) -> str:
        name = shown_name(id)
        return PurePosixPath(name).name if name in self._alike else title_of(id)

    def _moments(self, hit: Hit, *, limit: int | None = None) -> Moments:
        return _moments(hit, title=self._title(hit.video), limit=limit)

    def _video(self, entry: Entry) -> Video:
        duration = entry.edges[-1] if entry.edges else None
        fields = {name: value for name, value in entry.about.items() if name != "file"}
        return Video(video=shown_name(entry.video), title=self._title(entry.video), duration=duration, fields=fields)

    def close(self) -> None:
        """Ends the threads; queries in the queue are cancelled."""
        self._thread.shutdown(cancel_futures=True)
        self._names_thread.shutdown(cancel_futures=True)
        self._index.close()
        self._list.close()
        self._copies.close()


def _entry(index: VideoSearch, id: str) -> Entry:
    entry = index.index.fetch([id]).get(id)
    if entry is None:
        raise HTTPException(404, f"the index no longer holds {shown_name(id)!r}; /api/videos lists those it holds")
    return entry


def _moments(hit: Hit, *, title: str, limit: int | None) -> Moments:
    curve, edges = np.array(hit.curve), np.array(hit.edges or ())
    if limit is not None and hit.edges:
        curve, edges = thin(curve, edges, limit=limit)
    return Moments(
        video=shown_name(hit.video),
        title=title,
        duration=float(edges[-1]) if hit.edges else None,
        score=hit.score,
        probability=hit.probability,
        strength=hit.strength,
        weak=hit.weak,
        peak=hit.peak,
        spans=[SpanAnswer(start=span.start, end=span.end, score=span.score) for span in hit.spans],
        curve=curve.tolist() if hit.edges else [],
        edges=edges.tolist(),
        contributions=dict(hit.branches),
        copies=[shown_name(path) for path in hit.copies],
        problem=hit.problem,
        date=hit.date,
        parts=[PartAnswer(**part._asdict()) for part in hit.parts],
        near_identical=[shown_name(id) for id in hit.near_identical],
        found_by=list(hit.found_by),
        quotes=[TextAnswer(**quote.as_dict()) for quote in hit.quotes],
    )


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
