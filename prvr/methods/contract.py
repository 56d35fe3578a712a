"""What every method offers to training, evaluation and search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor, nn

from prvr.batch import Batch, Reading
from prvr.nn import scores
from prvr.nn.scores import Comparison
from prvr.nn.shapes import Clips, FrameMask, Frames, Places, WordMask, Words

Embeddings = tuple[Tensor, ...]
"""The embeddings of queries or of videos: one tensor for each of a model's `embedding_fields`, first axis Q or V."""

Terms = dict[str, Tensor]
"""Loss terms by name, weights included; the training loop sums them and logs each."""


@runtime_checkable
class Model(Protocol):
    """A method with its weights; every implementation is also an `nn.Module`.

    `config` are its settings, `reading` says how features must be read for it, `embedding_fields` names what `encode_videos`
    returns. The `frame_fields` among them have a row for each frame; every other field has the same number of rows for every
    video, all real. `score_weights`: the weights of the fields, where the score is the weighted sum over fields of the best
    row's cosine with the query's one vector of that field; None where it is anything else. Then an index holds all rows in
    memory and the model scores them; an approximate search needs a `Reranked` model.

    `places` says where the mask, flattened, is True, as in a `Batch`; None where that is not known.
    """

    config: Any
    reading: Reading
    embedding_fields: tuple[str, ...]
    frame_fields: tuple[str, ...]
    score_weights: tuple[float, ...] | None

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


class ReadsClips(Protocol):
    """A model that reads clips beside the frames; without clips it makes them from the frames."""

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None, clips: Clips = None) -> Embeddings: ...


@runtime_checkable
class Reranked(Protocol):
    """A model without `score_weights`; a weighted sum of best cosines selects candidates that hold its best videos.

    candidate_weights: of the embedding fields, in that sum; 0 leaves a field out. The first fields of a query's embeddings are
        vectors for those of the videos.
    """

    candidate_weights: tuple[float, ...]


Profile = Callable[[Any, Embeddings, Embeddings, Batch], Float[Tensor, "Q F"]]
"""The scores of each query along the frames of its own video, for a batch: `Model.relevance` for all of it at once."""

Contrast = Callable[[Float[Tensor, "Q V"], Int[Tensor, "Q"]], Float[Tensor, ""]]
"""A contrastive loss of inner products and targets: `losses.info_nce`, or one whose targets are soft."""

Gather = Callable[[Embeddings, Embeddings, Batch], tuple[Embeddings, Embeddings, Batch]]
"""The embeddings of queries and of videos, and their batch, of all processes that share a batch."""


@dataclass(frozen=True)
class Method:
    """A method: its settings, its model and, if it learns, its objective.

    config: the dataclass of its settings. model: `model(config, frame_columns=, word_columns=)` returns a `Model`.
    subtitles: whether `model` also takes `subtitle_columns=`, and then reads subtitles in so many more columns of each frame.
    objective: `objective(model, queries, videos, batch, epoch)` returns the `Terms` that the paper defines, from the
        embeddings that `embed` returns; None for a method without weights to learn.

    For distillation beside the objective (`prvr.methods.distiller`):

    contrasts: whether the objective takes `contrast=`, a `Contrast` in place of its `losses.info_nce`.
    profile: the scores of a query along its own video, where `score_weights` does not define them.
    taught_fields: the embedding fields that a teacher is compared with, each by itself, for given settings; None for a method
        whose whole score is compared. An objective of such a method also takes `self_contrast=`, the `Contrast` of all other
        fields, and `comparisons=`, what `compare_fields` returns.

    revision: raised when the method computes something else than before, so that older checkpoints are refused.
    presets: what a method outside of this package brings: changes to the default settings, by the preset's name.
    """

    config: type
    model: Callable[..., nn.Module]
    objective: Callable[..., Terms] | None
    contrasts: bool = False
    profile: Profile | None = None
    taught_fields: Callable[[Any], tuple[str, ...]] | None = None
    revision: int = 1
    subtitles: bool = False
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def keep_batch(queries: Embeddings, videos: Embeddings, batch: Batch) -> tuple[Embeddings, Embeddings, Batch]:
    """Returns its arguments: the `Gather` of a process that has the whole batch."""
    return queries, videos, batch


def embed(model: Model, batch: Batch, gather: Gather = keep_batch) -> tuple[Embeddings, Embeddings, Batch]:
    """The embeddings of a batch's queries and of its videos, and the batch that they belong to: the input of an objective."""
    queries = model.encode_queries(batch.words, batch.word_mask, batch.word_places)
    videos = encode_videos(model, batch.frames, batch.frame_mask, batch.frame_places, batch.clips)
    return gather(queries, videos, batch)


def encode_videos(model: Model, frames: Frames, mask: FrameMask, places: Places = None, clips: Clips = None) -> Embeddings:
    """`Model.encode_videos`, with the clips of the videos for a model that reads them (`ReadsClips`)."""
    if clips is None:
        return model.encode_videos(frames, mask, places)
    return cast(ReadsClips, model).encode_videos(frames, mask, places, clips)


def weights_of_candidates(model: Model) -> tuple[float, ...] | None:
    """The weights by which an approximate search chooses videos; None if the model has none."""
    if model.score_weights is None and isinstance(model, Reranked):
        return model.candidate_weights
    return model.score_weights


def compare_fields(queries: Embeddings, videos: Embeddings, batch: Batch) -> list[Comparison]:
    """Compares each field's queries with its videos, for a model with a row for each frame in every field."""
    return [scores.compare(q, v, batch.frame_mask, batch.target) for q, v in zip(queries, videos, strict=True)]
