"""MS-SL (Dong et al., ACM MM 2022) and MS-SL++ (2025): multi-scale similarity learning, clips of every length and frames.

The papers' words            our names
---------------------------  ------------------------------------------------------------------------
clip-scale branch            field "clips": `MsSlConfig.clips` rows that divide a video evenly; the clips c_k are the means of
                             any number of consecutive rows, `windows`: 528 of 32
S_c(q, v), U_c(q, v)         `ClipComparison.cosines`, `ClipComparison.dots`: of the best clip, which may be another one
key clip k*                  `ClipComparison.key`: the clip of the best cosine
frame-scale branch           field "frames", at most `max_frames` rows
key-clip guided attention    `summaries`: r(q, v) = sum_i softmax_i(<W_1 f_i, c_k*>) W_2 f_i; W_1 is
                             attended, W_2 kept of `MsSl`
S_f(q, v)                    cos(q, r(q, v))
S(q, v)                      `MsSl.score`: (1 - `frame_weight`) S_c + `frame_weight` S_f
L_trip, L_nce                `losses.triplet`, `losses.info_nce` of S_c and U_c; `clip_nce_weight`
L_trip', L_nce'              `own_summaries`, `paired_nce`: each query with the r of each query and its own video;
                             `frame_nce_weight`
length embedding (++)        lengths of `MsSl`: a learned vector for each length, added to the clips of that length
k-medoids (++)               `reduced_clips`, `medoids`: so many clips stand for all; 0 for MS-SL

Source: spec/methods 2.3. It leaves open, and we decided: one query encoder for both scales, that of a DL-DKD branch; the
negatives of L_trip' are drawn as those of L_trip, captions of the same video among them, as in the released code; the
distance of k-medoids is 1 - cosine, it starts from clips evenly spaced, and takes `MEDOID_ROUNDS` rounds. The curve along a
video is not in the paper: cosines with the clips of one row and with W_2 f_i, weighted as the scores are.

An index keeps the rows and not their means: the products of a mean are the means of products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from prvr.batch import Batch, Reading
from prvr.config import check_above_zero, check_heads, check_shares
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.nn import losses, scores
from prvr.nn.clips import clip_means, clip_rows, over_frames
from prvr.nn.layers import AttentivePooling, InputProjection, Rows, initialise, pool_at, sequence_encoder
from prvr.nn.losses import ranking

MEDOID_ROUNDS = 10
# Pairs of a query and a video that are scored at once: each takes some 5 KB where videos have 528 clips and 128 frames.
PAIRS_AT_ONCE = 16_384


@dataclass(frozen=True)
class MsSlConfig:
    """Settings of the papers; the defaults are MS-SL on TVR.

    reduced_clips: how many medoids stand for all clips (MS-SL++: 32); 0 for all clips.
    hard_from_epoch: from then on negatives are hard, before it any.
    """

    hidden: int = 384
    heads: int = 4
    max_frames: int = 128
    max_words: int = 30
    clips: int = 32
    reduced_clips: int = 0
    dropout: float = 0.1
    input_dropout: float = 0.1
    frame_weight: float = 0.3
    margin: float = 0.1
    negative_pool: int = 20
    hard_from_epoch: int = 20
    clip_nce_weight: float = 0.02
    frame_nce_weight: float = 0.04

    def __post_init__(self) -> None:
        check_above_zero(self, "hidden", "heads", "max_frames", "max_words", "clips", "negative_pool")
        check_shares(self, "dropout", "input_dropout", "frame_weight")
        check_heads(self)


class ClipComparison(NamedTuple):
    """Queries beside the clips of videos; `key` is the place of the best cosine's clip among the windows."""

    cosines: Float[Tensor, "Q V"]
    dots: Float[Tensor, "Q V"]
    key: Int[Tensor, "Q V"]


class MsSl(nn.Module):
    """S(q, v) = 0.7 max_k cos(q, c_k) + 0.3 cos(q, what the best clip finds among the frames)."""

    windows: Tensor

    def __init__(self, config: MsSlConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = Reading(frame_columns, word_columns, config.max_frames, config.max_words, unit=True, text="words")
        self.embedding_fields: tuple[str, ...] = ("clips", "frames")
        self.frame_fields: tuple[str, ...] = ("frames",)
        self.score_weights: tuple[float, ...] | None = None
        self.word_projection = InputProjection(word_columns, config.hidden, config.input_dropout)
        self.words = sequence_encoder(config.max_words, config)
        self.pooling = AttentivePooling(config.hidden)
        self.clip_projection = InputProjection(frame_columns, config.hidden, config.input_dropout)
        self.clips = sequence_encoder(config.clips, config)
        self.frame_projection = InputProjection(frame_columns, config.hidden, config.input_dropout)
        self.frames = sequence_encoder(config.max_frames, config)
        self.attended = nn.Linear(config.hidden, config.hidden, bias=False)
        self.kept = nn.Linear(config.hidden, config.hidden, bias=False)
        self.lengths = nn.Embedding(config.clips, config.hidden) if config.reduced_clips else None
        every = windows(config.clips)
        self.register_buffer("windows", torch.eye(self._reduced(len(every))) if config.reduced_clips else every, persistent=False)
        self.apply(initialise)

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """One vector per query, for both fields."""
        rows = Rows.of(mask, places)
        query = self.pooling(rows.padded(self.words(self.word_projection(rows.packed(words)), rows)), mask)
        return query, query

    def encode_videos(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """The rows that clips are means of, or the medoids of all clips; and one vector per frame, zeros where padded."""
        segments = clip_means(frames, mask, clips=self.config.clips)
        of_clips = clip_rows(len(frames), self.config.clips, frames.device)
        clips = of_clips.padded(self.clips(self.clip_projection(of_clips.packed(segments)), of_clips))
        rows = Rows.of(mask, places)
        of_frames = rows.padded(self.frames(self.frame_projection(rows.packed(frames)), rows))
        return (clips if self.lengths is None else self._medoids(clips, self.lengths)), of_frames

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """S_c and S_f, weighted; so many videos at once as fit into memory."""
        query, weight, parts = queries[0], self.config.frame_weight, []
        at_once = max(PAIRS_AT_ONCE // len(query), 1)
        for clips, frames, real in zip(*(field.split(at_once) for field in (*videos, mask)), strict=True):
            ours = compare(query, clips, self.windows)
            summary = summaries(self, self.windows[ours.key], clips, frames, real)
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
        if self.lengths is not None:
            return curve
        return (1 - self.config.frame_weight) * over_frames(of_clips, mask) + self.config.frame_weight * curve

    def _medoids(self, rows: Float[Tensor, "V N D"], lengths: nn.Embedding) -> Float[Tensor, "V K D"]:
        every = windows(self.config.clips).to(rows)
        clips = torch.einsum("kn,vnd->vkd", every, rows) + lengths((every > 0).sum(1) - 1)
        chosen = medoids(clips, self._reduced(len(every)))
        return clips.gather(1, chosen[..., None].expand(-1, -1, clips.shape[-1]))

    def _reduced(self, every: int) -> int:
        return min(self.config.reduced_clips, every)


def objective(
    model: MsSl,
    queries: Embeddings,
    videos: Embeddings,
    batch: Batch,
    epoch: int,
    *,
    contrast: Contrast = losses.info_nce,
) -> Terms:
    """L = L_trip(S_c) + 0.02 L_nce(U_c) + L_trip'(S_f) + 0.04 L_nce'(U_f) (spec/methods 2.3)."""
    config, query, (clips, frames) = model.config, queries[0], videos
    pool = pool_at(config, epoch)
    ours = compare(query, clips, model.windows)
    summary = own_summaries(model, ours.key, clips, frames, batch)
    each = torch.arange(len(query), device=query.device)
    return {
        "clips_triplet": ranking(ours.cosines, batch.target, margin=config.margin, pool=pool),
        "clips_nce": config.clip_nce_weight * contrast(ours.dots, batch.target),
        "frames_triplet": ranking(_unit(query) @ _unit(summary).T, each, margin=config.margin, pool=pool),
        "frames_nce": config.frame_nce_weight * paired_nce(query @ summary.T),
    }


def profile(model: MsSl, queries: Embeddings, videos: Embeddings, batch: Batch) -> Float[Tensor, "Q F"]:
    """`MsSl.along` of each query and its own video."""
    return model.along(queries[0], videos[0][batch.target], videos[1][batch.target], batch.frame_mask[batch.target])


def windows(rows: int) -> Float[Tensor, "K N"]:
    """What each row weighs in each clip: 1 / length in those of the clip, shortest clips first."""
    place = torch.arange(rows)
    spans = [(first, length) for length in range(1, rows + 1) for first in range(rows - length + 1)]
    return torch.stack([((place >= first) & (place < first + length)) / length for first, length in spans])


def compare(queries: Float[Tensor, "Q D"], rows: Float[Tensor, "V N D"], windows: Float[Tensor, "K N"]) -> ClipComparison:
    """Every query with every clip of every video."""
    dots = torch.einsum("qd,vnd->qvn", queries, rows) @ windows.T
    lengths = torch.einsum("kn,vnd->vkd", windows, rows).norm(dim=-1).clamp(min=scores.LEAST_NORM)
    cosines, key = (dots / lengths).max(-1)
    return ClipComparison(cosines / queries.norm(dim=-1, keepdim=True).clamp(min=scores.LEAST_NORM), dots.amax(-1), key)


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
    shares = model.windows[key.gather(1, batch.target[:, None])[:, 0]]
    guides = torch.einsum("qn,qnd->qd", shares, clips[batch.target]) @ model.attended.weight
    own, mask = frames[batch.target], batch.frame_mask[batch.target]
    logits = torch.einsum("qd,qfd->qf", guides, own).masked_fill(~mask, losses.LOWEST)
    return model.kept(torch.einsum("qf,qfd->qd", logits.softmax(-1), own))


def paired_nce(dots: Float[Tensor, "Q Q"]) -> Float[Tensor, ""]:
    """mean_n [lse over row n and column n - d(n, n)]: one denominator for both directions, d(n, n) in it twice."""
    return (torch.cat([dots, dots.T], 1).logsumexp(1) - dots.diagonal()).mean()


@torch.no_grad()
def medoids(vectors: Float[Tensor, "V K D"], count: int) -> Int[Tensor, "V M"]:
    """Places of `count` vectors of each video that the others are nearest to, by 1 - cosine."""
    unit = _unit(vectors)
    distance = 1 - unit @ unit.mT
    chosen = torch.linspace(0, vectors.shape[1] - 1, count, device=vectors.device).round().long().expand(len(vectors), -1)
    for _ in range(MEDOID_ROUNDS):
        to_chosen = distance.gather(2, chosen[:, None].expand(-1, vectors.shape[1], -1))
        member = torch.zeros_like(to_chosen).scatter_(2, to_chosen.argmin(2, keepdim=True), 1)
        # Of each group the one with the least distance to all others of it; an empty group keeps its medoid.
        costs = (distance @ member).masked_fill(member == 0, float("inf"))
        least, nearest = costs.min(1)
        chosen = torch.where(least.isfinite(), nearest, chosen)
    return chosen


def _unit(vectors: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
    return normalize(vectors, dim=-1, eps=scores.LEAST_NORM)


METHOD = Method(MsSlConfig, MsSl, objective, contrasts=True, profile=profile)
