"""The timed texts of an index, found by words and by meaning: in its SQLite file (`prvr.index.text_tables`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, final, runtime_checkable

from prvr.encoders.timed_texts import TextSink, TextSource, TextsPart, TimedText
from prvr.errors import SettingError
from prvr.index.text_embeddings import Direction, NearestText, TextBackground, TextEmbedding
from prvr.index.text_tables import FoundTexts, TextTables
from prvr.index.words import Term


class TextStore(TextSink, Protocol):
    """The timed texts of an index. A video's texts are deleted with it, and stay when it is renamed."""

    def read(self, video: str, *, start: float = -math.inf, end: float = math.inf) -> list[TimedText]:
        """The texts of a video that begin from a second up to another one, in the order of their times; none of a video that is
        not there."""
        ...

    def count(self) -> dict[str, int]:
        """The number of videos with texts of each kind that there are."""
        ...

    def weights(self) -> str | None:
        """The text that `keep_weights` wrote last."""
        ...

    def keep_weights(self, text: str | None) -> None:
        """Writes the weights of texts beside a picture, in place of those there; nothing for None."""
        ...

    def find(self, terms: Sequence[Term], *, kinds: Collection[str], videos: Collection[str] | None = None) -> FoundTexts:
        """The texts that have all required terms and any of all, CANDIDATES of them, best first (BM25).

        Args:
            kinds: of texts. videos: only texts of these; None for all. Terms are counted in all videos.
        """
        ...

    def nearest(
        self, sentence: Direction, count: int, *, kinds: Collection[str], videos: Collection[str] | None = None
    ) -> list[NearestText]:
        """The videos with the texts nearest in meaning to a sentence of unit length, the nearest first.

        Args:
            kinds: of texts. videos: only these; None for all.
        """
        ...

    def background(self) -> TextBackground | None:
        """What the embeddings of texts are made by, and rows of unrelated sentences; None if there are none."""
        ...

    def keep_background(self, background: TextBackground) -> None:
        """Writes what the embeddings are made by, in place of what was there."""
        ...

    def videos_to_embed(self, made_by: str) -> list[str]:
        """The videos of which a text lacks an embedding made by this (`text_windows.embedded_by`)."""
        ...

    def embeddings(self, video: str) -> list[TextEmbedding]:
        """The embeddings of a video's texts."""
        ...

    def keep_embeddings(
        self, video: str, made_by: str, add: Sequence[TextEmbedding], *, drop: Collection[str] = (), is_complete: bool
    ) -> None:
        """Adds embeddings to a video and removes some by their keys, in one transaction.

        Args:
            is_complete: all texts of the video have their embeddings now.
        """
        ...


@runtime_checkable
class HasTexts(Protocol):
    """An index that holds timed texts."""

    @property
    def texts(self) -> TextStore: ...


def require_texts(index: object, what: str) -> TextStore:
    """The texts of an index.

    Raises:
        SettingError: it is of a kind that holds none.
    """
    if not isinstance(index, HasTexts):
        raise SettingError(
            f"{type(index).__name__} holds no timed texts, which {what} needs; copy the index to a folder or to shards of this "
            "machine: prvr index copy"
        )
    return index.texts


class VideoDatabase(Protocol):
    """The part of `prvr.index.database.Database` that texts need."""

    videos: dict[str, int]

    def reading(self) -> AbstractContextManager[None]: ...

    def writing(self) -> AbstractContextManager[None]: ...

    def number_of(self, id: str) -> int | None: ...

    @property
    def version(self) -> object: ...

    @property
    def text_tables(self) -> TextTables: ...


@final
class DiskTexts:
    """The texts in the file of an index. Threads may share it.

    Args:
        lock: of the index.
    """

    def __init__(self, database: VideoDatabase, lock: AbstractContextManager[Any]) -> None:
        self._database, self._lock = database, lock

    def read(self, video: str, *, start: float = -math.inf, end: float = math.inf) -> list[TimedText]:
        """The texts of a video that begin from a second up to another one, in the order of their times."""
        with self._lock, self._database.reading():
            number = self._database.videos.get(video)
            return [] if number is None else self._database.text_tables.read(number, start=start, end=end)

    def count(self) -> dict[str, int]:
        """The number of videos with texts of each kind that there are."""
        with self._lock, self._database.reading():
            return self._database.text_tables.count()

    def sources(self) -> dict[str, dict[str, TextSource]]:
        """What has been read, by video and kind."""
        with self._lock, self._database.reading():
            known = self._database.text_tables.sources()
            return {id: known[number] for id, number in self._database.videos.items() if number in known}

    def extend(self, video: str, kind: str, part: TextsPart, *, made_of: str, is_complete: bool, after: float = 0.0) -> None:
        """Adds the next texts of a kind to a video, in one transaction; texts that were made of something else are removed."""
        with self._lock, self._database.writing():
            if (number := self._database.number_of(video)) is not None:
                tables = self._database.text_tables
                tables.extend(number, kind, part, made_of=made_of, is_complete=is_complete, after=after)

    def readers(self) -> dict[str, str | None]:
        """The setting of the reader of each kind that was chosen; None for a kind that is not read."""
        with self._lock, self._database.reading():
            return self._database.text_tables.readers()

    def keep_readers(self, readers: Mapping[str, str | None]) -> None:
        """Notes what is read from now on, and removes the texts of kinds that are not."""
        with self._lock, self._database.reading():
            has_current_words = self._database.text_tables.has_current_words()
        # Words of an older version are folded again here, where `prvr index` begins.
        if readers != self.readers() or not has_current_words:
            with self._lock, self._database.writing():
                self._database.text_tables.keep_readers(readers)

    def weights(self) -> str | None:
        """The text that `keep_weights` wrote last."""
        with self._lock, self._database.reading():
            return self._database.text_tables.weights()

    def keep_weights(self, text: str | None) -> None:
        """Writes the weights of texts beside a picture, in place of those there; nothing for None."""
        with self._lock, self._database.writing():
            self._database.text_tables.keep_weights(text)

    def find(self, terms: Sequence[Term], *, kinds: Collection[str], videos: Collection[str] | None = None) -> FoundTexts:
        """The texts that have all required terms and any of all, CANDIDATES of them, best first (BM25)."""
        with self._lock, self._database.reading():
            return self._database.text_tables.find(terms, kinds, self._numbers_of(videos), self._names())

    def nearest(
        self, sentence: Direction, count: int, *, kinds: Collection[str], videos: Collection[str] | None = None
    ) -> list[NearestText]:
        """The videos with the texts nearest in meaning to a sentence of unit length, the nearest first."""
        with self._lock, self._database.reading():
            tables, allowed, version = self._database.text_tables.embeddings, self._numbers_of(videos), self._database.version
            return tables.nearest(sentence, count, kinds=kinds, videos=allowed, names=self._names(), version=version)

    def background(self) -> TextBackground | None:
        """What the embeddings of texts are made by, and rows of unrelated sentences."""
        with self._lock, self._database.reading():
            return self._database.text_tables.embeddings.background()

    def keep_background(self, background: TextBackground) -> None:
        """Writes what the embeddings are made by, in place of what was there."""
        with self._lock, self._database.writing():
            self._database.text_tables.embeddings.keep_background(background)

    def videos_to_embed(self, made_by: str) -> list[str]:
        """The videos of which a text lacks an embedding made by this (`text_windows.embedded_by`)."""
        with self._lock, self._database.reading():
            incomplete = self._database.text_tables.videos_to_embed(made_by)
            return [id for id, number in self._database.videos.items() if number in incomplete]

    def embeddings(self, video: str) -> list[TextEmbedding]:
        """The embeddings of a video's texts."""
        with self._lock, self._database.reading():
            number = self._database.videos.get(video)
            return [] if number is None else self._database.text_tables.embeddings.read(number)

    def keep_embeddings(
        self, video: str, made_by: str, add: Sequence[TextEmbedding], *, drop: Collection[str] = (), is_complete: bool
    ) -> None:
        """Adds embeddings to a video and removes some by their keys, in one transaction."""
        with self._lock, self._database.writing():
            if (number := self._database.number_of(video)) is not None:
                self._database.text_tables.embeddings.keep(number, made_by, add, drop=drop, is_complete=is_complete)

    def _numbers_of(self, videos: Collection[str] | None) -> list[int] | None:
        numbers = self._database.videos
        return None if videos is None else [numbers[id] for id in videos if id in numbers]

    def _names(self) -> dict[int, str]:
        return {number: id for id, number in self._database.videos.items()}
