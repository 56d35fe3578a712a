"""The codes of an index in memory, which a reader keeps in step with the file, and the exact best among what they promise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Int

from prvr.index.coarse import FirstStage, Sketch, columns_of, sketched
from prvr.index.contract import contributions, units
from prvr.index.proven import Along, Setting
from prvr.index.scan import Codes, Gallery, best_places, join

VIDEOS_AT_ONCE = 256

Rows = Callable[[int], Sequence[Float[np.ndarray, "_ _"]]]


@final
class Resident:
    """Codes of videos by their numbers, for a score that is the weighted sum over fields of the best row's cosine."""

    def __init__(self, weights: tuple[float, ...]) -> None:
        self._weights = weights
        self._gallery: Gallery | None = None
        # Of steps of settings, and what all were made for.
        self._sketches: dict[tuple[float, int, bool], Sketch] = {}
        self._sketched_for: object = None
        self._numbers: Int[np.ndarray, "V"] = np.empty(0, np.int64)
        self._alive: Bool[np.ndarray, "V"] = np.empty(0, bool)

    def follow(self, numbers: Sequence[int], codes: Callable[[int], list[Codes]]) -> None:
        """Holds just these videos: reads the codes of those that are new."""
        self._alive &= np.isin(self._numbers, numbers)
        if self._gallery is not None and 2 * self._alive.sum() < len(self._numbers):
            # More rows are scanned in vain than not.
            self._gallery, self._sketches, self._numbers, self._alive = None, {}, self._numbers[:0], self._alive[:0]
        there = set(self._numbers.tolist())
        new = [number for number in numbers if number not in there]
        for start in range(0, len(new), VIDEOS_AT_ONCE):
            part = new[start : start + VIDEOS_AT_ONCE]
            self._take(part, [codes(number) for number in part])

    def best(
        self, queries: Sequence[Float[np.ndarray, "_"]], k: int, *, rows: Rows, allowed: Collection[int] | None = None
    ) -> list[tuple[float, int]]:
        """The exact scores and numbers of at least the k best videos, in no order.

        Args:
            queries: a vector for each field.
            rows: gives a video's embeddings by its number, which alone decide.
        """
        if self._gallery is None:
            return []
        scores, bounds = self._gallery.scores(queries)
        places = best_places(scores, bounds, k, self._among(allowed))
        return self._decided(queries, k, places, scores[places] + bounds[places], rows)

    def most(
        self,
        queries: Sequence[Float[np.ndarray, "_"]],
        k: int,
        *,
        rows: Rows,
        setting: Setting,
        keep: Sequence[int],
        allowed: Collection[int] | None = None,
    ) -> list[tuple[float, int]]:
        """As `best`, of those videos alone that the sketches promise most of; after `sketch`.

        Args:
            keep: how many videos each step of the setting lets through.
        """
        if self._gallery is None:
            return []
        stage = FirstStage(self._gallery, [self._sketches[step.sketch] for step in setting.steps])
        places = stage.candidates(queries, k, keep, self._among(allowed))
        return self._decided(queries, k, places, np.full(len(places), np.inf), rows)

    def sketch(self, setting: Setting, along: Along, *, since: int) -> None:
        """Makes the sketches of a setting, if they are not there; videos that come later are sketched with them.

        Args:
            along: of each field, a direction that queries have in common.
            since: makes all sketches again where it is another one than before.
        """
        if self._gallery is None:
            return
        if self._sketched_for != (along, since):
            self._sketches, self._sketched_for = {}, (along, since)
        missing = [step for step in setting.steps if step.sketch not in self._sketches]
        if missing:
            most = max(step.columns for step in missing)
            columns = columns_of(self._gallery, most, along=[np.array(of_field, np.float32) for of_field in along])
            for step in missing:
                its = [of_field.first(step.columns) for of_field in columns]
                self._sketches[step.sketch] = sketched(self._gallery, its, share=step.share, heaviest=step.heaviest)

    def _among(self, allowed: Collection[int] | None) -> Bool[np.ndarray, "V"]:
        return self._alive if allowed is None else self._alive & np.isin(self._numbers, list(allowed))

    def _decided(
        self,
        queries: Sequence[Float[np.ndarray, "_"]],
        k: int,
        places: Int[np.ndarray, "C"],
        upper: Float[np.ndarray, "C"],
        rows: Rows,
    ) -> list[tuple[float, int]]:
        """The exact scores of candidates, the most promising first, until none that is left can be among the k best."""
        upper = np.maximum.accumulate(upper[::-1])[::-1]
        directions = units(queries)
        found: list[tuple[float, int]] = []
        least = -np.inf
        for done, place in enumerate(places.tolist()):
            if upper[done] < least:
                break
            number = int(self._numbers[place])
            found.append((score(rows(number), directions, self._weights), number))
            if len(found) >= k and (done % k == 0 or len(found) == k):
                least = sorted(known for known, _ in found)[-k]
        return found

    def promised(self, queries: Sequence[Float[np.ndarray, "_"]], k: int) -> list[tuple[float, int]]:
        """The scores by codes alone and the numbers of the k best videos by these, best first."""
        if self._gallery is None:
            return []
        scores, bounds = self._gallery.scores(queries)
        places = best_places(scores, np.zeros_like(bounds), k, self._alive)[:k]
        return [(float(scores[place]), int(self._numbers[place])) for place in places]

    def _take(self, numbers: list[int], codes: list[list[Codes]]) -> None:
        fields = [join(of_field) for of_field in zip(*codes, strict=True)]
        starts = [_starts([len(part.values) for part in of_field]) for of_field in zip(*codes, strict=True)]
        if self._gallery is None:
            self._gallery = Gallery(fields, starts, self._weights)
        else:
            self._gallery.add(fields, starts)
        for sketch in self._sketches.values():
            sketch.add(fields, starts)
        self._numbers = np.append(self._numbers, np.array(numbers, np.int64))
        self._alive = np.append(self._alive, np.ones(len(numbers), bool))


def score(rows: Sequence[Float[np.ndarray, "_ _"]], unit: Sequence[Float[np.ndarray, "_"]], weights: Sequence[float]) -> float:
    """A video's score: the sum of its `contributions`."""
    return float(sum(contributions(rows, unit, weights)))


def _starts(lengths: Sequence[int]) -> Int[np.ndarray, "N"]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
