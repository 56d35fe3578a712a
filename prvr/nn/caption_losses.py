"""Losses of the captions of one video: how alike they are, and which clip each of them describes (GMMFormer and what follows)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize, softplus

from prvr.nn.losses import LOWEST
from prvr.nn.scores import LEAST_NORM


def query_diversity(queries: Float[Tensor, "Q D"], target: Int[Tensor, "Q"], *, scale: float, margin: float) -> Float[Tensor, ""]:
    """How alike the captions of a video are: mean_q log(1 + sum_q' exp(scale (cos(q, q') + margin))), q' the other captions
    of its video (GMMFormer)."""
    cosines, siblings = sibling_cosines(queries, target)
    powers = (scale * (cosines + margin)).masked_fill(~siblings, LOWEST)
    return torch.cat([powers.new_zeros(len(powers), 1), powers], 1).logsumexp(1).mean()


def focal_diversity(
    queries: Float[Tensor, "Q D"], target: Int[Tensor, "Q"], *, scale: float, margin: float, focus: float
) -> Float[Tensor, ""]:
    """How alike the captions of a video are, the more alike the heavier: mean_q sum_q' (1 + cos(q, q'))^focus
    log(1 + exp(scale (cos(q, q') + margin))), q' the other captions of its video (GMMFormer v2)."""
    cosines, siblings = sibling_cosines(queries, target)
    heavier = (1 + cosines).clamp(min=0) ** focus
    return (heavier * softplus(scale * (cosines + margin))).masked_fill(~siblings, 0).sum(1).mean()


def matching(
    queries: Float[Tensor, "Q D"],
    clips: Float[Tensor, "V N D"],
    target: Int[Tensor, "Q"],
    mask: Bool[Tensor, "V N"] | None = None,
) -> Float[Tensor, ""]:
    """1 - the mean cosine of captions with the clips assigned to them, no clip to two captions of its video (GMMFormer v2).

    The mean is over all pairs of the batch. The assignment is the best one (Hungarian method, computed on the CPU); a video with
    more captions than clips has some left over. A video with one caption is left out; the loss is 0 where no other is there.

    Args:
        mask: which rows are real, where videos have different numbers of them; padding comes last. None: all.
    """
    query, own_clips = (normalize(x, dim=-1, eps=LEAST_NORM) for x in (queries, clips[target]))
    cosines = torch.einsum("qd,qnd->qn", query, own_clips)
    place = assign(cosines, target, None if mask is None else mask.sum(1))
    captions = target.bincount()[target]
    assigned = (place >= 0) & (captions > 1)
    chosen = cosines.gather(1, place.clamp(min=0)[:, None])[:, 0][assigned]
    return 1 - chosen.mean() if len(chosen) else cosines.new_zeros(())


@torch.no_grad()
def assign(cosines: Float[Tensor, "Q N"], target: Int[Tensor, "Q"], lengths: Int[Tensor, "V"] | None = None) -> Int[Tensor, "Q"]:
    """The row of its own video that each caption is assigned to, -1 for captions left over; no row has two captions.

    Per video the assignment with the largest sum of cosines (Hungarian method, on the CPU).

    Args:
        cosines: of each caption with the rows of its own video. lengths: how many rows of each video are real; None: all.
    """
    # Every command that opens a checkpoint imports this file, and SciPy's optimisers take half a second.
    from scipy.optimize import linear_sum_assignment

    # Cosines that are not finite become a loss that is not finite, which the training loop reports.
    known, video_of = cosines.nan_to_num().cpu().numpy(), target.cpu().numpy()
    place = torch.full((len(known),), -1)
    for video in set(video_of.tolist()):
        captions = (video_of == video).nonzero()[0]
        real = known.shape[1] if lengths is None else int(lengths[video])
        rows, columns = linear_sum_assignment(-known[captions, :real])
        place[torch.from_numpy(captions[rows])] = torch.from_numpy(columns)
    return place.to(cosines.device)


def sibling_cosines(queries: Float[Tensor, "Q D"], target: Int[Tensor, "Q"]) -> tuple[Float[Tensor, "Q Q"], Bool[Tensor, "Q Q"]]:
    """Cosines of queries with one another, and which two are different captions of the same video."""
    unit = normalize(queries, dim=-1, eps=LEAST_NORM)
    same = target[:, None] == target
    return unit @ unit.T, same & ~torch.eye(len(target), dtype=torch.bool, device=target.device)
