"""MSC-PRVR (NeurIPS 2025): multi-scale consistency, GMMFormer v2 on merged clips, with a teacher's relations between sentences.

The paper's words                    our names
-----------------------------------  ----------------------------------------------------------------
frame and clip branch, trunk         GMMFormer v2's `ViewsModel`; the score weighs frames by 0.6
order-preserving token merging       `merging`, `merge_neighbours`: 128 rows become 80, 52, 32 means
proportional attention               the logarithm of a clip's size on the logits of its key, in the clip branch
text correlation preservation        `distance_loss`, `angle_loss`, `distance_weight`, `angle_weight`; the teacher's vector of a
                                     caption is its last word, which is the end-of-text row of CLIP's words
cross-branch alignment               `alignment` through one Linear; `alignment_weight`
adaptive number of clips             `further_merging`, `merge_freely`; theta: `similar_from`

It computes what the released code computes (admins97/MSC_PRVR 0b3e3d1; tests/parity/peers/msc). Where that is odd,
docs/decisions/0055 says so. A video of any length is read as `max_frames` rows, so it has as many vectors, and no padding. The
curve along a video is not in the paper: the cosines with the frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from prvr.batch import Batch, Reading
from prvr.config import check_not_below_zero
from prvr.errors import SettingError
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.nn import losses, scores
from prvr.nn.clips import NORM_OFFSET, clip_edges, clip_rows, over_frames
from prvr.nn.clips_and_frames import branch_terms
from prvr.nn.gaussian import attention_views, check_widths
from prvr.nn.layers import Rows, initialise
from prvr.nn.merging import Merged, merge_freely, merge_neighbours, weighted_means
from prvr.nn.relations import angle_loss, distance_loss
from prvr.nn.shapes import Clips, FrameMask, Frames, Places, WordMask, Words
from prvr.nn.views import ViewSettings, ViewsModel, diversity_term

OFFSET = 1e-8


@dataclass(frozen=True)
class MscConfig(ViewSettings):
    """Settings of the paper; the defaults are those for TVR. `ViewSettings` has the others, GMMFormer v2's.

    clip_inputs: "unit_rows" merges rows of unit length, by cosine, as the paper says; it serves features packed at unit length.
    merging: the lengths to which the rows of a video are merged, one after another; the last one is `clips`.
    further_merging: the lengths to which the alignment merges clips further. Of four lengths the first serves where 1 / 5 of the
        pairs of clips or more are connected, the last where 4 / 5 are.
    similar_from: two clips are connected where the cosine of their input rows is above it, or through others.
    """

    widths: tuple[float, ...] = (0.0, 0.5, 1.0, 5.0, 10.0, 3.0, 0.1, 8.0)
    max_words: int = 77
    frame_weight: float = 0.6
    padding_counts: bool = False
    diversity_weight: float = 0.0
    merging: tuple[int, ...] = (80, 52, 32)
    further_merging: tuple[int, ...] = (20, 12, 8, 5)
    similar_from: float = 0.8
    distance_weight: float = 15.0
    angle_weight: float = 30.0
    alignment_weight: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_widths(self.widths)
        check_not_below_zero(self, "distance_weight", "angle_weight", "alignment_weight", "diversity_weight")
        if self.padding_counts:
            raise SettingError("padding_counts is true, and MSC-PRVR reads every video without padding; leave it out")
        _check_lengths("merging", (self.max_frames, *self.merging))
        _check_lengths("further_merging", (self.clips, *self.further_merging))
        if (self.max_frames, *self.merging)[-1] != self.clips:
            raise SettingError(
                f"merging is {self.merging}, and clips is {self.clips}; the last length of merging is that of clips"
            )
        if self.further_merging and min(self.further_merging) < 2:
            raise SettingError(f"further_merging is {self.further_merging}; at least two clips stay")


@final
class Msc(ViewsModel):
    """S(q, v) = 0.4 best clip's cosine + 0.6 best frame's cosine, of 32 merged clips and 128 rows."""

    config: MscConfig

    def __init__(self, config: MscConfig, *, frame_columns: int, word_columns: int) -> None:
        views = partial(attention_views, config.hidden, config.heads, config.dropout, widths=config.widths)
        super().__init__(config, views, token=True, frame_columns=frame_columns, word_columns=word_columns)
        unit = config.clip_inputs == "unit_rows"
        self.reading = Reading(frame_columns, word_columns, config.max_frames, config.max_words, unit=unit, text="words")
        self.frame_fields = ()
        self.aligned = nn.Linear(config.hidden, config.hidden)
        self.apply(initialise)

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings:
        """One vector per query, for both branches; in training also its teacher's vector."""
        words = self._scale(words)
        query = self.queries(words, Rows.of(mask, places))
        return (query, query, last_words(words, mask)) if self.training else (query, query)

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None, clips: Clips = None) -> Embeddings:
        """A vector for each clip and for each of `max_frames` rows; in training also the clips' input rows and sizes."""
        stretched, merged = self.read(frames, mask)
        rows = clip_rows(len(frames), self.config.clips, frames.device)._replace(bias=merged.sizes.log())
        of_clips = self.clips(merged.rows, rows, self.token)
        of_frames = self.frames(stretched, clip_rows(len(frames), self.config.max_frames, frames.device), self.token)
        return (of_clips, of_frames, merged.rows, merged.sizes) if self.training else (of_clips, of_frames)

    def read(self, frames: Frames, mask: FrameMask) -> tuple[Float[Tensor, "V L E"], Merged]:
        """The rows and the clips that the branches read, of unit length. Clips are merged from rows as the batch has them."""
        place = clip_edges(mask.sum(1), clips=self.config.max_frames)[:, :-1]
        stretched = frames.gather(1, place[..., None].expand(-1, -1, frames.shape[2]))
        merged = merge_neighbours(stretched, self.config.merging)
        return self._scale(stretched), merged._replace(rows=self._scale(merged.rows))

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """Weighted sum of the best clip's and the best frame's cosine."""
        masks = [scores.every_row(field) for field in videos[:2]]
        return scores.fused(queries[:2], videos[:2], masks, weights=self.candidate_weights)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "L"]:
        """The cosine of each row."""
        return scores.frame_cosines(query[1], video[1], scores.every_row(video[1]))[0, 0]

    def _scale(self, rows: Float[Tensor, "N L E"]) -> Float[Tensor, "N L E"]:
        return rows if self.reading.unit else rows / (rows.norm(dim=-1, keepdim=True) + NORM_OFFSET)


def objective(
    model: Msc, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int, *, contrast: Contrast = losses.info_nce
) -> Terms:
    """Triplet and contrastive loss of each branch, relations between sentences, and alignment of frames with clips."""
    config, target = model.config, batch.target
    fields = zip(model.embedding_fields, queries[:2], videos[:2], strict=True)
    compared = {name: scores.compare(query, video, scores.every_row(video), target)[:2] for name, query, video in fields}
    terms = branch_terms(config, compared, target, epoch, contrast=contrast)
    teacher = queries[2] if len(queries) > 2 else last_words(model._scale(batch.words), batch.word_mask)
    terms["text_distance"] = config.distance_weight * distance_loss(queries[0], teacher)
    terms["text_angle"] = config.angle_weight * angle_loss(queries[0], teacher)
    clips, sizes = videos[2:] if len(videos) > 2 else model.read(batch.frames, batch.frame_mask)[1][:2]
    clips_of, frames_of = (model.aligned(field) for field in videos[:2])
    terms["alignment"] = config.alignment_weight * alignment(config, frames_of, clips_of, clips, sizes)
    return terms | (diversity_term(config, queries[0], target) if config.diversity_weight else {})


def profile(model: Msc, queries: Embeddings, videos: Embeddings, batch: Batch) -> Float[Tensor, "Q F"]:
    """The cosines of each query along its own video."""
    cosines = scores.frame_cosines(queries[1], videos[1], scores.every_row(videos[1]))
    return over_frames(scores.own_video(cosines, batch.target), batch.frame_mask[batch.target])


def last_words(words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"]) -> Float[Tensor, "Q C"]:
    """The last real row of each sentence."""
    return words.gather(1, (mask.sum(1) - 1)[:, None, None].expand(-1, 1, words.shape[2]))[:, 0]


def alignment(
    config: MscConfig,
    frames: Float[Tensor, "V L D"],
    clips: Float[Tensor, "V N D"],
    inputs: Float[Tensor, "V N E"],
    sizes: Float[Tensor, "V N"],
) -> Float[Tensor, ""]:
    """Each frame beside its own clip and the others, and each clip beside its own frames and the others; the mean over videos.

    Of frame j, s_i = <f_j, z_i>: -log(p / (p + p')), p = e^s of its own clip, p' the mean of e^s of the others. Of a clip the
    same, with means over its own frames and over the others. The other side has no gradient in each. As in the released code e^s
    is taken relative to the largest one, and then 1e-8 added here and there; by logarithms, so that no e^s becomes 0.

    Args:
        frames, clips: vectors in one space. inputs: the rows that the clips are of. sizes: how many frames each clip holds.
    """
    label = further_labels(config, inputs, sizes)
    merged, held = weighted_means(clips, sizes, label, clips.shape[1])
    there = held > 0
    own_clip = label.gather(1, frame_labels(sizes, frames.shape[1]))
    owned = own_clip[..., None] == torch.arange(clips.shape[1], device=frames.device)
    count = there.sum(1).to(frames.dtype)
    dots = (frames @ merged.detach().mT).masked_fill(~there[:, None], losses.LOWEST)
    dots = dots - dots.detach().amax(2, keepdim=True)
    own = dots.gather(2, own_clip[..., None])[..., 0] - _log(1 + OFFSET, dots)
    others = dots.masked_fill(owned, losses.LOWEST).logsumexp(2) - (count - 1 + OFFSET).log()[:, None]
    of_frames = torch.stack([own, others, _log(OFFSET, dots).expand_as(own)]).logsumexp(0) - own
    dots = frames.detach() @ merged.mT
    own, others = (
        dots.masked_fill(~kept, losses.LOWEST).logsumexp(1) - (kept.sum(1).to(frames.dtype) + OFFSET).log()
        for kept in (owned | ~there[:, None], ~owned | ~there[:, None])
    )
    of_clips = (torch.logaddexp(own, others) - own).masked_fill(~there, 0)
    return (of_frames.mean(1) + of_clips.sum(1) / count).mean()


@torch.no_grad()
def further_labels(config: MscConfig, inputs: Float[Tensor, "V N E"], sizes: Float[Tensor, "V N"]) -> Int[Tensor, "V N"]:
    """Which of the fewer clips each clip is in: the more clips are connected, the fewer stay."""
    shares = connected_share(inputs, similar_from=config.similar_from)
    lengths = config.further_merging
    # How many fifths of the pairs are connected; a share may miss a fifth by rounding alone.
    steps = torch.stack([shares >= (step + 1) / (len(lengths) + 1) for step in range(len(lengths))]).sum(0).tolist()
    known, held = inputs.double().cpu().numpy(), sizes.double().cpu().numpy()
    labels = [merge_freely(known[place], held[place], lengths[:step]) for place, step in enumerate(steps)]
    return torch.stack([torch.from_numpy(label) for label in labels]).to(inputs.device)


def connected_share(inputs: Float[Tensor, "V N E"], *, similar_from: float) -> Float[Tensor, "V"]:
    """The share of ordered pairs of different rows that are connected, by a cosine above `similar_from` or through others."""
    unit = normalize(inputs, dim=-1, eps=scores.LEAST_NORM)
    count = inputs.shape[1]
    itself = torch.eye(count, dtype=torch.bool, device=inputs.device)
    reached = (unit @ unit.mT > similar_from) | itself
    for _ in range(count.bit_length()):
        reached = (reached.to(inputs.dtype) @ reached.to(inputs.dtype)) > 0
    return (reached & ~itself).sum((1, 2)).double() / max(count * (count - 1), 1)


def frame_labels(sizes: Float[Tensor, "V N"], frames: int) -> Int[Tensor, "V L"]:
    """The clip that each frame is in; clips follow one another in time."""
    ends = sizes.round().long().cumsum(1)
    return (torch.arange(frames, device=sizes.device)[None, :, None] >= ends[:, None]).sum(2)


def _check_lengths(name: str, lengths: tuple[int, ...]) -> None:
    for before, after in pairwise(lengths):
        if not (before + 1) // 2 <= after <= before:
            raise SettingError(
                f"{name} goes from {before} to {after} rows; a step merges pairs, so it leaves half of them at least"
            )


def _log(value: float, like: Tensor) -> Float[Tensor, ""]:
    return torch.tensor(value, dtype=torch.float64).log().to(like)


METHOD = Method(MscConfig, Msc, objective, contrasts=True, profile=profile)
