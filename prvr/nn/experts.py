"""Experts, what collaborative experts and the mixture of embedding experts share: a block of columns for each.

An expert is a vector for each video: the mean of its rows, or, of a sequence such as sound or speech, their NetVLAD. A video
lacks an expert whose rows are all zeros. A sentence has a vector for each expert, and a weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize, pad, relu

from prvr.batch import Reading
from prvr.config import check_above_zero
from prvr.errors import SettingError
from prvr.nn import losses
from prvr.nn.layers import Rows
from prvr.nn.levels import batch_normalise
from prvr.nn.scores import LEAST_NORM
from prvr.nn.shapes import FrameMask, Frames, Places, WordMask, Words


@dataclass(frozen=True)
class ExpertSettings:
    """Settings of experts and of sentences; the defaults are those of MSR-VTT but for the experts.

    experts: how many columns each expert has among those of the frames; by default one expert with all of them. The order of
        the released code is that of their names.
    expert_clusters: of each expert the clusters of its NetVLAD, 0 for the mean of its rows; by default 0 for all.
    expert_tokens: how many of the first rows the NetVLAD of each expert reads; 0 where `expert_clusters` is 0.
    clusters, ghost_clusters: of the words' NetVLAD; what is assigned to a ghost is left out.
    max_words: a sentence is cut or padded to so many words.
    reads_padding: whether padded words enter the NetVLAD of words, as in the released code.
    """

    experts: tuple[int, ...] = ()
    expert_clusters: tuple[int, ...] = ()
    expert_tokens: tuple[int, ...] = ()
    clusters: int = 28
    ghost_clusters: int = 1
    max_frames: int | None = None
    max_words: int = 37
    margin: float = 0.09381161988446174
    reads_padding: bool = True

    def __post_init__(self) -> None:
        check_above_zero(self, "clusters", "max_words", *(["max_frames"] if self.max_frames is not None else []))
        if any(columns <= 0 for columns in self.experts) or self.ghost_clusters < 0:
            raise SettingError(f"experts are {self.experts} and ghost_clusters {self.ghost_clusters}; each must have a column")
        lengths = {len(self.experts), len(self.expert_clusters), len(self.expert_tokens)}
        pairs = zip(self.expert_clusters, self.expert_tokens, strict=False)
        if self.expert_clusters and (len(lengths) > 1 or any((clusters > 0) != (most > 0) for clusters, most in pairs)):
            raise SettingError(
                f"expert_clusters are {self.expert_clusters} and expert_tokens {self.expert_tokens} for {len(self.experts)} "
                "experts; give one of each for every expert, above 0 for sequences and 0 for means"
            )


class NetVlad(nn.Module):
    """A set of rows as what they are beside the centres of clusters: unit(concat_k unit(sum_i a_ik (x_i - c_k))).

    a_i is a softmax of BN(x_i C) over clusters and ghost clusters, which take their part and are left out. The columns of the
    result stand column by column of x, with all clusters of one side by side. (Arandjelovic et al., CVPR 2016.)
    """

    def __init__(self, columns: int, clusters: int, ghosts: int = 0) -> None:
        super().__init__()
        self.clusters = nn.Parameter(torch.randn(columns, clusters + ghosts) / columns**0.5)
        self.norm = nn.BatchNorm1d(clusters + ghosts)
        self.centres = nn.Parameter(torch.randn(columns, clusters) / columns**0.5)

    def forward(self, rows: Float[Tensor, "N L C"], mask: Bool[Tensor, "N L"]) -> Float[Tensor, "N X"]:
        """Of the rows where the mask is True; in training the batch normalisation is over these, too."""
        real = Rows.of(mask)
        logits = batch_normalise(self.norm, real.packed(rows) @ self.clusters)
        shares = real.padded(logits.softmax(1)[:, : self.centres.shape[1]])
        sums = torch.einsum("nlk,nlc->nck", shares, rows) - shares.sum(1)[:, None] * self.centres
        return normalize(normalize(sums, dim=1).flatten(1), dim=1)


class GatedUnit(nn.Module):
    """unit(y * sigmoid(BN(U y + b))), y a Linear of the input. (Miech et al., 2018.)"""

    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(columns, hidden)
        self.gate = nn.Linear(hidden, hidden)
        self.norm = nn.BatchNorm1d(hidden)

    def forward(self, values: Float[Tensor, "N C"]) -> Float[Tensor, "N D"]:
        hidden = self.linear(values)
        return normalize(hidden * batch_normalise(self.norm, self.gate(hidden)).sigmoid(), dim=1)


class SentenceExperts(nn.Module):
    """Of each sentence w_e t_e for each expert: a vector as long as the expert weighs, padded with zeros to the widest."""

    def __init__(self, columns: int, widths: list[int], settings: ExpertSettings) -> None:
        super().__init__()
        self.most, self.reads_padding = settings.max_words, settings.reads_padding
        self.pooling = NetVlad(columns, settings.clusters, settings.ghost_clusters)
        pooled = settings.clusters * columns
        self.mixture = nn.Linear(pooled, len(widths))
        self.units = nn.ModuleList(GatedUnit(pooled, width) for width in widths)

    def forward(self, words: Words, mask: WordMask) -> Float[Tensor, "Q M D"]:
        words = words * mask[..., None]
        if self.reads_padding:
            # A fixed number of words, so that a sentence does not depend on those beside it.
            words = pad(words, (0, 0, 0, max(self.most - words.shape[1], 0)))[:, : self.most]
            mask = torch.ones(words.shape[:2], dtype=torch.bool, device=words.device)
        pooled = self.pooling(words, mask)
        return self.mixture(pooled).softmax(1)[..., None] * side_by_side([unit(pooled) for unit in self.units])


class VideoExperts(nn.Module):
    """Of each video the vector of each expert, and which it has. A missing expert is zeros, or the NetVLAD of zeros."""

    def __init__(self, frame_columns: int, settings: ExpertSettings) -> None:
        super().__init__()
        self.columns = list(settings.experts or (frame_columns,))
        if sum(self.columns) != frame_columns:
            raise SettingError(f"experts have {self.columns} columns, and frames {frame_columns}; set experts to their widths")
        clusters = settings.expert_clusters or (0,) * len(self.columns)
        self.tokens = settings.expert_tokens or (0,) * len(self.columns)
        self.poolings = nn.ModuleDict(
            {str(place): NetVlad(self.columns[place], count) for place, count in enumerate(clusters) if count}
        )
        self.widths = [columns * (count or 1) for columns, count in zip(self.columns, clusters, strict=True)]

    def forward(self, frames: Frames, mask: FrameMask) -> tuple[list[Float[Tensor, "V _"]], Bool[Tensor, "V M"]]:
        blocks = (frames * mask[..., None]).split(self.columns, dim=-1)
        real = torch.stack([block.ne(0).any(-1) for block in blocks], dim=2)
        vectors = []
        for place, block in enumerate(blocks):
            most = self.tokens[place]
            if most:
                block = pad(block, (0, 0, 0, max(most - block.shape[1], 0)))[:, :most]
                every = torch.ones(block.shape[:2], dtype=torch.bool, device=block.device)
                vectors.append(self.poolings[str(place)](block, every))
            else:
                vectors.append(block.sum(1) / real[..., place].sum(1, keepdim=True).clamp(min=1))
        return vectors, real.any(1)


class ExpertModel(nn.Module):
    """S(q, v) = sum_e w_e(q) <t_e(q), v_e> / sum_e w_e(q), e over the experts that the video has: a `methods.contract.Model`.

    Args:
        videos: makes the vectors v_e (V, M, D) of the pooled experts and of which there are.
        widths: columns of each t_e.
    """

    def __init__(
        self, settings: ExpertSettings, experts: VideoExperts, videos: nn.Module, *, widths: list[int], word_columns: int
    ) -> None:
        super().__init__()
        self.config, self.experts, self.videos = settings, experts, videos
        self.texts = SentenceExperts(word_columns, widths, settings)
        # Joined features keep each expert in rows of its own.
        self.reading = Reading(
            sum(experts.columns),
            word_columns,
            settings.max_frames,
            settings.max_words,
            unit=False,
            text="words",
            stacked=len(widths) > 1,
        )
        self.embedding_fields: tuple[str, ...] = ("experts",)
        self.frame_fields: tuple[str, ...] = ()
        # The weight of a single expert is 1, and the score a cosine; weights of several are each query's own.
        self.score_weights: tuple[float, ...] | None = (1.0,) if len(widths) == 1 else None

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> tuple[Tensor, ...]:
        """For each expert w_e t_e, a vector as long as the expert weighs; of a single expert (Q, D), its vector alone."""
        vectors = self.texts(words, mask)
        return (vectors[:, 0] if self.score_weights else vectors,)

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None) -> tuple[Tensor, ...]:
        """For each expert v_e, of unit length, or zeros where the video lacks it."""
        vectors, there = self.experts(frames, mask)
        return (self.videos(vectors, there) * there[..., None],)

    def score(self, queries: tuple[Tensor, ...], videos: tuple[Tensor, ...], mask: FrameMask) -> Float[Tensor, "Q V"]:
        """The weighted sum over a video's experts; 0 for a video without any."""
        (query,), (video,) = queries, videos
        query = query[:, None] if self.score_weights else query
        there = video.ne(0).any(-1).to(query.dtype)
        return torch.einsum("qed,ved->qv", query, video) / (query.norm(dim=-1) @ there.T).clamp(min=LEAST_NORM)

    def relevance(self, query: tuple[Tensor, ...], video: tuple[Tensor, ...]) -> Float[Tensor, "P"]:
        """The video as a whole: one part."""
        return self.score(query, video, torch.ones(1, 1, dtype=torch.bool, device=video[0].device))[0]


def side_by_side(vectors: list[Float[Tensor, "N _"]]) -> Float[Tensor, "N M D"]:
    """The vectors of each expert, padded with zeros to the widest."""
    widest = max(vector.shape[1] for vector in vectors)
    return torch.stack([pad(vector, (0, widest - vector.shape[1])) for vector in vectors], dim=1)


def max_margin(scores: Float[Tensor, "Q V"], target: Int[Tensor, "Q"], *, margin: float) -> Float[Tensor, ""]:
    """Mean of [m + s(n, v) - s(n, y_n)]_+ over wrong videos v and of [m + s(k, y_n) - s(n, y_n)]_+ over wrong queries k.

    All wrong ones of the batch count; a batch of one video costs nothing.
    """
    own = losses.ownership(target, scores.shape[1])
    positive = scores.gather(1, target[:, None])
    wrong_videos, wrong_queries = ~own, ~own.T[target]
    to_videos = relu(margin + scores - positive).masked_fill(~wrong_videos, 0)
    to_queries = relu(margin + scores.T[target] - positive).masked_fill(~wrong_queries, 0)
    pairs = wrong_videos.sum() + wrong_queries.sum()
    return (to_videos.sum() + to_queries.sum()) / pairs.clamp(min=1)
