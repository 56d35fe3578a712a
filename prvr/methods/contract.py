"""What every method offers to training, evaluation and search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from prvr.batch import Batch, Reading

Embeddings = tuple[Tensor, ...]
"""What a model makes of queries or of videos: a tensor for each of its `embedding_fields`, first axis Q or V."""

Terms = dict[str, Tensor]
"""Loss terms by name, weights included; the training loop sums them and logs each."""


@runtime_checkable
class Model(Protocol):
    """A method with its weights; every implementation is an `nn.Module`, too.

    `reading` says how features must be read for it, `embedding_fields` names what `encode_videos` gives.
    """

    reading: Reading
    embedding_fields: tuple[str, ...]

    def encode_queries(self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"]) -> Embeddings: ...

    def encode_videos(self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"]) -> Embeddings: ...

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """What is ranked."""
        ...

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """Where in a video: one query, one video, both with a first axis of 1, the video without padding."""
        ...


Gather = Callable[[Embeddings, Embeddings, Batch], tuple[Embeddings, Embeddings, Batch]]
"""The embeddings of queries and of videos, and their batch, of all processes that share a batch."""


def as_they_are(queries: Embeddings, videos: Embeddings, batch: Batch) -> tuple[Embeddings, Embeddings, Batch]:
    """What there is to gather where one process has the whole batch."""
    return queries, videos, batch
