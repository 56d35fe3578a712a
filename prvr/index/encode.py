"""Features of videos to the entries of an index.

A video is read at once, as in training and evaluation: one with more frames than the model reads is resampled to so many.
Hours cannot be: `encode_long` cuts what is more than `LONG` times as long into windows and has each encoded alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional

from prvr.batch import pad, pad_clips, read_clips, read_frames, read_words
from prvr.cpu import fast_products
from prvr.features import Features, rows_of
from prvr.features.packed import Packed
from prvr.index.contract import Entry, Store
from prvr.index.moments import frame_edges
from prvr.methods.checkpoint import device_of
from prvr.methods.contract import Embeddings, Model, encode_videos

VIDEOS_AT_ONCE = 128
# Padded frames in one batch: on the CPU few enough to stay in its cache on their way through the model.
FRAMES_AT_ONCE = {"cpu": 1 << 11, "elsewhere": 1 << 14}
# Up to so many times what a model reads at once a video is resampled, as its like were in training.
LONG = 2


@dataclass(frozen=True)
class Sampled:
    """A video's features, when its frames were taken and how long it is, in seconds, and what else is known of it."""

    video: str
    rows: Float[np.ndarray, "L E"]
    times: tuple[float, ...] | None = None
    duration: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


def add_videos(index: Store, videos: Iterable[str], frames: Features, *, durations: Mapping[str, float] | None = None) -> None:
    """Encodes videos from their features into an index, with the times of their frames where these are known.

    Args:
        durations: of videos, in seconds: frames without times of their own are taken to divide a video evenly.
    """
    ids = list(videos)
    for start in range(0, len(ids), VIDEOS_AT_ONCE):
        given = [sampled(id, frames, durations=durations or {}) for id in ids[start : start + VIDEOS_AT_ONCE]]
        index.add(encode(index.model, given))


def sampled(video: str, frames: Features, *, durations: Mapping[str, float]) -> Sampled:
    """A video's features, with the times that the features' folder or else the durations tell."""
    rows = rows_of("video", video, frames)
    info = frames.info(video) if isinstance(frames, Packed) else {}
    if "times" in info:
        return Sampled(video, rows, tuple(info["times"]), info["duration"])
    duration = durations.get(video)
    if duration is None:
        return Sampled(video, rows)
    return Sampled(video, rows, tuple(duration * row / len(rows) for row in range(len(rows))), duration)


def encode(model: Model, videos: Sequence[Sampled]) -> list[Entry]:
    """Entries of videos, each read at once."""
    return _entries(model, [(video, [video.rows]) for video in videos])


def encode_long(model: Model, videos: Sequence[Sampled], *, longer_than: float = LONG) -> list[Entry]:
    """Entries of videos, long ones in windows of about one length, at most as many frames as the model reads at once.

    Args:
        longer_than: so many times what the model reads at once.
    """
    most = model.reading.max_frames
    cut = []
    for video in videos:
        is_long = most is not None and len(video.rows) > longer_than * most
        cut.append((video, np.array_split(video.rows, math.ceil(len(video.rows) / most)) if is_long and most else [video.rows]))
    return _entries(model, cut)


def _entries(model: Model, cut: Sequence[tuple[Sampled, list[np.ndarray]]]) -> list[Entry]:
    read = [
        _Read(read_frames(window, model.reading), read_clips(window, model.reading)) for _, windows in cut for window in windows
    ]
    encoded = iter(_encoded(model, read))
    entries = []
    for video, windows in cut:
        parts = [next(encoded) for _ in windows]
        fields = tuple(np.concatenate(of_field) for of_field in zip(*parts, strict=True))
        frames = [min(len(window), model.reading.max_frames or len(window)) for window in windows]
        edges = None
        if video.times is not None and video.duration is not None:
            edges = tuple(frame_edges(video.times, video.duration, most=sum(frames)))
        entries.append(Entry(video.video, fields, tuple(frames), edges, video.about))
    return entries


class _Read(NamedTuple):
    """A video or a window of one, as a model reads it."""

    frames: Float[np.ndarray, "F E"]
    clips: Float[np.ndarray, "N E"] | None


@fast_products()
@torch.inference_mode()
def _encoded(model: Model, read: Sequence[_Read]) -> list[tuple[np.ndarray, ...]]:
    """Rows of each field, sequence by sequence."""
    assert isinstance(model, torch.nn.Module)
    was_training = model.training
    model.eval()
    encoded: dict[int, tuple[np.ndarray, ...]] = {}
    # Sequences of about one length together, so that there is little padding to encode.
    device = device_of(model)
    most = FRAMES_AT_ONCE["cpu" if device.type == "cpu" else "elsewhere"]
    lengths = [len(one.frames) for one in read]
    longest = max(lengths, default=0) if model.reading.padded_together else 0
    for batch in _batches(sorted(range(len(read)), key=lambda place: lengths[place]), lengths, most=most):
        part = [read[place].frames for place in batch]
        padded, mask = pad(part)
        more = max(longest - mask.shape[1], 0)
        padded, mask = functional.pad(padded, (0, 0, 0, more)), functional.pad(mask, (0, more))
        clips = pad_clips([read[place].clips for place in batch])
        embeddings = encode_videos(model, padded.to(device), mask.to(device), clips=None if clips is None else clips.to(device))
        fields = [
            (name in model.frame_fields, field.float().cpu().numpy())
            for name, field in zip(model.embedding_fields, embeddings, strict=True)
        ]
        for row, (place, sequence) in enumerate(zip(batch, part, strict=True)):
            # Copies: a part of a padded batch would keep all of it in memory.
            encoded[place] = tuple((rows[row, : len(sequence)] if framed else rows[row]).copy() for framed, rows in fields)
    model.train(was_training)
    return [encoded[place] for place in range(len(read))]


def _batches(order: Sequence[int], lengths: Sequence[int], *, most: int) -> Iterator[list[int]]:
    """Places of sequences, the shorter ones first, cut where they would become too many frames with their padding."""
    batch: list[int] = []
    for place in order:
        if batch and (len(batch) == VIDEOS_AT_ONCE or lengths[place] * (len(batch) + 1) > most):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


@fast_products()
@torch.inference_mode()
def encode_queries(model: Model, text_features: Sequence[np.ndarray]) -> Embeddings:
    """Query embeddings of sentences, from the features (W, C) of each."""
    words, mask = pad([read_words(rows, model.reading) for rows in text_features])
    device = device_of(model)
    return model.encode_queries(words.to(device), mask.to(device))
