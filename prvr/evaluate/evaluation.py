"""Evaluates a model on a split, through the index that search uses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from prvr import features as feature_files
from prvr.batch import check_widths
from prvr.cpu import fast_products
from prvr.datasets import Dataset, cut_spans
from prvr.errors import DataError, SettingError
from prvr.evaluate.found_moments import find_moments
from prvr.evaluate.metrics import MomentRetrieval, Retrieval, moment_retrieval, ranks, retrieval
from prvr.evaluate.qvhighlights import MomentValues
from prvr.evaluate.saved_scores import UNSAID, QueryFacts, SavedScores
from prvr.features import Features, FeatureSet, durations_of, release, rows_of
from prvr.index.encode import add_videos, encode_queries
from prvr.index.exact import ExactIndex
from prvr.index.rescoring import Anchors, Rescoring
from prvr.methods.calibration import Calibration, fit
from prvr.methods.checkpoint import Checkpoint, to_device
from prvr.methods.contract import Embeddings, Model

# Captions whose features are read and sorted by length together, and captions that are encoded together.
QUERIES_IN_ORDER, QUERIES_AT_ONCE = 4096, 128
# The names of figures on a split that took part in training the model; no protocol reports such figures.
USED_IN_TRAINING = {
    "train": "on the training split",
    "dev": "on the split that chose the epoch",
    "all": "on all splits including training",
}


@dataclass(frozen=True)
class Evaluation:
    """The figures of a split, and the scores and spans that they were counted from.

    spans: the figures of moments; None if the captions have no spans or the frames no times.
    overlaps, any_overlaps, moment_values: as in `FoundMoments`, which calls the last `values`.
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
    moment_values: MomentValues | None = None

    @property
    def moments(self) -> dict[float, float] | None:
        """By IoU, the share of queries in percent that find the right video first, with a span that agrees."""
        return {least: shares[1] for least, shares in self.spans.recall.items()} if self.spans else None


def evaluate_model(model: Model, dataset: Dataset, features: FeatureSet, *, rescoring: Rescoring | None = None) -> Evaluation:
    """Scores every caption of a split against every video of it, and counts the figures.

    Args:
        rescoring: adds the evidence of anchors to the scores; moments stay as they are.

    Raises:
        ModelError: the model has no rows to re-score by.
        DataError: a feature is missing or not finite, or the split has no captions.
    """
    dataset = fit_spans(dataset, features.frames)
    index, queries = encode_split(model, dataset, features)
    scores = index.scores(queries).numpy()
    if rescoring is not None:
        entries = list(index.fetch(index.ids).values())
        scores = scores + rescoring.weight * Anchors(model).of_all(queries, entries, rescoring.anchors)
    figures = retrieval(scores, correct_videos(dataset, index.ids))
    found = find_moments(index, queries, dataset)
    spans = moment_retrieval(ranks(scores, _own_videos(dataset, index.ids)), found.overlaps, found.any_overlaps)
    captions = tuple(caption.id for caption in dataset.captions)
    lengths = _lengths(index, dataset)
    return Evaluation(
        figures, spans, scores, captions, tuple(index.ids), found.overlaps, found.any_overlaps, lengths, found.values
    )


def fit_spans(dataset: Dataset, frames: Features) -> Dataset:
    """Returns the split with its moments cut to the videos; `notes` says which ones.

    Durations are the data set's own, or else those that the features keep.
    """
    return cut_spans(dataset, {**durations_of(frames, dataset.video_ids), **dataset.durations})


def calibrate(checkpoint: Checkpoint, dataset: Dataset, features: FeatureSet) -> Checkpoint:
    """The checkpoint with probabilities that are fitted on a held-out split; without them if the split is too small.

    Raises:
        DataError: as `evaluate_model`.
    """
    index, queries = encode_split(checkpoint.model, dataset, features)
    scores = index.scores(queries).numpy()
    return replace(checkpoint, calibration=fit(scores, correct_videos(dataset, index.ids), split=dataset.split))


def score_checkpoint(
    checkpoint: Checkpoint,
    dataset: Dataset,
    features: FeatureSet,
    *,
    system: str = "",
    device: str = "cpu",
    rescoring: Rescoring | None = None,
) -> SavedScores:
    """Scores a split with a checkpoint; the protocol, the seed and the calibration are the checkpoint's.

    Args:
        system: the name that the scores keep.
        rescoring: as in `evaluate_model`; then the calibration is its own.

    Raises:
        DataError, ModelError: as `evaluate_model`.
        SettingError: the device does not exist.
    """
    dataset = fit_spans(dataset, features.frames)
    evaluation = evaluate_model(to_device(checkpoint, device).model, dataset, features, rescoring=rescoring)
    return scores_of(
        evaluation,
        dataset,
        system=system,
        protocol=protocol_of(checkpoint, dataset.split),
        seed=checkpoint.about.get("training", {}).get("seed"),
        calibration=checkpoint.calibration if rescoring is None else rescoring.calibration,
        untrained=untrained_of(checkpoint),
        origin=origin_of(checkpoint, dataset.name),
    )


def untrained_of(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The branches of a model that had learned nothing in the epoch that was kept; "" is the whole model."""
    return tuple(map(str, checkpoint.about.get("untrained", ())))


def scores_of(
    evaluation: Evaluation,
    dataset: Dataset,
    *,
    system: str,
    protocol: str = UNSAID,
    seed: int | None = None,
    calibration: Calibration | None = None,
    untrained: tuple[str, ...] = (),
    origin: Mapping[str, str] | None = None,
) -> SavedScores:
    """The scores of an evaluation, to save, export and compare; `figures.count_figures` counts all their figures."""
    column = {video: place for place, video in enumerate(evaluation.videos)}
    also = [(row, column[video]) for row, caption in enumerate(dataset.captions) for video in caption.also]
    filled = [sum(end - start for start, end in caption.moments) or math.nan for caption in dataset.captions]
    facts = QueryFacts(
        texts=tuple(caption.text for caption in dataset.captions),
        kinds=tuple(caption.kind for caption in dataset.captions),
        lengths=evaluation.lengths,
        ratios=np.array(filled) / evaluation.lengths,
        overlaps=evaluation.overlaps,
        any_overlaps=evaluation.any_overlaps,
        window_values=None if evaluation.moment_values is None else evaluation.moment_values.windows,
        highlight_values=None if evaluation.moment_values is None else evaluation.moment_values.highlights,
    )
    return SavedScores(
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
        untrained=untrained,
        origin=origin or {},
    )


def origin_of(checkpoint: Checkpoint, collection: str) -> dict[str, str]:
    """What a model's scores on a collection are of; without teachers where the checkpoint does not name any."""
    reads = checkpoint.sources
    origin = {"collection": collection, "method": checkpoint.method}
    sides = (("frames", reads.frames), ("words", reads.text), ("subtitles", reads.subtitles))
    origin |= {name: f"{its.name} ({its.columns})" for name, its in sides if its is not None}
    teachers = checkpoint.about.get("teachers")
    return origin if teachers is None else {**origin, "teachers": ", ".join(map(str, teachers))}


def protocol_of(checkpoint: Checkpoint, split: str) -> str:
    """The protocol of a model's figures on a split: the protocol of its training, unless the split took part in it."""
    if checkpoint.method == "zero_shot":
        # Nothing was trained or chosen on any split.
        return "honest"
    known = str(checkpoint.about.get("protocol", UNSAID))
    # The protocol `community` does not use the dev split.
    if known == UNSAID or (known == "community" and split == "dev"):
        return known
    if known == "validation" and split == "val":
        return USED_IN_TRAINING["dev"]
    return USED_IN_TRAINING.get(split, known)


def split_seed_of(checkpoint: Checkpoint, requested: int | None = None) -> int:
    """The seed of the splits that a checkpoint was trained on, else the requested seed, else 0.

    Raises:
        SettingError: another seed is requested; some training videos would then be evaluated.
    """
    trained: int | None = checkpoint.about.get("split_seed")
    if trained is not None and requested not in (None, trained):
        raise SettingError(f"this run was trained with --split-seed {trained}, not {requested}; leave the option out")
    return trained if trained is not None else requested or 0


def retrieve(model: Model, dataset: Dataset, features: FeatureSet) -> Retrieval:
    """The retrieval figures alone, as training needs them after each epoch.

    Raises:
        DataError: as `evaluate_model`.
    """
    index, queries = encode_split(model, dataset, features)
    return retrieval(index.scores(queries).numpy(), correct_videos(dataset, index.ids))


def correct_videos(dataset: Dataset, videos: Sequence[str]) -> Bool[np.ndarray, "Q V"]:
    """True where a caption describes a video: its own, or a further correct one."""
    place = {video: column for column, video in enumerate(videos)}
    correct = np.zeros((len(dataset.captions), len(videos)), bool)
    for row, caption in enumerate(dataset.captions):
        correct[row, [place[video] for video in (caption.video, *caption.also)]] = True
    return correct


@fast_products()
def encode_captions(model: Model, captions: Sequence[str], text: Features) -> Embeddings:
    """The query embeddings of captions, by their ids."""
    assert isinstance(model, torch.nn.Module)
    was_training = model.training
    model.eval()
    parts: list[Embeddings] = []
    for start in range(0, len(captions), QUERIES_IN_ORDER):
        rows = [rows_of("caption", id, text) for id in captions[start : start + QUERIES_IN_ORDER]]
        # Sentences of similar length are encoded together, to have little padding.
        order = torch.tensor([len(words) for words in rows]).argsort(stable=True)
        # The longest first, as in `index.encode`.
        batches = reversed(order.split(QUERIES_AT_ONCE))
        encoded = [encode_queries(model, [rows[place] for place in some]) for some in batches][::-1]
        parts.append(tuple(_join(field)[order.argsort()] for field in zip(*encoded, strict=True)))
        del rows
        release(text)
    model.train(was_training)
    return tuple(_join(field) for field in zip(*parts, strict=True))


def _join(parts: Sequence[Tensor]) -> Tensor:
    """Embeddings of several batches of queries, one after another; rows for each word are padded to the longest sentence."""
    if parts[0].ndim == 1:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    return torch.cat([pad(part, (0, 0) * (part.ndim - 2) + (0, longest - part.shape[1])) for part in parts])


def encode_split(model: Model, dataset: Dataset, features: FeatureSet) -> tuple[ExactIndex, Embeddings]:
    """An index of the split's videos, and the embeddings of its captions.

    Raises:
        DataError: as `evaluate_model`.
    """
    if not dataset.captions:
        raise DataError(f"split {dataset.split!r} of {dataset.name!r} has no captions; there is nothing to evaluate")
    feature_files.check(dataset, features.without_teachers)
    check_widths(features, model.reading)
    index = ExactIndex(model)
    add_videos(index, dataset.video_ids, features.frames, durations=dataset.durations)
    return index, encode_captions(model, [caption.id for caption in dataset.captions], features.text)


def _own_videos(dataset: Dataset, videos: Sequence[str]) -> Bool[np.ndarray, "Q V"]:
    """True at each caption's own video, in which its span is annotated."""
    place = {video: column for column, video in enumerate(videos)}
    own = np.zeros((len(dataset.captions), len(videos)), bool)
    own[np.arange(len(own)), [place[caption.video] for caption in dataset.captions]] = True
    return own


def _lengths(index: ExactIndex, dataset: Dataset) -> Float[np.ndarray, "Q"]:
    """The length of each caption's video, from the data set or else from the times of its frames."""
    lengths = []
    for caption in dataset.captions:
        edges = index.fetch([caption.video])[caption.video].edges
        lengths.append(dataset.durations.get(caption.video, edges[-1] if edges else math.nan))
    return np.array(lengths, np.float64)
