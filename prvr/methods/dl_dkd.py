"""DL-DKD (Dong et al., ICCV 2023) and DL-DKD++ (2025): dual learning with dynamic knowledge distillation.

The papers' words            our names
---------------------------  ------------------------------------------------------------------------
inheritance student branch   branch "inheritance": learns the teacher's frame profile, `losses.frame_kl`
exploration student branch   branch "exploration": learns the task alone
S_b(q, v), S                 `scores.video_scores` of cosines; `DlDkd.score`
beta (DL-DKD, Eq. 9)         `exploration_weight`: S = (1 - beta) S_inheritance + beta S_exploration
lambda, w(e)                 `distillation_weight`, `distillation_decay`
tau                          `distillation_temperature`
text backbone                `text_backbone`: RoBERTa's words as they come, Bi-GRU or graph (supplementary Table 4)
similarity-, feature-based   `distillation_target`: "frame_profile" or "feature" (supplementary Tables 2 and 3);
                             "batch_matrix" is TeachText's, and what Dual Encoding learns (supplementary Table 1)
several teachers             `distillation_aggregate`; the papers do not say how: by default each weighs the same
Dual-exploration/-inherit.   `branches`: the same branch twice (supplementary Fig. 2)
dynamic soft targets (++)    `soft_targets`, `losses.soft_info_nce`
alpha(e) (++)                `hard_fraction`, `hard_fraction_decay`: the share that keeps one-hot targets
beta(e) (++)                 `mixing`, `mixing_decay`: the one-hot share of a soft target
released code: exp_*, A_*    the exploration branch; unprefixed, B_*: the inheritance branch

Numbers follow the released code, quirks included, as spec/dl-dkd sets them down; docs/decisions/0002 lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from prvr.batch import Batch, Reading
from prvr.config import check_above_zero, check_heads, check_shares
from prvr.errors import SettingError
from prvr.methods.contract import Embeddings, Terms
from prvr.nn import distillation, losses, scores
from prvr.nn.distillation import Distillation, FeatureMaps, SoftTargets, TeacherShares
from prvr.nn.layers import AttentivePooling, InputProjection, Rows, initialise, sequence_encoder
from prvr.nn.losses import ranking
from prvr.nn.scores import Comparison
from prvr.nn.text_backbones import NODES, TEXT_BACKBONES

Branch = Literal["inheritance", "exploration"]


@dataclass(frozen=True)
class DlDkdConfig:
    """Settings of both papers; the defaults are DL-DKD++ on TVR.

    branches: both, one alone, or one of them twice.
    text_backbone: what stands between a caption's features and the branches; for "graph" these need labels of roles.
    shared_query_projection: exploration reads words through inheritance's projection (DL-DKD; not DL-DKD++).
    distillation_weight, distillation_offset: the KL weighs weight * decay(epoch) + offset; 0 and 0 for no distillation.
    distillation_target, distillation_loss: what the inheritance branch learns from the teacher, and how.
    distillation_aggregate: how several teachers are taken together (`prvr.nn.distillation`).
    teacher_columns: widths of the teachers' features, for the target "feature", which maps the student's vectors to them,
    and for a learned aggregate, which has a number for each teacher; 0 for a trained model, which has no features. Training
    fills them in.
    soft_targets: DL-DKD++; without them the contrastive loss is that of DL-DKD.
    soft_target_epochs: length of the linear and cosine decays of `hard_fraction` and `mixing`.
    hard_part: which queries and videos keep one-hot targets: the first of the batch, as released, or random ones.
    detach_self_targets: no gradient through exploration's own soft targets; the released code lets it flow.
    teacher_temperature: divides the teacher's dot products before they become soft targets; 1 as released.
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
    distillation_weight: float = 0.1
    distillation_offset: float = 0.0
    distillation_decay: str = "exponential"
    distillation_temperature: float = 0.2
    distillation_target: distillation.Target = "frame_profile"
    distillation_loss: distillation.Loss = "kl"
    distillation_aggregate: distillation.Aggregate = "each"
    teacher_columns: tuple[int, ...] = ()
    soft_targets: bool = True
    soft_target_epochs: int = 120
    hard_fraction: float = 0.8
    hard_fraction_decay: str = "sigmoid"
    mixing: float = 0.8
    mixing_decay: str = "sigmoid"
    hard_part: Literal["first", "random"] = "first"
    detach_self_targets: bool = False
    teacher_temperature: float = 1.0

    def __post_init__(self) -> None:
        check_above_zero(self, "hidden", "heads", "max_frames", "max_words", "negative_pool")
        check_shares(self, "dropout", "input_dropout", "exploration_weight")
        check_heads(self)
        if len(self.branches) not in (1, 2):
            raise SettingError(f"there are {len(self.branches)} branches, {self.branches}; take one or two")
        # It checks the settings that it has.
        _ = self.distillation

    @property
    def needs_teacher_columns(self) -> bool:
        """Whether weights depend on the teachers' widths, or on how many teachers there are."""
        return self.distillation_target == "feature" or self.distillation_aggregate == "learned"

    @property
    def distillation(self) -> Distillation:
        """The settings that distillation has with any method."""
        return Distillation(**{name: getattr(self, name) for name in distillation.SETTINGS - {"soft_targets"}})


class DlDkdBranch(nn.Module):
    """One student branch: a vector per query, a vector per frame."""

    def __init__(self, config: DlDkdConfig, *, frame_columns: int, word_columns: int, own_projection: bool) -> None:
        super().__init__()
        self.word_projection = InputProjection(word_columns, config.hidden, config.input_dropout) if own_projection else None
        # A graph has so many nodes, however many words its sentence has.
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
    """The student: S(q, v) = (1 - beta) max_f cos (inheritance) + beta max_f cos (exploration) (DL-DKD, Eq. 9)."""

    def __init__(self, config: DlDkdConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        _check_widths(config)
        self.config = config
        self.text_backbone = None if config.text_backbone == "words" else TEXT_BACKBONES[config.text_backbone](word_columns)
        self.reading = Reading(
            frame_columns,
            word_columns,
            config.max_frames,
            config.max_words,
            unit=True,
            text="words",
            label_columns=self.text_backbone.label_columns if self.text_backbone is not None else 0,
        )
        read_columns = self.text_backbone.columns if self.text_backbone is not None else word_columns
        self.embedding_fields: tuple[str, ...] = field_names(config.branches)
        self.frame_fields = self.embedding_fields
        self.score_weights: tuple[float, ...] | None = _weights(config)
        self.branches = nn.ModuleList(
            DlDkdBranch(
                config,
                frame_columns=frame_columns,
                word_columns=read_columns,
                own_projection=place == 0 or not config.shared_query_projection,
            )
            for place in range(len(config.branches))
        )
        wanted = config.teacher_columns if config.distillation_target == "feature" else ()
        # Not per branch in the module list above: a student without feature distillation has no such parameters.
        self.feature_maps = nn.ModuleList(
            FeatureMaps(config.hidden, wanted) for branch in config.branches if branch == "inheritance" and wanted
        )
        learned = config.distillation_aggregate == "learned"
        self.teacher_shares = TeacherShares(len(config.teacher_columns)) if learned else None
        self.apply(initialise)

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
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

    def encode_videos(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """One vector per frame and branch, zeros where padded; `places` as in a `Batch`, where they are known."""
        rows = Rows.of(mask, places)
        packed = rows.packed(frames)
        return tuple(branch.encode_videos(packed, rows) for branch in self._branches())

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """Weighted sum over branches of the best frame's cosine. Fused per video, never per frame."""
        return scores.fused(queries, videos, [mask] * len(videos), weights=_weights(self.config))

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """Weighted sum over branches of each frame's cosine: the curve that moments are read from."""
        mask = scores.every_row(video[0])
        parts = zip(_weights(self.config), query, video, strict=True)
        return torch.stack([w * scores.frame_cosines(q, v, mask)[0, 0] for w, q, v in parts]).sum(0)

    def maps(self) -> list[FeatureMaps]:
        """One of each inheritance branch, if it learns the teachers' features."""
        return [maps for maps in self.feature_maps if isinstance(maps, FeatureMaps)]

    def _branches(self) -> list[DlDkdBranch]:
        return [branch for branch in self.branches if isinstance(branch, DlDkdBranch)]


def objective(
    model: DlDkd,
    queries: Embeddings,
    videos: Embeddings,
    batch: Batch,
    epoch: int,
    kept: Sequence[Float[Tensor, "Q V"]] = (),
) -> Terms:
    """Triplet and contrastive loss of each branch, and the KL from each teacher's frame profile (spec/dl-dkd 2.5).

    L = sum_b [trip(c_b) + 0.04 nce(d_b)] + 0.1 w(epoch) KL, c_b the best cosine and d_b the best inner product.
    Several teachers weigh the same, unless settings say otherwise: the KL and the soft targets are means over them.

    Args:
        kept: what teachers that are trained models say of the batch; a batch matrix and soft targets take it.
    """
    config = model.config
    soft = SoftTargets.at(config, epoch, batch) if config.soft_targets else None
    weight = config.distillation.weight(epoch)
    guides: list[Comparison] = []
    if distils(config) and (weight or soft):
        guides = distillation.guides_of(batch)
    else:
        kept = ()
    matrices, dots = [guide.cosines for guide in guides] + [*kept], [guide.dots for guide in guides] + [*kept]
    terms: Terms = {}
    maps = iter(model.maps())
    for branch, name, query, video in zip(config.branches, model.embedding_fields, queries, videos, strict=True):
        ours = scores.compare(query, video, batch.frame_mask, batch.target)
        terms[f"{name}_triplet"] = ranking(ours.cosines, batch.target, margin=config.margin, pool=config.negative_pool)
        if soft is None:
            nce = losses.info_nce(ours.dots, batch.target)
        else:
            nce = soft.info_nce(ours.dots, batch.target, relevance=_relevance(branch, ours.dots, dots, config))
        terms[f"{name}_nce"] = config.nce_weight * nce
        if branch == "inheritance" and weight and matrices:
            if config.distillation_target == "feature":
                told = distillation.from_features(next(maps), query, video, batch, settings=config.distillation)
            else:
                told = _told(ours, guides, matrices, batch, model)
            terms[name.replace("inheritance", "distillation")] = weight * told
    if model.teacher_shares is not None and matrices:
        temperature = config.distillation_temperature
        terms["teacher_shares"] = model.teacher_shares.objective(matrices, batch.target, temperature=temperature)
    return terms


def field_names(branches: tuple[Branch, ...]) -> tuple[str, ...]:
    """A name of its own for each branch: of two equal ones the second gets a number."""
    return tuple(f"{name}_2" if name in branches[:place] else name for place, name in enumerate(branches))


def distils(config: DlDkdConfig) -> bool:
    """Whether the objective needs a teacher."""
    return "inheritance" in config.branches and (config.distillation.compares or config.soft_targets)


def _check_widths(config: DlDkdConfig) -> None:
    for name, value in (("target", "feature"), ("aggregate", "learned")):
        if getattr(config, f"distillation_{name}") == value and not config.teacher_columns:
            raise SettingError(f"distillation_{name} {value} needs the teachers' widths, for example teacher_columns=512")


def _weights(config: DlDkdConfig) -> tuple[float, ...]:
    if len(config.branches) == 1:
        return (1.0,)
    second = config.exploration_weight
    # Of two equal branches the second takes exploration's place, as in the papers' two-branch baselines.
    return (second, 1 - second) if config.branches == ("exploration", "inheritance") else (1 - second, second)


def _relevance(branch: Branch, dots: Tensor, told: list[Tensor], config: DlDkdConfig) -> Float[Tensor, "K Q V"]:
    if branch == "inheritance":
        return torch.stack(told) / config.teacher_temperature
    return (dots.detach() if config.detach_self_targets else dots)[None]


def _told(ours: Comparison, guides: list[Comparison], matrices: list[Tensor], batch: Batch, model: DlDkd) -> Float[Tensor, ""]:
    settings, shares = model.config.distillation, model.teacher_shares
    if model.config.distillation_target == "batch_matrix":
        return distillation.from_matrices(ours.cosines, matrices, settings=settings, shares=shares)
    profiles, mask = [guide.profile for guide in guides], batch.frame_mask[batch.target]
    return distillation.from_profiles(ours.profile, profiles, mask, settings=settings, shares=shares)
