"""What an index and a search need of a method's model. Nothing here imports torch, so that a search without it can start."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from prvr.features.reading import Reading
from prvr.features.sources import FeatureSources
from prvr.methods.calibration import Calibration

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from prvr.nn.shapes import FrameMask, Frames, Places, WordMask, Words

    Embeddings = tuple[Tensor, ...]
else:
    Embeddings = tuple
"""The embeddings of queries or of videos: one tensor for each of a model's `embedding_fields`, first axis Q or V.

Where a search makes queries itself, they are NumPy arrays.
"""


@runtime_checkable
class StoredModel(Protocol):
    """What is needed of a model to search the rows that it made; its attributes are those of `Model`."""

    reading: Reading
    embedding_fields: tuple[str, ...]
    frame_fields: tuple[str, ...]
    score_weights: tuple[float, ...] | None

    def relevance(self, query: Any, video: Any) -> Any: ...


@runtime_checkable
class ArrayModel(StoredModel, Protocol):
    """A model with a `relevance` that takes and returns arrays.

    has_frame_scores: whether `relevance` is of frames or clips, and not of the whole video alone.
    """

    has_frame_scores: bool

    def encode_sentence(self, rows: Any) -> Embeddings:
        """The query embeddings, a first axis of 1, of the rows that the model reads of a sentence."""
        ...


@runtime_checkable
class KeepsRows(Protocol):
    """A model that stores frames as their encoder returned them, in its first field if that is one of its `frame_fields`."""

    keeps_rows: bool


@runtime_checkable
class Model(StoredModel, Protocol):
    """A method with its weights; every implementation is also an `nn.Module`.

    `config` are its settings, `reading` says how features must be read for it, `embedding_fields` names what `encode_videos`
    returns. The `frame_fields` among them have a row for each frame; every other field has the same number of rows for every
    video, all real. `score_weights`: the weights of the fields, where the score is the weighted sum over fields of the best
    row's cosine with the query's one vector of that field; None where it is anything else. Then an index holds all rows in
    memory and the model scores them; an approximate search needs a `Reranked` model.

    `places` says where the mask, flattened, is True, as in a `Batch`; None where that is not known.
    """

    config: Any

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings: ...

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None) -> Embeddings: ...

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """The scores that videos are ranked by."""
        ...

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "P"]:
        """The scores along one video for one query; both have a first axis of 1, and the video has no padding.

        P parts divide the video's frames evenly: its frames themselves, or clips.
        """
        ...


@runtime_checkable
class Reranked(Protocol):
    """A model without `score_weights`; a weighted sum of best cosines selects candidates that hold its best videos.

    candidate_weights: of the embedding fields, in that sum; 0 leaves a field out. The first fields of a query's embeddings are
        vectors for those of the videos.
    """

    candidate_weights: tuple[float, ...]


if TYPE_CHECKING:

    class Described(Protocol):
        """What a search needs of a checkpoint (`prvr.methods.checkpoint.Checkpoint`)."""

        @property
        def method(self) -> str: ...
        @property
        def settings(self) -> Any: ...
        @property
        def sources(self) -> FeatureSources: ...
        @property
        def model(self) -> StoredModel: ...
        @property
        def about(self) -> dict[str, Any]: ...
        @property
        def calibration(self) -> Calibration | None: ...
        @property
        def fingerprint(self) -> str: ...

else:
    # Checked by mypy alone: to ask an object for its fingerprint takes the SHA-256 of its weights.
    Described = object


def digest_of(method: str, settings: dict[str, Any], sources: FeatureSources) -> hashlib._Hash:
    """The SHA-256 that identifies a model, before its weights are added."""
    read = [[s.name, s.columns, s.fingerprint, s.rate] for s in sources.each]
    return hashlib.sha256(json.dumps([method, settings, read], sort_keys=True).encode())


def weights_of_candidates(model: StoredModel) -> tuple[float, ...] | None:
    """The weights by which an approximate search chooses videos; None if the model has none."""
    if model.score_weights is None and isinstance(model, Reranked):
        return model.candidate_weights
    return model.score_weights
