"""Losses as pure functions of scores, vectorised, without a host synchronisation.

Q queries, V videos, F frames; `target` (Q,) is the index in the batch of the video that a query describes. A video can have
several queries or none; each loss documents its value for a video without queries.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize, relu, softplus

LOWEST = -float("inf")


def ownership(target: Int[Tensor, "Q"], videos: int) -> Bool[Tensor, "Q V"]:
    """True where a query describes a video."""
    return target[:, None] == torch.arange(videos, device=target.device)


def draw_ranks(
    largest: int | Int[Tensor, "N"], rows: int, *, device: torch.device, generator: torch.Generator | None = None
) -> Int[Tensor, "N"]:
    """Draws a rank for each row, uniformly from 0 to `largest` - 1; `largest` is one number, or one for each row."""
    if isinstance(largest, int):
        return torch.randint(largest, (rows,), generator=generator, device=device)
    ranks = (torch.rand(rows, generator=generator, device=device) * largest).long()
    return torch.minimum(ranks, largest - 1)  # a product can be rounded up to `largest`


def hard_negative_videos(
    scores: Float[Tensor, "Q V"], target: Int[Tensor, "Q"], *, pool: int, generator: torch.Generator | None = None
) -> Int[Tensor, "Q"]:
    """Draws one wrong video for each query, uniformly from the `pool` with the highest scores (from all, if there are fewer)."""
    queries, videos = scores.shape
    size = max(min(pool, videos - 1), 1)
    wrong = scores.detach().masked_fill(ownership(target, videos), LOWEST)
    hardest = wrong.topk(size, dim=1).indices
    rank = draw_ranks(size, queries, device=scores.device, generator=generator)
    return hardest.gather(1, rank[:, None])[:, 0]


def hard_negative_queries(
    scores: Float[Tensor, "Q V"], target: Int[Tensor, "Q"], *, pool: int, generator: torch.Generator | None = None
) -> Int[Tensor, "V"]:
    """Draws one wrong query for each video, uniformly from the `pool` with the highest scores (from all, if there are fewer)."""
    queries, videos = scores.shape
    own = ownership(target, videos)
    hardest = scores.detach().masked_fill(own, LOWEST).topk(min(pool, queries), dim=0).indices
    wrong = (~own).sum(0).clamp(min=1, max=pool)
    rank = draw_ranks(wrong, videos, device=scores.device, generator=generator)
    return hardest.gather(0, rank[None])[0]


def hardest_negative_queries(scores: Float[Tensor, "Q V"], target: Int[Tensor, "Q"]) -> Int[Tensor, "V"]:
    """Returns for each video the query of another video with the highest score."""
    return scores.detach().masked_fill(ownership(target, scores.shape[1]), LOWEST).argmax(0)


def random_negative_queries(scores: Float[Tensor, "Q V"], target: Int[Tensor, "Q"]) -> Int[Tensor, "V"]:
    """Draws one query of another video for each video, uniformly."""
    return torch.rand_like(scores).masked_fill(ownership(target, scores.shape[1]), LOWEST).argmax(0)


def triplet(
    scores: Float[Tensor, "Q V"],
    target: Int[Tensor, "Q"],
    *,
    margin: float | None,
    negative_videos: Int[Tensor, "Q"],
    negative_queries: Int[Tensor, "V"],
) -> Float[Tensor, ""]:
    """Hinge loss of positives and negatives, from text to video plus from video to text (DL-DKD, triplet ranking loss).

    mean_n [m + s(n, neg_n) - s(n, y_n)]_+  +  mean_v [m + s(neg_v, v) - mean_{n: y_n = v} s(n, v)]_+

    A negative that is the query's own video (in a batch of one video) has a loss of 0; the second mean is over the videos that
    have a query.

    Args:
        margin: m; None for log(1 + e^x) of the differences instead of the hinge (an option of XML).
    """
    own = ownership(target, scores.shape[1])
    wrong = scores.masked_fill(own, LOWEST)
    positive = scores.gather(1, target[:, None])[:, 0]
    text_to_video = _cost(wrong.gather(1, negative_videos[:, None])[:, 0] - positive, margin).mean()

    captions = own.sum(0)
    described = captions > 0
    mean_positive = scores.masked_fill(~own, 0).sum(0) / captions.clamp(min=1)
    video_to_text = _cost(wrong.gather(0, negative_queries[None])[0] - mean_positive, margin)
    return text_to_video + video_to_text.masked_fill(~described, 0).sum() / described.sum()


def hardest_triplet(
    scores: Float[Tensor, "Q V"], target: Int[Tensor, "Q"], *, margin: float, hardest: int | None = 1
) -> Float[Tensor, ""]:
    """Hinge loss of each query and its video against the hardest negatives of the batch, in both directions.

    mean_n ([m + max_{v != y_n} s(n, v) - s(n, y_n)]_+  +  [m + max_{k: y_k != y_n} s(k, y_n) - s(n, y_n)]_+)

    (VSE++, as in Dual Encoding.) The papers sum over the batch. We take the mean, whose weight relative to other losses does not
    depend on the batch; alone, both are the same to the optimiser. A query without a negative has a loss of 0.

    Args:
        hardest: the number of the hardest negatives whose hinges are averaged; None for all negatives.
    """
    own = ownership(target, scores.shape[1])
    positive = scores.gather(1, target[:, None])
    of_videos = _mean_of_largest(relu(margin + scores - positive), ~own, hardest)
    of_queries = _mean_of_largest(relu(margin + scores.T[target] - positive), ~own.T[target], hardest)
    return (of_videos + of_queries).mean()


def pair_contrast(dots: Float[Tensor, "Q V"], target: Int[Tensor, "Q"]) -> Float[Tensor, ""]:
    """The video contrast of ReLoCLNet: one logarithm over a pair's row and column together (VideoCL, as in the released code).

    mean_n [ log( sum_v e^d(n, v) + sum_k e^d(k, y_n) ) - d(n, y_n) ], k over the query itself and those of other videos

    The pair itself is in the row and in the column, so it counts twice in the logarithm. The released code trains on single
    pairs, where a second caption of a video is a negative; a batch here has all captions of a video, and they are left out.
    """
    own = ownership(target, dots.shape[1])
    siblings = own.T[target] & ~torch.eye(len(dots), dtype=torch.bool, device=dots.device)
    columns = dots.T[target].masked_fill(siblings, LOWEST)
    return (torch.cat([dots, columns], dim=1).logsumexp(1) - dots.gather(1, target[:, None])[:, 0]).mean()


def neg_nce(
    scores: Float[Tensor, "Q V"], target: Int[Tensor, "Q"], *, scale: float = 100.0, margin: float = 0.0
) -> Float[Tensor, ""]:
    """Contrastive loss that also pushes hard negatives away, the mean of both directions (NegNCE of DMAE, MM 2023).

    From text to video, P = softmax_v(scale s): -mean_n log P(n, y_n) - 1/2 mean_H log(1 - P(n, v)), and the same from video to
    text. H are the pairs of a query and another video with s(n, v) - s(n, y_n) + margin > 0 or s(n, v) - s_v + margin > 0; s_v is
    the mean score of a video with its own queries. Without such a pair the second part is 0. P is kept within 1e-6 of 0 and 1.

    The source has one caption a video. Here, in the direction from video to text, the other captions of a query's video are left
    out of its softmax, as they are out of H.
    """
    own = ownership(target, scores.shape[1])
    siblings = own.T[target] & ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    positive = scores.gather(1, target[:, None])
    mean_positive = scores.masked_fill(~own, 0).sum(0) / own.sum(
        0
    )  # NaN, which no comparison passes, for a video without a query
    hard = ~own & ((scores - positive + margin > 0) | (scores - mean_positive + margin > 0))
    itself = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    directions = (
        (scores, own, hard),
        (scores.T[target].masked_fill(siblings, LOWEST), itself, hard.T[target]),
    )
    parts = []
    for each, positives, negatives in directions:
        chance = (scale * each).softmax(1).clamp(1e-6, 1 - 1e-6)
        missed = -(1 - chance).log().masked_fill(~negatives, 0).sum() / negatives.sum().clamp(min=1)
        parts.append(-chance.log().masked_fill(~positives, 0).sum() / len(scores) + missed / 2)
    return (parts[0] + parts[1]) / 2


def degraded_triplet(
    profile: Float[Tensor, "Q F"], mask: Bool[Tensor, "Q F"], *, margin: float, share: float
) -> Float[Tensor, ""]:
    """Hinge between the best frame of a query's own video and the best one left when the frames around it are zeroed.

    mean_n [margin - max_f p(n, f) + max_f p'(n, f)]_+, where p' is 0 in the stretch of `share` of the video's frames around the
    best one, that one at least, and p elsewhere: a zeroed frame has a cosine of 0. After the triplet with a partial margin of
    TPM-CL (MM 2023), which zeroes the most important tokens; the stretch is ours.
    """
    best, place = profile.max(1, keepdim=True)
    away = (torch.arange(profile.shape[1], device=profile.device) - place).abs()
    zeroed = (2 * away <= share * mask.sum(1, keepdim=True)) | (away == 0)
    left = profile.masked_fill(~mask, LOWEST).masked_fill(zeroed & mask, 0).amax(1)
    return relu(margin - best[:, 0] + left).mean()


def info_nce(dots: Float[Tensor, "Q V"], target: Int[Tensor, "Q"]) -> Float[Tensor, ""]:
    """Contrastive loss with one-hot targets in both directions, temperature 1.

    mean_n [lse_v d(n, v) - d(n, y_n)]  +  mean_v [lse_n d(n, v) - lse_{n: y_n = v} d(n, v)]

    A video without a query has a loss of 0, and counts in the second mean.
    """
    own = ownership(target, dots.shape[1])
    described = own.any(0)
    text_to_video = dots.logsumexp(1) - dots.gather(1, target[:, None])[:, 0]
    # A column without a positive is subtracted from itself: a difference of 0 with a gradient of 0.
    video_to_text = dots.logsumexp(0) - dots.masked_fill(~own & described, LOWEST).logsumexp(0)
    return text_to_video.mean() + video_to_text.mean()


def soft_info_nce(
    dots: Float[Tensor, "Q V"],
    target: Int[Tensor, "Q"],
    *,
    relevance: Float[Tensor, "K Q V"],
    mixing: float,
    hard_fraction: float,
    hard_queries: Bool[Tensor, "Q"],
    hard_videos: Bool[Tensor, "V"],
) -> Float[Tensor, ""]:
    """Contrastive loss in which some rows and columns have one-hot targets and the others soft ones (DL-DKD++).

    With I one-hot and R the relevance (mean over K sources of its softmax), T = (1 - b) softmax_v(R) + b I for soft
    queries and I for hard ones, and W the same with softmax_n for videos:

    t_n = lse_v d(n, .) sum_v T - sum_v T d        u_v = lse_n d(., v) - lse_n [log(W(n, v) + 1e-12) + d(n, v)]

    The result is a (mean t + mean u over the hard) + (1 - a) (the same over the soft), where a part is 0 if it has no query or no
    video. u is not a cross-entropy: the weights are inside the log-sum-exp, as in the released code. A video without a query
    has a loss of 0, and counts in its part. The released code has no such video; its formula gives a hard one -log(1e-12) = 27.6.

    Args:
        relevance: the similarities from which the soft targets are computed, one layer per source. Gradients flow through it.
        mixing: b, the share of the one-hot target in a soft one, from 0 to 1.
        hard_fraction: a, the weight of the hard part, from 0 to 1.
        hard_queries, hard_videos: which rows and columns keep one-hot targets.
    """
    one_hot = ownership(target, dots.shape[1]).to(dots.dtype)
    soft_rows = relevance.softmax(2).mean(0).lerp(one_hot, mixing)
    soft_columns = relevance.softmax(1).mean(0).lerp(one_hot, mixing)
    row_targets = torch.where(hard_queries[:, None], one_hot, soft_rows)
    column_targets = torch.where(hard_videos[None], one_hot, soft_columns)

    text_to_video = dots.logsumexp(1) * row_targets.sum(1) - (row_targets * dots).sum(1)
    video_to_text = dots.logsumexp(0) - ((column_targets + 1e-12).log() + dots).logsumexp(0)
    video_to_text = video_to_text.masked_fill(one_hot.sum(0) == 0, 0)

    of_queries, of_videos = _part_weights(hard_queries, hard_videos, hard_fraction, dots.dtype)
    return (of_queries * text_to_video).sum() + (of_videos * video_to_text).sum()


def frame_kl(
    student: Float[Tensor, "Q F"], teacher: Float[Tensor, "Q F"], mask: Bool[Tensor, "Q F"], *, temperature: float
) -> Float[Tensor, ""]:
    """KL divergence of the student's profile over a video's frames from the teacher's, summed over queries.

    sum_n sum_f t log(t / p), p = softmax_f(student / temperature), t = softmax_f(teacher / temperature)
    (DL-DKD). A sum and not a mean, as in the released code: its weight grows with the batch.
    """
    log_student = (student / temperature).masked_fill(~mask, LOWEST).log_softmax(-1)
    log_teacher = (teacher / temperature).masked_fill(~mask, LOWEST).log_softmax(-1)
    difference = torch.where(mask, log_teacher - log_student, 0)
    return (log_teacher.exp() * difference).sum()


def frame_mse(student: Float[Tensor, "Q F"], teacher: Float[Tensor, "Q F"], mask: Bool[Tensor, "Q F"]) -> Float[Tensor, ""]:
    """Squared difference of the profiles, averaged over a video's frames, summed over queries.

    sum_n 1/F_n sum_f (s_nf - t_nf)^2 (DL-DKD, supplementary Tables 2 and 3: similarity-based, MSE).
    """
    squared = torch.where(mask, student - teacher, 0).square()
    return (squared.sum(-1) / mask.sum(-1)).sum()


def huber(difference: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """d^2 / 2 where |d| < 1, |d| - 1/2 elsewhere."""
    size = difference.abs()
    return torch.where(size < 1, 0.5 * size.square(), size - 0.5)


def frame_huber(student: Float[Tensor, "Q F"], teacher: Float[Tensor, "Q F"], mask: Bool[Tensor, "Q F"]) -> Float[Tensor, ""]:
    """Like `frame_mse`, with `huber` instead of the square."""
    return (huber(torch.where(mask, student - teacher, 0)).sum(-1) / mask.sum(-1)).sum()


def matrix_kl(student: Float[Tensor, "Q V"], teacher: Float[Tensor, "Q V"], *, temperature: float) -> Float[Tensor, ""]:
    """KL divergence of the student's scores of a batch from the teacher's, in both directions.

    The divergence of each query's scores over the videos, averaged over queries, plus that of each video's scores over the
    queries, averaged over videos (DL-DKD, supplementary Table 1).
    """
    by_axis = []
    for axis in (1, 0):
        log_student, log_teacher = ((scores / temperature).log_softmax(axis) for scores in (student, teacher))
        by_axis.append((log_teacher.exp() * (log_teacher - log_student)).sum(axis).mean())
    return by_axis[0] + by_axis[1]


def matrix_mse(student: Float[Tensor, "Q V"], teacher: Float[Tensor, "Q V"]) -> Float[Tensor, ""]:
    """Squared difference of two matrices of scores, averaged over all pairs."""
    return (student - teacher).square().mean()


def matrix_huber(student: Float[Tensor, "Q V"], teacher: Float[Tensor, "Q V"]) -> Float[Tensor, ""]:
    """Like `matrix_mse`, with `huber` instead of the square (TeachText)."""
    return huber(student - teacher).mean()


def vector_kl(student: Float[Tensor, "*N T"], teacher: Float[Tensor, "*N T"], *, temperature: float) -> Float[Tensor, "*N"]:
    """KL divergence between vectors of unit length; a softmax turns each into a distribution over its columns.

    sum_c t log(t / p), p = softmax_c(s / |s| / temperature) (DL-DKD, supplementary Tables 2 and 3: feature-based, KL).
    """
    log_student = (normalize(student, dim=-1) / temperature).log_softmax(-1)
    log_teacher = (normalize(teacher, dim=-1) / temperature).log_softmax(-1)
    return (log_teacher.exp() * (log_teacher - log_student)).sum(-1)


def _part_weights(
    hard_queries: Bool[Tensor, "Q"], hard_videos: Bool[Tensor, "V"], hard_fraction: float, dtype: torch.dtype
) -> tuple[Float[Tensor, "Q"], Float[Tensor, "V"]]:
    """Returns the weight of each query and video: the weight of its part over the count in the part, 0 if a side is empty."""

    def weight_of_part(weight: float, queries: Tensor, videos: Tensor) -> Tensor:
        counts = torch.stack([queries.sum(), videos.sum()]).to(dtype)
        return (weight / counts).masked_fill((counts == 0).any(), 0)

    hard = weight_of_part(hard_fraction, hard_queries, hard_videos)
    soft = weight_of_part(1 - hard_fraction, ~hard_queries, ~hard_videos)
    return torch.where(hard_queries, hard[0], soft[0]), torch.where(hard_videos, hard[1], soft[1])


def ranking(
    video_scores: Float[Tensor, "Q V"], target: Int[Tensor, "Q"], *, margin: float | None, pool: int | None, both: bool = False
) -> Float[Tensor, ""]:
    """`triplet` with the hardest query and one of the `pool` hardest videos as negatives; random negatives without a `pool`.

    Args:
        both: the query is drawn from the `pool` hardest, too (XML, ReLoCLNet).
    """
    queries, videos = video_scores.shape
    # In the order of the released code: first a video for each query, then a query for each video.
    negative_videos = hard_negative_videos(video_scores, target, pool=pool or videos)
    if both:
        negative_queries = hard_negative_queries(video_scores, target, pool=pool or queries)
    elif pool is None:
        negative_queries = random_negative_queries(video_scores, target)
    else:
        negative_queries = hardest_negative_queries(video_scores, target)
    return triplet(video_scores, target, margin=margin, negative_videos=negative_videos, negative_queries=negative_queries)


def _cost(difference: Float[Tensor, "*N"], margin: float | None) -> Float[Tensor, "*N"]:
    return softplus(difference) if margin is None else relu(margin + difference)


def _mean_of_largest(values: Float[Tensor, "N M"], allowed: Bool[Tensor, "N M"], count: int | None) -> Float[Tensor, "N"]:
    """The mean of each row's `count` largest allowed values, or of all of them for None; 0 for a row without any."""
    values, number = values.masked_fill(~allowed, 0), allowed.sum(1)
    if count is None:
        return values.sum(1) / number.clamp(min=1)
    return values.topk(min(count, values.shape[1]), dim=1).values.sum(1) / number.clamp(min=1, max=count)
