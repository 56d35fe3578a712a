"""Features of videos into an index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from prvr.batch import pad, read_frames
from prvr.checkpoint import device_of
from prvr.features import Features, rows_of
from prvr.features.packed import Packed
from prvr.index.exact import ExactIndex
from prvr.methods.contract import Model
from prvr.moments import frame_edges

VIDEOS_AT_ONCE = 64


@torch.inference_mode()
def add_videos(
    index: ExactIndex, videos: Iterable[str], frames: Features, *, durations: Mapping[str, float] | None = None
) -> None:
    """Encodes videos from their features into an index, with the times of their frames where these are known.

    Args:
        durations: of videos, in seconds: frames without times of their own are taken to divide a video evenly.
    """
    model = index.model
    assert isinstance(model, torch.nn.Module)
    was_training = model.training
    model.eval()
    ids = list(videos)
    for start in range(0, len(ids), VIDEOS_AT_ONCE):
        part = ids[start : start + VIDEOS_AT_ONCE]
        padded, mask = pad([read_frames(rows_of("video", id, frames), index.model.reading) for id in part])
        device = device_of(index.model)
        embeddings = index.model.encode_videos(padded.to(device), mask.to(device))
        index.add(part, embeddings, mask, infos=[video_info(id, frames, index.model, durations=durations or {}) for id in part])
    model.train(was_training)


def video_info(video: str, frames: Features, model: Model, *, durations: Mapping[str, float] | None = None) -> dict[str, object]:
    """What an index keeps of a video beside its embeddings: the times between which its frames lie, and of which file."""
    most = model.reading.max_frames
    info = frames.info(video) if isinstance(frames, Packed) else {}
    if "times" in info:
        return {"edges": frame_edges(info["times"], info["duration"], most=most), "file": [info["size"], info["mtime_ns"]]}
    duration = (durations or {}).get(video)
    if duration is None:
        return {}
    rows = len(frames[video])
    return {"edges": frame_edges([duration * row / rows for row in range(rows)], duration, most=most)}
