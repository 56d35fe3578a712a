"""DL-DKD (Dong et al., ICCV 2023) and DL-DKD++ (2025): dual learning with dynamic knowledge distillation.

This file holds the student and its own losses. Distillation is the same for every method (prvr/nn/distillation.py): the names
below that are not settings of the student are settings of distillation, with the papers' values in prvr/train/presets/dl_dkd.py.

The papers' words            our names
---------------------------  ------------------------------------------------------------------------
inheritance student branch   branch "inheritance": a teacher is compared with it (`taught_fields`)
exploration student branch   branch "exploration": learns the task alone
S_b(q, v), S                 `scores.video_scores` of cosines; `DlDkd.score`
beta (DL-DKD, Eq. 9)         `exploration_weight`: S = (1 - beta) S_inheritance + beta S_exploration
text backbone                `text_backbone`: RoBERTa's words as they are, Bi-GRU or graph (supplementary Table 4)
Dual-exploration/-inherit.   `branches`: the same branch twice (supplementary Fig. 2)
lambda, w(e)                 `distillation_weight`, `distillation_decay`
tau                          `distillation_temperature`
similarity-, feature-based   `distillation_target`: "frame_profile" or "feature" (supplementary Tables 2 and 3);
                             "batch_matrix" is TeachText's, and what Dual Encoding learns (supplementary Table 1)
several teachers             `distillation_aggregate`; the papers do not say how: by default all have the same weight
dynamic soft targets (++)    `soft_targets`: from the teacher for inheritance, from its own scores for exploration
alpha(e) (++)                `hard_fraction`, `hard_fraction_decay`: the share that keeps one-hot targets
beta(e) (++)                 `mixing`, `mixing_decay`: the one-hot share of a soft target
in no paper                  branch "subtitles": as exploration, over what is said (docs/decisions/0080); `subtitle_weight`
released code: exp_*, A_*    the exploration branch; unprefixed, B_*: the inheritance branch

Numbers follow the released code, quirks included; docs/decisions/0002 lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from prvr.batch import Batch, Reading
from prvr.config import ADDED_LATER, check_above_zero, check_heads, check_shares
from prvr.errors import SettingError
from prvr.methods.contract import Contrast, Embeddings, Method, Terms, compare_fields
from prvr.nn import losses, scores
from prvr.nn.layers import AttentivePooling, InputProjection, Rows, initialise, sequence_encoder, split_subtitles
from prvr.nn.losses import ranking
from prvr.nn.scores import Comparison
from prvr.nn.shapes import FrameMask, Frames, Places, WordMask, Words
from prvr.nn.text_backbones import NODES, TEXT_BACKBONES

Branch = Literal["inheritance", "exploration"]
SUBTITLES = "subtitles"


@dataclass(frozen=True)
class DlDkdConfig:
    """Settings of the student of both papers; the defaults are DL-DKD++'s on TVR.

    hidden: columns of the branches. exploration_hidden: those of exploration, where they differ; 0 where they do not.
    branches: both, one alone, or one of them twice.
    text_backbone: the module between a caption's features and the branches; "graph" needs features with labels of roles.
    shared_query_projection: exploration reads words through inheritance's projection (DL-DKD; not DL-DKD++).
    negative_pool: the number of hardest videos that the triplet loss draws its negative from.
    subtitle_weight: the share of the subtitles' branch in the score, where the model reads subtitles.
    """

    hidden: int = 384
    heads: int = 4
    max_frames: int = 128
    max_words: int = 30
    dropout: float = 0.2
    input_dropout: float = 0.2
    branches: tuple[Branch, ...] = ("inheritance", "exploration")
    text_backbone: Literal["words", "bi_gru", "graph"] = "words"
    shared_query_projection: bool = False
    exploration_weight: float = 0.3
    margin: float = 0.1
    negative_pool: int = 20
    nce_weight: float = 0.04
    exploration_hidden: int = field(default=0, metadata=ADDED_LATER)
    subtitle_weight: float = field(default=0.5, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        check_above_zero(self, "hidden", "heads", "max_frames", "max_words", "negative_pool")
        check_shares(self, "dropout", "input_dropout", "exploration_weight", "subtitle_weight")
        check_heads(self)
        if len(self.branches) not in (1, 2):
            raise SettingError(f"there are {len(self.branches)} branches, {self.branches}; take one or two")
        if self.exploration_hidden < 0 or (self.exploration_hidden and self.shared_query_projection):
            raise SettingError(
                f"exploration_hidden is {self.exploration_hidden}; it is above 0, or 0 where branches have equal widths, as with "
                "shared_query_projection=true"
            )
        if self.exploration_hidden:
            check_heads(self.branch("exploration"))

    def branch(self, name: Branch) -> DlDkdConfig:
        """The settings of one branch: `hidden` is its width."""
        wide = self.exploration_hidden and name == "exploration"
        return replace(self, hidden=self.exploration_hidden, exploration_hidden=0) if wide else self


class DlDkdBranch(nn.Module):
    """One student branch: a vector per query, a vector per frame."""

    def __init__(self, config: DlDkdConfig, *, frame_columns: int, word_columns: int, own_projection: bool) -> None:
        super().__init__()
        self.word_projection = InputProjection(word_columns, config.hidden, config.input_dropout) if own_projection else None
        # A graph has a fixed number of nodes, whatever the length of its sentence.
        places = max(config.max_words, NODES) if config.text_backbone == "graph" else config.max_words
        self.words = sequence_encoder(places, config)
        self.pooling = AttentivePooling(config.hidden)
        self.frame_projection = InputProjection(frame_columns, config.hidden, config.input_dropout)
        self.frames = sequence_encoder(config.max_frames, config)
        self.mapping = nn.Linear(config.hidden, config.hidden)

    def encode_queries(self, projected: Float[Tensor, "R D"], rows: Rows) -> Float[Tensor, "Q D"]:
        """Words, already projected, to one vector per query."""
        return self.pooling(rows.padded(self.words(projected, rows)), rows.mask)

    def encode_videos(self, frames: Float[Tensor, "R E"], rows: Rows) -> Float[Tensor, "V F D"]:
        """Frames to one vector each."""
        return rows.padded(self.mapping(self.frames(self.frame_projection(frames), rows)))


class DlDkd(nn.Module):
    """The student: S(q, v) = (1 - beta) max_f cos (inheritance) + beta max_f cos (exploration) (DL-DKD, Eq. 9).

    With subtitles: (1 - w) S(q, v) + w max_f cos (subtitles).

    Args:
        subtitle_columns: the columns of a frame after those of the pictures; 0 for a model without subtitles.
    """

    def __init__(self, config: DlDkdConfig, *, frame_columns: int, word_columns: int, subtitle_columns: int = 0) -> None:
        super().__init__()
        self.config = config
        self.text_backbone = None if config.text_backbone == "words" else TEXT_BACKBONES[config.text_backbone](word_columns)
        self.reading = Reading(
            frame_columns + subtitle_columns,
            word_columns,
            config.max_frames,
            config.max_words,
            unit=True,
            text="words",
            label_columns=self.text_backbone.label_columns if self.text_backbone is not None else 0,
            subtitle_columns=subtitle_columns,
        )
        read_columns = self.text_backbone.columns if self.text_backbone is not None else word_columns
        self.embedding_fields: tuple[str, ...] = field_names(config.branches)
        self.weights = _weights(config)
        if subtitle_columns:
            share = config.subtitle_weight
            self.embedding_fields = (*self.embedding_fields, SUBTITLES)
            self.weights = (*((1 - share) * weight for weight in self.weights), share)
        self.frame_fields = self.embedding_fields
        self.score_weights: tuple[float, ...] | None = self.weights
        self.branches = nn.ModuleList(
            DlDkdBranch(
                config.branch(branch),
                frame_columns=frame_columns,
                word_columns=read_columns,
                own_projection=place == 0 or not config.shared_query_projection,
            )
            for place, branch in enumerate(config.branches)
        )
        if subtitle_columns:
            sizes = {"frame_columns": subtitle_columns, "word_columns": read_columns}
            self.branches.append(DlDkdBranch(config, **sizes, own_projection=True))
        self.apply(initialise)

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings:
        """One vector per query and branch; `places` as in a `Batch`, where they are known."""
        if self.text_backbone is not None:
            words, mask = self.text_backbone(words, mask)
            places = None
        rows = Rows.of(mask, places)
        packed = rows.packed(words)
        embeddings, projected = [], packed
        for branch in self._branches():
            projected = branch.word_projection(packed) if branch.word_projection is not None else projected
            embeddings.append(branch.encode_queries(projected, rows))
        return tuple(embeddings)

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None) -> Embeddings:
        """One vector per frame and branch, zeros where padded; `places` as in a `Batch`, where they are known."""
        rows = Rows.of(mask, places)
        pictures, subtitles = split_subtitles(rows.packed(frames), self.reading.subtitle_columns)
        parts = zip(self._branches(), self.embedding_fields, strict=True)
        return tuple(branch.encode_videos(subtitles if name == SUBTITLES else pictures, rows) for branch, name in parts)

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """Weighted sum over branches of the best frame's cosine. Fused per video, never per frame."""
        return scores.fused(queries, videos, [mask] * len(videos), weights=self.weights)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """Weighted sum over branches of each frame's cosine: the curve that moments are read from."""
        mask = scores.every_row(video[0])
        parts = zip(self.weights, query, video, strict=True)
        return torch.stack([w * scores.frame_cosines(q, v, mask)[0, 0] for w, q, v in parts]).sum(0)

    def _branches(self) -> list[DlDkdBranch]:
        return [branch for branch in self.branches if isinstance(branch, DlDkdBranch)]


def objective(
    model: DlDkd,
    queries: Embeddings,
    videos: Embeddings,
    batch: Batch,
    epoch: int,
    *,
    contrast: Contrast = losses.info_nce,
    self_contrast: Contrast = losses.info_nce,
    comparisons: Sequence[Comparison] = (),
) -> Terms:
    """Triplet and contrastive loss of each branch, weighted as in the released code.

    L = sum_b [trip(c_b) + 0.04 nce(d_b)], c_b the best cosine and d_b the best inner product.

    Args:
        contrast: the contrastive loss of inheritance branches. self_contrast: of exploration branches, and of subtitles.
        comparisons: `compare_fields` of these embeddings, if it is known.
    """
    config, terms, taught = model.config, Terms(), taught_fields(model.config)
    for name, ours in zip(model.embedding_fields, comparisons or compare_fields(queries, videos, batch), strict=True):
        terms[f"{name}_triplet"] = ranking(ours.cosines, batch.target, margin=config.margin, pool=config.negative_pool)
        contrastive = contrast if name in taught else self_contrast
        terms[f"{name}_nce"] = config.nce_weight * contrastive(ours.dots, batch.target)
    return terms


def field_names(branches: tuple[Branch, ...]) -> tuple[str, ...]:
    """A distinct name for each branch: the second of two equal ones gets a number."""
    return tuple(f"{name}_2" if name in branches[:place] else name for place, name in enumerate(branches))


def taught_fields(config: DlDkdConfig) -> tuple[str, ...]:
    """The names of the inheritance branches."""
    names = zip(config.branches, field_names(config.branches), strict=True)
    return tuple(name for branch, name in names if branch == "inheritance")


def _weights(config: DlDkdConfig) -> tuple[float, ...]:
    if len(config.branches) == 1:
        return (1.0,)
    second = config.exploration_weight
    # Of two equal branches the second takes exploration's place, as in the papers' two-branch baselines.
    return (second, 1 - second) if config.branches == ("exploration", "inheritance") else (1 - second, second)


METHOD = Method(DlDkdConfig, DlDkd, objective, contrasts=True, taught_fields=taught_fields, subtitles=True)
