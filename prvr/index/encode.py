"""Features of videos to entries of an index, and features of sentences to query embeddings.

A video is read as a whole, as in training and evaluation: one with more frames than the model reads is resampled to that
number. `encode_long` cuts videos that are more than `LONG` times as long into windows and encodes each window alone.
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

from prvr.batch import frames_of, pad, pad_clips, read_clips, read_frames, read_words
from prvr.cpu import fast_products
from prvr.features import Features, Timed, release, rows_of
from prvr.index.contract import Entry, Store
from prvr.index.moments import frame_edges
from prvr.methods.checkpoint import device_of
from prvr.methods.contract import Embeddings, Model, encode_videos

VIDEOS_AT_ONCE = 128
# Padded frames in one batch: on the CPU few enough to stay in its cache.
FRAMES_AT_ONCE = {"cpu": 1 << 11, "elsewhere": 1 << 14}
# Videos of up to this many times the frames that a model reads are resampled, as in training.
LONG = 2


@dataclass(frozen=True)
class Sampled:
    """A video's features, the times of its frames and its duration in seconds, and everything else that is known of it.

    frame_seconds: how long its file shows a frame; None where rows are not frames of a file (`moments.frame_edges`).
    """

    video: str
    rows: Float[np.ndarray, "L E"]
    times: tuple[float, ...] | None = None
    duration: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    frame_seconds: float | None = None


def add_videos(index: Store, videos: Iterable[str], frames: Features, *, durations: Mapping[str, float] | None = None) -> None:
    """Encodes videos from their features into an index, with the times of their frames where these are known.

    Args:
        durations: of videos, in seconds. Frames whose features have no times divide a video evenly.
    """
    ids, frames = list(videos), frames_of(frames, index.model.reading)
    for start in range(0, len(ids), VIDEOS_AT_ONCE):
        some = ids[start : start + VIDEOS_AT_ONCE]
        index.add(encode(index.model, [read_sampled(id, frames, durations=durations or {}) for id in some]))
        release(frames)


def read_sampled(video: str, frames: Features, *, durations: Mapping[str, float]) -> Sampled:
    """A video's features, with times from the folder of features or else from the durations."""
    rows = rows_of("video", video, frames)
    info = frames.info(video) if isinstance(frames, Timed) else {}
    times = frames.times(video) if isinstance(frames, Timed) else None
    if times is not None and info.get("duration") is not None:
        return Sampled(video, rows, tuple(times), info["duration"], frame_seconds=info.get("frame_seconds"))
    duration = durations.get(video)
    if duration is None:
        return Sampled(video, rows)
    return Sampled(video, rows, tuple(duration * row / len(rows) for row in range(len(rows))), duration)


def encode(model: Model, videos: Sequence[Sampled]) -> list[Entry]:
    """Entries of videos, each read as a whole."""
    return _entries(model, [(video, [video.rows]) for video in videos])


def encode_long(model: Model, videos: Sequence[Sampled], *, longer_than: float = LONG) -> list[Entry]:
    """Entries of videos; long ones in windows of similar length, each at most as long as the model reads.

    Args:
        longer_than: a video is long if it has more than this many times the frames that the model reads.
    """
    limit = model.reading.max_frames
    in_windows = []
    for video in videos:
        is_long = limit is not None and len(video.rows) > longer_than * limit
        windows = np.array_split(video.rows, math.ceil(len(video.rows) / limit)) if is_long and limit else [video.rows]
        in_windows.append((video, windows))
    return _entries(model, in_windows)


def _entries(model: Model, in_windows: Sequence[tuple[Sampled, list[np.ndarray]]]) -> list[Entry]:
    windows_of_all = [window for _, windows in in_windows for window in windows]
    sequences = [_Sequence(read_frames(rows, model.reading), read_clips(rows, model.reading)) for rows in windows_of_all]
    encoded = iter(_encode_sequences(model, sequences))
    entries = []
    for video, windows in in_windows:
        parts = [next(encoded) for _ in windows]
        fields = tuple(np.concatenate(of_field) for of_field in zip(*parts, strict=True))
        frames = [min(len(window), model.reading.max_frames or len(window)) for window in windows]
        edges = None
        if video.times is not None and video.duration is not None:
            shown, sampling = video.frame_seconds, model.reading.sampling
            edges = tuple(frame_edges(video.times, video.duration, limit=sum(frames), sampling=sampling, frame_seconds=shown))
        entries.append(Entry(video.video, fields, tuple(frames), edges, video.about))
    return entries


class _Sequence(NamedTuple):
    """A video or a window of one, as a model reads it."""

    frames: Float[np.ndarray, "F E"]
    clips: Float[np.ndarray, "N E"] | None


@fast_products()
@torch.inference_mode()
def _encode_sequences(model: Model, sequences: Sequence[_Sequence]) -> list[tuple[np.ndarray, ...]]:
    """The rows of each field, sequence by sequence."""
    assert isinstance(model, torch.nn.Module)
    was_training = model.training
    model.eval()
    encoded: dict[int, tuple[np.ndarray, ...]] = {}
    device = device_of(model)
    lengths = [len(one.frames) for one in sequences]
    longest = max(lengths, default=0) if model.reading.padded_together else 0
    # The longest first: what is kept of a batch lies between the memory that the batch used and the next one's, which fits in
    # there only if it is no longer.
    for batch in reversed(list(_batches(lengths, limit=FRAMES_AT_ONCE["cpu" if device.type == "cpu" else "elsewhere"]))):
        padded, mask = pad([sequences[place].frames for place in batch])
        more = max(longest - mask.shape[1], 0)
        padded, mask = functional.pad(padded, (0, 0, 0, more)), functional.pad(mask, (0, more))
        clips = pad_clips([sequences[place].clips for place in batch])
        embeddings = encode_videos(model, padded.to(device), mask.to(device), clips=None if clips is None else clips.to(device))
        fields = [
            (name in model.frame_fields, field.float().cpu().numpy())
            for name, field in zip(model.embedding_fields, embeddings, strict=True)
        ]
        for row, place in enumerate(batch):
            # Copies: a view would keep the whole padded batch in memory.
            frames = lengths[place]
            encoded[place] = tuple((rows[row, :frames] if framed else rows[row]).copy() for framed, rows in fields)
    model.train(was_training)
    return [encoded[place] for place in range(len(sequences))]


def _batches(lengths: Sequence[int], *, limit: int) -> Iterator[list[int]]:
    """The places of sequences of similar length, so that there is little padding; at most `limit` padded frames together."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if batch and (len(batch) == VIDEOS_AT_ONCE or lengths[place] * (len(batch) + 1) > limit):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


@torch.inference_mode()
def encode_queries(model: Model, text_features: Sequence[np.ndarray]) -> Embeddings:
    """Query embeddings of sentences, from the features (W, C) of each sentence."""
    words, mask = pad([read_words(rows, model.reading) for rows in text_features])
    device = device_of(model)
    return model.encode_queries(words.to(device), mask.to(device))
