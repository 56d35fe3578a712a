"""A data set and a model to scores and figures, through the index that search uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from prvr import features as feature_files
from prvr.batch import check_widths
from prvr.datasets import Dataset
from prvr.errors import DataError
from prvr.features import Features, FeatureSet, rows_of
from prvr.index.encode import add_videos
from prvr.index.exact import ExactIndex
from prvr.methods.contract import Embeddings, Model
from prvr.metrics import Retrieval, overlap, retrieval
from prvr.search import encode_queries, moment

QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class Evaluation:
    """The figures of a split, and what they were counted from.

    moments: share of queries, in percent, whose best hit is the right video with a span that overlaps the annotated
    one by at least that IoU; None where the captions have no spans or the frames no times.
    """

    retrieval: Retrieval
    moments: dict[float, float] | None
    scores: Float[np.ndarray, "Q V"]
    captions: tuple[str, ...]
    videos: tuple[str, ...]


def evaluate_model(model: Model, dataset: Dataset, features: FeatureSet) -> Evaluation:
    """Scores of every caption of a split against every video of it, and all the figures.

    Raises:
        DataError: a feature is missing or not a number, or the split has no captions.
    """
    index, queries = _encoded(model, dataset, features)
    scores = index.scores(queries).numpy()
    figures = retrieval(scores, correct_videos(dataset, index.ids))
    captions = tuple(caption.id for caption in dataset.captions)
    return Evaluation(figures, _moments(index, queries, dataset, scores), scores, captions, tuple(index.ids))


def retrieve(model: Model, dataset: Dataset, features: FeatureSet) -> Retrieval:
    """The retrieval figures alone, as training asks for them after each epoch.

    Raises:
        DataError: as `evaluate_model`.
    """
    index, queries = _encoded(model, dataset, features)
    return retrieval(index.scores(queries).numpy(), correct_videos(dataset, index.ids))


def correct_videos(dataset: Dataset, videos: Sequence[str]) -> Bool[np.ndarray, "Q V"]:
    """True where a caption describes a video: its own, or another that is known to hold the same."""
    place = {video: column for column, video in enumerate(videos)}
    correct = np.zeros((len(dataset.captions), len(videos)), bool)
    for row, caption in enumerate(dataset.captions):
        correct[row, [place[video] for video in (caption.video, *caption.also)]] = True
    return correct


def encode_captions(model: Model, captions: Sequence[str], text: Features) -> Embeddings:
    """Query embeddings of captions, by their ids."""
    assert isinstance(model, torch.nn.Module)
    was_training = model.training
    model.eval()
    starts = range(0, len(captions), QUERIES_AT_ONCE)
    parts = [encode_queries(model, [rows_of("caption", id, text) for id in captions[s : s + QUERIES_AT_ONCE]]) for s in starts]
    model.train(was_training)
    return tuple(torch.cat(field) for field in zip(*parts, strict=True))


def _encoded(model: Model, dataset: Dataset, features: FeatureSet) -> tuple[ExactIndex, Embeddings]:
    """The split's videos as an index, and its captions as queries."""
    if not dataset.captions:
        raise DataError(f"split {dataset.split!r} of {dataset.name!r} has no captions; there is nothing to evaluate")
    feature_files.check(dataset, FeatureSet(features.frames, features.text))
    check_widths(features, model.reading)
    index = ExactIndex.in_memory(model)
    add_videos(index, dataset.video_ids, features.frames)
    return index, encode_captions(model, [caption.id for caption in dataset.captions], features.text)


def _moments(
    index: ExactIndex, queries: Embeddings, dataset: Dataset, scores: Float[np.ndarray, "Q V"]
) -> dict[float, float] | None:
    overlaps, videos = [], index.ids
    for row, caption in enumerate(dataset.captions):
        if caption.start is None or caption.end is None:
            continue
        best = videos[int(scores[row].argmax())]
        start, end = moment(index, tuple(field[row : row + 1] for field in queries), best)
        if start is None or end is None:
            return None
        overlaps.append(overlap((start, end), (caption.start, caption.end)) if best == caption.video else 0.0)
    return {least: float(np.mean([o >= least for o in overlaps]) * 100) for least in (0.3, 0.5, 0.7)} if overlaps else None
