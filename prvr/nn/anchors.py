"""Re-scoring of videos through anchors: a few vectors of a video that the query and its frames are compared with (TRACE, 2026).

Of one query q, the frames f_i of a video and its anchors r_k, all of unit length:

a_k = <q, r_k>    d_i = <q, f_i>    b_ki = <r_k, f_i>    pi = softmax_k(a / tau)
rho_i = tau log sum_k exp((a_k + b_ki) / tau)            S_route = max_i (d_i + gamma rho_i)
u_i = sum_k pi_k softmax_i(b_k. / tau)_i                 S_soft = cos(q, sum_i u_i f_i)
E = S_route + eta S_soft

Only the paper's text is published; tests/parity/peers/trace holds numbers from its formulas. The trained version is not built:
the temperature of its contrastive loss and the length of its second phase are not published.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from prvr.nn import scores
from prvr.nn.losses import LOWEST

TEMPERATURE, ROUTE_WEIGHT, SOFT_WEIGHT = 0.07, 0.3, 0.2


class Evidence(NamedTuple):
    """What the anchors of videos say of queries; `place` is the frame of the maximum in S_route."""

    route: Float[Tensor, "Q V"]
    soft: Float[Tensor, "Q V"]
    place: Int[Tensor, "Q V"]

    @property
    def total(self) -> Float[Tensor, "Q V"]:
        """E = S_route + eta S_soft."""
        return self.route + SOFT_WEIGHT * self.soft


def temporal_anchors(frames: Float[Tensor, "V F D"], mask: Bool[Tensor, "V F"], count: int) -> Float[Tensor, "V K D"]:
    """The means of `count` equal parts of each video, part k from frame round(k F / count), halves to even; padding comes last.

    A part without a frame is the frame at its beginning. All frames take part, unlike in `nn.clips`.
    """
    lengths = mask.sum(1, keepdim=True)
    edges = ((torch.arange(count + 1, device=frames.device) * lengths).double() / count).round().long()
    first = torch.minimum(edges[:, :-1], lengths - 1)[..., None]
    last = torch.maximum(edges[:, 1:, None], first + 1)
    frame = torch.arange(frames.shape[1], device=frames.device)
    held = (frame >= first) & (frame < last)
    return (held.to(frames.dtype) @ frames.masked_fill(~mask[..., None], 0)) / held.sum(2, keepdim=True)


def evidence(
    queries: Float[Tensor, "Q D"],
    frames: Float[Tensor, "V F D"],
    mask: Bool[Tensor, "V F"],
    anchors: Float[Tensor, "V K D"],
    values: Float[Tensor, "V F D"] | None = None,
) -> Evidence:
    """S_route and S_soft of every query and video, over the real frames; all vectors are scaled to unit length here.

    Args:
        values: the vectors that are summed in S_soft; by default the frames.
    """
    query, frame, anchor = (normalize(each, dim=-1, eps=scores.LEAST_NORM) for each in (queries, frames, anchors))
    value = frame if values is None else normalize(values, dim=-1, eps=scores.LEAST_NORM)
    to_anchors = torch.einsum("qd,vkd->qvk", query, anchor)
    between = torch.einsum("vkd,vfd->vkf", anchor, frame)
    # The sum of exponentials is one of products: no tensor of queries, videos, anchors and frames is made.
    summed = torch.einsum("qvk,vkf->qvf", (to_anchors / TEMPERATURE).exp(), (between / TEMPERATURE).exp())
    route = scores.frame_dots(query, frame, mask) + ROUTE_WEIGHT * TEMPERATURE * summed.log()
    best, place = route.max(-1)
    seen = (between / TEMPERATURE).masked_fill(~mask[:, None], LOWEST).softmax(-1) @ value
    mixed = torch.einsum("qvk,vkd->qvd", (to_anchors / TEMPERATURE).softmax(-1), seen)
    soft = torch.einsum("qd,qvd->qv", query, normalize(mixed, dim=-1, eps=scores.LEAST_NORM))
    return Evidence(best, soft, place)
