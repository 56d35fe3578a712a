"""The first stage of an approximate search: the sketches of all videos, scanned by FAISS (`IndexPQFastScan`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, UInt8

from prvr.device import map_in_threads
from prvr.errors import require
from prvr.index.sketches import Codebook

# Segments that are scanned together, by one thread.
SEGMENTS_IN_PART = 1 << 19
# Segments that are asked for, for each video that is wanted: the best videos have several good ones.
SEGMENTS_A_VIDEO = 4


class _Part(NamedTuple):
    """Segments as FAISS holds them, and the place of the video of each."""

    index: Any
    places: Int32[np.ndarray, "S"]


@runtime_checkable
class FindsCandidates(Protocol):
    """A first stage, ours or that of a benchmark."""

    def candidates(
        self, query: Sequence[Float[np.ndarray, "_"]], count: int, allowed: Collection[int] | None = None
    ) -> Int[np.ndarray, "C"]:
        """The numbers of the most promising videos, best first."""
        ...


class LearnedStage(NamedTuple):
    """A first stage that was made for a gallery, and the sketches of its videos by their numbers, to be kept.

    videos: the state of the file that they are of; None if the caller knows that all candidates are there.
    """

    stage: FindsCandidates
    codebook: Codebook
    sketches: dict[int, UInt8[np.ndarray, "_ _"]]
    videos: dict[str, int] | None = None


@final
class FirstStage:
    """The sketches of videos by their numbers, which increase in the order of addition.

    Raises:
        SettingError: FAISS is not installed.
    """

    def __init__(self, codebook: Codebook) -> None:
        self.codebook = codebook
        self._faiss = require("faiss", extra="index")
        self._parts: list[_Part] = []
        # The codes of the last part, which more are added to, and the places of their videos.
        self._codes = np.zeros((0, codebook.bytes_a_segment), np.uint8)
        self._places = np.zeros(0, np.int32)
        self._numbers: Int[np.ndarray, "V"] = np.empty(0, np.int64)
        self._alive: Bool[np.ndarray, "V"] = np.empty(0, bool)

    @property
    def last(self) -> int:
        """The largest number of a video here; 0 without videos."""
        return int(self._numbers[-1]) if len(self._numbers) else 0

    def __len__(self) -> int:
        return int(self._alive.sum())

    def is_mostly_gone(self, numbers: Collection[int]) -> bool:
        """Whether fewer than half of the videos here are among these: most of a scan would be of deleted ones."""
        return bool(2 * np.isin(self._numbers, list(numbers)).sum() < len(self._numbers))

    def follow(self, numbers: Collection[int], new: Iterable[tuple[int, UInt8[np.ndarray, "_ _"]]]) -> None:
        """Makes these the videos that are searched.

        Args:
            new: the numbers, in ascending order, and the sketches of videos with numbers above `last`.
        """
        self.extend(new)
        self._alive = np.isin(self._numbers, list(numbers))

    def extend(self, new: Iterable[tuple[int, UInt8[np.ndarray, "_ _"]]]) -> None:
        """Adds videos; `new` is as in `follow`."""
        added: list[int] = []
        codes, places, count = [self._codes], [self._places], 0
        for number, sketch in new:
            codes.append(sketch)
            places.append(np.full(len(sketch), len(self._numbers) + len(added), np.int32))
            added.append(number)
            count += len(sketch)
            if count >= SEGMENTS_IN_PART:
                self._fill(codes, places)
                codes, places, count = [self._codes], [self._places], 0
        if len(codes) > 1:
            self._fill(codes, places)
        self._numbers = np.append(self._numbers, np.array(added, np.int64))
        self._alive = np.append(self._alive, np.ones(len(added), bool))

    def candidates(
        self, query: Sequence[Float[np.ndarray, "_"]], count: int, allowed: Collection[int] | None = None
    ) -> Int[np.ndarray, "C"]:
        """The numbers of the videos with the best segments, best first: `count`, or all where there are fewer.

        Args:
            query: a vector of unit length for each field with a weight.
            allowed: the numbers of the videos to search; all if None.
        """
        searched = self._alive if allowed is None else self._alive & np.isin(self._numbers, list(allowed))
        if count >= int(searched.sum()):
            return self._numbers[searched]
        segments, total = SEGMENTS_A_VIDEO * count, sum(len(part.places) for part in self._parts)
        vector = self.codebook.project(np.concatenate(query)[None])
        while True:
            places = self._best_places(vector, segments)
            places = places[searched[places]]
            if len(places) >= count or segments >= total:
                return self._numbers[places[:count]]
            segments *= 4

    def _best_places(self, vector: Float32[np.ndarray, "1 K"], segments: int) -> Int32[np.ndarray, "C"]:
        """The places of the videos of the best segments, best first."""

        def search(part: _Part) -> tuple[Float32[np.ndarray, "S"], Int32[np.ndarray, "S"]]:
            scores, rows = part.index.search(vector, min(segments, len(part.places)))
            return scores[0], part.places[rows[0]]

        scores, places = (np.concatenate(found) for found in zip(*map_in_threads(search, self._parts), strict=True))
        ordered = places[np.argsort(-scores, kind="stable")[:segments]]
        _, firsts = np.unique(ordered, return_index=True)
        return ordered[np.sort(firsts)]

    def _fill(self, codes: Sequence[UInt8[np.ndarray, "_ B"]], places: Sequence[Int32[np.ndarray, "_"]]) -> None:
        """Makes the last part anew, with more segments; a full one stays as it is."""
        all_codes, all_places = np.concatenate(codes), np.concatenate(places)
        index = self._faiss_index(all_codes)
        self._parts = [*(self._parts[:-1] if len(self._places) else self._parts), _Part(index, all_places)]
        full = len(all_places) >= SEGMENTS_IN_PART
        self._codes, self._places = (all_codes[:0], all_places[:0]) if full else (all_codes, all_places)

    def _faiss_index(self, codes: UInt8[np.ndarray, "S B"]) -> Any:
        faiss, centroids = self._faiss, self.codebook.centroids
        plain = faiss.IndexPQ(2 * len(centroids), len(centroids), 4, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(np.ascontiguousarray(centroids).ravel(), plain.pq.centroids)
        faiss.copy_array_to_vector(np.ascontiguousarray(codes).ravel(), plain.codes)
        plain.is_trained, plain.ntotal = True, len(codes)
        return faiss.IndexPQFastScan(plain)
