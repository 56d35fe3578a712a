"""The exact index: every video of the gallery is scored by the model itself. Other indexes must agree with it.

It holds whatever a method makes of a video, in memory while training and on disk while serving: one store for each of
the model's embedding fields. A video is in the index when it is in every store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from prvr.batch import pad
from prvr.errors import DataError
from prvr.features.packed import Packed, PackedWriter, is_packed
from prvr.methods.contract import Embeddings, Model

# Frame scores of so many queries with so many frames are in memory at once, for each branch: 16 MiB of float32.
QUERIES_AT_ONCE = 2048
FRAMES_AT_ONCE = 2048
KEPT_BYTES = 1 << 30


class Found(NamedTuple):
    """A video and its score for a query."""

    video: str
    score: float


@runtime_checkable
class Store(Protocol):
    """Rows by id with a dictionary beside each, in memory or on disk."""

    def __contains__(self, id: object) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...

    def __getitem__(self, id: str) -> np.ndarray: ...

    def info(self, id: str) -> dict[str, Any]: ...

    def add(self, items: Sequence[tuple[str, np.ndarray, Mapping[str, Any]]]) -> None: ...

    def delete(self, ids: Sequence[str]) -> None: ...


class ExactIndex:
    """A gallery for any method. Videos keep the order they were added in."""

    def __init__(self, model: Model, stores: Mapping[str, Store]) -> None:
        self.model = model
        self._stores = dict(stores)
        self._kept: list[tuple[list[str], Embeddings, Tensor]] = []

    @staticmethod
    def in_memory(model: Model) -> ExactIndex:
        """An empty index that goes with the process."""
        return ExactIndex(model, {name: MemoryStore() for name in model.embedding_fields})

    @staticmethod
    def on_disk(model: Model, path: Path, *, about: Mapping[str, Any], dtype: str = "float16") -> ExactIndex:
        """An index in a folder, made or reopened; memory-mapped.

        Raises:
            DataError: the folder was made with another `about` or dtype.
        """
        return ExactIndex(model, {name: DiskStore(path / name, about, dtype) for name in model.embedding_fields})

    @property
    def ids(self) -> list[str]:
        """The videos of the gallery."""
        first, *others = self._stores.values()
        return [id for id in first if all(id in store for store in others)]

    def __contains__(self, id: object) -> bool:
        return all(id in store for store in self._stores.values())

    def info(self, id: str) -> dict[str, Any]:
        """What was said of a video when it was added."""
        return list(self._stores.values())[-1].info(id)

    def add(
        self,
        ids: Sequence[str],
        videos: Embeddings,
        mask: Bool[Tensor, "V F"],
        *,
        infos: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Adds videos, or replaces those of the same ids.

        Raises:
            DataError: an embedding holds NaN or infinite values; nothing is added or replaced then.
        """
        lengths = mask.sum(1).tolist()
        infos = [{}] * len(ids) if infos is None else infos
        self._kept = []
        # Copies: a part of a padded batch would keep all of it in memory.
        fields = [
            [values[:n].float().numpy().copy() for values, n in zip(field.detach().cpu(), lengths, strict=True)]
            for field in videos
        ]
        for id, *rows in zip(ids, *fields, strict=True):
            if not all(np.isfinite(of_field).all() for of_field in rows):
                raise DataError(f"the embedding of {id!r} holds NaN or infinite values")
        # Where this is cut off midway, a replaced video is missing, and never new in one field and old in another.
        for store in list(self._stores.values())[1:]:
            store.delete([id for id in ids if id in store])
        for store, items in zip(self._stores.values(), fields, strict=True):
            store.add(list(zip(ids, items, infos, strict=True)))

    def delete(self, ids: Sequence[str]) -> None:
        """Takes videos out; unknown ids are none of its business."""
        self._kept = []
        for store in self._stores.values():
            store.delete(ids)

    @torch.inference_mode()
    def scores(self, queries: Embeddings) -> Float[Tensor, "Q V"]:
        """The score of every video for every query; columns stand in the order of `ids`."""
        place = {id: column for column, id in enumerate(self.ids)}
        scores = torch.empty(len(queries[0]), len(place))
        # A bulk of queries is asked once, as in an evaluation, and what fewer ask is asked again: that stays ready.
        keep = KEPT_BYTES if len(scores) < QUERIES_AT_ONCE else 0
        for ids, videos, mask in self._gallery(queries[0].device, keep=keep):
            columns = torch.tensor([place[id] for id in ids])
            for start in range(0, len(scores), QUERIES_AT_ONCE):
                block = slice(start, start + QUERIES_AT_ONCE)
                scores[block, columns] = self.model.score(tuple(field[block] for field in queries), videos, mask).cpu()
        return scores

    def search(self, queries: Embeddings, k: int) -> list[list[Found]]:
        """The k best videos of each query, best first; ties in the order of `ids`."""
        ids, scores = self.ids, self.scores(queries)
        order = scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
        return [[Found(ids[v], float(row[v])) for v in places] for row, places in zip(scores, order.tolist(), strict=True)]

    @torch.inference_mode()
    def relevance(self, query: Embeddings, id: str) -> Float[Tensor, "F"]:
        """How relevant each frame of a video is to one query (a first axis of 1)."""
        videos, _ = self._padded([id])
        return self.model.relevance(query, tuple(field.to(query[0].device) for field in videos)).cpu()

    def _gallery(self, device: torch.device, *, keep: int) -> Iterator[tuple[list[str], Embeddings, Tensor]]:
        """All videos, part by part, with their ids; what fits into `keep` bytes stays ready for the next query."""
        if self._kept and self._kept[0][2].device == device:
            yield from self._kept
            return
        kept: list[tuple[list[str], Embeddings, Tensor]] = []
        size = 0
        for ids in self._parts():
            videos, mask = self._padded(ids)
            part = ids, tuple(field.to(device) for field in videos), mask.to(device)
            size += sum(field.nbytes for field in videos)
            kept = [*kept, part] if size <= keep else []
            yield part
        self._kept = kept if size <= keep else []

    def _parts(self) -> Iterator[list[str]]:
        # Videos of about one length together, so that there is little padding to score.
        first = next(iter(self._stores.values()))
        part: list[str] = []
        for rows, id in sorted(((len(first[id]), id) for id in self.ids), key=lambda known: known[0]):
            if part and rows * (len(part) + 1) > FRAMES_AT_ONCE:
                yield part
                part = []
            part.append(id)
        if part:
            yield part

    def _padded(self, ids: Sequence[str]) -> tuple[Embeddings, Bool[Tensor, "V F"]]:
        # Copies: a memory map cannot be written to, and torch warns of such arrays.
        fields = [pad([np.array(store[id], np.float32) for id in ids]) for store in self._stores.values()]
        return tuple(values for values, _ in fields), fields[0][1]


class MemoryStore:
    """Rows in a dictionary."""

    def __init__(self) -> None:
        self._items: dict[str, tuple[np.ndarray, Mapping[str, Any]]] = {}

    def __contains__(self, id: object) -> bool:
        return id in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __getitem__(self, id: str) -> np.ndarray:
        return self._items[id][0]

    def info(self, id: str) -> dict[str, Any]:
        """What was said of an item."""
        return dict(self._items[id][1])

    def add(self, items: Sequence[tuple[str, np.ndarray, Mapping[str, Any]]]) -> None:
        """Adds or replaces items."""
        for id, rows, info in items:
            self._items[id] = rows, info

    def delete(self, ids: Sequence[str]) -> None:
        """Takes items out."""
        for id in ids:
            self._items.pop(id, None)


class DiskStore:
    """Rows in a packed folder; a writer is there only while something is added or deleted."""

    def __init__(self, path: Path, about: Mapping[str, Any], dtype: str) -> None:
        self.path, self.about, self.dtype = path, about, dtype
        self._packed: Packed | None = None
        if is_packed(path):
            self._packed = Packed(path)
            there = self._packed.about, self._packed.dtype.name
            if there != (about, dtype):
                raise DataError(f"{path} was made with {there}, not {(about, dtype)}; use another folder")

    def __contains__(self, id: object) -> bool:
        return self._packed is not None and id in self._packed

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed or ())

    def __getitem__(self, id: str) -> np.ndarray:
        if self._packed is None:
            raise KeyError(id)
        return self._packed[id]

    def info(self, id: str) -> dict[str, Any]:
        """What was said of an item."""
        if self._packed is None:
            raise KeyError(id)
        return self._packed.info(id)

    def add(self, items: Sequence[tuple[str, np.ndarray, Mapping[str, Any]]]) -> None:
        """Adds or replaces items, all of them or none."""
        if items:
            with self._writer(items[0][1].shape[1]) as writer:
                writer.extend(items)
            self._packed = Packed(self.path)

    def delete(self, ids: Sequence[str]) -> None:
        """Takes items out."""
        if self._packed is not None and any(id in self._packed for id in ids):
            with self._writer(self._packed.columns) as writer:
                for id in ids:
                    writer.delete(id)
            self._packed = Packed(self.path)

    def _writer(self, columns: int) -> PackedWriter:
        return PackedWriter(self.path, columns=columns, about=self.about, dtype=self.dtype)
