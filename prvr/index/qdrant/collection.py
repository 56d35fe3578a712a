"""The index as a collection of Qdrant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
from jaxtyping import Float

from prvr.errors import ModelError, require
from prvr.index.conditions import FOLDER, Condition, select
from prvr.index.contract import Entry, Header, ScoredVideo, cast_entries, require_weights
from prvr.index.qdrant.filters import KINDS, Filter, filter_for, has_field, unsupported_kinds
from prvr.index.qdrant.points import about_of, entry_of, payload_of, point_id, vectors_of, video_of
from prvr.index.qdrant.server import NOTE, create, header_of, qdrant_errors
from prvr.methods.contract import Embeddings, Model
from prvr.nn.scores import best_places, score_parts, tolerance, unit_queries

DTYPE = "float16"
# In one request: a number takes about 20 bytes as JSON, and a server refuses requests of more than 32 MB.
NUMBERS_AT_ONCE = 500_000
POINTS_AT_ONCE = 256
WHOLE_POINTS_AT_ONCE = 8
# Points that a search requests beyond k, to see whether scores tie there; and beyond the number of points, which may grow.
SPARE = 8
ROOM = 1024


@final
class QdrantIndex:
    """An index as a collection. Rows are stored as float16.

    Args:
        place: its name in error messages.

    Raises:
        ModelError: the collection does not exist, is something else or of another format, or does not support the model.
        DataError: the server cannot be reached, or refuses.
    """

    def __init__(self, client: Any, collection: str, model: Model, *, place: str) -> None:
        self.place, self.model = place, model
        self._weights = require_weights(model, place)
        self._qdrant = require("qdrant_client", extra="qdrant")
        self._client, self._collection = client, collection
        with self._errors():
            if not client.collection_exists(collection):
                raise ModelError(f"no index in {place}; copy one there: prvr index copy INDEX {place}")
            note = (client.get_collection(collection).config.metadata or {}).get(NOTE)
        self.header = header_of(note, place)

    @staticmethod
    def make(client: Any, collection: str, model: Model, header: Header, *, place: str) -> QdrantIndex:
        """The index of a collection; created if it does not exist."""
        require_weights(model, place)
        qdrant = require("qdrant_client", extra="qdrant")
        with qdrant_errors(qdrant, place):
            if not client.collection_exists(collection):
                create(qdrant.models, client, collection, model, replace(header, dtype=DTYPE))
        return QdrantIndex(client, collection, model, place=place)

    @property
    def ids(self) -> list[str]:
        """The videos, in the order of their ids."""
        return sorted(video_of(point.payload) for point in self._scroll(["video"]))

    def __contains__(self, id: object) -> bool:
        with self._errors():
            return isinstance(id, str) and bool(self._client.retrieve(self._collection, [point_id(id)], with_payload=False))

    def count(self, *, where: Sequence[Condition] = ()) -> int:
        """The number of videos that meet all conditions."""
        return self._count(self._filter(where))

    def add(self, entries: Sequence[Entry]) -> None:
        """Adds videos, or replaces those with the same ids. Each is replaced as a whole.

        Raises:
            DataError: an embedding holds NaN or infinite values (nothing is added then), or the server refuses (the videos
                before the one that it refuses are added then).
        """
        models, fields = self._qdrant.models, self.model.embedding_fields
        for part in _parts(cast_entries(entries, DTYPE)):
            points = [models.PointStruct(id=point_id(e.video), vector=vectors_of(e, fields), payload=payload_of(e)) for e in part]
            with self._errors():
                self._client.upsert(self._collection, points, wait=True)

    def delete(self, ids: Sequence[str]) -> None:
        """Removes videos. Unknown ids are ignored."""
        for start in range(0, len(ids), POINTS_AT_ONCE):
            points = [point_id(id) for id in ids[start : start + POINTS_AT_ONCE]]
            with self._errors():
                self._client.delete(self._collection, self._qdrant.models.PointIdsList(points=points), wait=True)

    def fetch(self, ids: Sequence[str]) -> dict[str, Entry]:
        """The videos with these ids, by id. Unknown ids are left out.

        Raises:
            ModelError: one of them is damaged.
        """
        entries: dict[str, Entry] = {}
        for start in range(0, len(ids), WHOLE_POINTS_AT_ONCE):
            part = {point_id(id): id for id in ids[start : start + WHOLE_POINTS_AT_ONCE]}
            with self._errors():
                points = self._client.retrieve(self._collection, list(part), with_payload=True, with_vectors=True)
            entries |= {part[point.id]: self._entry(point, part[point.id]) for point in points}
        return {id: entries[id] for id in ids if id in entries}

    def about(self) -> dict[str, dict[str, Any]]:
        """`Entry.about` of every video, by id."""
        return {video_of(point.payload): about_of(point.payload) for point in self._scroll(["video", "about"])}

    def search(self, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[ScoredVideo]]:
        """The k best videos of each query among those that meet all conditions, best first; ties by id.

        Raises:
            SettingError: no video has the field of a condition.
        """
        condition = self._filter(where)
        count = self._count(condition)
        found = []
        for query in unit_queries(queries):
            ranked = self._best(query, k, condition, count) if count and k > 0 else []
            entries = self.fetch([id for id, _ in ranked])
            # Another process may have deleted a video since.
            hits = [(entries[id], score) for id, score in ranked if id in entries]
            parts = [tuple(score_parts(entry.fields, query, self._weights)) for entry, _ in hits]
            found.append([ScoredVideo(entry.video, score, of, entry) for (entry, score), of in zip(hits, parts, strict=True)])
        return found

    def verify(self) -> dict[str, str]:
        """Faults by video; the key "" is for the collection as a whole. Reads all of it."""
        with self._errors():
            status = self._client.get_collection(self._collection).status
        faults = {"": f"the server says that {self.place} is {status.value}"} if status.value == "red" else {}
        for point in self._scroll(True, at_once=WHOLE_POINTS_AT_ONCE, with_vectors=True):
            id = point.id
            try:
                id = video_of(point.payload)
                self._entry(point, id)
            except (ModelError, ValueError, KeyError, TypeError) as problem:
                faults[id] = str(problem)
        return faults

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def _best(self, query: Sequence[Float[np.ndarray, "_"]], k: int, condition: Any, count: int) -> list[tuple[str, float]]:
        """The k best videos and their scores by the server, best first; ties by id."""
        models = self._qdrant.models
        exact = models.SearchParams(exact=True)
        # A formula sees only the points that its parts found, so each part finds all.
        parts = [
            models.Prefetch(query=[vector.tolist()], using=field, limit=count + ROOM, filter=condition, params=exact)
            for field, vector in zip(self.model.embedding_fields, query, strict=True)
        ]
        terms = [models.MultExpression(mult=[weight, f"$score[{n}]"]) for n, weight in enumerate(self._weights)]
        formula = models.FormulaQuery(
            formula=models.SumExpression(sum=terms), defaults={f"$score[{n}]": -1.0 for n in range(len(terms))}
        )
        limit = k + SPARE
        while True:
            with self._errors():
                answer = self._client.query_points(
                    self._collection, prefetch=parts, query=formula, limit=limit, with_payload=["video"]
                )
            known = sorted((video_of(point.payload), point.score) for point in answer.points)
            scores = np.array([score for _, score in known])
            if len(known) < limit or scores.min() < np.partition(scores, -k)[-k] - tolerance(scores):
                return [known[place] for place in best_places(scores, k)]
            limit *= 2

    def _filter(self, where: Sequence[Condition]) -> Any:
        """The conditions as a filter of the server; those that it does not support are applied here, and it gets ids."""
        models = self._qdrant.models
        if not where:
            return None
        filters = [self._filter_of(condition) for condition in where]
        if None in filters:
            points = [point_id(id) for id in select(self.about(), where)]
            return models.Filter(must=[models.HasIdCondition(has_id=points)])
        return models.Filter.model_validate({"must": filters})

    def _filter_of(self, condition: Condition) -> Filter | None:
        """The condition as a filter; None if the server does not support it for the values that the videos have."""
        if condition.field != FOLDER and not self._any(has_field(condition.field, *KINDS)):
            return None
        whole = condition.field.split(".")[0]
        if whole != condition.field and self._any(has_field(whole, "strange")):
            # The server does not look into objects.
            return None
        kinds = unsupported_kinds(condition)
        return None if kinds and self._any(has_field(condition.field, *kinds)) else filter_for(condition)

    def _any(self, condition: Filter) -> bool:
        return self._count(self._qdrant.models.Filter.model_validate(condition)) > 0

    def _count(self, condition: Any) -> int:
        with self._errors():
            count: int = self._client.count(self._collection, count_filter=condition, exact=True).count
        return count

    def _scroll(self, payload: Any, *, at_once: int = POINTS_AT_ONCE, with_vectors: bool = False) -> Iterator[Any]:
        """All points."""
        start = None
        while True:
            with self._errors():
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
            remedy = f"remove it with: prvr index verify {self.place} --drop, and copy again"
            raise ModelError(f"the point of {id!r} in {self.place} is damaged; {remedy}") from None

    def _errors(self) -> Any:
        return qdrant_errors(self._qdrant, self.place)


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
