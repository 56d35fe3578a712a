"""An index in several files, each as an index on disk, asked together: the best of all are among the best of each.

FOLDER/0-of-4/index.sqlite ... FOLDER/3-of-4/index.sqlite; a video is in the one that its name says.

shards:///FOLDER?shards=4             asked in this process, one after the other
ray://ADDRESS/FOLDER?shards=4         each asked by an actor of a Ray cluster (`prvr.index.cluster`)

How many there are is said when an index is made, and known from its folder afterwards.
"""

from __future__ import annotations

import heapq
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, final, runtime_checkable
from urllib.parse import parse_qs, unquote, urlsplit

from prvr.errors import ModelError, SettingError
from prvr.index.contract import Entry, Found, Header, checked
from prvr.index.disk import FILE, DiskIndex
from prvr.index.record import key_of
from prvr.index.where import Condition, accepted
from prvr.methods.contract import Embeddings, Model

Answer = TypeVar("Answer")

DEFAULT = 4


@runtime_checkable
class Crew(Protocol):
    """Who has the shards open, wherever that is."""

    def ask(self, questions: Mapping[int, Callable[[DiskIndex], Answer]]) -> dict[int, Answer]:
        """What each of some shards, by number, answers to its question."""
        ...

    def close(self) -> None: ...


@final
class Here:
    """The shards in this process."""

    def __init__(self, paths: Sequence[Path], model: Model) -> None:
        self._shards = [DiskIndex(path, model) for path in paths]

    def ask(self, questions: Mapping[int, Callable[[DiskIndex], Answer]]) -> dict[int, Answer]:
        """One after the other."""
        return {number: question(self._shards[number]) for number, question in questions.items()}

    def close(self) -> None:
        """Lets the files go."""
        for shard in self._shards:
            shard.close()


@final
class ShardedIndex:
    """An index in shards. A video is in one of them alone, so that it is there whole or as it was before.

    Raises:
        ModelError: the shards are of different models.
    """

    def __init__(self, crew: Crew, number: int, model: Model) -> None:
        self.model = model
        self._crew, self._number = crew, number
        try:
            self.header = self._one_header()
        except BaseException:
            crew.close()
            raise

    @property
    def ids(self) -> list[str]:
        """The videos, by name."""
        return sorted(id for ids in self._all(lambda index: index.ids) for id in ids)

    def __contains__(self, id: object) -> bool:
        if not isinstance(id, str):
            return False
        number = self._place(id)
        return self._crew.ask({number: lambda index: id in index})[number]

    def count(self, *, where: Sequence[Condition] = ()) -> int:
        """How many videos there are that meet all conditions."""
        return len(accepted(self.about(), where)) if where else sum(self._all(lambda index: index.count()))

    def add(self, entries: Sequence[Entry]) -> None:
        """Adds videos, or replaces those of the same ids, in one transaction for each shard.

        Raises:
            DataError: an embedding holds NaN or infinite values (nothing is added then), another process writes to a shard,
                or a disk is full: what the others were given is there.
        """
        parts: dict[int, list[Entry]] = {}
        for entry in checked(entries, self.header.dtype):
            parts.setdefault(self._place(entry.video), []).append(entry)
        self._crew.ask({number: _adding(part) for number, part in parts.items()})

    def delete(self, ids: Sequence[str]) -> None:
        """Takes videos out; unknown ids are none of its business."""
        self._crew.ask({number: _deleting(part) for number, part in self._parts(ids).items()})

    def fetch(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Those of the videos that are there.

        Raises:
            ModelError: one of them is damaged.
        """
        answers = self._crew.ask({number: _fetching(part) for number, part in self._parts(ids).items()})
        entries = _joined(answers.values())
        return {id: entries[id] for id in ids if id in entries}

    def about(self) -> dict[str, dict[str, Any]]:
        """What is known of every video."""
        return _joined(self._all(lambda index: index.about()))

    def search(self, queries: Embeddings, k: int, *, where: Sequence[Condition] = ()) -> list[list[Found]]:
        """The k best videos of each query among those that meet all conditions, best first; ties by id.

        Raises:
            SettingError: a condition is about something that is known of no video.
        """
        asked = tuple(field.cpu() for field in queries)
        found = self._all(lambda index: _searched(index, asked, k, where))
        if where and None in found:
            # Of no video of that shard: whether of none at all, all of them say.
            accepted(self.about(), where)
        shards = [rows for rows in found if rows is not None]
        return [
            heapq.nsmallest(k, (hit for rows in shards for hit in rows[place]), key=lambda hit: (-hit.score, hit.video))
            for place in range(len(queries[0]))
        ]

    def verify(self) -> dict[str, str]:
        """What is wrong, by video; the name "" stands for the files as a whole. Reads all of them."""
        answers = self._all(lambda index: index.verify())
        whole = [f"shard {number}: {faults.pop('')}" for number, faults in enumerate(answers) if "" in faults]
        return _joined(answers) | ({"": "; ".join(whole)} if whole else {})

    def close(self) -> None:
        """Lets the shards go."""
        self._crew.close()

    def _one_header(self) -> Header:
        header, *others = self._all(lambda index: index.header)
        if any(other != header for other in others):
            raise ModelError("the shards are not those of one index: they name other models or folders; copy again")
        return header

    def _all(self, question: Callable[[DiskIndex], Answer]) -> list[Answer]:
        answers = self._crew.ask(dict.fromkeys(range(self._number), question))
        return [answers[number] for number in range(self._number)]

    def _parts(self, ids: Sequence[str]) -> dict[int, list[str]]:
        parts: dict[int, list[str]] = {}
        for id in ids:
            parts.setdefault(self._place(id), []).append(id)
        return parts

    def _place(self, id: str) -> int:
        return zlib.crc32(key_of(id)) % self._number


def make_index(url: str, model: Model, header: Header) -> ShardedIndex:
    """The shards at a URL, made if they are not there.

    Raises:
        SettingError: the URL is none of shards, or says another number than there are.
        ModelError: a shard is missing or broken.
    """
    _here(url)
    paths = made(url, model, header)
    return ShardedIndex(Here(paths, model), len(paths), model)


def open_index(url: str, model: Model) -> ShardedIndex:
    """The shards at a URL; errors as `make_index`."""
    _here(url)
    paths = shards_of(url)
    return ShardedIndex(Here(paths, model), len(paths), model)


def made(url: str, model: Model, header: Header) -> list[Path]:
    """The folders of all shards at a URL; those that are not there are made, so that a copy fills them again.

    Raises:
        SettingError: as `make_index`.
    """
    folder, asked = folder_of(url)
    number = _number(folder, asked) or asked or DEFAULT
    for path in _paths(folder, number):
        DiskIndex.make(path, model, header).close()
    return _paths(folder, number)


def shards_of(url: str) -> list[Path]:
    """The folders of all shards at a URL; errors as `make_index`."""
    folder, asked = folder_of(url)
    number = _number(folder, asked)
    if number is None:
        raise ModelError(f"no shards in {folder}; copy an index there: prvr index copy INDEX {url}")
    paths = _paths(folder, number)
    if missing := [path.name for path in paths if not (path / FILE).exists()]:
        raise ModelError(f"{folder} lacks {', '.join(missing)}; put it back, or copy the index there again")
    return paths


def folder_of(url: str) -> tuple[Path, int | None]:
    """The folder that a URL names, and how many shards it asks for.

    Raises:
        SettingError: it is none of shards.
    """
    parts = urlsplit(url)
    asked = parse_qs(parts.query, keep_blank_values=True)
    if asked.keys() - {"shards"} or parts.fragment or len(parts.path.strip("/")) == 0:
        raise SettingError(f"{url!r} is not the URL of shards; write {parts.scheme}://.../FOLDER, or .../FOLDER?shards=N")
    number = asked.get("shards", [None])[-1]
    if number is not None and not re.fullmatch(r"[1-9]\d{0,3}", number):
        raise SettingError(f"{url!r} asks for {number!r} shards; it takes a number from 1 to 9999")
    return Path(unquote(parts.path)), None if number is None else int(number)


def _here(url: str) -> None:
    if urlsplit(url).netloc:
        raise SettingError(f"{url!r} names a machine; shards of this one have three slashes: shards:///FOLDER")


def _number(folder: Path, asked: int | None) -> int | None:
    """How many shards the names in a folder say that there are."""
    names = [re.fullmatch(r"\d+-of-(\d+)", path.name) for path in folder.iterdir()] if folder.is_dir() else []
    numbers = {int(name[1]) for name in names if name}
    if len(numbers) > 1:
        raise ModelError(f"{folder} holds shards of several indexes, of {sorted(numbers)} shards; move all but one elsewhere")
    number = min(numbers, default=None)
    if None not in (asked, number) and asked != number:
        raise SettingError(f"{folder} has {number} shards, not {asked}; leave out ?shards=, or copy to another folder")
    return number


def _paths(folder: Path, number: int) -> list[Path]:
    return [folder / f"{place}-of-{number}" for place in range(number)]


def _adding(entries: list[Entry]) -> Callable[[DiskIndex], None]:
    return lambda index: index.add(entries)


def _deleting(ids: list[str]) -> Callable[[DiskIndex], None]:
    return lambda index: index.delete(ids)


def _fetching(ids: list[str]) -> Callable[[DiskIndex], dict[str, Entry]]:
    return lambda index: index.fetch(ids)


def _searched(index: DiskIndex, queries: Embeddings, k: int, where: Sequence[Condition]) -> list[list[Found]] | None:
    """What a shard finds; None where a condition is about something that is known of none of its videos."""
    try:
        return index.search(queries, k, where=where)
    except SettingError:
        return None


def _joined(parts: Iterable[Mapping[str, Answer]]) -> dict[str, Answer]:
    return {id: value for part in parts for id, value in part.items()}
