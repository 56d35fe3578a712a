"""What every method offers to training, evaluation and search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from jaxtyping import Float, Int
from torch import Tensor, nn

from prvr.batch import Batch
from prvr.methods.model import Embeddings as Embeddings
from prvr.methods.model import Model as Model
from prvr.methods.model import Reranked as Reranked
from prvr.methods.model import weights_of_candidates as weights_of_candidates
from prvr.nn import scores
from prvr.nn.scores import Comparison
from prvr.nn.shapes import Clips, FrameMask, Frames, Places

Terms = dict[str, Tensor]
"""Loss terms by name, weights included; the training loop sums them and logs each."""


class ReadsClips(Protocol):
    """A model that reads clips beside the frames; without clips it makes them from the frames."""

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None, clips: Clips = None) -> Embeddings: ...


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


def compare_fields(queries: Embeddings, videos: Embeddings, batch: Batch) -> list[Comparison]:
    """Compares each field's queries with its videos, for a model with a row for each frame in every field.

    What queries have more than videos, such as rows of words, is compared by the method itself.
    """
    fields = zip(queries[: len(videos)], videos, strict=True)
    return [scores.compare(q, v, batch.frame_mask, batch.target) for q, v in fields]
