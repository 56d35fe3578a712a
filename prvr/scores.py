"""Frame scores (Q, V, F) and video scores (Q, V): how alike a query is to each frame and to each video.

Larger is better, always. Padded frames score -inf, so that no maximum and no softmax sees them.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize


def frame_cosines(
    queries: Float[Tensor, "Q D"], videos: Float[Tensor, "V F D"], mask: Bool[Tensor, "V F"]
) -> Float[Tensor, "Q V F"]:
    """Cosine of every query with every frame of every video; norms are floored at 1e-12."""
    return frame_dots(normalize(queries, dim=-1, eps=1e-12), normalize(videos, dim=-1, eps=1e-12), mask)


def frame_dots(
    queries: Float[Tensor, "Q D"], videos: Float[Tensor, "V F D"], mask: Bool[Tensor, "V F"]
) -> Float[Tensor, "Q V F"]:
    """Unnormalised inner product of every query with every frame of every video."""
    dots = (queries @ videos.flatten(0, 1).T).unflatten(1, mask.shape)
    return dots.masked_fill(~mask, -float("inf"))


def video_scores(frame_scores: Float[Tensor, "Q V F"]) -> Float[Tensor, "Q V"]:
    """The score of a video is that of its best frame: max_f."""
    return frame_scores.amax(-1)


def own_video(frame_scores: Float[Tensor, "Q V F"], target: Tensor) -> Float[Tensor, "Q F"]:
    """Frame scores of each query in the video that it describes; `target` is (Q,), the video's place in the batch."""
    index = target[:, None, None].expand(-1, 1, frame_scores.shape[-1])
    return frame_scores.gather(1, index)[:, 0]
