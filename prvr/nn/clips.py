"""Clips: a fixed number of segments that divide a video evenly, each the mean of its frames.

Short videos have as many clips as long ones: a clip that holds no frame is the frame at its edge.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from prvr.nn.layers import Rows

NORM_OFFSET = 1e-5


def clip_means(frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], *, clips: int) -> Float[Tensor, "V N E"]:
    """The mean frame of each clip, scaled to unit length as `batch.unit_rows` does; padding must come last.

    Clip k holds the frames from e_k to e_(k+1), e_k = min(round(k F / clips), F - 1), halves to even: the slots of
    `batch.resample`, so the last frame is left out unless its clip would be empty. These are means of the rows of a batch, which
    have unit length. The released code of the methods that read clips averages the rows as extracted: `batch.read_clips`.
    """
    edges = clip_edges(mask.sum(1), clips=clips)
    first, last = edges[:, :-1, None], edges[:, 1:, None]
    frame = torch.arange(mask.shape[1], device=mask.device)
    held = (frame >= first) & (frame < torch.maximum(last, first + 1))
    means = (held.to(frames.dtype) @ frames) / held.sum(2, keepdim=True)
    return means / (means.norm(dim=2, keepdim=True) + NORM_OFFSET)


def clip_edges(lengths: Int[Tensor, "V"], *, clips: int) -> Int[Tensor, "V edges"]:
    """Returns the first frame of each clip, and the end of the last one."""
    share = torch.arange(clips + 1, dtype=torch.float64, device=lengths.device) / clips
    edges = (share * lengths[:, None]).round().long()
    return torch.minimum(edges, lengths[:, None] - 1)


def clip_rows(videos: int, clips: int, device: torch.device) -> Rows:
    """Returns the rows of clips, which have no padding."""
    return Rows(torch.ones(videos, clips, dtype=torch.bool, device=device), torch.arange(videos * clips, device=device))


def over_frames(curves: Float[Tensor, "Q N"], mask: Bool[Tensor, "Q F"]) -> Float[Tensor, "Q F"]:
    """Converts curves over clips to curves over frames: each frame has the value of the clip at its middle; padding -inf."""
    middle = torch.arange(mask.shape[1], device=curves.device) + 0.5
    clip = (middle * curves.shape[1] / mask.sum(1, keepdim=True)).long().clamp(max=curves.shape[1] - 1)
    return curves.gather(1, clip).masked_fill(~mask, -float("inf"))
