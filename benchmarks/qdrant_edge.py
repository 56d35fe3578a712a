"""Qdrant's own core in this process (`qdrant-edge-py`), with the part of the client's interface that `QdrantIndex` calls.

The requests are those that a server gets; the core executes them as a server does within one shard. What a server adds is not
here: HTTP, JSON, several shards, and the optimiser that runs by itself (`EdgeClient.optimise` runs it).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import qdrant_edge as edge
from qdrant_client import models


@final
class EdgeClient:
    """Collections as shards of Qdrant's core below a folder.

    Args:
        threads: of a search.
        indexing_threshold: kilobytes of vectors from which `optimise` writes codes.
    """

    def __init__(self, folder: Path, *, threads: int = 1, indexing_threshold: int = 1) -> None:
        # Processor seconds that the core took for queries.
        self.seconds = 0.0
        self._folder, self._threads, self._threshold = folder, threads, indexing_threshold
        self._shards: dict[str, Any] = {}
        self._about: dict[str, dict[str, Any]] = {}

    def collection_exists(self, name: str) -> bool:
        return name in self._shards

    def create_collection(
        self, name: str, vectors_config: dict[str, models.VectorParams], on_disk_payload: bool, metadata: dict[str, Any]
    ) -> None:
        config = edge.EdgeConfig(
            vectors={field: _vector_params(params) for field, params in vectors_config.items()},
            on_disk_payload=on_disk_payload,
            optimizers=edge.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=self._threshold),
            max_search_threads=self._threads,
        )
        (self._folder / name).mkdir(parents=True)
        self._shards[name] = edge.EdgeShard.create(str(self._folder / name), config)
        self._about[name] = {"vectors": vectors_config, "metadata": json.loads(json.dumps(metadata))}

    def get_collection(self, name: str) -> Any:
        about = self._about[name]
        params = SimpleNamespace(vectors=about["vectors"])
        return SimpleNamespace(
            config=SimpleNamespace(metadata=about["metadata"], params=params), status=models.CollectionStatus.GREEN
        )

    def update_collection(self, name: str, metadata: dict[str, Any]) -> None:
        self._about[name]["metadata"] |= metadata

    def create_payload_index(self, name: str, key: str, field_schema: Any) -> None:
        self._shards[name].update(edge.UpdateOperation.create_field_index(key, edge.PayloadSchemaType.Keyword))

    def upsert(self, name: str, points: Sequence[models.PointStruct], wait: bool) -> None:
        rows = [edge.Point(point.id, point.vector, point.payload) for point in points]
        self._shards[name].update(edge.UpdateOperation.upsert_points(rows))

    def delete(self, name: str, points: models.PointIdsList, wait: bool) -> None:
        self._shards[name].update(edge.UpdateOperation.delete_points(list(points.points)))

    def retrieve(self, name: str, ids: Sequence[str], with_payload: Any = True, with_vectors: Any = False) -> list[Any]:
        return [_point(record) for record in self._shards[name].retrieve(list(ids), with_payload, with_vectors)]

    def count(self, name: str, count_filter: Any, exact: bool) -> Any:
        return SimpleNamespace(count=self._shards[name].count(edge.CountRequest(filter=_filter(count_filter), exact=exact)))

    def scroll(self, name: str, limit: int, offset: Any, with_payload: Any, with_vectors: Any) -> tuple[list[Any], Any]:
        request = edge.ScrollRequest(offset=offset, limit=limit, with_payload=with_payload, with_vector=with_vectors)
        points, after = self._shards[name].scroll(request)
        return [_point(record) for record in points], after

    def query_points(self, name: str, prefetch: Any, query: models.FormulaQuery, limit: int, with_payload: Any) -> Any:
        request = edge.QueryRequest(
            limit=limit, query=_formula(query), prefetches=[_prefetch(one) for one in prefetch], with_payload=with_payload
        )
        began = time.process_time()
        points = self._shards[name].query(request)
        self.seconds += time.process_time() - began
        return SimpleNamespace(points=[_point(point) for point in points])

    def optimise(self, name: str) -> None:
        """Writes the codes of all vectors, as a server does by itself after a while."""
        self._shards[name].optimize()
        self._shards[name].flush()

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()


def _vector_params(params: models.VectorParams) -> Any:
    assert params.multivector_config is not None
    assert params.distance == models.Distance.DOT
    quantization = None
    if params.quantization_config is not None:
        assert isinstance(params.quantization_config, models.TurboQuantization)
        turbo = params.quantization_config.turbo
        assert turbo.bits == models.TurboQuantBitSize.BITS4
        quantization = edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits4, always_ram=turbo.always_ram)
    half = params.datatype == models.Datatype.FLOAT16
    return edge.EdgeVectorParams(
        size=params.size,
        distance=edge.Distance.Dot,
        on_disk=params.on_disk,
        multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
        datatype=edge.VectorStorageDatatype.Float16 if half else edge.VectorStorageDatatype.Float32,
        quantization_config=quantization,
        hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
    )


def _prefetch(one: models.Prefetch) -> Any:
    nested = [_prefetch(inner) for inner in one.prefetch or []]
    return edge.Prefetch(
        limit=one.limit,
        query=edge.Query.Nearest(one.query, one.using),
        prefetches=nested or None,
        params=_search_params(one.params),
        filter=_filter(one.filter),
    )


def _search_params(params: Any) -> Any:
    rescore = None if params.quantization is None else edge.QuantizationSearchParams(rescore=params.quantization.rescore)
    return edge.SearchParams(exact=bool(params.exact), quantization=rescore)


def _formula(query: models.FormulaQuery) -> Any:
    """A weighted sum of scores, the only formula that is asked for."""
    assert isinstance(query.formula, models.SumExpression)
    parts = []
    for term in query.formula.sum:
        assert isinstance(term, models.MultExpression)
        weight, score = term.mult
        parts.append(edge.Expression.Mult([edge.Expression.Constant(weight), edge.Expression.Variable(score)]))
    return edge.Formula(edge.Expression.Sum(parts), query.defaults)


def _filter(condition: Any) -> Any:
    if condition is None:
        return None
    lists = {name: getattr(condition, name) for name in ("must", "should", "must_not")}
    return edge.Filter(**{name: [_condition(one) for one in some] for name, some in lists.items() if some is not None})


def _condition(one: Any) -> Any:
    if isinstance(one, models.HasIdCondition):
        return edge.HasIdCondition(set(one.has_id))
    if isinstance(one, models.Filter):
        return _filter(one)
    assert isinstance(one, models.FieldCondition)
    if one.range is not None:
        return edge.FieldCondition(key=one.key, range=edge.RangeFloat(**one.range.model_dump()))
    match = one.match
    return edge.FieldCondition(
        key=one.key, match=edge.MatchAny(match.any) if isinstance(match, models.MatchAny) else edge.MatchValue(match.value)
    )


def _point(point: Any) -> Any:
    return SimpleNamespace(id=str(point.id), score=getattr(point, "score", None), payload=point.payload, vector=point.vector)
