"""The timed texts of an index in shards: those of a video are in its shard."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, final

from prvr.encoders.timed_texts import TextSource, TextsPart, TimedText
from prvr.index.disk import DiskIndex
from prvr.index.texts import FoundTexts
from prvr.index.words import Term


@final
class ShardedTexts:
    """The texts of all shards, as `prvr.index.texts.TextStore`.

    Args:
        in_all: calls a function with every shard. in_one: calls it with the shard of a video.
    """

    def __init__(
        self,
        in_all: Callable[[Callable[[DiskIndex], Any]], list[Any]],
        in_one: Callable[[str, Callable[[DiskIndex], Any]], Any],
    ) -> None:
        self._in_all, self._in_one = in_all, in_one

    def read(self, video: str) -> list[TimedText]:
        """The texts of a video in the order of their times."""
        texts: list[TimedText] = self._in_one(video, partial(_read, video=video))
        return texts

    def count(self) -> dict[str, int]:
        """The number of videos with texts of each kind that there are."""
        counts = self._in_all(lambda index: index.texts.count())
        return {kind: sum(one.get(kind, 0) for one in counts) for kind in sorted({kind for one in counts for kind in one})}

    def sources(self) -> dict[str, dict[str, TextSource]]:
        """What has been read, by video and kind."""
        return {id: of for sources in self._in_all(lambda index: index.texts.sources()) for id, of in sources.items()}

    def readers(self) -> dict[str, str | None]:
        """The setting of the reader of each kind that was chosen."""
        readers: dict[str, str | None] = self._in_all(lambda index: index.texts.readers())[0]
        return readers

    def keep_readers(self, readers: Mapping[str, str | None]) -> None:
        """Notes what is read from now on, and removes the texts of kinds that are not."""
        self._in_all(partial(_keep_readers, readers=dict(readers)))

    def worth(self) -> str | None:
        """The text that `keep_worth` wrote last."""
        found: str | None = self._in_all(lambda index: index.texts.worth())[0]
        return found

    def keep_worth(self, text: str | None) -> None:
        """Writes what words are worth beside a picture, in place of what was there; nothing for None."""
        self._in_all(partial(_keep_worth, text=text))

    def extend(self, video: str, kind: str, part: TextsPart, *, made_of: str, is_complete: bool, after: float = 0.0) -> None:
        """Adds the next texts of a kind to a video, in one transaction; texts that were made of something else are removed."""
        to_extend = partial(_extend, video=video, kind=kind, part=part, made_of=made_of, is_complete=is_complete, after=after)
        self._in_one(video, to_extend)

    def find(self, terms: Sequence[Term], *, kinds: Collection[str], videos: Collection[str] | None = None) -> FoundTexts:
        """The best texts of each shard, and in how many videos of all each term is."""
        chosen = None if videos is None else [*videos]
        found = self._in_all(partial(_find, terms=[*terms], kinds=[*kinds], videos=chosen))
        counts = [sum(of_term) for of_term in zip(*(one.videos_with_term for one in found), strict=True)]
        return FoundTexts([text for one in found for text in one.texts], counts)


def _read(index: DiskIndex, *, video: str) -> list[TimedText]:
    return index.texts.read(video)


def _keep_readers(index: DiskIndex, *, readers: dict[str, str | None]) -> None:
    index.texts.keep_readers(readers)


def _keep_worth(index: DiskIndex, *, text: str | None) -> None:
    index.texts.keep_worth(text)


def _extend(index: DiskIndex, *, video: str, kind: str, part: TextsPart, made_of: str, is_complete: bool, after: float) -> None:
    index.texts.extend(video, kind, part, made_of=made_of, is_complete=is_complete, after=after)


def _find(index: DiskIndex, *, terms: list[Term], kinds: list[str], videos: list[str] | None) -> FoundTexts:
    return index.texts.find(terms, kinds=kinds, videos=videos)
