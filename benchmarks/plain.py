"""A DL-DKD++ student that computes with our weights as the published code is described to.

It also computes with padding; it computes scores twice, by cosine and by inner product, as (query, frame, video), the axes of the
released code's; it takes a slice of all frame scores for each query, and loops over the labels. It does not enter
`fast_products`: torch multiplies as it does by default. The numbers are those of `prvr.methods.dl_dkd`.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import dropout, layer_norm, linear, normalize

from prvr.batch import Batch
from prvr.methods.dl_dkd import DlDkd, DlDkdBranch
from prvr.nn.distillation import SoftTargets
from prvr.nn.layers import InputProjection, SequenceEncoder
from prvr.nn.schedules import DECAYS
from prvr.train.presets import preset

MASKED = -1e10


def encode_queries(model: DlDkd, branch: DlDkdBranch, words: Tensor, mask: Bool[Tensor, "Q W"]) -> Float[Tensor, "Q D"]:
    """Returns one vector for each query; padding is encoded, too."""
    assert branch.word_projection is not None
    hidden = _sequence(model, branch.word_projection, branch.words, words, mask)
    share = (linear(hidden, branch.pooling.weight.weight)[..., 0] + (1 - mask.float()) * MASKED).softmax(-1)
    return torch.einsum("nl,nld->nd", share, hidden)


def encode_videos(model: DlDkd, branch: DlDkdBranch, frames: Tensor, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "V F D"]:
    """Returns one vector for each frame; padding is encoded, too."""
    return branch.mapping(_sequence(model, branch.frame_projection, branch.frames, frames, mask))


def cosines(queries: Tensor, videos: Tensor, mask: Tensor) -> Float[Tensor, "Q F V"]:
    """Normalises both sides, then multiplies every query with every frame."""
    return dots(normalize(queries, dim=-1), normalize(videos, dim=-1), mask)


def dots(queries: Tensor, videos: Tensor, mask: Tensor) -> Float[Tensor, "Q F V"]:
    """Multiplies every query with every frame; padded frames get a very small score."""
    scores, real = torch.einsum("qd,vfd->qfv", queries, videos), mask.float().T
    return scores * real + (1 - real) * MASKED


def objective(model: DlDkd, batch: Batch, epoch: int) -> dict[str, Tensor]:
    """Returns the terms of DL-DKD++ with its published distillation, computed in loops."""
    config, mask, labels = model.config, batch.frame_mask, batch.target.tolist()
    distillation = preset("dl-dkd++/tvr").distillation
    soft = SoftTargets.at(distillation, epoch, batch)
    teacher = batch.teachers[0]
    guides = cosines(teacher.queries, teacher.frames, mask)
    relevance = dots(teacher.queries, teacher.frames, mask).amax(1)
    terms: dict[str, Tensor] = {}
    for place, name in enumerate(model.embedding_fields):
        branch = model.branches[place]
        assert isinstance(branch, DlDkdBranch)
        queries = encode_queries(model, branch, batch.words, batch.word_mask)
        videos = encode_videos(model, branch, batch.frames, mask)
        near = cosines(queries, videos, mask)
        inner = dots(queries, videos, mask).amax(1)
        terms[f"{name}_triplet"] = triplet(near.amax(1), labels, margin=config.margin, pool=config.negative_pool)
        guide = relevance if name == "inheritance" else inner
        terms[f"{name}_nce"] = config.nce_weight * soft_info_nce(inner, labels, guide, soft)
        if name == "inheritance":
            weight = distillation.distillation_weight * DECAYS[distillation.distillation_decay](epoch)
            loss = frame_kl(near, guides, labels, mask, temperature=distillation.distillation_temperature)
            terms["distillation"] = weight * loss
    return terms


def frame_kl(student: Tensor, teacher: Tensor, labels: list[int], mask: Tensor, *, temperature: float) -> Tensor:
    """Takes a slice of all frame scores (Q, F, V) for each query; the backward pass of each makes a gradient of them all."""
    total = student.new_zeros(())
    for query, video in enumerate(labels):
        length = int(mask[video].sum())
        mine = (student[query, :length, video] / temperature).softmax(0)
        guide = (teacher[query, :length, video] / temperature).softmax(0)
        total = total + (guide * (guide / mine).log()).sum()
    return total


def info_nce(scores: Tensor, labels: list[int]) -> Tensor:
    """Computes both directions, a row and a column at a time."""
    total, (queries, videos) = scores.new_zeros(()), scores.shape
    for query, video in enumerate(labels):
        total = total + (scores[query].logsumexp(0) - scores[query, video]) / queries
    for video in range(videos):
        own = [query for query, label in enumerate(labels) if label == video]
        total = total + (scores[:, video].logsumexp(0) - scores[own, video].logsumexp(0)) / videos
    return total


def soft_info_nce(scores: Tensor, labels: list[int], relevance: Tensor, soft: SoftTargets) -> Tensor:
    """Computes both directions, a row and a column at a time; the first ones keep one-hot targets."""
    queries, videos = scores.shape
    one_hot = torch.zeros_like(scores)
    for query, video in enumerate(labels):
        one_hot[query, video] = 1
    rows = (1 - soft.mixing) * relevance.softmax(1) + soft.mixing * one_hot
    columns = (1 - soft.mixing) * relevance.softmax(0) + soft.mixing * one_hot
    first_queries, first_videos = int(soft.hard_fraction * queries), int(soft.hard_fraction * videos)
    text_to_video, video_to_text = [], []
    for query in range(queries):
        target = one_hot[query] if query < first_queries else rows[query]
        text_to_video.append(scores[query].logsumexp(0) * target.sum() - (target * scores[query]).sum())
    for video in range(videos):
        target = one_hot[:, video] if video < first_videos else columns[:, video]
        spread = ((target + 1e-12).log() + scores[:, video]).logsumexp(0)
        video_to_text.append(scores[:, video].logsumexp(0) - spread)
    hard = _part(text_to_video[:first_queries], video_to_text[:first_videos], scores)
    return soft.hard_fraction * hard + (1 - soft.hard_fraction) * _part(
        text_to_video[first_queries:], video_to_text[first_videos:], scores
    )


def triplet(scores: Tensor, labels: list[int], *, margin: float, pool: int) -> Tensor:
    """Draws a wrong video from the hardest for one query at a time, and takes the hardest wrong query of one video at a time."""
    total, (queries, videos) = scores.new_zeros(()), scores.shape
    size = min(pool, videos - 1)
    drawn = torch.randint(size, (queries, 1), device=scores.device)
    for query, video in enumerate(labels):
        order = scores[query].detach().argsort(descending=True)
        wrong = order[order != video][:size][drawn[query, 0]]
        total = total + (margin + scores[query, wrong] - scores[query, video]).relu() / queries
    for video in range(videos):
        own = [query for query, label in enumerate(labels) if label == video]
        others = [query for query, label in enumerate(labels) if label != video]
        total = total + (margin + scores[others, video].max() - scores[own, video].mean()).relu() / videos
    return total


def _part(rows: list[Tensor], columns: list[Tensor], scores: Tensor) -> Tensor:
    return torch.stack(rows).mean() + torch.stack(columns).mean() if rows and columns else scores.new_zeros(())


def _sequence(
    model: DlDkd, projection: InputProjection, encoder: SequenceEncoder, rows: Tensor, mask: Tensor
) -> Float[Tensor, "N L D"]:
    config, attention = model.config, encoder.attention

    def drop(values: Tensor, share: float) -> Tensor:
        return dropout(values, share, model.training)

    def norm_rows(values: Tensor, norm: nn.LayerNorm) -> Tensor:
        return layer_norm(values, norm.normalized_shape, norm.weight, norm.bias)

    def heads(values: Tensor) -> Tensor:
        return values.unflatten(-1, (config.heads, -1)).permute(0, 2, 1, 3)

    projected = projection.linear(drop(norm_rows(rows, projection.norm), config.input_dropout)).relu()
    placed = projected + encoder.positions.table.weight[: rows.shape[1]]
    hidden = drop(norm_rows(placed, encoder.positions.norm), config.input_dropout)
    query, key, value = (heads(layer(hidden)) for layer in (attention.query, attention.key, attention.value))
    logits = query @ key.transpose(-1, -2) / (config.hidden / config.heads) ** 0.5
    share = drop((logits + (1 - mask[:, None, None].float()) * -10000).softmax(-1), config.dropout)
    mixed = (share @ value).permute(0, 2, 1, 3).contiguous().flatten(2)
    return norm_rows(drop(attention.output(mixed), config.dropout) + hidden, attention.norm)
