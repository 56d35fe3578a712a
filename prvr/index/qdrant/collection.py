"""The index that is a collection of Qdrant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np

from prvr.errors import ModelError, require
from prvr.index.contract import Entry, Found, Header, checked, weights_of
from prvr.index.qdrant.filters import KINDS, Filter, known, served, unserved
from prvr.index.qdrant.points import about_of, entry_of, payload_of, point_id, unit, vectors_of, video_of
from prvr.index.qdrant.server import NOTE, create, header_of, told
from prvr.index.where import FOLDER, Condition, accepted
from prvr.methods.contract import Embeddings, Model

DTYPE = "float16"
# Of a request: a number takes about 20 bytes as JSON, and a server refuses requests of more than 32 MB.
NUMBERS_AT_ONCE = 500_000
POINTS_AT_ONCE = 256
WHOLE_POINTS_AT_ONCE = 8
# What a search asks for beyond k, so that equal scores at its end can be told; and beyond what it counted, for what others add.
SPARE = 8
ROOM = 1024


@final
class QdrantIndex:
    """An index that is a collection. Rows are float16: those of another type are rounded when they are added.

    Args:
        place: what errors name it by.

    Raises:
        ModelError: there is none, it is of something else or of another format, or it cannot hold the model.
        DataError: the server cannot be reached, or refuses.
    """

    def __init__(self, client: Any, collection: str, model: Model, *, place: str) -> None:
        self.place, self.model = place, model
        self._weights = weights_of(model, place)
        self._qdrant = require("qdrant_client", extra="qdrant")
        self._client, self._collection = client, collection
        with self._told():
            if not client.collection_exists(collection):
                raise ModelError(f"no index in {place}; copy one there: prvr index copy INDEX {place}")
            note = (client.get_collection(collection).config.metadata or {}).get(NOTE)
        self.header = header_of(note, place)

    @staticmethod
    def make(client: Any, collection: str, model: Model, header: Header, *, place: str) -> QdrantIndex:
        """The index of a collection, made if it is not there."""
        weights_of(model, place)
        qdrant = require("qdrant_client", extra="qdrant")
        with told(qdrant, place):
            if not client.collection_exists(collection):
                create(qdrant.models, client, collection, model, replace(header, dtype=DTYPE))
        return QdrantIndex(client, collection, model, place=place)

    @property
    def ids(self) -> list[str]:
        """The videos, by name."""
        return sorted(video_of(point.payload) for point in self._scrolled(["video"]))

    def __contains__(self, id: object) -> bool:
        with self._told():
            return isinstance(id, str) and bool(self._client.retrieve(self._collection, [point_id(id)], with_payload=False))

    def count(self, *, where: Sequence[Condition] = ()) -> int:
        """How many videos there are that meet all conditions."""
        return self._count(self._filter(where))

    def add(self, entries: Sequence[Entry]) -> None:
        """Adds videos, or replaces those of the same ids, each at once.

        Raises:
            DataError: an embedding holds NaN or infinite values (nothing is added then), or the server refuses: what came
                before a video that it refuses is there.
        """
        models, fields = self._qdrant.models, self.model.embedding_fields
        for part in _parts(checked(entries, DTYPE)):
            points = [models.PointStruct(id=point_id(e.video), vector=vectors_of(e, fields), payload=payload_of(e)) for e in part]
            with self._told():
                self._client.upsert(self._collection, points, wait=True)

    def delete(self, ids: Sequence[str]) -> None:
        """Takes videos out; unknown ids are none of its business."""
        for start in range(0, len(ids), POINTS_AT_ONCE):
            points = [point_id(id) for id in ids[start : start + POINTS_AT_ONCE]]
            with self._told():
                self._client.delete(self._collection, self._qdrant.models.PointIdsList(points=points), wait=True)

    def fetch(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Those of the videos that are there.

        Raises:
            ModelError: one of them is damaged.
        """
        entries: dict[str, Entry] = {}
        for start in range(0, len(ids), WHOLE_POINTS_AT_ONCE):
            part = {point_id(id): id for id in ids[start : start + WHOLE_POINTS_AT_ONCE]}
            with self._told():
                points = self._client.retrieve(self._collection, list(part), with_payload=True, with_vectors=True)
            entries |= {part[point.id]: self._entry(point, part[point.id]) for point in points}
        return {id: entries[id] for id in ids if id in entries}

    def about(self) -> dict[str, dict[str, Any]]:
        """What is known of every video."""
        return {video_of(point.payload): about_of(point.payload) for point in self._scrolled(["video", "about"])}

    def search(self, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[Found]]:
        """The k best videos of each query among those that meet all conditions, best first; ties by id.

        Raises:
            SettingError: a condition is about something that is known of no video.
        """
        among = self._filter(where)
        count = self._count(among)
        if not count or k < 1:
            return [[] for _ in range(len(queries[0]))]
        vectors = [unit(field.float().cpu().numpy()).tolist() for field in queries]
        return [self._best(row, k, among, count) for row in zip(*vectors, strict=True)]

    def verify(self) -> dict[str, str]:
        """What is wrong, by video; the name "" stands for the collection as a whole. Reads all of it."""
        with self._told():
            status = self._client.get_collection(self._collection).status
        faults = {"": f"the server says that {self.place} is {status.value}"} if status.value == "red" else {}
        for point in self._scrolled(True, at_once=WHOLE_POINTS_AT_ONCE, with_vectors=True):
            id = point.id
            try:
                id = video_of(point.payload)
                self._entry(point, id)
            except (ModelError, ValueError, KeyError, TypeError) as problem:
                faults[id] = str(problem)
        return faults

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()

    def _best(self, vectors: Sequence[list[float]], k: int, among: Any, count: int) -> list[Found]:
        """The k best by the server's scores, and of equal ones the first by id."""
        models = self._qdrant.models
        exact = models.SearchParams(exact=True)
        # A formula sees those points alone that its parts found, so each part finds all.
        parts = [
            models.Prefetch(query=[vector], using=field, limit=count + ROOM, filter=among, params=exact)
            for field, vector in zip(self.model.embedding_fields, vectors, strict=True)
        ]
        terms = [models.MultExpression(mult=[weight, f"$score[{n}]"]) for n, weight in enumerate(self._weights)]
        formula = models.FormulaQuery(
            formula=models.SumExpression(sum=terms), defaults={f"$score[{n}]": -1.0 for n in range(len(terms))}
        )
        limit = k + SPARE
        while True:
            with self._told():
                answer = self._client.query_points(
                    self._collection, prefetch=parts, query=formula, limit=limit, with_payload=["video"]
                )
            ranked = sorted((-point.score, video_of(point.payload)) for point in answer.points)
            if len(ranked) < limit or ranked[-1][0] > ranked[k - 1][0]:
                return [Found(id, -score) for score, id in ranked[:k]]
            limit *= 2

    def _filter(self, where: Sequence[Condition]) -> Any:
        """The conditions as the server can apply them; those that it cannot are applied here, to the names of videos."""
        models = self._qdrant.models
        if not where:
            return None
        filters = [self._served(condition) for condition in where]
        if None in filters:
            points = [point_id(id) for id in accepted(self.about(), where)]
            return models.Filter(must=[models.HasIdCondition(has_id=points)])
        return models.Filter.model_validate({"must": filters})

    def _served(self, condition: Condition) -> Filter | None:
        if condition.field != FOLDER and not self._any(known(condition.field, *KINDS)):
            return None
        whole = condition.field.split(".")[0]
        if whole != condition.field and self._any(known(whole, "strange")):
            # The server does not look into objects.
            return None
        kinds = unserved(condition)
        return None if kinds and self._any(known(condition.field, *kinds)) else served(condition)

    def _any(self, among: Filter) -> bool:
        return self._count(self._qdrant.models.Filter.model_validate(among)) > 0

    def _count(self, among: Any) -> int:
        with self._told():
            count: int = self._client.count(self._collection, count_filter=among, exact=True).count
        return count

    def _scrolled(self, payload: Any, *, at_once: int = POINTS_AT_ONCE, with_vectors: bool = False) -> Iterator[Any]:
        """All points."""
        start = None
        while True:
            with self._told():
                points, start = self._client.scroll(
                    self._collection, limit=at_once, offset=start, with_payload=payload, with_vectors=with_vectors
                )
            yield from points
            if start is None:
                return

    def _entry(self, point: Any, id: str) -> Entry:
        try:
            return entry_of(point.vector, point.payload, self.model.embedding_fields)
        except ModelError:
            remedy = f"take it out with: prvr index verify {self.place} --drop, and copy again"
            raise ModelError(f"the point of {id!r} in {self.place} is damaged; {remedy}") from None

    def _told(self) -> Any:
        return told(self._qdrant, self.place)


def _parts(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    part: list[Entry] = []
    size = 0
    for entry in entries:
        numbers = sum(int(np.prod(rows.shape)) for rows in entry.fields)
        if part and size + numbers > NUMBERS_AT_ONCE:
            yield part
            part, size = [], 0
        part.append(entry)
        size += numbers
    if part:
        yield part
