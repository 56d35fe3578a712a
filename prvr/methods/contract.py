"""What every method offers to training, evaluation and search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from prvr.batch import Batch, Reading

Embeddings = tuple[Tensor, ...]
"""What a model makes of queries or of videos: a tensor for each of its `embedding_fields`, first axis Q or V."""

Terms = dict[str, Tensor]
"""Loss terms by name, weights included; the training loop sums them and logs each."""


@runtime_checkable
class Model(Protocol):
    """A method with its weights; every implementation is an `nn.Module`, too.

    `reading` says how features must be read for it, `embedding_fields` names what `encode_videos` gives. `frame_fields`
    are those of them with a row for each frame; each other has as many rows for every video, all real.
    `score_weights`: of the fields, where the score is the weighted sum over fields of the best row's cosine with the
    query's one vector of that field; None where it is anything else, and only an exact index can hold the method.

    Where `places` is given, it says where the mask, flattened, is True, as in a `Batch`.
    """

    reading: Reading
    embedding_fields: tuple[str, ...]
    frame_fields: tuple[str, ...]
    score_weights: tuple[float, ...] | None

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings: ...

    def encode_videos(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings: ...

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """What is ranked."""
        ...

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "P"]:
        """Where in a video: one query, one video, both with a first axis of 1, the video without padding.

        P parts divide the video's frames evenly: its frames themselves, or clips.
        """
        ...


class ReadsClips(Protocol):
    """A model whose `reading` has clips: it takes them beside the frames. Without, it makes them of the frames as given."""

    def encode_videos(
        self,
        frames: Float[Tensor, "V F E"],
        mask: Bool[Tensor, "V F"],
        places: Int[Tensor, "R"] | None = None,
        clips: Float[Tensor, "V N E"] | None = None,
    ) -> Embeddings: ...


Profile = Callable[[Any, Embeddings, Embeddings, Batch], Float[Tensor, "Q F"]]
"""The scores of each query along the frames of its own video, for a batch: `Model.relevance` for all of it at once."""

Contrast = Callable[[Float[Tensor, "Q V"], Int[Tensor, "Q"]], Float[Tensor, ""]]
"""A contrastive loss of inner products and targets: `losses.info_nce`, or one whose targets are soft."""

Gather = Callable[[Embeddings, Embeddings, Batch], tuple[Embeddings, Embeddings, Batch]]
"""The embeddings of queries and of videos, and their batch, of all processes that share a batch."""


def as_they_are(queries: Embeddings, videos: Embeddings, batch: Batch) -> tuple[Embeddings, Embeddings, Batch]:
    """What there is to gather where one process has the whole batch."""
    return queries, videos, batch


def embed(model: Model, batch: Batch, gather: Gather = as_they_are) -> tuple[Embeddings, Embeddings, Batch]:
    """The embeddings of a batch's queries and of its videos, and the batch that they are of: what objectives are given."""
    queries = model.encode_queries(batch.words, batch.word_mask, batch.word_places)
    videos = encode_videos(model, batch.frames, batch.frame_mask, batch.frame_places, batch.clips)
    return gather(queries, videos, batch)


def encode_videos(
    model: Model,
    frames: Float[Tensor, "V F E"],
    mask: Bool[Tensor, "V F"],
    places: Int[Tensor, "R"] | None = None,
    clips: Float[Tensor, "V N E"] | None = None,
) -> Embeddings:
    """`Model.encode_videos`, with the clips of the videos for a model that reads them (`ReadsClips`)."""
    if clips is None:
        return model.encode_videos(frames, mask, places)
    return cast(ReadsClips, model).encode_videos(frames, mask, places, clips)
