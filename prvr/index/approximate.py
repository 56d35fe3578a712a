"""Approximate search of an index on disk: the first stage that its file holds, and the candidates of that, scored exactly."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple, cast, final

import numpy as np
from jaxtyping import Float32

from prvr.errors import ModelError
from prvr.index.contract import Entry, ScoredVideo
from prvr.index.database import Database
from prvr.index.resident import Query, ResidentCodes, best_by_rows
from prvr.index.scan import candidate_places, score_videos
from prvr.index.setting import MeasuredSetting, Setting, measure_again, require_valid
from prvr.index.sketches import Codebook, Segments, divide, learn_codebook, weighted_fields
from prvr.index.stage import Candidates, FindsCandidates, FirstStage, LearnedStage
from prvr.methods.model import Embeddings, Model, StoredModel, weights_of_candidates
from prvr.nn.ranks import as_arrays, unit, unit_queries

# Videos whose segments a codebook is learned from.
SAMPLE = 600
# Segments of each of them, at most: a film of two hours has thousands.
SAMPLE_OF_VIDEO = 128
# The best PROMISING * k by the codes of the segments that were found are scored by all their codes; 4 lost no video of
# the ten best in 3,000 of the benchmark's gallery.
PROMISING = 10
# Where the rotation mixes at least `MIXED` columns with each other, the error of a row lies in no direction of its own: along a
# query it is hardly ever more than this many times its length divided by the root of the columns.
DEVIATIONS, MIXED = 6, 32


class _Kept(NamedTuple):
    """written: the setting as in the file. videos: the state of the file that the stage follows."""

    written: tuple[str, int] | None
    videos: dict[str, int]
    measured: MeasuredSetting
    stage: FirstStage


@final
class ApproximateSearch:
    """The first stage of an index on disk, for a model with weights of candidates. Within a transaction of its database."""

    def __init__(self, database: Database, model: StoredModel) -> None:
        self._database, self._model = database, model
        self._weights = weights_of_candidates(model) or ()
        self._path: Path = database.path.parent
        self._kept: _Kept | None = None

    def search(
        self,
        stage: FindsCandidates,
        queries: Embeddings,
        k: int,
        *,
        count: int,
        allowed: Collection[int] | None,
        resident: ResidentCodes | None,
    ) -> list[list[ScoredVideo]]:
        """The k best of `count` candidates of each query.

        Args:
            allowed: the numbers of the videos to search; all if None.
            resident: the codes, if they are in memory; None reads those of the candidates from the file.
        """
        found = [stage.candidates(query, count, allowed) for query in unit_queries(weighted_fields(queries, self._weights))]
        if self._model.score_weights is None:
            # With torch, which only models that score all rows themselves need.
            from prvr.index.rerank import rerank

            # Query by query: the rows of all candidates would not fit into memory.
            entries = ([record.entry() for record in self._database.records(of.numbers.tolist())] for of in found)
            return rerank(cast(Model, self._model), queries, k, entries)
        return [self._best(query, k, of, resident) for query, of in zip(unit_queries(queries), found, strict=True)]

    def kept(self) -> tuple[MeasuredSetting, FirstStage]:
        """The setting that is kept and its first stage, up to date with the file.

        Raises:
            ModelError: no setting is kept that is valid for the videos, or it is damaged.
        """
        videos, tables = self._database.videos, self._database.stage
        if self._kept is None or self._kept.videos is not videos:
            written, before, self._kept = tables.setting(), self._kept, None
            model = self._database.header.model
            measured = require_valid(written and written[0], self._path, model=model, numbers=videos.values())
            try:
                known = before is not None and before.written == written
                stage = before.stage if before is not None and known else FirstStage(tables.require_codebook())
                if stage.is_mostly_gone(videos.values()):
                    stage = FirstStage(stage.codebook)
                stage.follow(videos.values(), tables.sketches(stage.codebook.bytes_a_segment, after=stage.last))
                if len(stage) < len(videos):
                    raise ModelError(f"{len(videos) - len(stage)} videos in {self._path} have no sketch")
            except ModelError as problem:
                raise ModelError(f"{problem}; {measure_again(self._path)}") from None
            self._kept = _Kept(written, videos, measured, stage)
        return self._kept.measured, self._kept.stage

    def learn(self, queries: Embeddings, on_video: Callable[[int, int], None] | None) -> LearnedStage:
        """As `ApproximateStore.learn_stage`."""
        numbers = list(self._database.videos.values())
        if not numbers:
            raise ModelError(f"the index in {self._path} holds no videos; index some first: prvr index VIDEOS {self._path}")
        sample = np.concatenate([_sample(self._segments(number).vectors) for number in numbers[:: -(-len(numbers) // SAMPLE)]])
        fields = as_arrays(weighted_fields(queries, self._weights))
        codebook = learn_codebook(sample, np.concatenate([unit(field) for field in fields], axis=1))
        sketches = {}
        for number in numbers:
            sketches[number] = codebook.sketch(self._segments(number))
            if on_video:
                on_video(len(sketches), len(numbers))
        stage = FirstStage(codebook)
        stage.follow(numbers, sketches.items())
        return LearnedStage(stage, codebook, sketches, self._database.videos)

    def keep(self, setting: Setting, learned: LearnedStage, *, recall: float, queries: int) -> None:
        """As `ApproximateStore.keep_setting`."""
        numbers, codebook = self._database.numbers(), learned.codebook
        model = self._database.header.model
        measured = MeasuredSetting(setting, recall, queries, len(numbers), max(numbers, default=0), model)
        # Another process may have added videos since.
        sketches = (
            (number, learned.sketches[number] if number in learned.sketches else codebook.sketch(self._segments(number)))
            for number in numbers
        )
        self._database.stage.keep(measured.to_json(), codebook, sketches)

    def codebook(self) -> Codebook | None:
        """The codebook that sketches new videos; None without a first stage."""
        try:
            return self._database.stage.codebook()
        except ModelError:
            # A damaged one is of no use, and no reason not to add a video.
            self._database.stage.forget()
            return None

    def put(self, number: int, entry: Entry, codebook: Codebook | None) -> None:
        """Writes the sketch of a video."""
        if codebook is None:
            return
        try:
            sketch = codebook.sketch(divide(entry.fields, self._weights))
        except ModelError:
            # It is of embeddings with other columns.
            self._database.stage.forget()
        else:
            self._database.stage.put(number, sketch)

    def _best(self, query: Query, k: int, found: Candidates, resident: ResidentCodes | None) -> list[ScoredVideo]:
        """The k best of some videos: those that are best by their codes, by their rows."""
        weights, database, numbers = self._model.score_weights or (), self._database, found.numbers
        if not len(numbers):
            return []
        if resident is None:
            scores, errors = score_videos(query, weights, list(zip(*database.codes(numbers.tolist()), strict=True)))
        else:
            if len(found.of) and len(numbers) > PROMISING * k:
                numbers = numbers[np.argsort(-resident.score_segments(query, found), kind="stable")[: PROMISING * k]]
            scores, errors = resident.rescore(query, numbers)
        errors *= likely_share([len(field) for field in query])
        order = candidate_places(scores, errors, k)
        return best_by_rows(query, k, numbers[order], (scores + errors)[order], database.records, weights)

    def _segments(self, number: int) -> Segments:
        return divide(self._database.record(number).rows, self._weights)


def likely_share(columns: Sequence[int]) -> float:
    """The share of the largest possible error of a code that an error along a query hardly ever exceeds."""
    # The largest power of two that divides the columns is the size of the rotation's blocks.
    is_mixed = all(count & -count >= MIXED for count in columns)
    return min(1.0, DEVIATIONS / min(columns) ** 0.5) if is_mixed else 1.0


def _sample(vectors: Float32[np.ndarray, "S D"]) -> Float32[np.ndarray, "N D"]:
    """At most `SAMPLE_OF_VIDEO` of a video's segments, evenly spaced; copied, so that the others are not held."""
    return np.ascontiguousarray(vectors[:: -(-len(vectors) // SAMPLE_OF_VIDEO)])
