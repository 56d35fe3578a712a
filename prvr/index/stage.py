"""The first stage of an approximate search: the sketches of all videos, scanned by FAISS (`IndexPQFastScan`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, UInt8

from prvr.device import map_in_threads
from prvr.errors import require
from prvr.index.sketches import Codebook, Sketch

# Segments that are scanned together, by one thread.
SEGMENTS_IN_PART = 1 << 19
# Segments that are asked for, for each video that is wanted: the best videos have several good ones.
SEGMENTS_A_VIDEO = 4


# The end of the last segment of a video, whose number of rows is not known here.
LAST = 1 << 30


class Candidates(NamedTuple):
    """The most promising videos for a query, best first, and of those that were found by some segments, these.

    of: the place in `numbers` of each segment's video. firsts, ends: its rows (`Segments`); the end may be beyond the last row.
    """

    numbers: Int[np.ndarray, "C"]
    of: Int[np.ndarray, "S"] = np.empty(0, np.int64)
    firsts: Int[np.ndarray, "S"] = np.empty(0, np.int64)
    ends: Int[np.ndarray, "S"] = np.empty(0, np.int64)


class _Part(NamedTuple):
    """Segments as FAISS holds them, and the place of the video and the first row of each."""

    index: Any
    places: Int32[np.ndarray, "S"]
    firsts: Int32[np.ndarray, "S"]


@runtime_checkable
class FindsCandidates(Protocol):
    """A first stage, ours or that of a benchmark."""

    def candidates(
        self, query: Sequence[Float[np.ndarray, "_"]], count: int, allowed: Collection[int] | None = None
    ) -> Candidates:
        """The most promising videos."""
        ...


class LearnedStage(NamedTuple):
    """A first stage that was made for a gallery, and the sketches of its videos by their numbers, to be kept.

    videos: the state of the file that they are of; None if the caller knows that all candidates are there.
    """

    stage: FindsCandidates
    codebook: Codebook
    sketches: dict[int, Sketch]
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
        # The codes of the last part, if more are added to it.
        self._codes = np.zeros((0, codebook.bytes_a_segment), np.uint8)
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

    def follow(self, numbers: Collection[int], new: Iterable[tuple[int, Sketch]]) -> None:
        """Makes these the videos that are searched.

        Args:
            new: the numbers, in ascending order, and the sketches of videos with numbers above `last`.
        """
        self.extend(new)
        self._alive = np.isin(self._numbers, list(numbers))

    def extend(self, new: Iterable[tuple[int, Sketch]]) -> None:
        """Adds videos; `new` is as in `follow`."""
        added: list[int] = []
        waiting: list[tuple[Int32[np.ndarray, "_"], Sketch]] = []
        count = len(self._codes)
        for number, sketch in new:
            waiting.append((np.full(len(sketch.codes), len(self._numbers) + len(added), np.int32), sketch))
            added.append(number)
            count += len(sketch.codes)
            if count >= SEGMENTS_IN_PART:
                self._fill(waiting)
                waiting, count = [], 0
        if waiting:
            self._fill(waiting)
        self._numbers = np.append(self._numbers, np.array(added, np.int64))
        self._alive = np.append(self._alive, np.ones(len(added), bool))

    def candidates(
        self, query: Sequence[Float[np.ndarray, "_"]], count: int, allowed: Collection[int] | None = None
    ) -> Candidates:
        """The videos with the best segments: `count`, or all where there are fewer.

        Args:
            query: a vector of unit length for each field with a weight.
            allowed: the numbers of the videos to search; all if None.
        """
        searched = self._alive if allowed is None else self._alive & np.isin(self._numbers, list(allowed))
        if count >= int(searched.sum()):
            return Candidates(self._numbers[searched])
        segments, total = SEGMENTS_A_VIDEO * count, sum(len(part.places) for part in self._parts)
        vector = self.codebook.project(np.concatenate(query)[None])
        while True:
            places, firsts, ends = self._best_segments(vector, segments)
            kept = searched[places]
            videos, first, of = np.unique(places[kept], return_index=True, return_inverse=True)
            if len(videos) >= count or segments >= total:
                order = np.argsort(first)[:count]
                # The rank of each video; those beyond `count` have none.
                ranks = np.full(len(videos), -1)
                ranks[order] = np.arange(len(order))
                of = ranks[of]
                return Candidates(self._numbers[videos[order]], of[of >= 0], firsts[kept][of >= 0], ends[kept][of >= 0])
            segments *= 4

    def _best_segments(
        self, vector: Float32[np.ndarray, "1 K"], segments: int
    ) -> tuple[Int32[np.ndarray, "S"], Int32[np.ndarray, "S"], Int32[np.ndarray, "S"]]:
        """The best segments, best first: the places of their videos, their first rows and their ends."""

        def search(part: _Part) -> tuple[np.ndarray, ...]:
            scores, found = part.index.search(vector, min(segments, len(part.places)))
            places, after = part.places[found[0]], np.minimum(found[0] + 1, len(part.places) - 1)
            # All segments of a video are in one part, one after the other.
            continued = (part.places[after] == places) & (after > found[0])
            return scores[0], places, part.firsts[found[0]], np.where(continued, part.firsts[after], LAST)

        scores, *found = (np.concatenate(values) for values in zip(*map_in_threads(search, self._parts), strict=True))
        best = np.argsort(-scores, kind="stable")[:segments]
        places, firsts, ends = (values[best] for values in found)
        return places, firsts, ends

    def _fill(self, added: Sequence[tuple[Int32[np.ndarray, "_"], Sketch]]) -> None:
        """Makes the last part anew, with more segments; a full one stays as it is."""
        last = self._parts[-1:] if len(self._codes) else []
        codes = np.concatenate([self._codes, *(sketch.codes for _, sketch in added)])
        places = np.concatenate([*(part.places for part in last), *(of for of, _ in added)])
        firsts = np.concatenate([*(part.firsts for part in last), *(sketch.firsts for _, sketch in added)])
        self._parts[len(self._parts) - len(last) :] = [_Part(self._faiss_index(codes), places, firsts)]
        self._codes = codes[:0] if len(codes) >= SEGMENTS_IN_PART else codes

    def _faiss_index(self, codes: UInt8[np.ndarray, "S B"]) -> Any:
        faiss, centroids = self._faiss, self.codebook.centroids
        plain = faiss.IndexPQ(2 * len(centroids), len(centroids), 4, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(np.ascontiguousarray(centroids).ravel(), plain.pq.centroids)
        faiss.copy_array_to_vector(np.ascontiguousarray(codes).ravel(), plain.codes)
        plain.is_trained, plain.ntotal = True, len(codes)
        return faiss.IndexPQFastScan(plain)
