"""The codes of an index in memory, and the search among them: only videos that may be among the best are scored exactly."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float, Int

from prvr.index.columns import find_columns
from prvr.index.contract import ScoredVideo
from prvr.index.database import Record
from prvr.index.scan import Codes, Gallery, candidate_places, join
from prvr.index.setting import MeanDirection, Setting
from prvr.index.sketches import FirstStage, Sketch, sketch_gallery
from prvr.nn.ranks import best_places, score_parts, tolerance

VIDEOS_AT_ONCE = 256

Query = Sequence[Float[np.ndarray, "_"]]
"""A vector of unit length for each field."""


class _Scored(NamedTuple):
    score: float
    parts: tuple[float, ...]
    record: Record


@final
class ResidentCodes:
    """Codes of videos by their numbers, for a score that is the weighted sum over fields of the best row's cosine."""

    def __init__(self, weights: tuple[float, ...]) -> None:
        self._weights = weights
        self._gallery: Gallery | None = None
        # By the arguments of each sketch, and what all of them were made for.
        self._sketches: dict[tuple[float, int, bool], Sketch] = {}
        self._sketched_for: object = None
        self._numbers: Int[np.ndarray, "V"] = np.empty(0, np.int64)
        self._alive: Bool[np.ndarray, "V"] = np.empty(0, bool)

    def follow(self, numbers: Collection[int], read: Callable[[int], list[Codes]]) -> None:
        """Makes these the videos that are held: reads the codes of new ones, ignores the places of deleted ones."""
        self._alive &= np.isin(self._numbers, list(numbers))
        if self._gallery is not None and 2 * self._alive.sum() < len(self._numbers):
            # Most rows of the scan would be of videos that are gone.
            self._gallery, self._sketches, self._numbers, self._alive = None, {}, self._numbers[:0], self._alive[:0]
        known = set(self._numbers.tolist())
        new = [number for number in numbers if number not in known]
        for start in range(0, len(new), VIDEOS_AT_ONCE):
            part = new[start : start + VIDEOS_AT_ONCE]
            self._add(part, [read(number) for number in part])

    def search(
        self, query: Query, k: int, *, read: Callable[[int], Record], allowed: Collection[int] | None = None
    ) -> list[ScoredVideo]:
        """The k best videos by their exact scores, best first; the first by id of scores that tie.

        Args:
            read: returns a video by its number; its rows alone decide.
            allowed: the numbers of the videos to search; all if None.
        """
        if self._gallery is None:
            return []
        alive = self._allowed_places(allowed)
        scores, errors = self._gallery.scores(query)
        places = candidate_places(scores, errors, k, alive)
        return self._best(query, k, places, scores[places] + errors[places], read)

    def search_approximately(
        self,
        query: Query,
        k: int,
        *,
        read: Callable[[int], Record],
        setting: Setting,
        candidates: Sequence[int],
        allowed: Collection[int] | None = None,
    ) -> list[ScoredVideo]:
        """As `search`, among the candidates of the sketches alone; after `sketch`.

        Args:
            candidates: how many videos each step of the setting keeps.
        """
        if self._gallery is None:
            return []
        stage = self._first_stage(self._gallery, setting)
        places = stage.candidates(query, k, candidates, self._allowed_places(allowed))
        return self._best(query, k, places, np.full(len(places), np.inf), read)

    def find_candidates(
        self, query: Query, *, setting: Setting, candidates: Sequence[int], allowed: Collection[int] | None = None
    ) -> list[int]:
        """The numbers of the videos that the sketches keep, for a model that scores them itself; after `sketch`."""
        if self._gallery is None:
            return []
        places = self._first_stage(self._gallery, setting).promising(query, candidates, self._allowed_places(allowed))
        return self._numbers[places].tolist()

    def search_by_codes(self, query: Query, k: int) -> list[tuple[int, float]]:
        """The numbers of the k best videos and their scores, both by the codes alone, best first."""
        if self._gallery is None:
            return []
        scores, errors = self._gallery.scores(query)
        places = candidate_places(scores, np.zeros_like(errors), k, self._alive)[:k]
        return [(int(self._numbers[place]), float(scores[place])) for place in places]

    def sketch(self, setting: Setting, mean_direction: MeanDirection, *, since: int) -> None:
        """Makes the sketches of a setting that do not exist; videos that are added later are sketched with them.

        Args:
            since: all sketches are made again where this or the direction is another one than before.
        """
        if self._gallery is None:
            return
        if self._sketched_for != (mean_direction, since):
            self._sketches, self._sketched_for = {}, (mean_direction, since)
        missing = [step for step in setting.steps if step.sketch not in self._sketches]
        if missing:
            count = max(step.columns for step in missing)
            directions = [np.array(of_field, np.float32) for of_field in mean_direction]
            columns = find_columns(self._gallery, count, along=directions)
            for step in missing:
                of_step = [of_field.first(step.columns) for of_field in columns]
                self._sketches[step.sketch] = sketch_gallery(self._gallery, of_step, share=step.share, heaviest=step.heaviest)

    def _first_stage(self, gallery: Gallery, setting: Setting) -> FirstStage:
        return FirstStage(gallery, [self._sketches[step.sketch] for step in setting.steps])

    def _allowed_places(self, allowed: Collection[int] | None) -> Bool[np.ndarray, "V"]:
        return self._alive if allowed is None else self._alive & np.isin(self._numbers, list(allowed))

    def _best(
        self,
        query: Query,
        k: int,
        places: Int[np.ndarray, "C"],
        upper: Float[np.ndarray, "C"],
        read: Callable[[int], Record],
    ) -> list[ScoredVideo]:
        """The k best of candidates by their exact scores. The most promising come first, until no other can be among them.

        Args:
            upper: the largest score that each candidate can have.
        """
        upper = np.maximum.accumulate(upper[::-1])[::-1]
        found: list[_Scored] = []
        least = -np.inf
        for done, place in enumerate(places.tolist()):
            if upper[done] < least:
                break
            record = read(int(self._numbers[place]))
            parts = score_parts(record.rows, query, self._weights)
            # Rows are large: those of videos that cannot be among the best are not kept.
            if sum(parts) >= least:
                found.append(_Scored(sum(parts), tuple(parts), record))
            if len(found) > k or done + 1 == k:
                scores = np.array([one.score for one in found])
                least = float(np.partition(scores, -k)[-k]) - tolerance(scores)
                found = [one for one in found if one.score >= least]
        found = sorted(found, key=lambda one: one.record.id)
        ranked = [found[place] for place in best_places(np.array([one.score for one in found]), k)]
        entries = [one.record.entry() for one in ranked]
        return [ScoredVideo(entry.video, one.score, one.parts, entry) for one, entry in zip(ranked, entries, strict=True)]

    def _add(self, numbers: list[int], codes: list[list[Codes]]) -> None:
        starts = [np.cumsum([0, *[len(part.values) for part in of_field]]) for of_field in zip(*codes, strict=True)]
        fields = [join(of_field) for of_field in zip(*codes, strict=True)]
        if self._gallery is None:
            self._gallery = Gallery(fields, starts, self._weights)
        else:
            self._gallery.add(fields, starts)
        for sketch in self._sketches.values():
            sketch.add(fields, starts)
        self._numbers = np.append(self._numbers, np.array(numbers, np.int64))
        self._alive = np.append(self._alive, np.ones(len(numbers), bool))
