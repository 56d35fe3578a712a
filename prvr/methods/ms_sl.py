"""MS-SL (Dong et al., ACM MM 2022) and MS-SL++ (2025): multi-scale similarity learning, clips of every length and frames; and
BGM-Net (TOMM 2024), whose matching is an option of it.

The papers' words            our names
---------------------------  ------------------------------------------------------------------------
clip-scale branch            field "clips": `ClipSettings.clips` rows that divide a video evenly; the clips c_k are the means of
                             any number of consecutive rows, `ClipMeans`: 528 of 32
S_c(q, v), U_c(q, v)         `ClipComparison.cosines`, `ClipComparison.dots`: of the best clip, which may be another one
key clip k*                  `ClipComparison.key`: the clip of the best cosine
frame-scale branch           field "frames", at most `max_frames` rows
key-clip guided attention    `summaries`: r(q, v) = sum_i softmax_i(<W_1 f_i, c_k*>) W_2 f_i; W_1 is
                             attended, W_2 kept of `MsSl`
S_f(q, v)                    cos(q, r(q, v))
S(q, v)                      `MsSl.score`: (1 - `frame_weight`) S_c + `frame_weight` S_f
L_trip, L_nce                `branch_terms` of S_c and U_c; `clip_nce_weight`
L_trip', L_nce'              `paired_triplet`, `joint_nce` (MS-SL) or `paired_nce` (++) of each query with the r of each query and
                             its own video; `frame_nce_weight`
k-medoids (++)               `reduced_clips`, `medoids`: how many clips stand for all; 0 for MS-SL
bipartite matching (BGM-Net) `own_clip="assigned"`: in training no clip is the own clip of two captions of its video
clip alignment (BGM-Net)     `alignment`, `alignment_weight`

It computes what the released code computes (HuiGuanLab/ms-sl e014c31, HuiGuanLab/ms-sl-pp da36b7d, xjtupanda/BGM-Net 3620db8;
tests/parity/peers/ms-sl, ms-sl++ and bgm_net). Where that is odd, docs/decisions/0038 says so. The curve along a video is not in
the papers: cosines with the clips of one row and with W_2 f_i, weighted as the scores are.

An index keeps the rows and not their means: the products of a mean are the means of products.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from prvr.batch import Batch
from prvr.config import ADDED_LATER, check_not_below_zero
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.nn import losses, scores
from prvr.nn.caption_losses import assign
from prvr.nn.clips import over_frames
from prvr.nn.clips_and_frames import ClipSettings, TwoBranches, VideoBranch, branch_terms
from prvr.nn.layers import Dropout, Rows, SelfAttention, initialise, pool_at
from prvr.nn.medoids import medoids, number_codes
from prvr.nn.shapes import Clips, FrameMask, Frames, Places

LENGTH_COLUMNS = 256
# Pairs of a query and a video that are scored at once: each takes some 5 KB where videos have 528 clips and 128 frames.
PAIRS_AT_ONCE = 16_384


@dataclass(frozen=True)
class MsSlConfig(ClipSettings):
    """Settings of the papers; the defaults are MS-SL on TVR. `ClipSettings` has the others.

    reduced_clips: how many medoids stand for all clips (MS-SL++: 32); 0 for all clips.
    own_clip: which clip of its own video is a query's own in training: the best one, or the one that it is assigned to.
    assigned_from_epoch: before this epoch it is the best one in any case. alignment_weight: of `alignment`.
    """

    reduced_clips: int = 0
    dropout: float = 0.1
    input_dropout: float = 0.1
    clip_nce_weight: float = 0.02
    frame_nce_weight: float = 0.04
    own_clip: Literal["best", "assigned"] = field(default="best", metadata=ADDED_LATER)
    assigned_from_epoch: int = field(default=0, metadata=ADDED_LATER)
    alignment_weight: float = field(default=0.0, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_below_zero(self, "assigned_from_epoch", "alignment_weight")


class ClipMeans(nn.Module):
    """Of which rows each clip is the mean: all runs of consecutive rows, shortest first, within a length by their start."""

    held: Tensor

    def __init__(self, rows: int) -> None:
        super().__init__()
        place = torch.arange(rows)
        spans = [(first, length) for length in range(1, rows + 1) for first in range(rows - length + 1)]
        self.register_buffer(
            "held", torch.stack([(place >= first) & (place < first + length) for first, length in spans]), persistent=False
        )

    def shares(self, *, like: Tensor) -> Float[Tensor, "K N"]:
        """What each row weighs in each clip: 1 / length in those of the clip."""
        held = self.held.to(like.dtype)
        return held / held.sum(1, keepdim=True)

    def lengths(self) -> Int[Tensor, "K"]:
        """How many rows each clip has."""
        return self.held.sum(1)


class ClipComparison(NamedTuple):
    """Queries beside the clips of videos; `key` is the place of the best cosine's clip."""

    cosines: Float[Tensor, "Q V"]
    dots: Float[Tensor, "Q V"]
    key: Int[Tensor, "Q V"]


class MsSl(TwoBranches):
    """S(q, v) = 0.7 max_k cos(q, c_k) + 0.3 cos(q, what the best clip finds among the frames)."""

    config: MsSlConfig

    def __init__(self, config: MsSlConfig, *, frame_columns: int, word_columns: int) -> None:
        block, clip_block, frame_block = (SelfAttention(config.hidden, config.heads, config.dropout) for _ in range(3))
        super().__init__(config, block, frame_columns=frame_columns, word_columns=word_columns)
        self.score_weights: tuple[float, ...] | None = None
        self.clips = VideoBranch(frame_columns, config, [clip_block])
        self.frames = VideoBranch(frame_columns, config, [frame_block])
        self.attended = nn.Linear(config.hidden, config.hidden, bias=False)
        self.kept = nn.Linear(config.hidden, config.hidden, bias=False)
        self.means = ClipMeans(config.clips)
        self.dropout = Dropout(config.dropout)
        self.apply(initialise)

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None, clips: Clips = None) -> Embeddings:
        """The rows that clips are means of, or the medoids of all clips; and one vector per frame, zeros where padded."""
        of_clips = self.clips(*self.read_clips(frames, mask, clips))
        of_frames = self.frames(frames, Rows.of(mask, places))
        if not self.config.reduced_clips:
            return of_clips, of_frames
        every = torch.einsum("kn,vnd->vkd", self.means.shares(like=of_clips), of_clips)
        chosen = self.choose_clips(every)[..., None].expand(-1, -1, every.shape[-1])
        return every.gather(1, chosen), of_frames

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """S_c and S_f, weighted; as many videos at once as fit into memory."""
        query, weight, parts = queries[0], self.config.frame_weight, []
        shares = self.shares(videos[0])
        at_once = max(PAIRS_AT_ONCE // len(query), 1)
        for clips, frames, real in zip(*(each.split(at_once) for each in (*videos, mask)), strict=True):
            ours = compare(query, clips, shares)
            summary = summaries(self, shares[ours.key], clips, frames, real)
            of_frames = torch.einsum("qd,qvd->qv", _unit(query), _unit(summary))
            parts.append((1 - weight) * ours.cosines + weight * of_frames)
        return torch.cat(parts, 1)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """Weighted sum of each frame's cosine and of that of the row it stands in."""
        return self.along(query[0], video[0], video[1], scores.every_row(video[1]))[0]

    def along(
        self,
        queries: Float[Tensor, "Q D"],
        clips: Float[Tensor, "Q N D"],
        frames: Float[Tensor, "Q F D"],
        mask: Bool[Tensor, "Q F"],
    ) -> Float[Tensor, "Q F"]:
        """Each query along a video of its own, -inf where that is padded; medoids do not say where, and do not count."""
        of_frames, of_clips = (torch.einsum("qd,qnd->qn", _unit(queries), _unit(rows)) for rows in (self.kept(frames), clips))
        curve = of_frames.masked_fill(~mask, losses.LOWEST)
        if self.config.reduced_clips:
            return curve
        return (1 - self.config.frame_weight) * over_frames(of_clips, mask) + self.config.frame_weight * curve

    def shares(self, clips: Float[Tensor, "V N D"]) -> Float[Tensor, "K N"]:
        """What the rows of field "clips" weigh in each clip that is compared: a medoid is one."""
        if self.config.reduced_clips:
            return torch.eye(clips.shape[1], dtype=clips.dtype, device=clips.device)
        return self.means.shares(like=clips)

    @torch.no_grad()
    def choose_clips(self, every: Float[Tensor, "V K D"]) -> Int[Tensor, "V M"]:
        """The places of the medoids among all clips, in training of clips that dropout has changed, as in the released code."""
        lengths = number_codes(self.means.lengths() - 1, LENGTH_COLUMNS, like=every)
        points = self.dropout(torch.cat([every, lengths.expand(len(every), -1, -1)], -1))
        return medoids(points, min(self.config.reduced_clips, every.shape[1]))


def objective(
    model: MsSl, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int, *, contrast: Contrast = losses.info_nce
) -> Terms:
    """L = L_trip(S_c) + 0.02 L_nce(U_c) + L_trip'(S_f) + 0.04 L_nce'(U_f); MS-SL++ has another L_nce', and 0.03.

    With BGM-Net's settings a query's own entry of S_c, of U_c and its key clip are those of the clip that it is assigned to, and
    `alignment` is added.
    """
    config, query, (clips, frames) = model.config, queries[0], videos
    ours = compare(query, clips, model.shares(clips))
    if config.own_clip == "assigned" and epoch >= config.assigned_from_epoch:
        ours = with_assigned_clips(ours, query, clips, model.shares(clips), batch.target)
    terms = branch_terms(config, {"clips": (ours.cosines, ours.dots)}, batch.target, epoch, contrast=contrast)
    summary = own_summaries(model, ours.key, clips, frames, batch)
    if config.alignment_weight:
        own = own_clips(ours.key, clips, model.shares(clips), batch.target)
        terms["alignment"] = config.alignment_weight * alignment(query, own)
    nce = paired_nce if config.reduced_clips else joint_nce
    return terms | {
        "frames_triplet": paired_triplet(_unit(query) @ _unit(summary).T, margin=config.margin, pool=pool_at(config, epoch)),
        "frames_nce": config.frame_nce_weight * nce(query @ summary.T),
    }


def profile(model: MsSl, queries: Embeddings, videos: Embeddings, batch: Batch) -> Float[Tensor, "Q F"]:
    """`MsSl.along` of each query and its own video."""
    return model.along(queries[0], videos[0][batch.target], videos[1][batch.target], batch.frame_mask[batch.target])


def compare(queries: Float[Tensor, "Q D"], rows: Float[Tensor, "V N D"], shares: Float[Tensor, "K N"]) -> ClipComparison:
    """Every query with every clip of every video."""
    dots = torch.einsum("qd,vnd->qvn", queries, rows) @ shares.T
    lengths = torch.einsum("kn,vnd->vkd", shares, rows).norm(dim=-1).clamp(min=scores.LEAST_NORM)
    cosines, key = (dots / lengths).max(-1)
    return ClipComparison(cosines / queries.norm(dim=-1, keepdim=True).clamp(min=scores.LEAST_NORM), dots.amax(-1), key)


def with_assigned_clips(
    compared: ClipComparison,
    queries: Float[Tensor, "Q D"],
    rows: Float[Tensor, "V N D"],
    shares: Float[Tensor, "K N"],
    target: Int[Tensor, "Q"],
) -> ClipComparison:
    """The comparison with each query's own video as the clip has it that the query is assigned to (`caption_losses.assign`).

    A query that is left over, because its video has more captions than clips, keeps its best clip.
    """
    place, own = target[:, None], rows[target]
    dots = torch.einsum("qd,qnd->qn", queries, own) @ shares.T
    lengths = torch.einsum("kn,vnd->vkd", shares, rows).norm(dim=-1).clamp(min=scores.LEAST_NORM)[target]
    cosines = dots / lengths / queries.norm(dim=-1, keepdim=True).clamp(min=scores.LEAST_NORM)
    clip = assign(cosines, target)[:, None]
    clip = torch.where(clip < 0, compared.key.gather(1, place), clip)
    return ClipComparison(
        compared.cosines.scatter(1, place, cosines.gather(1, clip)),
        compared.dots.scatter(1, place, dots.gather(1, clip)),
        compared.key.scatter(1, place, clip),
    )


def own_clips(
    key: Int[Tensor, "Q V"], clips: Float[Tensor, "V N D"], shares: Float[Tensor, "K N"], target: Int[Tensor, "Q"]
) -> Float[Tensor, "Q D"]:
    """The key clip of each query in its own video."""
    return torch.einsum("qn,qnd->qd", shares[key.gather(1, target[:, None])[:, 0]], clips[target])


def alignment(queries: Float[Tensor, "Q D"], clips: Float[Tensor, "Q D"]) -> Float[Tensor, ""]:
    """mean_ij |cos(q_i, q_j) - cos(c_i, c_j)| of queries and their own clips, i = j too (BGM-Net)."""
    query, clip = _unit(queries), _unit(clips)
    return (query @ query.T - clip @ clip.T).abs().mean()


def summaries(
    model: MsSl,
    shares: Float[Tensor, "Q V N"],
    clips: Float[Tensor, "V N D"],
    frames: Float[Tensor, "V F D"],
    mask: Bool[Tensor, "V F"],
) -> Float[Tensor, "Q V D"]:
    """r(q, v): the frames of each video as the key clip of each query sees them; `shares` say which rows that clip is of."""
    guides = clips @ model.attended.weight
    logits = torch.einsum("qvn,vfn->qvf", shares, frames @ guides.mT)
    weights = logits.masked_fill(~mask, losses.LOWEST).softmax(-1)
    # W_2 is linear: it goes where there are fewer vectors, sums of one query or frames of all.
    if len(shares) < frames.shape[1]:
        return model.kept(torch.einsum("qvf,vfd->qvd", weights, frames))
    return torch.einsum("qvf,vfd->qvd", weights, model.kept(frames))


def own_summaries(
    model: MsSl, key: Int[Tensor, "Q V"], clips: Float[Tensor, "V N D"], frames: Float[Tensor, "V F D"], batch: Batch
) -> Float[Tensor, "Q D"]:
    """r of each query and its own video."""
    guides = own_clips(key, clips, model.shares(clips), batch.target) @ model.attended.weight
    own, mask = frames[batch.target], batch.frame_mask[batch.target]
    logits = torch.einsum("qd,qfd->qf", guides, own).masked_fill(~mask, losses.LOWEST)
    return model.kept(torch.einsum("qf,qfd->qd", logits.softmax(-1), own))


def paired_triplet(cosines: Float[Tensor, "Q Q"], *, margin: float, pool: int | None) -> Float[Tensor, ""]:
    """The triplet of each query with its own r, its negatives drawn from the `pool` hardest of its row and of its column.

    Other captions of the same video are negatives, too, as in the released code.
    """
    each, pool = torch.arange(len(cosines), device=cosines.device), pool or len(cosines)
    summaries_drawn = losses.hard_negative_videos(cosines, each, pool=pool)
    queries_drawn = losses.hard_negative_videos(cosines.T, each, pool=pool)
    return losses.triplet(cosines, each, margin=margin, negative_videos=summaries_drawn, negative_queries=queries_drawn)


def joint_nce(dots: Float[Tensor, "Q Q"]) -> Float[Tensor, ""]:
    """mean_n [lse over row n and column n - d(n, n)]: one denominator for both directions, d(n, n) in it twice (MS-SL)."""
    return (torch.cat([dots, dots.T], 1).logsumexp(1) - dots.diagonal()).mean()


def paired_nce(dots: Float[Tensor, "Q Q"]) -> Float[Tensor, ""]:
    """mean_n [lse over row n - d(n, n)] + mean_n [lse over column n - d(n, n)] (MS-SL++)."""
    return (dots.logsumexp(1) + dots.logsumexp(0) - 2 * dots.diagonal()).mean()


def _unit(vectors: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
    return normalize(vectors, dim=-1, eps=scores.LEAST_NORM)


METHOD = Method(MsSlConfig, MsSl, objective, contrasts=True, profile=profile, revision=2)
