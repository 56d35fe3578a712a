"""An index in several files, each an index on disk. The best videos of all shards are among the best of each.

FOLDER/0-of-4/index.sqlite ... FOLDER/3-of-4/index.sqlite; the checksum of its id decides which one a video is in.

shards:///FOLDER?shards=4             in this process, one after the other
ray://ADDRESS/FOLDER?shards=4         each in an actor of a Ray cluster (`prvr.index.cluster`)

The number of shards is chosen when an index is created; later the names of the folders say it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, final, runtime_checkable
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from prvr.errors import ModelError, SettingError
from prvr.index.conditions import Condition, select
from prvr.index.contract import Entry, Header, ScoredVideo, cast_entries
from prvr.index.database import key_of
from prvr.index.disk import DiskIndex
from prvr.index.place import FILE
from prvr.index.sharded_texts import ShardedTexts
from prvr.methods.contract import Embeddings, Model
from prvr.nn.scores import best_places

Answer = TypeVar("Answer")
_Scored = tuple[str, float, tuple[float, ...]]
"""A video that a shard found: its id, its score and the parts of that."""

DEFAULT = 4


@runtime_checkable
class ShardPool(Protocol):
    """The open shards, in this process or elsewhere."""

    def call(self, functions: Mapping[int, Callable[[DiskIndex], Answer]]) -> dict[int, Answer]:
        """Calls a function with each of some shards, by their numbers; returns the results."""
        ...

    def close(self) -> None: ...


@final
class LocalShards:
    """The shards in this process, one after the other."""

    def __init__(self, paths: Sequence[Path], model: Model) -> None:
        with ExitStack() as opened:
            self._shards = [opened.enter_context(closing(DiskIndex(path, model))) for path in paths]
            opened.pop_all()

    def call(self, functions: Mapping[int, Callable[[DiskIndex], Answer]]) -> dict[int, Answer]:
        """Calls a function with each of some shards, by their numbers; returns the results."""
        return {number: function(self._shards[number]) for number, function in functions.items()}

    def close(self) -> None:
        """Closes the files."""
        for shard in self._shards:
            shard.close()


@final
class ShardedIndex:
    """An index in shards. Each video is in one of them, and so is replaced as a whole or not at all.

    Raises:
        ModelError: the shards are of different models.
    """

    def __init__(self, pool: ShardPool, count: int, model: Model) -> None:
        self.model = model
        self._pool, self._shards = pool, count
        self.texts = ShardedTexts(self._all, self._one)
        try:
            self.header = self._common_header()
        except BaseException:
            pool.close()
            raise

    @property
    def ids(self) -> list[str]:
        """The videos, in the order of their ids."""
        return sorted(id for ids in self._all(lambda index: index.ids) for id in ids)

    def __contains__(self, id: object) -> bool:
        if not isinstance(id, str):
            return False
        return self._one(id, lambda index: id in index)

    def count(self, *, where: Sequence[Condition] = ()) -> int:
        """The number of videos that meet all conditions."""
        return len(select(self.about(), where)) if where else sum(self._all(lambda index: index.count()))

    def add(self, entries: Sequence[Entry]) -> None:
        """Adds videos, or replaces those with the same ids, in one transaction for each shard.

        Raises:
            DataError: an embedding holds NaN or infinite values (nothing is added then), another process writes to a shard,
                or a disk is full (the videos of the other shards are added then).
        """
        parts: dict[int, list[Entry]] = {}
        for entry in cast_entries(entries, self.header.dtype):
            parts.setdefault(shard_of(entry.video, self._shards), []).append(entry)
        self._pool.call({shard: partial(_add, entries=part) for shard, part in parts.items()})

    def delete(self, ids: Sequence[str]) -> None:
        """Removes videos. Unknown ids are ignored."""
        self._pool.call({shard: partial(_delete, ids=part) for shard, part in self._by_shard(ids).items()})

    def fetch(self, ids: Sequence[str]) -> dict[str, Entry]:
        """The videos with these ids, by id. Unknown ids are left out.

        Raises:
            ModelError: one of them is damaged.
        """
        answers = self._pool.call({shard: partial(_fetch, ids=part) for shard, part in self._by_shard(ids).items()})
        entries = _merge(answers.values())
        return {id: entries[id] for id in ids if id in entries}

    def about(self) -> dict[str, dict[str, Any]]:
        """`Entry.about` of every video, by id."""
        return _merge(self._all(lambda index: index.about()))

    def search(self, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[ScoredVideo]]:
        """The k best videos of each query among those that meet all conditions, best first; ties by id.

        Raises:
            SettingError: no video has the field of a condition.
        """
        on_cpu = tuple(field.cpu() for field in queries)
        answers = self._all(lambda index: _search(index, on_cpu, k, where))
        if where and None in answers:
            # A shard has no video with the field of a condition: this raises if no shard has one.
            select(self.about(), where)
        found = [rows for rows in answers if rows is not None]
        return [self._best([scored for rows in found for scored in rows[place]], k) for place in range(len(queries[0]))]

    def _best(self, found: Sequence[_Scored], k: int) -> list[ScoredVideo]:
        """The k best of what the shards found. Only their rows are sent here."""
        known = sorted(found)
        ranked = [known[place] for place in best_places(np.array([score for _, score, _ in known]), k)]
        entries = self.fetch([id for id, _, _ in ranked])
        # Another process may have deleted a video since.
        return [ScoredVideo(id, score, parts, entries[id]) for id, score, parts in ranked if id in entries]

    def verify(self) -> dict[str, str]:
        """Faults by video; the key "" is for the files as a whole. Reads all of them."""
        answers = self._all(lambda index: index.verify())
        whole = [f"shard {shard}: {faults.pop('')}" for shard, faults in enumerate(answers) if "" in faults]
        return _merge(answers) | ({"": "; ".join(whole)} if whole else {})

    def close(self) -> None:
        """Closes the shards."""
        self._pool.close()

    def _common_header(self) -> Header:
        header, *others = self._all(lambda index: index.header)
        if any(other != header for other in others):
            raise ModelError("the shards are not those of one index: they name other models or folders; copy again")
        return header

    def _all(self, function: Callable[[DiskIndex], Answer]) -> list[Answer]:
        answers = self._pool.call(dict.fromkeys(range(self._shards), function))
        return [answers[shard] for shard in range(self._shards)]

    def _one(self, video: str, function: Callable[[DiskIndex], Answer]) -> Answer:
        shard = shard_of(video, self._shards)
        return self._pool.call({shard: function})[shard]

    def _by_shard(self, ids: Sequence[str]) -> dict[int, list[str]]:
        parts: dict[int, list[str]] = {}
        for id in ids:
            parts.setdefault(shard_of(id, self._shards), []).append(id)
        return parts


def shard_of(video: str, count: int) -> int:
    """The number of the shard, out of `count`, that a video is in."""
    return zlib.crc32(key_of(video)) % count


def folder_of(url: str) -> Path:
    """The folder that holds all shards of a URL, and the checkpoint that made them; errors as `make_index`."""
    return _parse(url)[0]


def make_index(url: str, model: Model, header: Header) -> ShardedIndex:
    """The shards at a URL; created if they do not exist.

    Raises:
        SettingError: the URL has another form, or another number of shards than the folder.
        ModelError: a shard is missing or damaged.
    """
    _require_local(url)
    paths = make_shards(url, model, header)
    return ShardedIndex(LocalShards(paths, model), len(paths), model)


def open_index(url: str, model: Model) -> ShardedIndex:
    """The shards at a URL; errors as `make_index`."""
    _require_local(url)
    paths = find_shards(url)
    return ShardedIndex(LocalShards(paths, model), len(paths), model)


def shard_folders(url: str) -> list[Path]:
    """The folders of all shards at a URL, whether they exist or not.

    Raises:
        SettingError: as `make_index`.
    """
    folder, wanted = _parse(url)
    if urlsplit(url).scheme == "shards":
        _require_local(url)
    elif not urlsplit(url).netloc:
        raise SettingError(f"{url!r} names no cluster; write ray://HOST:PORT/FOLDER, ray://auto/FOLDER or ray://local/FOLDER")
    return _paths(folder, _count(folder, wanted) or wanted or DEFAULT)


def make_shards(url: str, model: Model, header: Header) -> list[Path]:
    """The folders of all shards at a URL. Missing ones are created, so that a copy fills them again.

    Raises:
        SettingError: as `make_index`.
    """
    paths = shard_folders(url)
    if there := [path for path in paths if (path / FILE).exists()]:
        # One that was lost is made like the others.
        with closing(DiskIndex(there[0], model)) as other:
            header = other.header
    for path in paths:
        DiskIndex.make(path, model, header).close()
    return paths


def find_shards(url: str) -> list[Path]:
    """The folders of all shards at a URL; errors as `make_index`."""
    folder, wanted = _parse(url)
    count = _count(folder, wanted)
    if count is None:
        raise ModelError(f"no shards in {folder}; copy an index there: prvr index copy INDEX {url}")
    paths = _paths(folder, count)
    if missing := [path.name for path in paths if not (path / FILE).exists()]:
        raise ModelError(f"{folder} lacks {', '.join(missing)}; put it back, or copy the index there again")
    return paths


def _parse(url: str) -> tuple[Path, int | None]:
    """The folder and the number of shards in a URL.

    Raises:
        SettingError: the URL has another form.
    """
    parts = urlsplit(url)
    options = parse_qs(parts.query, keep_blank_values=True)
    if options.keys() - {"shards"} or parts.fragment or len(parts.path.strip("/")) == 0:
        raise SettingError(f"{url!r} is not the URL of shards; write {parts.scheme}://.../FOLDER, or .../FOLDER?shards=N")
    count = options.get("shards", [None])[-1]
    if count is not None and not re.fullmatch(r"[1-9]\d{0,3}", count):
        raise SettingError(f"{url!r} asks for {count!r} shards; it takes a number from 1 to 9999")
    return Path(unquote(parts.path)), None if count is None else int(count)


def _require_local(url: str) -> None:
    if urlsplit(url).netloc:
        raise SettingError(f"{url!r} names a machine; shards of this one have three slashes: shards:///FOLDER")


def _count(folder: Path, wanted: int | None) -> int | None:
    """The number of shards by the names in a folder; None if there are none."""
    names = [re.fullmatch(r"\d+-of-(\d+)", path.name) for path in folder.iterdir()] if folder.is_dir() else []
    counts = {int(name[1]) for name in names if name}
    if len(counts) > 1:
        raise ModelError(f"{folder} holds shards of several indexes, of {sorted(counts)} shards; move all but one elsewhere")
    count = min(counts, default=None)
    if None not in (wanted, count) and wanted != count:
        raise SettingError(f"{folder} has {count} shards, not {wanted}; leave out ?shards=, or copy to another folder")
    return count


def _paths(folder: Path, count: int) -> list[Path]:
    return [folder / f"{shard}-of-{count}" for shard in range(count)]


def _add(index: DiskIndex, *, entries: list[Entry]) -> None:
    index.add(entries)


def _delete(index: DiskIndex, *, ids: list[str]) -> None:
    index.delete(ids)


def _fetch(index: DiskIndex, *, ids: list[str]) -> dict[str, Entry]:
    return index.fetch(ids)


def _search(index: DiskIndex, queries: Embeddings, k: int, where: Sequence[Condition]) -> list[list[_Scored]] | None:
    """What a shard finds, without rows; None if none of its videos has the field of a condition."""
    try:
        return [[(hit.video, hit.score, hit.parts) for hit in row] for row in index.search(queries, k, where=where)]
    except SettingError:
        return None


def _merge(parts: Iterable[Mapping[str, Answer]]) -> dict[str, Answer]:
    return {id: value for part in parts for id, value in part.items()}
