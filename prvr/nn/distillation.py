"""Distillation: its settings, its losses, and how several teachers are combined.

Targets: "frame_profile", the scores of a query along its own video (DL-DKD); "batch_matrix", the scores of all queries of a
batch with all its videos (TeachText); "feature", the vectors themselves, which the student's vectors reach through a linear
map to the teacher's width; "query_relations", how far apart a batch's queries are and at which angles (MSC-PRVR), which needs a
teacher's sentences alone and can stand beside another target. Losses: "kl", "mse" and "huber"; relations have huber. Aggregates:
"each", the mean of one loss per teacher (DL-DKD); "mean", "min", "max" and "learned", one loss to the combined scores of all
teachers (TeachText).

Losses of profiles and features are sums over queries, as the published KL is; losses of matrices are means, as TeachText's
are (docs/decisions/0010 and 0018). Sources: DL-DKD, supplementary section 2, Tables 2 and 3; TeachText, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from prvr.batch import Batch
from prvr.config import ADDED_LATER, check_above_zero, check_not_below_zero, check_shares
from prvr.errors import SettingError, nearest
from prvr.nn import losses, scores
from prvr.nn.schedules import DECAYS, SOFT_TARGET_DECAYS, soft_target_weight

Target = Literal["frame_profile", "batch_matrix", "feature", "query_relations"]
Loss = Literal["kl", "mse", "huber"]
Aggregate = Literal["each", "mean", "min", "max", "learned"]
# The weights of the losses that need no teacher.
ADDED_WEIGHTS = ("neg_nce_weight", "query_diversity_weight", "clip_matching_weight", "degraded_weight")


@dataclass(frozen=True)
class Distillation:
    """What a student learns beside its own losses; nothing by default.

    distillation_weight, distillation_offset: the loss is multiplied by weight * decay(epoch) + offset; 0 and 0 for none.
    distillation_temperature: divides scores before a softmax, for "kl" and for learned aggregates.
    soft_targets: what the targets of the contrastive losses are computed from: "none" for one-hot targets; "teacher" for
        the teachers' scores, and the student's own where no teacher applies (DL-DKD++); "self" for its own scores alone.
    soft_target_epochs: length of the linear and cosine decays of `hard_fraction` and `mixing`.
    hard_fraction, mixing: the share of queries that keep one-hot targets, and the one-hot share of a soft target.
    hard_part: the queries and videos that keep one-hot targets: the first of the batch, as in the released code, or random.
    teacher_temperature: divides the teachers' inner products before they become soft targets.
    detach_self_targets: no gradient flows through soft targets from the student's own scores; in the code released for
        DL-DKD++ it does.
    relation_distance_weight, relation_angle_weight: of the two losses of "query_relations", whose sum is then weighed as any
        other target's.
    query_relations_weight: of that sum beside another target, the same at every epoch.

    Losses that need no teacher, for any student, each 0 by default (`prvr.methods.added_losses`):

    neg_nce_weight: NegNCE of the batch's scores; neg_nce_scale multiplies them, and neg_nce_margin says which pairs are hard.
    query_diversity_weight: GMMFormer v2's focal diversity of a video's captions, with its margin, scale and focus.
    clip_matching_weight: GMMFormer v2's matching of a video's captions with its clips, or its frames where there are no clips.
    degraded_weight: of a triplet whose negative is the query's own video with the frames around the best one zeroed, by at least
        degraded_margin; degraded_share is the share of the video that is zeroed.
    """

    distillation_target: Target = "frame_profile"
    distillation_loss: Loss = "kl"
    distillation_aggregate: Aggregate = "each"
    distillation_weight: float = 0.0
    distillation_offset: float = 0.0
    distillation_decay: str = "exponential"
    distillation_temperature: float = 0.2
    soft_targets: Literal["none", "teacher", "self"] = "none"
    soft_target_epochs: int = 120
    hard_fraction: float = 0.8
    hard_fraction_decay: str = "sigmoid"
    mixing: float = 0.8
    mixing_decay: str = "sigmoid"
    hard_part: Literal["first", "random"] = "first"
    teacher_temperature: float = 1.0
    detach_self_targets: bool = True
    relation_distance_weight: float = field(default=15.0, metadata=ADDED_LATER)
    relation_angle_weight: float = field(default=30.0, metadata=ADDED_LATER)
    query_relations_weight: float = field(default=0.0, metadata=ADDED_LATER)
    neg_nce_weight: float = field(default=0.0, metadata=ADDED_LATER)
    neg_nce_scale: float = field(default=100.0, metadata=ADDED_LATER)
    neg_nce_margin: float = field(default=0.0, metadata=ADDED_LATER)
    query_diversity_weight: float = field(default=0.0, metadata=ADDED_LATER)
    query_diversity_margin: float = field(default=0.15, metadata=ADDED_LATER)
    query_diversity_scale: float = field(default=32.0, metadata=ADDED_LATER)
    query_diversity_focus: float = field(default=1.0, metadata=ADDED_LATER)
    clip_matching_weight: float = field(default=0.0, metadata=ADDED_LATER)
    degraded_weight: float = field(default=0.0, metadata=ADDED_LATER)
    degraded_margin: float = field(default=0.1, metadata=ADDED_LATER)
    degraded_share: float = field(default=0.2, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        check_above_zero(
            self,
            "soft_target_epochs",
            "distillation_temperature",
            "teacher_temperature",
            "neg_nce_scale",
            "query_diversity_scale",
        )
        check_shares(self, "hard_fraction", "mixing", "degraded_share")
        check_not_below_zero(self, "distillation_weight", "relation_distance_weight", "relation_angle_weight")
        check_not_below_zero(self, "query_relations_weight", *ADDED_WEIGHTS)
        if self.distillation_target in ("feature", "query_relations") and self.distillation_aggregate != "each":
            raise SettingError(
                f"distillation_aggregate is {self.distillation_aggregate!r}, and vectors of different encoders share no "
                "columns; take distillation_aggregate=each, or a target of scores, such as batch_matrix"
            )
        relations = self.query_relations_weight or (self.compares and self.distillation_target == "query_relations")
        if relations and not self.relation_distance_weight and not self.relation_angle_weight:
            raise SettingError(
                "relation_distance_weight and relation_angle_weight are both 0, so nothing is left of query_relations; set one "
                "above 0"
            )
        if self.distillation_decay not in DECAYS:
            raise SettingError(f"unknown decay {self.distillation_decay!r}; {nearest(self.distillation_decay, DECAYS)}")
        for decay in (self.hard_fraction_decay, self.mixing_decay):
            if decay not in SOFT_TARGET_DECAYS:
                raise SettingError(f"unknown decay {decay!r}; {nearest(decay, SOFT_TARGET_DECAYS)}")

    @property
    def compares(self) -> bool:
        """Whether the student's scores or vectors are compared with a teacher's at some epoch."""
        return bool(self.distillation_weight or self.distillation_offset)

    @property
    def uses_teacher_scores(self) -> bool:
        """Whether a teacher's frames change any loss, or the scores that a trained model keeps."""
        return (self.compares and self.distillation_target != "query_relations") or self.soft_targets == "teacher"

    @property
    def uses_teacher(self) -> bool:
        """Whether a teacher changes any loss."""
        return self.compares or self.soft_targets == "teacher" or self.query_relations_weight > 0

    @property
    def active(self) -> bool:
        """Whether these settings change any loss."""
        return self.uses_teacher or self.soft_targets != "none" or any(getattr(self, name) for name in ADDED_WEIGHTS)

    def relations_weight(self, epoch: int) -> float:
        """The factor of the loss of "query_relations" at an epoch: as the target, and beside another one."""
        as_target = self.weight(epoch) if self.distillation_target == "query_relations" else 0.0
        return as_target + self.query_relations_weight

    def weight(self, epoch: int) -> float:
        """The factor of the distillation loss at an epoch."""
        return self.distillation_weight * DECAYS[self.distillation_decay](epoch) + self.distillation_offset


@dataclass(frozen=True)
class SoftTargets:
    """Which queries and videos of a batch have soft targets at an epoch, and how soft they are."""

    mixing: float
    hard_fraction: float
    hard_queries: Bool[Tensor, "Q"]
    hard_videos: Bool[Tensor, "V"]

    @staticmethod
    def at(settings: Distillation, epoch: int, batch: Batch) -> SoftTargets:
        """The soft targets of an epoch: floor(alpha Q) queries and floor(alpha V) videos keep one-hot targets."""
        initial, epochs = settings.hard_fraction, settings.soft_target_epochs
        share = soft_target_weight(settings.hard_fraction_decay, epoch, initial=initial, floor=0.0, epochs=epochs)
        floor = 0.5 if settings.mixing >= 0.5 else 0.0
        mixing = soft_target_weight(settings.mixing_decay, epoch, initial=settings.mixing, floor=floor, epochs=epochs)
        counts = len(batch.target), len(batch.frames)
        return SoftTargets(mixing, share, *(_choose(n, share, settings.hard_part, batch.target.device) for n in counts))

    def info_nce(self, dots: Tensor, target: Tensor, *, relevance: Tensor) -> Float[Tensor, ""]:
        """`losses.soft_info_nce` with these targets."""
        return losses.soft_info_nce(
            dots,
            target,
            relevance=relevance,
            mixing=self.mixing,
            hard_fraction=self.hard_fraction,
            hard_queries=self.hard_queries,
            hard_videos=self.hard_videos,
        )


@dataclass(frozen=True)
class TeacherScores:
    """The scores that teachers give the queries and videos of a batch; each list holds one tensor per teacher.

    cosines and dots: of each query with each video. profiles: of each query along its own video, from encoders only.
    """

    cosines: list[Float[Tensor, "Q V"]]
    dots: list[Float[Tensor, "Q V"]]
    profiles: list[Float[Tensor, "Q F"]]

    @staticmethod
    @torch.no_grad()
    def of_batch(batch: Batch, kept: Sequence[Float[Tensor, "Q V"]] = ()) -> TeacherScores:
        """The scores of the encoders of a batch, then `kept`, those of trained models, which serve as cosines and as dots."""
        each = [scores.compare(t.queries, t.frames, batch.frame_mask, batch.target) for t in batch.teachers]
        return TeacherScores([*(e.cosines for e in each), *kept], [*(e.dots for e in each), *kept], [e.profile for e in each])


class FeatureMaps(nn.Module):
    """Linear maps from a student's vectors to the teachers' widths: for each teacher one for queries and one for frames."""

    def __init__(self, hidden: int, teacher_columns: Sequence[int]) -> None:
        super().__init__()
        self.queries = nn.ModuleList(nn.Linear(hidden, columns) for columns in teacher_columns)
        self.frames = nn.ModuleList(nn.Linear(hidden, columns) for columns in teacher_columns)


class TeacherShares(nn.Module):
    """The weights of the teachers in a learned aggregate: the softmax of one number per teacher.

    They are learned from how well the aggregate itself ranks. Learned from the distance between student and aggregate,
    they would favour the teacher that is easiest to imitate.
    """

    def __init__(self, teachers: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(teachers))

    def forward(self) -> Float[Tensor, "K"]:
        return self.logits.softmax(0)

    def objective(
        self, matrices: Sequence[Float[Tensor, "Q V"]], target: Int[Tensor, "Q"], *, temperature: float
    ) -> Float[Tensor, ""]:
        """The contrastive loss of the aggregated scores of a batch."""
        return losses.info_nce(combine(matrices, "learned", self()) / temperature, target)


def combine(
    teachers: Sequence[Float[Tensor, "*N"]], aggregate: Aggregate, shares: Float[Tensor, "K"] | None = None
) -> Float[Tensor, "*N"]:
    """The scores of several teachers as one tensor, element by element."""
    stacked = torch.stack(list(teachers))
    match aggregate:
        case "min":
            return stacked.amin(0)
        case "max":
            return stacked.amax(0)
        case "learned":
            assert shares is not None
            return torch.einsum("k,k...->...", shares, stacked)
        case _:
            return stacked.mean(0)


def profile_loss(
    student: Float[Tensor, "Q F"],
    teachers: Sequence[Float[Tensor, "Q F"]],
    mask: Bool[Tensor, "Q F"],
    *,
    settings: Distillation,
    shares: TeacherShares | None = None,
) -> Float[Tensor, ""]:
    """The loss between the student's frame profile of each query in its own video and the teachers'."""
    if settings.distillation_loss == "kl":
        compare = partial(losses.frame_kl, mask=mask, temperature=settings.distillation_temperature)
    else:
        compare = partial(losses.frame_mse if settings.distillation_loss == "mse" else losses.frame_huber, mask=mask)
    return _score_loss(student, teachers, compare, settings, shares)


def matrix_loss(
    student: Float[Tensor, "Q V"],
    teachers: Sequence[Float[Tensor, "Q V"]],
    *,
    settings: Distillation,
    shares: TeacherShares | None = None,
) -> Float[Tensor, ""]:
    """The loss between the student's scores of a batch's queries with its videos and the teachers'."""
    if settings.distillation_loss == "kl":
        compare: Callable[..., Tensor] = partial(losses.matrix_kl, temperature=settings.distillation_temperature)
    else:
        compare = losses.matrix_mse if settings.distillation_loss == "mse" else losses.matrix_huber
    return _score_loss(student, teachers, compare, settings, shares)


def feature_loss(
    maps: FeatureMaps,
    queries: Float[Tensor, "Q D"],
    frames: Float[Tensor, "V F D"],
    batch: Batch,
    *,
    settings: Distillation,
) -> Float[Tensor, ""]:
    """The loss between the student's query and frame vectors, mapped, and each teacher's; the mean over teachers.

    Raises:
        SettingError: the maps were built for teachers of other widths.
    """
    built = [layer.out_features for layer in maps.queries if isinstance(layer, nn.Linear)]
    found = [teacher.queries.shape[1] for teacher in batch.teachers]
    if built != found:
        raise SettingError(f"the maps to the teachers' features have {built} columns, the teachers {found}; train with one set")
    terms = []
    for to_query, to_frame, teacher in zip(maps.queries, maps.frames, batch.teachers, strict=True):
        query = _vector_losses(to_query(queries), teacher.queries, settings)
        frame = _vector_losses(to_frame(frames), teacher.frames, settings)
        mean_frame = frame.masked_fill(~batch.frame_mask, 0).sum(1) / batch.frame_mask.sum(1)
        terms.append(query.sum() + mean_frame.sum())
    return torch.stack(terms).mean()


def _score_loss(
    student: Tensor,
    teachers: Sequence[Tensor],
    compare: Callable[..., Tensor],
    settings: Distillation,
    shares: TeacherShares | None,
) -> Float[Tensor, ""]:
    if settings.distillation_aggregate == "each":
        return torch.stack([compare(student, teacher) for teacher in teachers]).mean()
    learned = None if shares is None else shares().detach()
    return compare(student, combine(teachers, settings.distillation_aggregate, learned))


def _vector_losses(student: Float[Tensor, "*N T"], teacher: Float[Tensor, "*N T"], settings: Distillation) -> Float[Tensor, "*N"]:
    if settings.distillation_loss == "kl":
        return losses.vector_kl(student, teacher, temperature=settings.distillation_temperature)
    difference = normalize(student, dim=-1) - normalize(teacher, dim=-1)
    return (difference.square() if settings.distillation_loss == "mse" else losses.huber(difference)).sum(-1)


def _choose(count: int, share: float, part: Literal["first", "random"], device: torch.device) -> Bool[Tensor, "N"]:
    # floor of the binary product: 0.29 * 100 is 28, as in the released code
    place = torch.randperm(count, device=device) if part == "random" else torch.arange(count, device=device)
    return place < int(share * count)
