"""A data set and a model to scores and figures, through the index that search uses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from prvr import features as feature_files
from prvr.batch import check_widths
from prvr.datasets import Dataset
from prvr.errors import DataError
from prvr.evaluate.metrics import MomentRetrieval, Retrieval, moment_retrieval, overlap, ranks, retrieval
from prvr.evaluate.runs import UNSAID, Facts, Run
from prvr.features import Features, FeatureSet, rows_of
from prvr.index.encode import add_videos, encode_queries
from prvr.index.exact import ExactIndex
from prvr.index.moments import find_spans, relevance
from prvr.methods.calibration import Calibration, fit
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.contract import Embeddings, Model

# Features of so many captions are read, put in order of length, and encoded so many at once.
QUERIES_IN_ORDER, QUERIES_AT_ONCE = 4096, 128
# What figures are called by if they are of a split that the model was made with; no protocol reports such figures.
MADE_WITH = {
    "train": "on the training split",
    "dev": "on the split that chose the epoch",
    "all": "on all splits including training",
}


@dataclass(frozen=True)
class Evaluation:
    """The figures of a split, and what they were counted from.

    spans: the figures of moments; None where the captions have no spans or the frames no times.
    overlaps: IoU of the best span found in a caption's own video with the annotated one that it overlaps best; NaN if
    unknown. any_overlaps: the same of that of the spans found there which fits best.
    lengths: of each caption's own video in seconds; NaN if unknown.
    """

    retrieval: Retrieval
    spans: MomentRetrieval | None
    scores: Float[np.ndarray, "Q V"]
    captions: tuple[str, ...]
    videos: tuple[str, ...]
    overlaps: Float[np.ndarray, "Q"]
    any_overlaps: Float[np.ndarray, "Q"]
    lengths: Float[np.ndarray, "Q"]

    @property
    def moments(self) -> dict[float, float] | None:
        """By IoU, share of queries, in percent, whose best hit is the right video with a span that overlaps the annotated one."""
        return {least: shares[1] for least, shares in self.spans.recall.items()} if self.spans else None


def evaluate_model(model: Model, dataset: Dataset, features: FeatureSet) -> Evaluation:
    """Scores of every caption of a split against every video of it, and all the figures.

    Raises:
        DataError: a feature is missing or not a number, or the split has no captions.
    """
    index, queries = _encoded(model, dataset, features)
    scores = index.scores(queries).numpy()
    figures = retrieval(scores, correct_videos(dataset, index.ids))
    overlaps, any_overlaps = _overlaps(index, queries, dataset)
    spans = moment_retrieval(ranks(scores, _own_videos(dataset, index.ids)), overlaps, any_overlaps)
    captions = tuple(caption.id for caption in dataset.captions)
    return Evaluation(figures, spans, scores, captions, tuple(index.ids), overlaps, any_overlaps, _lengths(index, dataset))


def calibrated(checkpoint: Checkpoint, dataset: Dataset, features: FeatureSet) -> Checkpoint:
    """The checkpoint with probabilities, fitted on a held-out split; without, where that is too small to tell.

    Raises:
        DataError: as `evaluate_model`.
    """
    index, queries = _encoded(checkpoint.model, dataset, features)
    scores = index.scores(queries).numpy()
    return replace(checkpoint, calibration=fit(scores, correct_videos(dataset, index.ids), split=dataset.split))


def run_of(
    evaluation: Evaluation,
    dataset: Dataset,
    *,
    system: str,
    protocol: str = UNSAID,
    seed: int | None = None,
    calibration: Calibration | None = None,
) -> Run:
    """An evaluation as a run, which can be kept, exported and compared."""
    column = {video: place for place, video in enumerate(evaluation.videos)}
    also = [(row, column[video]) for row, caption in enumerate(dataset.captions) for video in caption.also]
    filled = [sum(end - start for start, end in caption.moments) or math.nan for caption in dataset.captions]
    facts = Facts(
        texts=tuple(caption.text for caption in dataset.captions),
        kinds=tuple(caption.kind for caption in dataset.captions),
        lengths=evaluation.lengths,
        ratios=np.array(filled) / evaluation.lengths,
        overlaps=evaluation.overlaps,
        any_overlaps=evaluation.any_overlaps,
    )
    return Run(
        scores=evaluation.scores,
        queries=evaluation.captions,
        videos=evaluation.videos,
        target=np.array([column[caption.video] for caption in dataset.captions]),
        also=np.array(also, np.int64).reshape(-1, 2),
        facts=facts,
        system=system,
        split=dataset.split,
        protocol=protocol,
        seed=seed,
        calibration=calibration,
    )


def protocol_of(checkpoint: Checkpoint, split: str) -> str:
    """The protocol of a model's figures on a split: that of its training, unless the split took part in it."""
    if checkpoint.method == "zero_shot":
        # Nothing of it was learnt or chosen on any split.
        return "honest"
    known = str(checkpoint.about.get("protocol", UNSAID))
    # By the protocol `community` the dev split is not used at all.
    if known == UNSAID or (known == "community" and split == "dev"):
        return known
    return MADE_WITH.get(split, known)


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
    parts: list[Embeddings] = []
    for start in range(0, len(captions), QUERIES_IN_ORDER):
        rows = [rows_of("caption", id, text) for id in captions[start : start + QUERIES_IN_ORDER]]
        # Sentences of about one length together, so that there is little padding to encode.
        order = torch.tensor([len(words) for words in rows]).argsort(stable=True)
        encoded = [encode_queries(model, [rows[place] for place in some]) for some in order.split(QUERIES_AT_ONCE)]
        parts.append(tuple(_joined(field)[order.argsort()] for field in zip(*encoded, strict=True)))
    model.train(was_training)
    return tuple(_joined(field) for field in zip(*parts, strict=True))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Embeddings of several batches of queries, one after another; rows for each word are padded to the longest sentence."""
    if parts[0].ndim == 1:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    return torch.cat([pad(part, (0, 0) * (part.ndim - 2) + (0, longest - part.shape[1])) for part in parts])


def _encoded(model: Model, dataset: Dataset, features: FeatureSet) -> tuple[ExactIndex, Embeddings]:
    """The split's videos as an index, and its captions as queries."""
    if not dataset.captions:
        raise DataError(f"split {dataset.split!r} of {dataset.name!r} has no captions; there is nothing to evaluate")
    feature_files.check(dataset, features.without_teachers)
    check_widths(features, model.reading)
    index = ExactIndex(model)
    add_videos(index, dataset.video_ids, features.frames, durations=dataset.durations)
    return index, encode_captions(model, [caption.id for caption in dataset.captions], features.text)


def _own_videos(dataset: Dataset, videos: Sequence[str]) -> Bool[np.ndarray, "Q V"]:
    """True where a caption was written about a video: there its span is annotated."""
    place = {video: column for column, video in enumerate(videos)}
    own = np.zeros((len(dataset.captions), len(videos)), bool)
    own[np.arange(len(own)), [place[caption.video] for caption in dataset.captions]] = True
    return own


def _overlaps(index: ExactIndex, queries: Embeddings, dataset: Dataset) -> tuple[Float[np.ndarray, "Q"], Float[np.ndarray, "Q"]]:
    """How well the best span found in each caption's own video overlaps an annotated one, and how well any span does.

    Other videos need no spans.
    """
    overlaps, any_overlaps = np.full((2, len(dataset.captions)), np.nan)
    for row, caption in enumerate(dataset.captions):
        if not caption.moments:
            continue
        query = tuple(field[row : row + 1] for field in queries)
        curve, edges = relevance(index.model, query, index.fetch([caption.video])[caption.video])
        if edges is not None:
            spans = [(span.start, span.end) for span in find_spans(curve, edges)]
            fits = [max(overlap(span, true) for true in caption.moments) for span in spans]
            overlaps[row], any_overlaps[row] = fits[0], max(fits)
    return overlaps, any_overlaps


def _lengths(index: ExactIndex, dataset: Dataset) -> Float[np.ndarray, "Q"]:
    """How long each caption's video is: as the data set says, or else as its frames' times do."""
    lengths = []
    for caption in dataset.captions:
        edges = index.fetch([caption.video])[caption.video].edges
        lengths.append(dataset.durations.get(caption.video, edges[-1] if edges else math.nan))
    return np.array(lengths, np.float64)
