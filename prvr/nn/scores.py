"""Frame scores (Q, V, F) and video scores (Q, V): how similar a query is to each frame and to each video.

Larger is better, always. Padded frames score -inf, so that no maximum and no softmax sees them. The score of most methods
is `fused`: the weighted sum over fields of the best row's cosine with the query. `prvr.nn.ranks` has its terms for one stored
video, and the order of scores that tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import normalize

from prvr.nn.ranks import LEAST_NORM as LEAST_NORM
from prvr.nn.ranks import TIED as TIED
from prvr.nn.ranks import best_places as best_places
from prvr.nn.ranks import first_best as first_best
from prvr.nn.ranks import score_parts as score_parts
from prvr.nn.ranks import tolerance as tolerance
from prvr.nn.ranks import unit_queries as unit_queries

QUERIES_AT_ONCE = 256
# Frame scores that `compare` holds at once on the CPU: 28 MiB of float32. glibc returns every block of 32 MiB or more to the
# system, which clears the next one.
SCORES_AT_ONCE = 7 << 20


class Comparison(NamedTuple):
    """Queries beside videos: the best frame's cosine (Q, V), the best frame's inner product (Q, V), which may be another
    frame's, and `profile` (Q, F), the cosines with the frames of a query's own video, -inf where that is padded."""

    cosines: Float[Tensor, "Q V"]
    dots: Float[Tensor, "Q V"]
    profile: Float[Tensor, "Q F"]


def compare(
    queries: Float[Tensor, "Q D"], videos: Float[Tensor, "V F D"], mask: Bool[Tensor, "V F"], target: Int[Tensor, "Q"]
) -> Comparison:
    """All frame scores that the losses need, from one matrix product.

    The numbers are those of `frame_cosines` and `frame_dots` through `video_scores` and `own_video`. The gradient is that
    of the few frame scores that are a maximum, and only these are kept; of two equal maxima the first gets the gradient.
    """
    return Comparison(*_Compare.apply(queries, videos, mask, target))


def frame_cosines(
    queries: Float[Tensor, "Q D"], videos: Float[Tensor, "V F D"], mask: Bool[Tensor, "V F"]
) -> Float[Tensor, "Q V F"]:
    """Cosine of every query with every frame of every video. Norms are at least 1e-12."""
    return frame_dots(normalize(queries, dim=-1, eps=LEAST_NORM), normalize(videos, dim=-1, eps=LEAST_NORM), mask)


def frame_dots(
    queries: Float[Tensor, "Q D"], videos: Float[Tensor, "V F D"], mask: Bool[Tensor, "V F"]
) -> Float[Tensor, "Q V F"]:
    """Unnormalised inner product of every query with every frame of every video. Padded frames must be finite."""
    # The mask costs nothing as the bias of the product.
    barred = queries.new_zeros(mask.numel()).masked_fill_(~mask.flatten(), -float("inf"))
    return functional.linear(queries, videos.flatten(0, 1), barred).unflatten(1, mask.shape)


def video_scores(frame_scores: Float[Tensor, "Q V F"]) -> Float[Tensor, "Q V"]:
    """The score of each video: that of its best frame, max_f."""
    return frame_scores.amax(-1)


def fused(
    queries: Sequence[Float[Tensor, "Q _"]],
    videos: Sequence[Float[Tensor, "V _ _"]],
    masks: Sequence[Bool[Tensor, "V _"]],
    *,
    weights: Sequence[float],
) -> Float[Tensor, "Q V"]:
    """Weighted sum over fields of the best row's cosine. Fused per video, never per frame."""
    parts = zip(weights, queries, videos, masks, strict=True)
    return torch.stack([w * best_cosines(q, v, m) for w, q, v, m in parts]).sum(0)


def best_cosines(
    queries: Float[Tensor, "Q D"], videos: Float[Tensor, "V F D"], mask: Bool[Tensor, "V F"]
) -> Float[Tensor, "Q V"]:
    """`video_scores` of `frame_cosines`, for few queries at once, so that frame scores stay in the processor's cache."""
    queries, videos = (normalize(x, dim=-1, eps=LEAST_NORM) for x in (queries, videos))
    at_once = QUERIES_AT_ONCE if queries.device.type == "cpu" else max(len(queries), 1)
    return torch.cat([video_scores(frame_dots(part, videos, mask)) for part in queries.split(at_once)])


def every_row(field: Float[Tensor, "V N D"]) -> Bool[Tensor, "V N"]:
    """The mask of a field without padding: all True."""
    return torch.ones(field.shape[:2], dtype=torch.bool, device=field.device)


def own_video(frame_scores: Float[Tensor, "Q V F"], target: Tensor) -> Float[Tensor, "Q F"]:
    """Frame scores of each query in the video that it describes; `target` is the position of that video in the batch."""
    index = target[:, None, None].expand(-1, 1, frame_scores.shape[-1])
    return frame_scores.gather(1, index)[:, 0]


class _Compare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, videos: Tensor, mask: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query_norms, frame_norms = (x.norm(dim=-1).clamp(min=LEAST_NORM) for x in (queries, videos))
        dots, cosines = queries.new_empty(2, len(queries), len(videos)).unbind()
        best_dots, best_cosines = target.new_empty(2, len(queries), len(videos)).unbind()
        profile = queries.new_empty(len(queries), mask.shape[1])
        for some in _blocks(queries, mask):
            scores = frame_dots(queries[some], videos, mask)
            torch.max(scores, -1, out=(dots[some], best_dots[some]))
            scores /= frame_norms
            torch.max(scores, -1, out=(cosines[some], best_cosines[some]))
            profile[some] = own_video(scores, target[some])
        cosines /= query_norms[:, None]
        profile /= query_norms[:, None]
        ctx.save_for_backward(queries, videos, mask, target, query_norms, frame_norms, best_dots, best_cosines, cosines, profile)
        return cosines, dots, profile

    @staticmethod
    def backward(ctx: Any, of_cosines: Tensor, of_dots: Tensor, of_profile: Tensor) -> tuple[Tensor, Tensor, None, None]:
        queries, videos, mask, target, query_norms, frame_norms, best_dots, best_cosines, cosines, profile = ctx.saved_tensors
        padded = ~mask[target]
        of_cosines = of_cosines / query_norms[:, None]
        of_profile = of_profile.masked_fill(padded, 0) / query_norms[:, None]
        # d cos = (d dot - cos |q| d|f| - cos |f| d|q|) / (|q| |f|): by the dots, and by the two norms.
        by_norm, profile_by_norm = of_cosines * cosines, of_profile * profile.masked_fill(padded, 0)
        of_query_norms = by_norm.sum(1) + profile_by_norm.sum(1)
        of_frame_norms = torch.zeros_like(frame_norms).scatter_add_(1, best_cosines.T, (by_norm * query_norms[:, None]).T)
        of_frame_norms.index_add_(0, target, profile_by_norm * query_norms[:, None])
        of_cosines = of_cosines / frame_norms.gather(1, best_cosines.T).T
        of_profile = of_profile / frame_norms[target]
        of_queries = queries * (-of_query_norms / query_norms)[:, None]
        of_videos = (videos * (-of_frame_norms / frame_norms.square())[..., None]).flatten(0, 1)
        for some in _blocks(queries, mask):
            # Of the scores of a query with a video only the best ones have a gradient, and those of its own video.
            weights = queries.new_zeros(len(queries[some]), *mask.shape)
            weights.scatter_(2, best_dots[some, :, None], of_dots[some, :, None])
            weights.scatter_add_(2, best_cosines[some, :, None], of_cosines[some, :, None])
            place = target[some, None, None].expand(-1, 1, mask.shape[1])
            weights = weights.scatter_add_(1, place, of_profile[some, None]).flatten(1)
            of_queries[some].addmm_(weights, videos.flatten(0, 1))
            of_videos.addmm_(weights.T, queries[some])
        return of_queries, of_videos.view_as(videos), None, None


def _blocks(queries: Float[Tensor, "Q D"], mask: Bool[Tensor, "V F"]) -> list[slice]:
    """Queries that are compared at once with all videos: on the CPU limited by `SCORES_AT_ONCE`, elsewhere all."""
    count, frames = len(queries), max(mask.numel(), 1)
    some = max(SCORES_AT_ONCE // frames, 1) if queries.device.type == "cpu" else max(count, 1)
    return [slice(start, start + some) for start in range(0, count, some)]
