"""The index as a collection of Qdrant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
from jaxtyping import Float

from prvr.errors import ModelError, require
from prvr.index.conditions import FOLDER, Condition, select
from prvr.index.contract import Entry, Header, ScoredVideo, cast_entries, require_weights
from prvr.index.qdrant.filters import KINDS, Filter, filter_for, has_field, unsupported_kinds
from prvr.index.qdrant.points import about_of, entry_of, has_stage, payload_of, point_id, stage_of, vectors_of, video_of
from prvr.index.qdrant.server import FORMAT, NOTE, SETTING, STAGE, check_columns, create, header_of, qdrant_errors
from prvr.index.setting import MeasuredSetting, Setting, require_valid
from prvr.index.sketches import weighted_fields
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
        ModelError: the collection does not exist, is something else or of another format, has other columns than the model, or
            does not support it.
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
            settings = client.get_collection(collection).config
        self.header, version = header_of((settings.metadata or {}).get(NOTE), place)
        check_columns(settings.params.vectors, model, place)
        self._has_stage = version == FORMAT

    @staticmethod
    def make(client: Any, collection: str, model: Model, header: Header, *, place: str) -> QdrantIndex:
        """The index of a collection; created if it does not exist."""
        require_weights(model, place)
        qdrant = require("qdrant_client", extra="qdrant")
        with qdrant_errors(qdrant, place):
            if not client.collection_exists(collection):
                create(qdrant, client, collection, model, replace(header, dtype=DTYPE), place=place)
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
        models = self._qdrant.models
        for part in _parts(cast_entries(entries, DTYPE)):
            points = [models.PointStruct(id=point_id(e.video), vector=self._vectors(e), payload=payload_of(e)) for e in part]
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
                points = self._client.retrieve(self._collection, list(part), with_payload=True, with_vectors=self._fields)
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
        return self._search(queries, k, where, lambda count: None)

    def search_approximately(self, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[ScoredVideo]]:
        """As `search`, but most of the k best: those among the candidates of the setting that is kept.

        Raises:
            SettingError: no video has the field of a condition.
            ModelError: no setting is kept that was measured on these videos, or the collection has no first stage.
        """
        self.check_stage()
        with self._errors():
            kept = (self._client.get_collection(self._collection).config.metadata or {}).get(SETTING)
        numbers = range(1, self._count(None) + 1)
        measured = require_valid(kept, self.place, model=self.header.model, numbers=numbers)
        # Of fewer videos than were measured the best are a larger share.
        return self._search(queries, k, where, lambda _: measured.setting.candidates(k, max(measured.videos, len(numbers))))

    def search_with_setting(
        self, queries: Embeddings, k: int, *, setting: Setting, learned: None = None
    ) -> list[list[ScoredVideo]]:
        """As `search_approximately`, with a setting that is not kept; for measurements."""
        self.check_stage()
        return self._search(queries, k, (), lambda count: setting.candidates(k, count))

    def check_stage(self) -> None:
        """Raises ModelError if an earlier prvr wrote the collection, without the rows of a first stage."""
        if not self._has_stage:
            raise ModelError(
                f"{self.place} was written by an earlier prvr, without the rows of a first stage; copy the index to a collection "
                "of another name, or search exactly"
            )

    def learn_stage(self, queries: Embeddings, *, on_video: Callable[[int, int], None] | None = None) -> None:
        """Does nothing: the first stage is in the collection, and for all queries."""
        self.check_stage()

    def keep_setting(self, setting: Setting, learned: None, *, recall: float, queries: int) -> None:
        """Writes a setting that was measured on the current videos, in place of the one before."""
        count = self._count(None)
        self._keep(MeasuredSetting(setting, recall, queries, count, count, self.header.model).to_json())

    def forget_setting(self) -> None:
        """Removes the setting that is kept."""
        self._keep(None)

    def stage_fault(self) -> None:
        """Nothing: the rows of the first stage are in the points of their videos, and `verify` compares them."""

    def _search(
        self, queries: Embeddings, k: int, where: Sequence[Condition], candidates: Callable[[int], int | None]
    ) -> list[list[ScoredVideo]]:
        """The k best of each query.

        Args:
            candidates: how many out of a number of videos the first stage keeps; None for a search without one.
        """
        condition = self._filter(where)
        count = self._count(condition)
        found = []
        for query in unit_queries(queries):
            ranked = self._best(query, k, condition, count, candidates(count)) if count and k > 0 else []
            # Another process may have deleted a video since: it is left out.
            entries = list(self.fetch(sorted(id for id, _ in ranked)).values())
            parts = [tuple(score_parts(entry.fields, query, self._weights)) for entry in entries]
            hits = [ScoredVideo(e.video, sum(of), of, e) for e, of in zip(entries, parts, strict=True)]
            found.append([hits[place] for place in best_places(np.array([hit.score for hit in hits]), k)])
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
                entry = self._entry(point, id)
                if self._has_stage and not has_stage(point.vector, entry, STAGE, self._weights):
                    raise self._damage_error(id)
            except (ModelError, ValueError, KeyError, TypeError) as problem:
                faults[id] = str(problem)
        return faults

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def _best(
        self, query: Sequence[Float[np.ndarray, "_"]], k: int, condition: Any, count: int, candidates: int | None
    ) -> list[tuple[str, float]]:
        """The k best videos and their scores by the server, best first; ties by id.

        Args:
            candidates: how many videos the first stage keeps; None for all videos.
        """
        models = self._qdrant.models
        exact = models.SearchParams(exact=True)
        few = None if candidates is None else [self._first_stage(query, max(candidates, k + SPARE), condition)]
        # A formula sees only the points that its parts found, so each part finds all.
        limit = count + ROOM if few is None else few[0].limit
        among = condition if few is None else None
        parts = [
            models.Prefetch(query=[vector.tolist()], using=field, limit=limit, filter=among, params=exact, prefetch=few)
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

    def _first_stage(self, query: Sequence[Float[np.ndarray, "_"]], count: int, condition: Any) -> Any:
        """The part of a request that finds the most promising videos, by the codes of few rows alone."""
        models = self._qdrant.models
        vector = np.concatenate(weighted_fields(query, self._weights)).tolist()
        by_codes = models.SearchParams(quantization=models.QuantizationSearchParams(rescore=False))
        return models.Prefetch(query=[vector], using=STAGE, limit=count, filter=condition, params=by_codes)

    def _keep(self, setting: str | None) -> None:
        with self._errors():
            self._client.update_collection(self._collection, metadata={SETTING: setting})

    @property
    def _fields(self) -> list[str]:
        return list(self.model.embedding_fields)

    def _vectors(self, entry: Entry) -> dict[str, list[list[float]]]:
        stage = {STAGE: stage_of(entry, self._weights)} if self._has_stage else {}
        return vectors_of(entry, self._fields) | stage

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
            raise self._damage_error(id) from None

    def _damage_error(self, id: str) -> ModelError:
        remedy = f"remove it with: prvr index verify {self.place} --drop, and copy again"
        return ModelError(f"the point of {id!r} in {self.place} is damaged; {remedy}")

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
