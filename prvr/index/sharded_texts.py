"""The timed texts of an index in shards: those of a video are in its shard."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, final

from prvr.encoders.timed_texts import TextSource, TextsPart, TimedText
from prvr.index.disk import DiskIndex
from prvr.index.text_embeddings import Direction, NearestText, TextBackground, TextEmbedding
from prvr.index.text_tables import FoundTexts
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

    def read(self, video: str, *, start: float = -math.inf, end: float = math.inf) -> list[TimedText]:
        """The texts of a video that begin from a second up to another one, in the order of their times."""
        texts: list[TimedText] = self._in_one(video, partial(_read, video=video, start=start, end=end))
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

    def weights(self) -> str | None:
        """The text that `keep_weights` wrote last."""
        found: str | None = self._in_all(lambda index: index.texts.weights())[0]
        return found

    def keep_weights(self, text: str | None) -> None:
        """Writes the weights of texts beside a picture, in place of those there; nothing for None."""
        self._in_all(partial(_keep_weights, text=text))

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

    def nearest(
        self, sentence: Direction, count: int, *, kinds: Collection[str], videos: Collection[str] | None = None
    ) -> list[NearestText]:
        """The videos with the texts nearest in meaning to a sentence of unit length, the nearest first."""
        chosen = None if videos is None else [*videos]
        found = self._in_all(partial(_nearest, sentence=sentence, count=count, kinds=[*kinds], videos=chosen))
        return sorted((one for part in found for one in part), key=lambda one: -one.cosine)[:count]

    def background(self) -> TextBackground | None:
        """What the embeddings of texts are made by, and rows of unrelated sentences."""
        found: TextBackground | None = self._in_all(lambda index: index.texts.background())[0]
        return found

    def keep_background(self, background: TextBackground) -> None:
        """Writes what the embeddings are made by, in place of what was there."""
        self._in_all(partial(_keep_background, background=background))

    def videos_to_embed(self, made_by: str) -> list[str]:
        """The videos of which a text lacks an embedding made by this (`text_windows.embedded_by`)."""
        return [id for ids in self._in_all(partial(_videos_to_embed, made_by=made_by)) for id in ids]

    def embeddings(self, video: str) -> list[TextEmbedding]:
        """The embeddings of a video's texts."""
        embeddings: list[TextEmbedding] = self._in_one(video, partial(_embeddings, video=video))
        return embeddings

    def keep_embeddings(
        self, video: str, made_by: str, add: Sequence[TextEmbedding], *, drop: Collection[str] = (), is_complete: bool
    ) -> None:
        """Adds embeddings to a video and removes some by their keys, in one transaction."""
        arguments = {"add": [*add], "drop": [*drop], "is_complete": is_complete}
        self._in_one(video, partial(_keep_embeddings, video=video, made_by=made_by, arguments=arguments))


def _read(index: DiskIndex, *, video: str, start: float, end: float) -> list[TimedText]:
    return index.texts.read(video, start=start, end=end)


def _keep_readers(index: DiskIndex, *, readers: dict[str, str | None]) -> None:
    index.texts.keep_readers(readers)


def _keep_weights(index: DiskIndex, *, text: str | None) -> None:
    index.texts.keep_weights(text)


def _extend(index: DiskIndex, *, video: str, kind: str, part: TextsPart, made_of: str, is_complete: bool, after: float) -> None:
    index.texts.extend(video, kind, part, made_of=made_of, is_complete=is_complete, after=after)


def _find(index: DiskIndex, *, terms: list[Term], kinds: list[str], videos: list[str] | None) -> FoundTexts:
    return index.texts.find(terms, kinds=kinds, videos=videos)


def _nearest(
    index: DiskIndex, *, sentence: Direction, count: int, kinds: list[str], videos: list[str] | None
) -> list[NearestText]:
    return index.texts.nearest(sentence, count, kinds=kinds, videos=videos)


def _keep_background(index: DiskIndex, *, background: TextBackground) -> None:
    index.texts.keep_background(background)


def _videos_to_embed(index: DiskIndex, *, made_by: str) -> list[str]:
    return index.texts.videos_to_embed(made_by)


def _embeddings(index: DiskIndex, *, video: str) -> list[TextEmbedding]:
    return index.texts.embeddings(video)


def _keep_embeddings(index: DiskIndex, *, video: str, made_by: str, arguments: dict[str, Any]) -> None:
    index.texts.keep_embeddings(video, made_by, **arguments)
