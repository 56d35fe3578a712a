"""The exact index, in memory: every video is scored by the model itself. Tests compare every other index with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from prvr.batch import pad
from prvr.cpu import fast_products
from prvr.index.conditions import Condition, select
from prvr.index.contract import Entry, ScoredVideo, cast_entries
from prvr.index.moments import split_windows
from prvr.methods.contract import Embeddings, Model
from prvr.nn.scores import best_places, score_parts, unit_queries

# The frame scores of QUERIES_AT_ONCE queries with FRAMES_AT_ONCE frames are in memory at once, for each branch: 16 MiB of
# float32. Methods that take the best frame's cosine need 2 MiB at most (`scores.best_cosines`).
QUERIES_AT_ONCE = 2048
FRAMES_AT_ONCE = 2048
KEPT_BYTES = 1 << 30


class _Piece(NamedTuple):
    """The rows of each field of a video, or of one window where windows are scored one by one."""

    place: int
    fields: tuple[np.ndarray, ...]


class _Part(NamedTuple):
    """Pieces that are scored together."""

    places: list[int]
    videos: Embeddings
    mask: Tensor


@final
class ExactIndex:
    """A gallery for any method, in memory. Videos keep the order of addition."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._entries: dict[str, Entry] = {}
        self._kept: list[_Part] = []

    @property
    def ids(self) -> list[str]:
        """The videos of the gallery."""
        return list(self._entries)

    def __contains__(self, id: object) -> bool:
        return id in self._entries

    def count(self, *, where: Sequence[Condition] = ()) -> int:
        """The number of videos that meet all conditions."""
        return len(select(self.about(), where)) if where else len(self._entries)

    def add(self, entries: Sequence[Entry]) -> None:
        """Adds videos, or replaces those with the same ids.

        Raises:
            DataError: an embedding holds NaN or infinite values. Nothing is added or replaced then.
        """
        self._entries |= {entry.video: entry for entry in cast_entries(entries, "float32")}
        self._kept = []

    def delete(self, ids: Sequence[str]) -> None:
        """Removes videos. Unknown ids are ignored."""
        for id in ids:
            self._entries.pop(id, None)
        self._kept = []

    def fetch(self, ids: Sequence[str]) -> dict[str, Entry]:
        """The videos with these ids, by id. Unknown ids are left out."""
        return {id: self._entries[id] for id in ids if id in self._entries}

    def about(self) -> dict[str, dict[str, Any]]:
        """`Entry.about` of every video, by id."""
        return {id: dict(entry.about) for id, entry in self._entries.items()}

    def verify(self) -> dict[str, str]:
        """No faults: memory is not checked."""
        return {}

    def close(self) -> None:
        """Does nothing."""

    @fast_products()
    @torch.inference_mode()
    def scores(self, queries: Embeddings) -> Float[Tensor, "Q V"]:
        """The score of every video for every query; columns are in the order of `ids`."""
        queries = tuple(torch.as_tensor(field) for field in queries)
        windows = [self._pieces_of(entry) for entry in self._entries.values()]
        scores = torch.empty(len(queries[0]), sum(windows))
        # Many queries come once, as in an evaluation. Few queries are followed by others: the parts stay in memory for these.
        keep = KEPT_BYTES if len(scores) < QUERIES_AT_ONCE else 0
        for places, videos, mask in self._gallery(queries[0].device, keep=keep):
            for start in range(0, len(scores), QUERIES_AT_ONCE):
                block = slice(start, start + QUERIES_AT_ONCE)
                scores[block, places] = self.model.score(tuple(field[block] for field in queries), videos, mask).cpu()
        if scores.shape[1] > self.count():
            firsts = np.cumsum([0, *windows[:-1]])
            scores = torch.from_numpy(np.maximum.reduceat(scores.numpy(), firsts, axis=1))
        return scores

    def search(self, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[ScoredVideo]]:
        """The k best videos of each query among those that meet all conditions, best first; ties by id.

        Raises:
            SettingError: no video has the field of a condition.
        """
        column = {id: place for place, id in enumerate(self._entries)}
        ids = sorted(select(self.about(), where) if where else self._entries)
        scores = self.scores(queries)[:, [column[id] for id in ids]].numpy()
        weights = self.model.score_weights
        units = unit_queries(queries) if weights else []
        found = []
        for number, row in enumerate(scores):
            ranked = [(self._entries[ids[place]], float(row[place])) for place in best_places(row, k)]
            parts = [tuple(score_parts(entry.fields, units[number], weights)) if weights else () for entry, _ in ranked]
            found.append([ScoredVideo(entry.video, score, of, entry) for (entry, score), of in zip(ranked, parts, strict=True)])
        return found

    def _gallery(self, device: torch.device, *, keep: int) -> Iterator[_Part]:
        """All videos, part by part; they stay in memory for the next query where they need at most `keep` bytes."""
        if self._kept and self._kept[0].mask.device == device:
            yield from self._kept
            return
        kept: list[_Part] = []
        size = 0
        for pieces in self._parts():
            videos, mask = self._pad(pieces)
            size += sum(field.nbytes for field in videos)
            part = _Part([piece.place for piece in pieces], tuple(field.to(device) for field in videos), mask.to(device))
            kept = [*kept, part] if size <= keep else []
            yield part
        self._kept = kept if size <= keep else []

    def _pieces_of(self, entry: Entry) -> int:
        # A sum of best cosines is the same over all windows together.
        return len(entry.windows) if self.model.score_weights is None else 1

    def _parts(self) -> Iterator[list[_Piece]]:
        # Pieces of similar length together, so that there is little padding to score.
        pieces: list[_Piece] = []
        for entry in self._entries.values():
            cut = split_windows(self.model, entry) if self._pieces_of(entry) > 1 else [entry.fields]
            pieces += [_Piece(len(pieces) + number, fields) for number, fields in enumerate(cut)]
        part: list[_Piece] = []
        for length, piece in sorted(((self._length(piece), piece) for piece in pieces), key=lambda known: known[0]):
            if part and (length[-1] * (len(part) + 1) > FRAMES_AT_ONCE or self._length(part[0])[:-1] != length[:-1]):
                yield part
                part = []
            part.append(piece)
        if part:
            yield part

    def _length(self, piece: _Piece) -> tuple[int, ...]:
        """The number of rows of each field that must be the same within a part, because it is not padded; last, of frames."""
        names = self.model.embedding_fields
        fixed = [len(rows) for name, rows in zip(names, piece.fields, strict=True) if name not in self.model.frame_fields]
        return *fixed, len(piece.fields[self._frames])

    @property
    def _frames(self) -> int:
        """The position of a field with a row for each frame, else 0."""
        names = self.model.embedding_fields
        return next((place for place, name in enumerate(names) if name in self.model.frame_fields), 0)

    def _pad(self, pieces: Sequence[_Piece]) -> tuple[Embeddings, Bool[Tensor, "V F"]]:
        padded = [pad(rows) for rows in zip(*(piece.fields for piece in pieces), strict=True)]
        return tuple(values for values, _ in padded), padded[self._frames][1]
